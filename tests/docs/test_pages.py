"""What the documentation names exists: blocks' languages, links, commands, flags and variables."""

from __future__ import annotations

import io
import re
import runpy
import subprocess
from contextlib import redirect_stdout
from functools import cache

import pytest

from borgbase_exporter import settings
from tests.docs.pages import BLOCKS, PAGES, ROOT, RUNNABLE, missing_line
from tests.end_to_end.processes import EXPORTER, environment

GENERATED: dict[str, str] = runpy.run_path(str(ROOT / "docs" / "generate.py"))["pages"]()
LANGUAGES = {"sh", "console", "text", "yaml", "promql", "ini", "nginx", "python", "alloy"}
_ELSEWHERE = """
    borg borgbase-exporter-venv/bin/borgbase-exporter borgbase-exporter-venv/bin/pip docker editor
    gh git helm id journalctl kubectl make mimirtool pidof pip pipx python3 restic sudo sudoedit
    systemctl vmagent vykar
    """
ELSEWHERE = frozenset(_ELSEWHERE.split())
"""The programs of scripts that the tests do not run: they change the machine or need another."""
COMMANDS = ("serve", "check", "textfile", "backfill")
OTHERS = {"--web.enable-admin-api", "--web.external-url", "--collector.textfile.directory"}
"""Flags of Prometheus and node_exporter that look like the exporter's."""
NO_SETTINGS = {"BORGBASE_EXPORTER_PORT", "BORGBASE_REPO"}  # variables of Kubernetes and borg


@cache
def flags(command: str) -> frozenset[str]:
    """Return the flags of a command and their variables, as its help has them."""
    printed = io.StringIO()
    with redirect_stdout(printed), pytest.raises(SystemExit):
        settings.load([command, "--help"], {})
    return frozenset(re.findall(r"--[a-z][\w.-]*|BORGBASE_\w+", printed.getvalue()))


ALL = frozenset().union(*map(flags, COMMANDS))


@pytest.mark.parametrize("name", GENERATED)
def test_generated_pages_are_fresh(name: str) -> None:
    written = (ROOT / "docs" / name).read_text("utf-8")
    assert written == GENERATED[name], "stale: run `make docs`"


def test_every_block_has_a_language_and_known_programs() -> None:
    scripts = [block for block in BLOCKS if block.language in {"sh", "console"}]
    unknown = [f"{b}: language {b.language!r}" for b in BLOCKS if b.language not in LANGUAGES]
    unknown += [f"{b}: {sorted(w)}" for b in scripts if (w := b.programs - RUNNABLE - ELSEWHERE)]
    assert unknown == []


def test_links_between_the_pages_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        links = re.findall(
            r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text("utf-8")
        )
        for path, anchor in links:
            target = page.parent / path if path else page
            if not target.exists() or (anchor and anchor not in _anchors(target.read_text())):
                broken.append(f"{page.relative_to(ROOT)}: {path}#{anchor}")
    assert broken == []


def _anchors(text: str) -> set[str]:
    """Return what GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _named(pattern: str) -> set[str]:
    """Return the names in the pages about the current version."""
    pages = [page for page in PAGES if page.name not in {"CHANGELOG.md", "troubleshooting.md"}]
    return {name for page in pages for name in re.findall(pattern, page.read_text("utf-8"))}


def test_flags_and_variables_exist() -> None:
    ours = r"--(?:no-)?((?:web|poll|api|token|log|collector)\.[a-z_.-]*[a-z])"
    assert {f"--{name}" for name in _named(ours)} - ALL - OTHERS == set()
    assert _named(r"BORGBASE_[A-Z_]*[A-Z]\b") - ALL - NO_SETTINGS == set()


def test_command_lines_have_flags_of_their_command() -> None:
    lines = _named(r"borgbase-exporter (?:serve|check|textfile|backfill)\b[^`\n|#]*")
    wrong = [
        line
        for line in lines
        if set(re.findall(r"(?<= )--[a-z][\w.-]*", line)) - flags(line.split()[1])
    ]
    assert wrong == []


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert _named(r"`make ([a-z-]+)[^`]*`") - targets == set()
    scripts = "\n".join(block.text for block in BLOCKS)
    assert set(re.findall(r"^make ([a-z-]+)", scripts, re.MULTILINE)) <= targets


def test_modules_exist() -> None:
    modules = _named(r"python3? -m ((?:tests|dashboards|deploy|bench)[\w.]*)")
    assert [m for m in modules if not [*ROOT.glob(f"{m.replace('.', '/')}*")]] == []


def test_the_shown_report_is_what_check_prints() -> None:
    command = [*EXPORTER, "check", "--demo"]
    env = environment(COLUMNS="200")
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    shown = [b for b in BLOCKS if re.search("^Account ", b.text, re.MULTILINE)]
    assert shown
    for block in shown:  # times, ages and sizes change by the day and the hour
        numbers = r"\d+(?:[.,-]\d+)*(?: \w+(?= ago))?"
        expected, printed = (re.sub(numbers, "#", t) for t in (block.text, done.stdout))
        assert missing_line(expected, printed) is None, f"{block}\n{done.stdout}"
