"""The report as text for a terminal or a pipe."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator, Sequence

import click

from borgbase_exporter.findings import facts
from borgbase_exporter.findings.facts import Fact
from borgbase_exporter.findings.problems import Problem
from borgbase_exporter.findings.report import AccountReport, RepoReport, Report
from borgbase_exporter.text import count, printable, when

AT_ONCE = 40  # repos of an account, and problems, that a terminal shows
WIDE = 110  # columns that a terminal needs to show what is not urgent
NARROWEST = 12  # the least columns for a repo's name
COLOURS = {"critical": "red", "warning": "yellow", "ok": "green"}
RIGHT = {"Usage", "Quota", "Used"}
URGENT = 7  # how many columns a narrow terminal shows


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
        yield f"{facts.summary(report)}: {facts.verdict(report)[1]}"


def _listed(rows: Sequence[tuple[str, str]], width: int | None) -> Iterator[str]:
    """Yield names, each followed by a text that is wrapped beside it."""
    formatter = click.HelpFormatter(width=width or sys.maxsize)
    with formatter.indentation():
        formatter.write_dl([(name, printable(text)) for name, text in rows])
    yield from formatter.getvalue().splitlines()


def _facts(account: AccountReport, at: float, width: int | None) -> Iterator[str]:
    reachable = {None: "not asked", True: "reachable", False: "not reachable"}
    polled = f", polled in {account.api.seconds:.1f} s" if account.api.seconds is not None else ""
    marks = (f"{'✓' if c.success else '✗'} {name}" for name, c in account.collectors.items())
    rows = [("API", f"{reachable[account.api.reachable]}{polled}"), ("Read", "  ".join(marks))]
    for name, text, moment, *_ in facts.of_account(account, at):
        rows.append((name, text if moment is None else f"{text} {when(moment, at)}"))
    if stale := facts.stale(account, at):
        rows.append(("Stale", stale))
    yield from _listed([(click.style(name, dim=True), text) for name, text in rows], width)


def _problems(problems: Sequence[Problem], width: int | None) -> Iterator[str]:
    well = click.style("All is well.", fg="green")
    yield click.style(count(len(problems), "problem"), bold=True) if problems else well
    rows = []
    for problem in problems if width is None else problems[:AT_ONCE]:
        advice = f" → {problem.advice}" if problem.advice else ""
        level = click.style(problem.severity, fg=COLOURS[problem.severity])
        rows.append((level, f"{problem.where}: {problem.what}{advice}"))
    yield from _listed(rows, width) if rows else ()
    if left := len(problems) - len(rows):
        yield f"  … and {left:,} more; to see all, use a pipe"
    yield ""


def _repos(repos: Sequence[RepoReport], at: float, width: int | None) -> Iterator[str]:
    shown = repos if width is None else repos[:AT_ONCE]
    most = None if width is None or width >= WIDE else URGENT
    rows = [_row(repo, at)[:most] for repo in shown]
    headings = [fact._replace(text=fact.name, severity=None) for fact in rows[0]]
    columns = zip(headings, *rows, strict=True)
    widths = [max(_width(fact.text) for fact in column) for column in columns]
    if width is not None:
        room = width - 2 * len(widths) - sum(widths) + widths[1]
        widths[1] = min(widths[1], max(room, NARROWEST))
    yield click.style(_line(headings, widths), dim=True)
    yield from (_line(row, widths) for row in rows)
    if left := len(repos) - len(shown):
        bad = sum(repo.severity is not None for repo in repos[len(shown) :])
        yield f"  … and {left:,} more, {bad or 'none'} with a problem; to see all, use a pipe"


def _row(repo: RepoReport, at: float) -> list[Fact]:
    known = (fact._replace(text=printable(fact.text) or "–") for fact in facts.of_repo(repo, at))
    return [Fact("State", repo.severity or "ok"), Fact("Repo", printable(repo.name)), *known]


def _line(row: Sequence[Fact], widths: Sequence[int]) -> str:
    cells = []
    for fact, width in zip(row, widths, strict=True):
        shown = fact.text
        while _width(shown) > width:
            shown = f"{shown.removesuffix('…')[:-1]}…"
        padding = " " * (width - _width(shown))
        colour = COLOURS.get(fact.text if fact.name == "State" else fact.severity or "")
        shown = click.style(shown, fg=colour) if colour else shown
        cells.append(padding + shown if fact.name in RIGHT else shown + padding)
    return f"  {'  '.join(cells)}".rstrip()


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))
