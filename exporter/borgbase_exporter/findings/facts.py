"""The facts of a report in words, for every reader: page, text and plugin output."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

from borgbase_exporter.findings import problems
from borgbase_exporter.findings.problems import Severity, severity
from borgbase_exporter.findings.report import AccountReport, RepoReport, Report
from borgbase_exporter.model import Account, Plan
from borgbase_exporter.text import ago, count, percent, size, span

Level = Literal["critical", "warning", "waiting", "well"]
LEVELS: tuple[Level, ...] = ("critical", "warning", "waiting", "well")  # worst first


class Fact(NamedTuple):
    """A fact in words ("" where it is unknown), maybe with a date, maybe with a share for a bar."""

    name: str
    text: str
    moment: float | None = None
    share: float | None = None
    severity: Severity | None = None


def level(account: AccountReport) -> Level:
    """Return how bad the account's state is, without its repos."""
    return "waiting" if account.state == "waiting" else account.severity or "well"


def verdict(report: Report) -> tuple[Level, str]:
    """Return in a line whether all is well, and how bad it is."""
    found = Counter[str](problem.severity for _, problem in report.every)
    waiting = sum(account.state == "waiting" for account in report.accounts)
    if found:
        named = (("critical", "critical problem"), ("warning", "warning"))
        words = " and ".join(count(found[key], noun) for key, noun in named if found[key])
        return "critical" if found["critical"] else "warning", words
    if waiting:
        return "waiting", f"Waiting for the first poll of {count(waiting, 'account')}"
    return ("well", "All is well") if report.accounts else ("waiting", "There are no accounts")


def summary(report: Report) -> str:
    """Return in a line the numbers of accounts and repos, and the space stored."""
    parts = [count(len(report.accounts), "account")] if len(report.accounts) > 1 else []
    if any(account.repos is not None for account in report.accounts):
        parts.append(count(len(report.repos), "repo"))
    usages = [account.usage for account in report.accounts if account.usage is not None]
    if usages and len(usages) == len(report.accounts):
        parts.append(f"{size(sum(usages))} stored")
    return ", ".join(parts)


def repos(account: AccountReport) -> str:
    """Return in words how many repos there are, and how many of them have a problem."""
    if account.repos is None:
        return "repos unknown"
    bad = sum(repo.severity is not None for repo in account.repos)
    return count(len(account.repos), "repo") + (f", {bad:,} with problems" if bad else "")


def stale(account: AccountReport, at: float) -> str:
    """Return which values are older than the last poll; "" while all are fresh."""
    shown = {name: part.taken for name, part in account.collectors.items() if part.shown}
    old = {n: taken for n, taken in shown.items() if taken and taken < (account.api.last_poll or 0)}
    names = ", ".join(old).replace("_", " ")
    return f"The values of {names} are from {ago(min(old.values()), at)}." if old else ""


def of_account(account: AccountReport, at: float) -> Iterator[Fact]:
    """Yield what is known of an account."""
    paid = account.account or Account()
    plan = paid.plan or Plan("")
    if account.repos is not None:
        most = f" of at most {plan.max_repos:,}" if plan.max_repos else ""
        gaps = "" if account.complete else ", not all of them could be read"
        yield Fact("Repos", f"{len(account.repos):,}{most}{gaps}")
    if account.usage is not None:
        share = account.usage / plan.limit if plan.limit else None
        limit = f", {percent(share or 0)} of {size(plan.limit)}" if plan.limit else ""
        level = severity(share, problems.PLAN)
        yield Fact("Stored", size(account.usage) + limit, None, share, level)
    if paid.plan:
        included = f", {size(plan.included)} included" if plan.included else ""
        maximum = f", {size(plan.maximum)} at most" if plan.maximum else ""
        yield Fact("Plan", f"{plan.name}{included}{maximum}")
    if paid.accrued_overage_usd:
        yield Fact("Overage so far", f"{paid.accrued_overage_usd:.2f} USD")
    if (subscription := problems.subscription(paid, at))[0]:
        yield Fact("Subscription", *subscription)
    if account.ssh_keys:
        yield Fact("SSH keys", f"{account.ssh_keys.length:,}")
    if account.api_tokens:
        tokens = account.api_tokens.tokens
        full = sum(token.permission == "full_access" for token in tokens)
        words = f", {full} with full access" if full else ""
        yield Fact("API tokens", f"{len(tokens):,}{words}")
    token, unknown = account.token, "expiry unknown" if account.token.origin else None
    expiry = unknown if token.expires is None else ("expired", "expires")[token.expires >= at]
    known = token.origin, token.permission and token.permission.replace("_", " "), expiry
    if any(known):
        yield Fact("Token in use", ", ".join(filter(None, known)), token.expires)
    if alike := [problems.FIGURES[one.subject][0] for one in account.comparisons if one.agrees]:
        names = " and ".join(", ".join(alike).rsplit(", ", 1))
        tolerance = f"within {count(problems.REPOS, 'repo')} and a factor of {problems.FACTOR:.0f}"
        yield Fact("Repo list", f"agrees with BorgBase's {names} ({tolerance})")


def of_repo(repo: RepoReport, at: float) -> tuple[Fact, ...]:
    """Return a repo's facts; every repo has the same ones, in the same order."""
    used, late = repo.quota_used, repo.limit_used
    quota = "unknown" if repo.quota_enabled is None else "no quota"
    written = "never" if repo.never_written else "unknown"
    if repo.last_modified is not None:
        written = ago(repo.last_modified, at)
    on = repo.append_only, repo.compaction_enabled, repo.sftp_enabled
    flags = itertools.compress(("append-only", "compaction", "sftp"), on)
    level = severity(used, problems.QUOTA)
    return (
        Fact("Usage", "" if repo.usage is None else size(repo.usage)),
        Fact("Quota", size(repo.quota) if repo.quota else quota),
        Fact("Used", "" if used is None else percent(used), None, used, level),
        Fact("Last write", written, repo.last_modified, late, severity(late, problems.AGE)),
        Fact("Limit", span(repo.inactivity_limit) if repo.inactivity_limit else ""),
        Fact("Format", repo.format or ""),
        Fact("Region", repo.region or ""),
        Fact("Flags", ", ".join(flags)),
    )
