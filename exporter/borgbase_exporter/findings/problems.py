"""What is wrong with an account, worst first, and what to do about it.

The thresholds stand here once; alert rules and dashboards use the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from borgbase_exporter.model import (
    CREATE_ONLY,
    Account,
    AccountStatus,
    Repo,
    RepoList,
)
from borgbase_exporter.text import DAY, ago, percent, size, span, when

QUOTA = (0.85, 0.95)
"""Share of a repo's quota above which to warn, and above which it is critical."""
PLAN = (0.9, 0.97)
"""The same for the plan."""
AGE = (1.0, 2.0)
"""The same for the age of a repo's last write as a share of its inactivity limit."""
EXPIRY = 14 * DAY
"""How long before a token or a subscription expires to warn."""
SOON = 3 * DAY
"""How long before a subscription ends this is critical."""
SETTLED = 3 * DAY
"""How old a repo may get before its first backup."""
GRACE = 1 * DAY
"""How late a subscription may renew itself."""
ABANDONED = {"subscription": 14 * DAY, "token": 7 * DAY}
"""How long after the end the alert on it is silent."""
AHEAD = 3600.0
"""How far the API may be ahead of this machine's clock, in seconds."""

ADVICE = {
    "auth": "check that the token is complete, else create a new one that is Read Only",
    "token": "put the token there, alone, and let this user read it",
    "http_status": "check --api.url; if it is right, try again later, the API may be down",
    "connect": "check the network, --api.url and --api.proxy",
    "tls": "check this machine's clock, --api.url and, where TLS is intercepted, --api.ca-file",
    "timeout": "try again, or allow more time: --poll.timeout",
    "not_json": "check --api.url; if it is right, try again later: it may be under maintenance",
    "redirect": "check --api.url",
    "too_large": "raise --api.max-response",
    "schema": "look for a newer release of this exporter",
    "internal": "please report it",
}
RETRY = "try again in a few minutes; the API may be under maintenance"
PERMISSIONS = {
    "read_only": "Read Only",
    "full_access": "Full Access",
    "create_only": "Create Only",
}
"""A token's permissions in the words of BorgBase's control panel."""

