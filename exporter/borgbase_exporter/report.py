"""What `check` prints: an account's facts and every problem found, for a person or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from borgbase_exporter.diagnosis import QUOTA, Finding, flags, worry
from borgbase_exporter.model import Repo, Snapshot
from borgbase_exporter.text import span, when


def print_json(findings: Sequence[Finding]) -> None:
    """Print the findings for machines: sizes in bytes, times as Unix timestamps, no secrets."""
    accounts = [
        {
            "name": finding.status.name,
            "well": finding.well,
            "up": finding.status.up,
            "token": {
                "origin": finding.token_origin,
                "expires": finding.status.token_expires,
            },
            "collectors": {
                name: {
                    "success": collector.success,
                    "failure": asdict(collector.failure) if collector.failure else None,
                    "skipped": collector.skipped,
                    "missing_fields": sorted(collector.gaps),
                }
                for name, collector in finding.status.collectors.items()
            },
            "seconds": finding.status.duration,
            "problems": [asdict(problem) for problem in finding.problems],
            "data": asdict(finding.snapshot),
        }
        for finding in findings
    ]
    sys.stdout.write(json.dumps({"accounts": accounts}, indent=2, ensure_ascii=False) + "\n")


def print_tables(findings: Sequence[Finding], console: Console | None = None) -> None:
    """Print the findings for a person."""
    console = console or Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:
        # A file or a pipe has no width to fit into.
        console = Console(file=console.file, highlight=False, width=max(console.width, 160))
    if not findings:
        console.print("No token files, so there is no account to check.")
    for finding in findings:
        _print_account(console, finding)


def _print_account(console: Console, finding: Finding) -> None:
    status, snapshot, now = finding.status, finding.snapshot, finding.at
    expires = f", expires {when(status.token_expires, now)}" if status.token_expires else ""
    console.print(f"[bold]Account {_safe(status.name)}[/bold]")
    console.print(f"  Token: {_safe(finding.token_origin)}{expires}")
    marks = (
        f"[green]✓[/green] {name}" if collector.success else f"[red]✗[/red] {name}"
        for name, collector in status.collectors.items()
    )
    console.print(f"  May read: {'  '.join(marks)}  [dim]({status.duration or 0:.1f} s)[/dim]")
    if facts := list(_account_facts(snapshot, now)):
        console.print(f"  {_safe(' · '.join(facts))}")
    if snapshot.repos and snapshot.repos.repos:
        console.print()
        console.print(_repo_table(snapshot.repos.repos, now))
    console.print()
    if finding.well:
        console.print("[green]All is well.[/green]")
    else:
        count = len(finding.problems)
        console.print(f"[bold]{count} problem{'s' * (count > 1)}[/bold]")
    for problem in finding.problems:
        colour = "red" if problem.severity == "critical" else "yellow"
        advice = f" [dim]→ {problem.advice}[/dim]" if problem.advice else ""
        console.print(
            f"  [{colour}]●[/{colour}] [bold]{_safe(problem.where)}[/bold]: "
            f"{_safe(problem.what)}{advice}"
        )
    console.print()


def _account_facts(snapshot: Snapshot, now: float) -> Iterator[str]:
    if repos := snapshot.repos:
        yield f"{len(repos.repos)} repos" + ("" if repos.complete else " (list incomplete)")
        if repos.usage is not None:
            yield f"{decimal(int(repos.usage))} used"
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
        yield f"{snapshot.ssh_keys.length} SSH keys"
    if snapshot.tokens:
        yield f"{len(snapshot.tokens.tokens)} API tokens"


def _repo_table(repos: Iterable[Repo], now: float) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("  Repo", overflow="fold", min_width=12)
    for heading in ("Usage", "Quota", "Used"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Last write", no_wrap=True)
    table.add_column("Limit", no_wrap=True)
    for heading in ("Format", "Region", "Flags"):
        table.add_column(heading, overflow="fold")
    for repo in sorted(repos, key=lambda repo: (worry(repo, now), repo.name)):
        age = None if repo.last_modified is None else now - repo.last_modified
        overdue = age is not None and repo.inactivity_limit and age > repo.inactivity_limit
        table.add_row(
            f"  {_safe(repo.name)}",
            "?" if repo.usage is None else decimal(int(repo.usage)),
            decimal(int(repo.quota)) if repo.quota else "–",
            _share(repo.fill),
            "never" if age is None else _coloured(f"{span(age)} ago", bool(overdue)),
            span(repo.inactivity_limit) if repo.inactivity_limit else "–",
            _safe(repo.format or "?"),
            _safe(repo.region or "?"),
            ", ".join(flags(repo)),
        )
    return table


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
