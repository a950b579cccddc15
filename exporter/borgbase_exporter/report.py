"""What `check` tells: an account's facts and every problem found, for a person or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from borgbase_exporter.model import (
    Account,
    AccountStatus,
    APITokenList,
    Repo,
    RepoList,
    Snapshot,
)

DAY = 86_400
QUOTA = (0.85, 0.95)
"""Share of a repo's quota above which to warn, and above which it is critical."""
PLAN = (0.9, 0.97)
"""The same for the plan."""
EXPIRY = 14 * DAY
"""How long before something expires to warn."""
SOON = 3 * DAY
SETTLED = 3 * DAY
"""How old a repo may get before its first backup."""
ADVICE = {
    "auth": "check that the token is whole, else make a new one with the permission Read Only",
    "token": "check the place, that this user may read it, and that it holds the token alone",
    "http_status": "check --api.url; if it is right, try again later, the API may be down",
    "connect": "check the network, --api.url and --api.proxy",
    "tls": "check the clock and, behind a proxy that intercepts TLS, --api.ca-file",
    "timeout": "try again, or give it longer: --poll.timeout",
    "redirect": "check --api.url",
    "too_large": "raise --api.max-response",
    "schema": "look for a newer release of this exporter",
    "internal": "please report it",
}
RETRY = "try again in a few minutes; the API may be under maintenance"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that needs a hand: where, what, and what to do."""

    severity: str
    where: str
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One account as `check` found it at a moment."""

    status: AccountStatus
    token_origin: str
    at: float
    problems: tuple[Problem, ...]

    @property
    def snapshot(self) -> Snapshot:
        """All that was found."""
        return self.status.snapshot(since=0)

    @property
    def well(self) -> bool:
        """Whether there is nothing to worry about."""
        return not self.problems


def examine(status: AccountStatus, token_origin: str, now: float) -> Finding:
    """Look an account's status through for problems; the limits are those of the alert rules."""
    snapshot = status.snapshot(since=0)
    problems = [
        *_polling_problems(status),
        *(_account_problems(snapshot.account, snapshot.repos, now) if snapshot.account else ()),
        *_token_problems(status, snapshot.tokens, now),
        *(
            problem
            for repo in (snapshot.repos.repos if snapshot.repos else ())
            for problem in _repo_problems(repo, now)
        ),
    ]
    ranked = sorted(problems, key=lambda problem: problem.severity != "critical")
    return Finding(status, token_origin, now, tuple(ranked))


def _polling_problems(status: AccountStatus) -> Iterator[Problem]:
    failures: dict[tuple[str, str], list[str]] = {}
    for name, collector in status.collectors.items():
        if collector.failure:
            failure = collector.failure
            failures.setdefault((failure.reason, failure.message), []).append(name)
        if collector.skipped:
            count = f"{collector.skipped} of the entries cannot be read"
            yield Problem("warning", name, count, "please report it")
        if collector.gaps:
            fields = ", ".join(sorted(collector.gaps))
            yield Problem("warning", name, f"the API no longer has {fields}", ADVICE["schema"])
    for (reason, message), names in failures.items():
        severity = "critical" if "repos" in names else "warning"
        yield Problem(severity, ", ".join(names), message, ADVICE.get(reason, RETRY))


def _account_problems(account: Account, repos: RepoList | None, now: float) -> Iterator[Problem]:
    plan, usage = account.plan, repos.usage if repos else None
    limit = (plan.maximum or plan.included) if plan else None
    if limit and usage is not None and usage / limit > PLAN[0]:
        severity = "critical" if usage / limit > PLAN[1] else "warning"
        what = f"{usage / limit:.0%} of the plan's {decimal(int(limit))} used"
        yield Problem(severity, "plan", what, "book a larger plan, or prune")
    if account.billed_excess:
        what = f"{decimal(int(account.billed_excess))} beyond what the plan includes are billed"
        yield Problem("warning", "plan", what, "book a larger plan, or prune")
    end = account.subscription_end
    if end is not None and end - now < EXPIRY and not account.auto_renew:
        severity = "critical" if end - now < SOON else "warning"
        what = f"ends {_when(end, now)} and does not renew itself"
        yield Problem(severity, "subscription", what, "renew it")


