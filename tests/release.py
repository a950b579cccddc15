"""A release's tag has to agree with every place that tells the version; then print its notes.

    python -m tests.release v1.2.3

The notes are the version's section of CHANGELOG.md. Needs the standard library alone.
"""

import re
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


def versions() -> Iterator[tuple[str, str]]:
    """Yield each file that tells the version, and the version it tells."""
    for name, pattern in PLACES.items():
        found = re.findall(pattern, (ROOT / name).read_text("utf-8"), re.MULTILINE)
        yield from ((name, version) for version in found or ["none"])
    for file in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*")]:
        if file.is_file():
            for tag in re.findall(IMAGE, file.read_text("utf-8")):
                yield file.relative_to(ROOT).as_posix(), tag


def version() -> str:
    """Return the version of this tree."""
    return next(versions())[1]


def disagreements(expected: str) -> list[str]:
    """Return a line for each place that tells another version."""
    return [f"{name}: {told}, not {expected}" for name, told in versions() if told != expected]


def notes(expected: str, changelog: str) -> str:
    """Return what the changelog has to say of a version, which must be dated and its newest.

    ValueError tells what is wrong with it.
    """
    sections = re.split(r"^## (.+)\n", changelog, flags=re.MULTILINE)[1:]
    first, pending, newest, text, *_ = [*sections, *("none", "") * 2]
    if first != "[Unreleased]" or pending.strip():
        raise ValueError("CHANGELOG.md: does not start with an empty section [Unreleased]")
    if not re.fullmatch(rf"\[{re.escape(expected)}\] - \d{{4}}-\d\d-\d\d", newest):
        raise ValueError(f"CHANGELOG.md: the newest version is {newest}, not [{expected}] - DATE")
    if not text.strip():
        raise ValueError(f"CHANGELOG.md: nothing is said of {expected}")
    return text.strip() + "\n"


def main(tag: str) -> int:
    """Write the notes of the release that is to be tagged so to stdout, or why it is none."""
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
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
