"""The wheel holds the package, all of it and nothing else; the locked versions come with hashes."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from borgbase_exporter import __version__
from tests.end_to_end.processes import environment

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "exporter" / "borgbase_exporter"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=ROOT)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    _run(*pip, "install", "--no-deps", "--no-index", "--target", str(folder), str(wheel))
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    metadata = f"borgbase_exporter-{__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    sources = {
        f"borgbase_exporter/{file.relative_to(PACKAGE).as_posix()}"
        for file in PACKAGE.rglob("*")
        if file.suffix in {".py", ".graphql", ".typed"}
    }
    assert {n for n in names if not n.startswith(f"{metadata}/")} == sources
    assert sources >= {
        "borgbase_exporter/py.typed",
        "borgbase_exporter/simulator/schema.graphql",
        "borgbase_exporter/__main__.py",
    }
    assert f"{metadata}/licenses/LICENSE" in names


def test_what_is_installed_runs_as_a_module_and_as_a_command(installed: Path) -> None:
    for command in (
        (sys.executable, "-m", "borgbase_exporter"),
        (sys.executable, str(installed / "bin" / "borgbase-exporter")),
    ):
        said = _run(*command, "--version", cwd=installed, PYTHONPATH=str(installed))
        assert said == f"borgbase-exporter {__version__}\n"


def test_what_is_installed_is_complete(installed: Path) -> None:
    where = "import borgbase_exporter, borgbase_exporter.report as r; print(r.__file__)"
    said = _run(sys.executable, "-c", where, cwd=installed, PYTHONPATH=str(installed))

    assert Path(said.strip()) == installed / "borgbase_exporter" / "report.py"
    demo = "from borgbase_exporter.simulator import SimulatedAccount, SimulatedApi\n"
    demo += "print(len(SimulatedApi([account := SimulatedAccount()]).url and account.repos))"
    assert _run(sys.executable, "-c", demo, cwd=installed, PYTHONPATH=str(installed)) == "12\n"


def test_the_changelog_knows_this_version() -> None:
    first, *headings = re.findall(
        r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    releases = [Version(heading) for heading in headings]

    assert first == "Unreleased"
    assert releases == sorted(set(releases), reverse=True)
    # Before a first release there is nothing that the version could disagree with.
    assert not releases or releases[0] == Version(__version__)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_locked_version_has_hashes_and_no_place_of_its_own(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    lines = [x for x in text.replace("\\\n", "").splitlines() if x and x.lstrip()[:1] != "#"]

    locked = re.compile(r"[\w.\[\]-]+==[\w.]+( ; [\w .'<>=!()]+)?( +--hash=sha256:[0-9a-f]{64})+")
    assert lines
    assert [line for line in lines if not locked.fullmatch(line)] == []
    assert not re.search(r"://|@|--(?:extra-)?index|--find-links", text)


def test_every_dependency_is_locked_at_a_version_that_will_do() -> None:
    text = (ROOT / "requirements.txt").read_text("utf-8")
    locked = dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE))

    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)])


def _run(*command: str, cwd: Path = ROOT, **variables: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=environment(**variables), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