def _token_problems(
    status: AccountStatus, tokens: APITokenList | None, now: float
) -> Iterator[Problem]:
    own_end = status.token_expires
    if own_end is not None and own_end < now:
        expired = f"expired {_when(own_end, now)}"
        yield Problem("critical", "the token used here", expired, "make a new one")
    elif own_end is not None and own_end - now < EXPIRY:
        what = f"expires {_when(own_end, now)}"
        yield Problem("warning", "the token used here", what, "make a new one in time")
    for token in tokens.tokens if tokens else ():
        if token.expires is not None and now <= token.expires < now + EXPIRY:
            what = f"expires {_when(token.expires, now)}"
            yield Problem("warning", f"API token {token.name}", what, "make a new one in time")
    if status.token_permission not in {None, "read_only"}:
        what = f"is {status.token_permission}"
        yield Problem("warning", "the token used here", what, "a read-only one is enough")


def _repo_problems(repo: Repo, now: float) -> Iterator[Problem]:
    where = f"repo {repo.name}"
    if repo.usage is not None and repo.quota and repo.usage / repo.quota > QUOTA[0]:
        severity = "critical" if repo.usage / repo.quota > QUOTA[1] else "warning"
        what = f"{repo.usage / repo.quota:.0%} of its quota used"
        yield Problem(severity, where, what, "raise the quota, or prune and compact")
    if repo.last_modified is None:
        if repo.created is not None and now - repo.created > SETTLED:
            what = f"created {_when(repo.created, now)} and never written to"
            yield Problem("warning", where, what, "set the backup up, or delete the repo")
    elif repo.inactivity_limit and now - repo.last_modified > repo.inactivity_limit:
        severity = "critical" if now - repo.last_modified > 2 * repo.inactivity_limit else "warning"
        what = (
            f"last written {_when(repo.last_modified, now)}, limit {_span(repo.inactivity_limit)}"
        )
        yield Problem(severity, where, what, "look at the client's backup job")


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
    expires = f", expires {_when(status.token_expires, now)}" if status.token_expires else ""
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
            yield f"{verb} {_when(account.subscription_end, now)}"
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
    for repo in sorted(repos, key=lambda repo: (_worry(repo, now), repo.name)):
        age = None if repo.last_modified is None else now - repo.last_modified
        overdue = age is not None and repo.inactivity_limit and age > repo.inactivity_limit
        used = _used(repo)
        table.add_row(
            f"  {_safe(repo.name)}",
            "?" if repo.usage is None else decimal(int(repo.usage)),
            decimal(int(repo.quota)) if repo.quota else "–",
            "–" if used is None else _coloured(f"{used:.0%}", used > QUOTA[1], used > QUOTA[0]),
            "never" if age is None else _coloured(f"{_span(age)} ago", bool(overdue)),
            _span(repo.inactivity_limit) if repo.inactivity_limit else "–",
            _safe(repo.format or "?"),
            _safe(repo.region or "?"),
            ", ".join(_flags(repo)),
        )
    return table


def _used(repo: Repo) -> float | None:
    return repo.usage / repo.quota if repo.usage is not None and repo.quota else None


def _worry(repo: Repo, now: float) -> float:
    """Return a number that puts the repos that need a hand first."""
    age = now - repo.last_modified if repo.last_modified is not None else 0.0
    lateness = age / repo.inactivity_limit if repo.inactivity_limit else 0.0
    return -max(lateness if lateness > 1 else 0.0, _used(repo) or 0.0)


def _flags(repo: Repo) -> Iterator[str]:
    if repo.append_only:
        yield "append-only"
    if repo.compaction_enabled:
        yield "compaction"
    if repo.sftp_enabled:
        yield "sftp"


def _coloured(text: str, red: bool, yellow: bool = False) -> str:  # noqa: FBT001, FBT002  # reads as it stands
    colour = "red" if red else "yellow" if yellow else ""
    return f"[{colour}]{text}[/{colour}]" if colour else text


def _safe(text: str) -> str:
    """Return foreign text that can neither mark itself up nor steer the terminal."""
    return escape(
        "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    )


def _when(moment: float, now: float) -> str:
    try:
        date = f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        date = "at an odd time"
    gap = abs(moment - now)
    return f"{date} (in {_span(gap)})" if moment >= now else f"{date} ({_span(gap)} ago)"


def _span(seconds: float) -> str:
    """Spell a span in its largest fitting unit, as people say it."""
    for unit, name in ((DAY, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit or (unit == DAY and seconds >= unit):
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"
