"""Check that a release's tag agrees with every place that names the version; print its notes.

    python -m tests.release v1.2.3 [ASSETS]

The notes are the version's section of CHANGELOG.md. The files that users of pip can get only from a
release are copied to the folder ASSETS. Needs the standard library alone.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The first of them is the source; the others repeat it.
PLACES = {
    "exporter/borgbase_exporter/__init__.py": r'^__version__ = "(.+)"$',
    "Dockerfile": r'\.image\.version="(.+?)"',
    "deploy/helm/borgbase-exporter/Chart.yaml": r'^(?:appVersion|version): "?([^"\s]+)"?$',
}
IMAGE = r"ghcr\.io/borgbase-exporter/borgbase-exporter:(?!latest\b)([\w.-]*\w)"
ASSETS = (
    "deploy/prometheus/rules/*.yml",
    "deploy/alertmanager/alertmanager.yml",
    "deploy/systemd/*.*",
    "dashboards/*.json",
)


def versions() -> Iterator[tuple[str, str]]:
    """Yield each file that names the version, and the version in it."""
    for name, pattern in PLACES.items():
        found = re.findall(pattern, (ROOT / name).read_text("utf-8"), re.MULTILINE)
        yield from ((name, version) for version in found or ["none"])
    for file in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*")]:
        if file.suffix in {".md", ".yaml", ".yml"}:
            for tag in re.findall(IMAGE, file.read_text("utf-8")):
                yield file.relative_to(ROOT).as_posix(), tag


def version() -> str:
    """Return the version of this tree."""
    return next(versions())[1]


def disagreements(expected: str) -> list[str]:
    """Return a line for each place that names another version."""
    return [f"{name}: {found}, not {expected}" for name, found in versions() if found != expected]


def notes(expected: str, changelog: str) -> str:
    """Return the changelog's section of a version, which must be dated and the newest.

    Raise ValueError if the changelog is not ready for it.
    """
    sections = re.split(r"^## (.+)\n", changelog, flags=re.MULTILINE)[1:]
    first, pending, newest, text, *_ = [*sections, *("none", "") * 2]
    if first != "[Unreleased]" or pending.strip():
        raise ValueError("CHANGELOG.md: does not start with an empty section [Unreleased]")
    if not re.fullmatch(rf"\[{re.escape(expected)}\] - \d{{4}}-\d\d-\d\d", newest):
        raise ValueError(f"CHANGELOG.md: the newest version is {newest}, not [{expected}] - DATE")
    if not text.strip():
        raise ValueError(f"CHANGELOG.md: the section of {expected} is empty")
    return text.strip() + "\n"


def assets() -> list[Path]:
    """Return the files that a release contains besides its packages."""
    return sorted(path for pattern in ASSETS for path in ROOT.glob(pattern))


def main(tag: str, folder: str = "") -> int:
    """Write the release's notes to stdout, or what is wrong with the tag to stderr."""
    expected = tag.removeprefix("v")
    faults = disagreements(expected)
    if not re.fullmatch(r"v\d+\.\d+\.\d+", tag):
        faults.append(f"{tag}: not a tag like v1.2.3")
    try:
        text = notes(expected, (ROOT / "CHANGELOG.md").read_text("utf-8"))
    except ValueError as fault:
        faults.append(str(fault))
    if faults:
        sys.stderr.write("\n".join(faults) + "\n")
        return 1
    if folder:
        Path(folder).mkdir()
        for path in assets():
            shutil.copy(path, folder)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
