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
from rich.filesize import decimal
from rich.markup import escape
from rich.padding import Padding
from rich.progress import Progress
from rich.table import Table

from borgbase_exporter import __version__
from borgbase_exporter.diagnosis import (
    ALIKE,
    PERMISSIONS,
    QUOTA,
    Finding,
    Problem,
    flags,
    repo_problems,
    worry,
)
from borgbase_exporter.model import Repo, Snapshot
from borgbase_exporter.text import span, when

AT_ONCE = 40
"""Repos of an account, and problems, that a terminal shows."""
WIDE = 110
"""Columns from which on a terminal has room for what is not urgent."""
INDENT = (0, 0, 0, 2)
ENDLESS = 4000
"""Columns of a file or a pipe."""


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
    snapshot = finding.snapshot
    if snapshot.repos and snapshot.repos.repos:
        console.print()
        _print_repos(console, snapshot.repos.repos, finding.at)
    console.print()
    _print_problems(console, finding.problems)


def _print_problems(console: Console, problems: Sequence[Problem]) -> None:
    if not problems:
        console.print("[green]All is well.[/green]\n")
        return
    shown = problems[:AT_ONCE] if console.is_terminal else problems
    console.print(f"[bold]{_count(len(problems), 'problem')}[/bold]")
    rows = Table.grid(padding=(0, 1, 0, 0))
    rows.add_column()
    rows.add_column(overflow="fold")
    for problem in shown:
        colour = "red" if problem.severity == "critical" else "yellow"
        advice = f" [dim]→ {_safe(problem.advice)}[/dim]" if problem.advice else ""
        text = f"[bold]{_safe(problem.where)}[/bold]: {_safe(problem.what)}{advice}"
        rows.add_row(f"[{colour}]●[/{colour}]", text)
    console.print(Padding(rows, INDENT))
    if rest := len(problems) - len(shown):
        console.print(f"  … and {rest:,} more; a pipe gets them all")
    console.print()


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


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
        used = "" if repos.usage is None else f" · {decimal(int(repos.usage))} used"
        yield "Repos", f"{len(repos.repos):,}{incomplete}{used}"
    if account := list(_account_facts(snapshot, now)):
        yield "Account", _safe(" · ".join(account))
    if units := list(_unit_facts(finding)):
        yield "Units", " · ".join(units)


def _token_facts(finding: Finding) -> Iterator[str]:
    yield finding.token_origin
    if finding.status.up:
        permission = finding.permission or "permission unknown"
        yield PERMISSIONS.get(permission, permission)
    if (expires := finding.status.token_expires) is not None:
        yield f"{'expires' if expires > finding.at else 'expired'} {when(expires, finding.at)}"
    elif finding.reachable is not None:
        yield "tells no expiry"


def _account_facts(snapshot: Snapshot, now: float) -> Iterator[str]:
    if account := snapshot.account:
        if plan := account.plan:
            limits = [f"{decimal(int(plan.included))} included"] if plan.included else []
            limits += [f"{decimal(int(plan.maximum))} at most"] if plan.maximum else []
            yield f"plan {plan.name}" + (f" ({', '.join(limits)})" if limits else "")
        if account.subscription_end is not None:
            verb = "renews" if account.auto_renew else "ends"
            yield f"{verb} {when(account.subscription_end, now)}"
        if account.accrued_overage_usd:
            yield f"overage so far {account.accrued_overage_usd:.2f} USD"
    if snapshot.ssh_keys:
        yield _count(snapshot.ssh_keys.length, "SSH key")
    if snapshot.tokens:
        mighty = sum(token.permission == "full_access" for token in snapshot.tokens.tokens)
        share = f" ({mighty} Full Access)" if mighty else ""
        yield _count(len(snapshot.tokens.tokens), "API token") + share


def _unit_facts(finding: Finding) -> Iterator[str]:
    """Yield what speaks for or against the units that are assumed."""
    if (ratio := finding.usage_per_billed) is not None:
        usual = ", as it should be" if 1 / ALIKE <= ratio <= ALIKE else ""
        yield f"usage is {ratio:.2f} times what was billed last{usual}"
    daily = finding.daily
    if daily.unit:
        yield f"daily values are in {daily.unit}, by {daily.fits} of {daily.compared} repos"
    elif daily.compared:
        yield f"daily values fit no unit, by {_count(daily.compared, 'repo')}"


def _print_repos(console: Console, repos: Sequence[Repo], now: float) -> None:
    """Print a table of the repos, those that need a hand first."""
    ill = {repo.id for repo in repos if any(True for _ in repo_problems(repo, now))}
    ranked = sorted(repos, key=lambda repo: (repo.id not in ill, worry(repo, now), repo.name))
    shown = ranked[:AT_ONCE] if console.is_terminal else ranked
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
    if rest := len(ranked) - len(shown):
        hidden = sum(repo.id in ill for repo in ranked[len(shown) :])
        ills = f"{hidden or 'none'} of them with a problem"
        console.print(f"  … and {rest:,} more, {ills}; a pipe gets them all")


def _row(repo: Repo, now: float) -> Iterator[str]:
    age = None if repo.last_modified is None else now - repo.last_modified
    overdue = age is not None and repo.inactivity_limit and age > repo.inactivity_limit
    never = _coloured("never", red=False, yellow=any(True for _ in repo_problems(repo, now)))
    yield _safe(repo.name)
    yield "?" if repo.usage is None else decimal(int(repo.usage))
    yield decimal(int(repo.quota)) if repo.quota else "–"
    yield _share(repo.fill)
    yield never if age is None else _coloured(f"{span(max(age, 0))} ago", bool(overdue))
    yield span(repo.inactivity_limit) if repo.inactivity_limit else "–"
    yield _safe(repo.format or "?")
    yield _safe(repo.region or "?")
    yield ", ".join(flags(repo))


def _share(fill: float | None) -> str:
    return "–" if fill is None else _coloured(f"{fill:.0%}", fill > QUOTA[1], fill > QUOTA[0])


def _coloured(text: str, red: bool, yellow: bool = False) -> str:  # noqa: FBT001, FBT002  # reads as it stands
    colour = "red" if red else "yellow" if yellow else ""
    return f"[{colour}]{text}[/{colour}]" if colour else text


def _safe(text: str) -> str:
    """Return foreign text that can neither mark itself up nor steer the terminal."""
    return escape(
        "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    )