Severity = Literal["critical", "warning"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning")
"""Worst first."""


class Problem(msgspec.Struct, frozen=True):
    """Something to act on: how bad, where, what, and what to do."""

    severity: Severity
    where: str
    what: str
    advice: str = ""
    repo_id: str | None = None
    alert: str | None = None
    """The alert rule that fires if this lasts, where there is one."""


def ranked(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return the problems worst first, otherwise in their order."""
    return tuple(sorted(problems, key=lambda problem: SEVERITIES.index(problem.severity)))


def worst(problems: Sequence[Problem]) -> Severity | None:
    """Return the severity of the worst problem."""
    return min((p.severity for p in problems), key=SEVERITIES.index, default=None)


def severity(share: float | None, limits: tuple[float, float]) -> Severity | None:
    """Return how bad a share is by the limits above which to warn and to be critical."""
    if share is None or share <= limits[0]:
        return None
    return "critical" if share > limits[1] else "warning"


def permission(status: AccountStatus) -> str | None:
    """Return the permission of the exporter's own token, as far as it is known or plain."""
    return status.token_permission or ("create_only" if _create_only(status) else None)


def _create_only(status: AccountStatus) -> bool:
    """Return whether all that the API refuses is what Create Only tokens may not read."""
    refused = {n for n, c in status.collectors.items() if c.failure and c.failure.reason == "auth"}
    return status.up and bool(refused) and refused == status.collectors.keys() - CREATE_ONLY


def listed(names: Iterable[str]) -> str:
    """Return names of collectors as people write them."""
    return ", ".join(name.replace("_", " ") for name in names)


def of_account(status: AccountStatus, now: float) -> Iterator[Problem]:
    """Yield an account's problems, except those of its repos."""
    known = status.snapshot
    yield from _failures(status, now)
    yield from _collectors(status, now)
    if known.repos:
        yield from _clock(known.repos, now)
    if known.account:
        yield from _plan(known.account, known.repos)
        yield from _subscription(known.account, now)
    yield from _own_token(status, now)
    yield from _api_tokens(status, now)


def _failures(status: AccountStatus, now: float) -> Iterator[Problem]:
    """Yield a problem for each cause of failures."""
    causes: dict[tuple[str, str], list[str]] = {}
    for name, collector in status.collectors.items():
        if collector.failure:
            cause = collector.failure.reason, collector.failure.message
            causes.setdefault(cause, []).append(name)
    expired = status.token_expires is not None and status.token_expires < now
    for (reason, message), names in causes.items():
        where, what, advice = listed(names), message, ADVICE.get(reason, RETRY)
        if len(names) == len(status.collectors):
            where = "token" if reason in {"auth", "token"} else "API"
            if reason == "auth" and expired:
                continue  # the expiry is the problem
        elif reason == "auth":
            flags = " ".join(f"--no-collector.{name}" for name in names)
            advice = f"create a token that is Read Only, or disable what it may not read: {flags}"
            if _create_only(status):
                what += "; the token seems to be Create Only"
        decisive = not status.up and ("repos" in names or "repos" not in status.collectors)
        level: Severity = "critical" if decisive else "warning"
        yield Problem(level, where, what, advice, alert=_alert_on_failure(status, reason, decisive))
    if status.token_problem and not any(reason == "token" for reason, _ in causes):
        what = f"{status.token_problem}; the exporter uses the previous one until it restarts"
        yield Problem("warning", "token", what, ADVICE["token"])


def _alert_on_failure(status: AccountStatus, reason: str, decisive: bool) -> str | None:  # noqa: FBT001
    if status.up:
        return "BorgBaseCollectorFailing"
    if not decisive:
        return None
    refused = reason in {"auth", "token"} and "repos" in status.collectors
    return "BorgBaseTokenInvalid" if refused else "BorgBaseAPIUnreachable"


def _collectors(status: AccountStatus, now: float) -> Iterator[Problem]:
    for name, collector in status.collectors.items():
        where = listed([name])
        if collector.skipped:
            what = f"{collector.skipped} of the entries cannot be read"
            yield Problem("warning", where, what, ADVICE["internal"])
        if collector.fields_skipped:
            what = f"{collector.fields_skipped} of the fields cannot be read"
            yield Problem("warning", where, what, ADVICE["internal"])
        if collector.gaps:
            what = f"the API no longer has {', '.join(sorted(collector.gaps))}"
            advice, alert = ADVICE["schema"], "BorgBaseSchemaDrift"
            yield Problem("warning", where, what, advice, alert=alert)
        if collector.expired and not collector.failure and collector.taken is not None:
            what = f"the last values, read {ago(collector.taken, now)}, are too old to be shown"
            advice = "restart the exporter and keep its log"
            yield Problem("warning", where, what, advice, alert="BorgBasePollStale")


def _clock(repos: RepoList, now: float) -> Iterator[Problem]:
    ahead = max((repo.last_modified or now for repo in repos.repos), default=now) - now
    if ahead > AHEAD:
        what = f"the last write to a repo is {span(ahead)} in the future"
        yield Problem("warning", "clock", what, "set this machine's clock")


def _plan(account: Account, repos: RepoList | None) -> Iterator[Problem]:
    usage, limit = repos.usage if repos else None, account.plan.limit if account.plan else None
    advice = "choose a larger plan, or prune"
    if usage is not None and limit and (level := severity(usage / limit, PLAN)):
        what = f"{percent(usage / limit)} of the plan's {size(limit)} used"
        yield Problem(level, "plan", what, advice, alert="BorgBasePlanAlmostFull")
    if account.billed_excess:
        what = f"{size(account.billed_excess)} beyond what the plan includes are billed"
        yield Problem("warning", "plan", what, advice, alert="BorgBasePlanOverage")


def subscription(account: Account, now: float) -> tuple[str, float | None]:
    """Return in words what happens to the subscription, and when; "" where that is unknown."""
    end = account.subscription_end
    if account.subscription_active is False:
        return "not active", None
    if end is None:
        return "", None
    if account.auto_renew:
        return "renews" if end >= now else "should have renewed itself", end
    return "ends" if end >= now else "ended", end


def _subscription(account: Account, now: float) -> Iterator[Problem]:
    verb, end = subscription(account, now)
    left = (account.subscription_end or now + 2 * EXPIRY) - now
    overdue = left < EXPIRY if not account.auto_renew else left <= -GRACE
    fires = overdue and left > -ABANDONED["subscription"]
    alert = "BorgBaseSubscriptionExpiring" if fires else None
    if account.subscription_active is False:
        yield Problem("warning", "subscription", f"is {verb}", "renew it", alert=alert)
    elif end is not None and overdue and account.auto_renew:
        advice = "check the payment method at BorgBase"
        yield Problem("critical", "subscription", f"{verb} {when(end, now)}", advice, alert=alert)
    elif end is not None and overdue:
        what = f"{verb} {when(end, now)} and does not renew itself"
        level: Severity = "critical" if left < SOON else "warning"
        yield Problem(level, "subscription", what, "renew it", alert=alert)


def _own_token(status: AccountStatus, now: float) -> Iterator[Problem]:
    end = status.token_expires
    alert: str | None = "BorgBaseTokenExpiring"
    if end is not None and end < now:
        what, advice = f"expired {when(end, now)}", "create a new one that is Read Only"
        if status.up and (status.last_poll or 0) > end:
            what, advice = f"{what}, yet BorgBase accepts it", "check this machine's clock"
        if not status.up:
            alert = "BorgBaseTokenInvalid"
        elif now - end > ABANDONED["token"]:
            alert = None
        yield Problem("critical", "token", what, advice, alert=alert)
    elif end is not None and end - now < EXPIRY:
        advice = "create a new one in time"
        yield Problem("warning", "token", f"expires {when(end, now)}", advice, alert=alert)
    allowed = status.token_permission
    if allowed and allowed != "read_only":
        what = f"its permission is {PERMISSIONS.get(allowed, allowed)}"
        advice, alert = "a token that is Read Only is enough", "BorgBaseTokenNotReadOnly"
        yield Problem("warning", "token", what, advice, alert=alert)


def _api_tokens(status: AccountStatus, now: float) -> Iterator[Problem]:
    """Yield the account's other tokens that expire soon; those long expired are given up."""
    tokens, own = status.snapshot.tokens, status.token_expires
    for token in tokens.tokens if tokens else ():
        if token.expires is None or (own is not None and abs(token.expires - own) < 1):
            continue
        if now <= token.expires < now + EXPIRY:
            what = f"expires {when(token.expires, now)}"
            where, advice = f"API token {token.name}", "create a new one in time"
            yield Problem("warning", where, what, advice, alert="BorgBaseTokenExpiring")


def lateness(repo: Repo, now: float) -> float | None:
    """Return the age of the last write as a share of the inactivity limit."""
    if repo.last_modified is None or not repo.inactivity_limit:
        return None
    return (now - repo.last_modified) / repo.inactivity_limit


def of_repo(repo: Repo, now: float) -> Iterator[Problem]:
    """Yield a repo's problems."""
    where = f"repo {repo.name}"
    if level := severity(repo.fill, QUOTA):
        what = f"{percent(repo.fill or 0)} of its quota used"
        advice, alert = "raise the quota, or prune and compact", "BorgBaseRepoQuotaAlmostFull"
        yield Problem(level, where, what, advice, repo.id, alert)
    if level := severity(lateness(repo, now), AGE):
        limit = span(repo.inactivity_limit or 0)
        what = f"last written {when(repo.last_modified or 0, now)}, limit {limit}"
        advice, alert = "check the client's backup job", "BorgBaseRepoBackupOverdue"
        yield Problem(level, where, what, advice, repo.id, alert)
    if repo.never_written and repo.created is not None and now - repo.created > SETTLED:
        what = f"created {when(repo.created, now)} and never written to"
        advice, alert = "set up the backup, or delete the repo", "BorgBaseRepoNeverBackedUp"
        yield Problem("warning", where, what, advice, repo.id, alert)
