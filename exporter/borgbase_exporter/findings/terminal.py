"""The report as text for a terminal or a pipe."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence

import click

from borgbase_exporter.findings import facts
from borgbase_exporter.findings.problems import Problem
from borgbase_exporter.findings.report import AccountReport, RepoReport, Report
from borgbase_exporter.text import count, printable, when

AT_ONCE = 40
"""Repos of an account, and problems, that a terminal shows."""
WIDE = 110
"""Columns from which on a terminal has room for what is not urgent."""
NARROWEST = 12
"""Columns that a repo's name gets at least."""
COLOURS = {"critical": "red", "warning": "yellow", "ok": "green"}
HEADINGS = (
    *("State", "Repo", "Usage", "Quota", "Used", "Last write", "Limit"),
    *("Format", "Region", "Flags"),
)
RIGHT = {"Usage", "Quota", "Used"}
URGENT = HEADINGS.index("Format")
"""How many columns a narrow terminal shows."""


def lines(report: Report, width: int | None) -> Iterator[str]:
    """Yield a report's lines for a terminal of `width` columns; a pipe (None) gets all."""
    if report.simulated:
        yield click.style("SIMULATED DATA: these accounts and repos are invented", bold=True)
    for account in report.accounts:
        yield click.style(f"Account {printable(account.name)}", bold=True)
        yield from _facts(account, report.at, width)
        if account.repos:
            yield ""
            yield from _repos(account.repos, report.at, width)
        yield ""
        yield from _problems(account.problems, width)
    if report.problems:
        yield from _problems(report.problems, width)
    if len(report.accounts) > 1:
        bad = [account.name for account in report.accounts if not account.well]
        names = f": {printable(', '.join(bad))}" if bad else ""
        yield f"{len(report.accounts)} accounts, {len(bad) or 'none'} with problems{names}"


def _facts(account: AccountReport, at: float, width: int | None) -> Iterator[str]:
    reachable = {None: "not asked", True: "reachable", False: "not reachable"}
    polled = f", polled in {account.api.seconds:.1f} s" if account.api.seconds is not None else ""
    known = [("API", f"{reachable[account.api.reachable]}{polled}")]
    marks = (f"{'✓' if c.success else '✗'} {name}" for name, c in account.collectors.items())
    known.append(("Read", "  ".join(marks)))
    for fact in facts.of_account(account, at):
        date = "" if fact.moment is None else f" {when(fact.moment, at)}"
        known.append((fact.name, f"{fact.text}{date}"))
    if stale := facts.stale(account, at):
        known.append(("Stale", stale))
    indent = max(len(name) for name, _ in known) + 4
    for name, text in known:
        label = click.style(f"  {name}".ljust(indent), dim=True)
        first, *rest = _wrapped(printable(text), width, indent)
        yield label + first
        yield from (" " * indent + line for line in rest)


def _problems(problems: Sequence[Problem], width: int | None) -> Iterator[str]:
    if not problems:
        yield click.style("All is well.", fg="green")
        yield ""
        return
    yield click.style(count(len(problems), "problem"), bold=True)
    shown = problems if width is None else problems[:AT_ONCE]
    indent = 2 + max(len(problem.severity) for problem in problems) + 2
    for problem in shown:
        advice = f" → {problem.advice}" if problem.advice else ""
        text = printable(f"{problem.where}: {problem.what}{advice}")
        level = click.style(f"  {problem.severity}".ljust(indent), fg=COLOURS[problem.severity])
        first, *rest = _wrapped(text, width, indent)
        yield level + first
        yield from (" " * indent + line for line in rest)
    if left := len(problems) - len(shown):
        yield f"  … and {left:,} more; a pipe gets them all"
    yield ""


def _repos(repos: Sequence[RepoReport], at: float, width: int | None) -> Iterator[str]:
    shown = repos if width is None else repos[:AT_ONCE]
    columns = len(HEADINGS) if width is None or width >= WIDE else URGENT
    rows = [_row(repo, at)[:columns] for repo in shown]
    table: list[list[tuple[str, str | None]]] = [
        [(heading, None) for heading in HEADINGS[:columns]],
        *rows,
    ]
    widths = [max(_width(row[n][0]) for row in table) for n in range(columns)]
    if width is not None:
        room = width - 2 * columns - sum(widths) + widths[1]
        widths[1] = min(widths[1], max(room, NARROWEST))
    for number, row in enumerate(table):
        cells = (_cell(text, colour, n, widths[n]) for n, (text, colour) in enumerate(row))
        line = f"  {'  '.join(cells)}".rstrip()
        yield line if number else click.style(line, dim=True)
    if left := len(repos) - len(shown):
        bad = sum(repo.severity is not None for repo in repos[len(shown) :])
        yield f"  … and {left:,} more, {bad or 'none'} of them with a problem; a pipe gets them all"


def _row(repo: RepoReport, at: float) -> list[tuple[str, str | None]]:
    """Return a repo's cells, each with what colours it."""
    told = facts.of_repo(repo, at)
    state = repo.severity or "ok"
    return [
        (state, state),
        (printable(repo.name), None),
        (told.usage or "?", None),
        (told.quota if repo.quota else "–", None),
        (told.used or "–", told.used_severity),
        (told.written, told.written_severity),
        (told.limit or "–", None),
        (printable(told.format) or "?", None),
        (printable(told.region) or "?", None),
        (told.flags, None),
    ]


def _cell(text: str, colour: str | None, column: int, width: int) -> str:
    text = _cut(text, width)
    padding = " " * (width - _width(text))
    styled = click.style(text, fg=COLOURS[colour]) if colour else text
    return padding + styled if HEADINGS[column] in RIGHT else styled + padding


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _cut(text: str, width: int) -> str:
    """Return as much of a text as fits."""
    if _width(text) <= width:
        return text
    while _width(text) >= width:
        text = text[:-1]
    return f"{text}…"


def _wrapped(text: str, width: int | None, indent: int) -> list[str]:
    """Return a text in lines that fit beside an indent."""
    if width is None:
        return [text]
    return textwrap.wrap(text, max(width - indent, NARROWEST)) or [""]
