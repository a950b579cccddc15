"""The facts of a report in words, for every reader: page, text and plugin output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from borgbase_exporter.findings import comparisons
from borgbase_exporter.findings.problems import (
    AGE,
    PERMISSIONS,
    PLAN,
    QUOTA,
    Severity,
    severity,
    subscription,
    worst,
)
from borgbase_exporter.findings.report import AccountReport, RepoReport, Report
from borgbase_exporter.model import Plan
from borgbase_exporter.text import ago, count, percent, size, span

Level = Literal["critical", "warning", "waiting", "well"]
LEVELS: tuple[Level, ...] = ("critical", "warning", "waiting", "well")
"""Worst first."""
STATES = {
    "waiting": "not polled yet",
    "failing": "failing",
    "problems": "needs a look",
    "well": "well",
}


class Fact(NamedTuple):
    """A fact of an account: words, maybe with a date, maybe with a share for a bar."""

    name: str
    text: str
    moment: float | None = None
    share: float | None = None
    severity: Severity | None = None


class RepoFacts(NamedTuple):
    """A repo's facts; "" where there is none."""

    usage: str
    quota: str
    used: str
    used_severity: Severity | None
    written: str
    written_severity: Severity | None
    limit: str
    format: str
    region: str
    flags: str


def level(account: AccountReport) -> Level:
    """Return how bad the account's state is, without its repos."""
    if account.state == "waiting":
        return "waiting"
    return "critical" if account.state == "failing" else worst(account.own_problems) or "well"


def verdict(report: Report) -> tuple[Level, str]:
    """Return in a line whether all is well, and how bad it is."""
    states: list[str] = [account.state for account in report.accounts]
    bad = [repo.severity for one in report.accounts for repo in one.repos or () if repo.severity]
    failing, others, waiting = (states.count(s) for s in ("failing", "problems", "waiting"))
    parts = ["the exporter needs a look" if report.problems else ""]
    parts.append(f"{count(failing, 'account')} failing" if failing else "")
    named = [count(n, noun) for n, noun in ((others, "account"), (len(bad), "repo")) if n]
    parts.append(f"{' and '.join(named)} {_need(others + len(bad))} a look" if named else "")
    if any(parts):
        levels = [*map(level, report.accounts), *bad, *(p.severity for p in report.problems)]
        words = ", ".join(filter(None, parts))
        return min(levels, key=LEVELS.index), words[0].upper() + words[1:]
    if waiting or not states:
        first = f"Waiting for the first poll of {count(waiting, 'account')}"
        return "waiting", first if states else "There are no accounts"
    return "well", "All is well"


def _need(number: int) -> str:
    return "needs" if number == 1 else "need"


def summary(report: Report) -> str:
    """Return in a line how much there is."""
    known = [account for account in report.accounts if account.repos is not None]
    parts = [count(len(report.accounts), "account")] if len(report.accounts) > 1 else []
    if known:
        parts.append(count(sum(len(account.repos or ()) for account in known), "repo"))
    usages = [account.usage for account in known if account.usage is not None]
    if usages and len(usages) == len(report.accounts):
        parts.append(f"{size(sum(usages))} stored")
    return ", ".join(parts)


def repos(account: AccountReport) -> str:
    """Return in words how many repos there are, and how many of them have a problem."""
    if account.repos is None:
        return "repos unknown"
    bad = sum(repo.severity is not None for repo in account.repos)
    total = count(len(account.repos), "repo")
    return f"{total}, {bad:,} {_need(bad)} a look" if bad else total


def stale(account: AccountReport, at: float) -> str:
    """Return which values are older than the last poll; "" while all are fresh."""
    old = {
        name.replace("_", " "): part.taken
        for name, part in account.collectors.items()
        if part.shown and part.taken and part.taken < (account.api.last_poll or 0)
    }
    if not old:
        return ""
    return f"The values of {', '.join(old)} are from {ago(min(old.values()), at)}."


def of_account(account: AccountReport, at: float) -> Iterator[Fact]:
    """Yield what is known of an account."""
    plan = account.account.plan if account.account else None
    yield from _stored(account, plan)
    if plan:
        included = f", {size(plan.included)} included" if plan.included else ""
        maximum = f", {size(plan.maximum)} at most" if plan.maximum else ""
        yield Fact("Plan", f"{plan.name}{included}{maximum}")
    if account.account and account.account.accrued_overage_usd:
        yield Fact("Overage so far", f"{account.account.accrued_overage_usd:.2f} USD")
    if account.account and (words := subscription(account.account, at))[0]:
        yield Fact("Subscription", *words)
    if account.ssh_keys:
        yield Fact("SSH keys", f"{account.ssh_keys.length:,}")
    if account.api_tokens:
        tokens = account.api_tokens.tokens
        mighty = sum(token.permission == "full_access" for token in tokens)
        yield Fact("API tokens", f"{len(tokens):,}" + (f", {mighty} Full Access" if mighty else ""))
    yield from _token(account, at)
    compared = [comparisons.in_words(comparison) for comparison in account.comparisons]
    if account.daily and account.daily.compared:
        compared.append(comparisons.daily_in_words(account.daily))
    if compared:
        yield Fact("Compared", "; ".join(compared))


def _stored(account: AccountReport, plan: Plan | None) -> Iterator[Fact]:
    if account.repos is not None:
        most = f" of at most {plan.max_repos:,}" if plan and plan.max_repos else ""
        gaps = "" if account.complete else ", not all of them could be read"
        yield Fact("Repos", f"{len(account.repos):,}{most}{gaps}")
    if account.usage is not None and plan and plan.limit:
        share = account.usage / plan.limit
        text = f"{size(account.usage)}, {percent(share)} of {size(plan.limit)}"
        yield Fact("Stored", text, share=share, severity=severity(share, PLAN))
    elif account.usage is not None:
        yield Fact("Stored", size(account.usage))


def _token(account: AccountReport, at: float) -> Iterator[Fact]:
    token = account.token
    words = [token.origin] if token.origin else []
    if token.permission:
        words.append(PERMISSIONS.get(token.permission, token.permission))
    if token.expires is not None:
        words.append("expires" if token.expires >= at else "expired")
    elif token.origin:
        words.append("expiry unknown")
    if words:
        yield Fact("Token in use", ", ".join(words), token.expires)


def of_repo(repo: RepoReport, at: float) -> RepoFacts:
    """Return a repo's facts in words."""
    no_quota = "unknown" if repo.quota_enabled is None else "no quota"
    flags = {
        "append-only": repo.append_only,
        "compaction": repo.compaction_enabled,
        "sftp": repo.sftp_enabled,
    }
    return RepoFacts(
        usage="" if repo.usage is None else size(repo.usage),
        quota=size(repo.quota) if repo.quota else no_quota,
        used="" if repo.quota_used is None else percent(repo.quota_used),
        used_severity=severity(repo.quota_used, QUOTA),
        written=repo.last_write if repo.last_modified is None else ago(repo.last_modified, at),
        written_severity=severity(repo.limit_used, AGE),
        limit=span(repo.inactivity_limit) if repo.inactivity_limit else "",
        format=repo.format or "",
        region=repo.region or "",
        flags=", ".join(name for name, on in flags.items() if on),
    )
