"""The wheel holds the package and nothing else, and works once installed.

All places name the same version; a release is complete.
"""

import os
import re
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.version import Version

from borgbase_exporter import __version__
from tests import release
from tests.end_to_end.processes import ROOT, accepted
from tests.smoke import smoke

PACKAGE = ROOT / "exporter" / "borgbase_exporter"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _built("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    accepted(*pip, "install", "--no-deps", "--no-index", "--target", folder, wheel)
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    metadata = f"borgbase_exporter-{__version__}.dist-info"
    sources = {
        f"borgbase_exporter/{file.relative_to(PACKAGE).as_posix()}"
        for file in PACKAGE.rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }

    assert {n for n in _contents(wheel) if not n.startswith(f"{metadata}/")} == sources
    assert {"borgbase_exporter/py.typed", "borgbase_exporter/__main__.py"} <= sources
    assert f"{metadata}/licenses/LICENSE" in _contents(wheel)


def test_the_sdist_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = _built("sdist", ROOT, tmp_path / "sdist")
    accepted("tar", "--extract", "--file", sdist, "--directory", tmp_path)
    unpacked = tmp_path / f"borgbase_exporter-{__version__}"

    assert _contents(_built("wheel", unpacked, tmp_path / "wheel")) == _contents(wheel)


def test_addresses_on_the_index_lead_into_this_tree(wheel: Path) -> None:
    urls = dict(url.split(", ") for url in _metadata(wheel).get_all("Project-URL", []))
    links = re.findall(r"\]\(([^)]+)\)", str(_metadata(wheel).get_payload()))
    ours = [link for link in links if "borgbase-exporter/borgbase-exporter/" in link]

    assert set(urls) == {"Homepage", "Documentation", "Changelog", "Issues", "Source"}
    assert all(url.startswith(urls["Homepage"]) for url in urls.values())
    assert all(link.startswith(("https://", "#")) for link in links)
    assert len(ours) > 10
    for link in [*ours, *(url for url in urls.values() if "/main/" in url)]:
        kind = "raw" if link.endswith((".png", ".svg")) else "blob"
        assert f"https://{kind}." in link or "/blob/main/" in link
        assert (ROOT / link.partition("/main/")[2].partition("#")[0]).exists()


def test_the_installed_package_checks_and_serves(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in os.environ:
        if name.startswith("BORGBASE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(installed))

    smoke([sys.executable, str(installed / "bin" / "borgbase-exporter")])


def test_all_places_name_the_same_version() -> None:
    assert release.version() == __version__
    assert release.disagreements(__version__) == []
    assert {name for name, _ in release.versions()} > release.PLACES.keys()


def test_the_changelog_has_this_version() -> None:
    first, *headings = re.findall(
        r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    releases = [Version(heading) for heading in headings]

    assert first == "Unreleased"
    assert releases == sorted(set(releases), reverse=True)
    # Before a first release there is nothing that the version could disagree with.
    assert not releases or releases[0] == Version(__version__)


RELEASED = """\
# Changelog

## [Unreleased]

## [1.1.0] - 2026-12-24

### Added

- This.

## [1.0.0] - 2026-11-30

- That.
"""


def test_the_notes_of_a_release_are_its_section_of_the_changelog() -> None:
    assert release.notes("1.1.0", RELEASED) == "### Added\n\n- This.\n"


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("1.1.0", "1.2.0", r"newest version is \[1.2.0\] - 2026-12-24, not \[1.1.0\] - DATE"),
        ("[Unreleased]\n", "[Unreleased]\n\n- More.", "an empty"),
        ("### Added\n\n- This.", "", "section of 1.1.0 is empty"),
    ],
)
def test_an_unfinished_changelog_is_no_release(before: str, after: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        release.notes("1.1.0", RELEASED.replace(before, after))


def test_a_release_has_rules_dashboards_and_units() -> None:
    names = [path.name for path in release.assets()]
    assert {"borgbase-alerts.yml", "borgbase-recording.yml", "alertmanager.yml"} < set(names)
    assert {"borgbase-overview.json", "borgbase-exporter.service"} < set(names)
    assert len(names) == len(set(names))  # they are copied into one folder


def _built(target: str, source: Path, folder: Path) -> Path:
    build = (sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder)
    accepted(*build, folder=source)
    (built,) = folder.iterdir()
    return built


def _metadata(wheel: Path) -> Message:
    return Parser().parsestr(_contents(wheel)[f"{wheel.name.split('-py')[0]}.dist-info/METADATA"])


def _contents(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name).decode("utf-8") for name in archive.namelist()}
