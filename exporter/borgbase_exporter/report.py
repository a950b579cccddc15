"""What `check` prints: the accounts' facts and every problem found, for a person or as JSON.

A terminal gets colours, and of many repos and problems those that matter; a file or a pipe gets
all of them, however wide that is.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import Progress
from rich.table import Table

from borgbase_exporter import __version__
from borgbase_exporter.diagnosis import (
    AGE,
    ALIKE,
    QUOTA,
    Finding,
    Problem,
    RepoFinding,
    count,
    expiry,
    flags,
    plan_sizes,
    severity,
    size,
    spelled,
    subscription,
)
from borgbase_exporter.model import Snapshot
from borgbase_exporter.text import ago, span, when

AT_ONCE = 40
"""Repos of an account, and problems, that a terminal shows."""
WIDE = 110
"""Columns from which on a terminal has room for what is not urgent."""
INDENT = (0, 0, 0, 2)
ENDLESS = 4000
"""Columns of a file or a pipe."""
COLOURS = {"critical": "red", "warning": "yellow"}


def print_json(findings: Sequence[Finding], problems: Sequence[Problem] = ()) -> None:
    """Print the findings for machines: sizes in bytes, times as Unix timestamps, no secrets.

    `problems` are those that belong to no account.
    """
    report = {
        "version": __version__,
        "well": bool(findings) and not problems and all(finding.well for finding in findings),
        "problems": [asdict(problem) for problem in problems],
        "accounts": [_as_json(finding) for finding in findings],
    }
    print(json.dumps(report, indent=2, ensure_ascii=False))  # noqa: T201  # what it is for


def _as_json(finding: Finding) -> dict[str, object]:
    status = finding.status
    return {
        "name": status.name,
        "well": finding.well,
        "up": status.up,
        "token": {
            "origin": finding.token_origin,
            "permission": finding.permission,
            "expires": status.token_expires,
        },
        "api": {"reachable": finding.reachable, "seconds": status.duration},
        "collectors": {
            name: {
                "success": collector.success,
                "failure": asdict(collector.failure) if collector.failure else None,
                "skipped": collector.skipped,
                "missing_fields": sorted(collector.gaps),
            }
            for name, collector in status.collectors.items()
        },
        "units": {
            "usage_per_billed": finding.usage_per_billed,
            "daily_unit": finding.daily.unit,
            "daily_fits": finding.daily.fits,
            "daily_compared": finding.daily.compared,
        },
        "problems": [asdict(problem) for problem in finding.problems],
        "data": asdict(finding.snapshot),
    }


def print_tables(
    findings: Sequence[Finding], problems: Sequence[Problem] = (), console: Console | None = None
) -> None:
    """Print the findings for a person; `problems` are those that belong to no account."""
    console = console or Console(highlight=False)
    if console.is_terminal:
        _print_all(console, findings, problems)
        return
    page = Console(file=io.StringIO(), highlight=False, width=ENDLESS, no_color=True)
    with page.capture() as captured:
        _print_all(page, findings, problems)
    console.file.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _print_all(console: Console, findings: Sequence[Finding], problems: Sequence[Problem]) -> None:
    for finding in findings:
        _print_account(console, finding)
    if problems:
        _print_problems(console, problems)
    if len(findings) > 1:
        ill = [finding.status.name for finding in findings if not finding.well]
        names = f": {_safe(', '.join(ill))}" if ill else ""
        console.print(f"{len(findings)} accounts, {len(ill) or 'none'} with problems{names}")
    elif console.is_terminal and findings and findings[0].well and not problems:
        console.print("[dim]Now start it: the same without `check`.[/dim]")


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal's standard error; give a function that moves it on by one."""
    console = Console(stderr=True)
    hidden = not (sys.stderr and sys.stderr.isatty())
    with Progress(console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def _print_account(console: Console, finding: Finding) -> None:
    console.print(f"[bold]Account {_safe(finding.status.name)}[/bold]")
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for fact in _facts(finding):
        facts.add_row(*fact)
    console.print(Padding(facts, INDENT))
    if finding.repos:
        console.print()
        _print_repos(console, finding.repos, finding.at)
    console.print()
    _print_problems(console, finding.problems)


def _print_problems(console: Console, problems: Sequence[Problem]) -> None:
    if not problems:
        console.print("[green]All is well.[/green]\n")
        return
    shown = problems[:AT_ONCE] if console.is_terminal else problems
    console.print(f"[bold]{count(len(problems), 'problem')}[/bold]")
    rows = Table.grid(padding=(0, 1, 0, 0))
    rows.add_column()
    rows.add_column(overflow="fold")
    for problem in shown:
        advice = f" [dim]→ {_safe(problem.advice)}[/dim]" if problem.advice else ""
        text = f"[bold]{_safe(problem.where)}[/bold]: {_safe(problem.what)}{advice}"
        rows.add_row(_coloured("●", problem.severity), text)
    console.print(Padding(rows, INDENT))
    if rest := len(problems) - len(shown):
        console.print(f"  … and {rest:,} more; a pipe gets them all")
    console.print()


def _facts(finding: Finding) -> Iterator[tuple[str, str]]:
    """Yield what is known of an account, each by its name and marked up."""
    status, snapshot, now = finding.status, finding.snapshot, finding.at
    yield "Token", _safe(" · ".join(_token_facts(finding)))
    yield (
        "API",
        {
            None: "not asked",
            True: f"[green]✓[/green] reachable, polled in {status.duration or 0:.1f} s",
            False: "[red]✗[/red] not reachable",
        }[finding.reachable],
    )
    marks = (
        f"[green]✓[/green] {name}" if collector.success else f"[red]✗[/red] {name}"
        for name, collector in status.collectors.items()
    )
    yield "Read", "  ".join(marks)
    if repos := snapshot.repos:
        incomplete = "" if repos.complete else ", but the list is incomplete"
        used = "" if repos.usage is None else f" · {size(repos.usage)} used"
        yield "Repos", f"{len(repos.repos):,}{incomplete}{used}"
    if account := list(_account_facts(snapshot, now)):
        yield "Account", _safe(" · ".join(account))
    if units := list(_unit_facts(finding)):
        yield "Units", " · ".join(units)


def _token_facts(finding: Finding) -> Iterator[str]:
    yield finding.token_origin
    if finding.status.up:
        yield spelled(finding.permission or "permission unknown")
    if (end := finding.status.token_expires) is not None:
        yield f"{expiry(end, finding.at)} {when(end, finding.at)}"
    elif finding.reachable is not None:
        yield "tells no expiry"


def _account_facts(snapshot: Snapshot, now: float) -> Iterator[str]:
    if account := snapshot.account:
        if plan := account.plan:
            sizes = ", ".join(plan_sizes(plan))
            yield f"plan {plan.name}" + (f" ({sizes})" if sizes else "")
        verb, end = subscription(account, now)
        if verb:
            yield f"subscription {verb}" if end is None else f"{verb} {when(end, now)}"
        if account.accrued_overage_usd:
            yield f"overage so far {account.accrued_overage_usd:.2f} USD"
    if snapshot.ssh_keys:
        yield count(snapshot.ssh_keys.length, "SSH key")
    if snapshot.tokens:
        mighty = sum(token.permission == "full_access" for token in snapshot.tokens.tokens)
        share = f" ({mighty} Full Access)" if mighty else ""
        yield count(len(snapshot.tokens.tokens), "API token") + share


def _unit_facts(finding: Finding) -> Iterator[str]:
    """Yield what speaks for or against the units that are assumed."""
    if (ratio := finding.usage_per_billed) is not None:
        usual = ", as it should be" if 1 / ALIKE <= ratio <= ALIKE else ""
        yield f"usage is {ratio:.2f} times what was billed last{usual}"
    daily = finding.daily
    if daily.unit:
        yield f"daily values are in {daily.unit}, by {daily.fits} of {daily.compared} repos"
    elif daily.compared:
        yield f"daily values fit no unit, by {count(daily.compared, 'repo')}"


def _print_repos(console: Console, repos: Sequence[RepoFinding], now: float) -> None:
    """Print a table of the repos."""
    shown = repos[:AT_ONCE] if console.is_terminal else repos
    roomy = console.width >= WIDE
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("Repo", overflow="fold", min_width=12)
    for heading in ("Usage", "Quota", "Used"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Last write", no_wrap=True)
    table.add_column("Limit", no_wrap=True)
    for heading in ("Format", "Region", "Flags") if roomy else ():
        table.add_column(heading, overflow="fold")
    for repo in shown:
        row = list(_row(repo, now))
        table.add_row(*(row if roomy else row[:6]))
    console.print(Padding(table, INDENT))
    if rest := len(repos) - len(shown):
        hidden = sum(bool(repo.problems) for repo in repos[len(shown) :])
        ills = f"{hidden or 'none'} of them with a problem"
        console.print(f"  … and {rest:,} more, {ills}; a pipe gets them all")


def _row(found: RepoFinding, now: float) -> Iterator[str]:
    repo = found.repo
    yield _safe(repo.name)
    yield "?" if repo.usage is None else size(repo.usage)
    yield size(repo.quota) if repo.quota else "–"
    yield "–" if repo.fill is None else _coloured(f"{repo.fill:.0%}", severity(repo.fill, QUOTA))
    if repo.last_modified is None:
        yield _coloured(found.unwritten, "warning" if found.problems else "")
    else:
        yield _coloured(ago(repo.last_modified, now), severity(found.lateness, AGE))
    yield span(repo.inactivity_limit) if repo.inactivity_limit else "–"
    yield _safe(repo.format or "?")
    yield _safe(repo.region or "?")
    yield ", ".join(flags(repo))


def _coloured(text: str, level: str) -> str:
    colour = COLOURS.get(level)
    return f"[{colour}]{text}[/{colour}]" if colour else text


def _safe(text: str) -> str:
    """Return foreign text that can neither mark itself up nor steer the terminal."""
    return escape(
        "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    )
