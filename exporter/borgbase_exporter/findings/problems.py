"""What is wrong with an account, worst first, and what to do about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from borgbase_exporter.model import CREATE_ONLY, Account, AccountStatus, Repo
from borgbase_exporter.text import DAY, ago, count, percent, size, span, when

# The thresholds; alert rules and dashboards use the same ones.
QUOTA = (0.85, 0.95)  # share of a repo's quota above which to warn, and above which it is critical
PLAN = (0.9, 0.97)  # the same for the plan
AGE = (1.0, 2.0)  # the same for the age of a repo's last write as a share of its inactivity limit
EXPIRY = 14 * DAY  # warn this long before a token or a subscription expires
SOON = 3 * DAY  # critical this long before a subscription ends
SETTLED = 3 * DAY  # how old a repo may get before its first backup
GRACE = 1 * DAY  # how late a subscription may renew

FACTOR = 2.0  # sizes agree up to this ratio: usage changes daily, units are 1000 apart
REPOS = 1  # how many repos may be added or deleted between two queries
COMPARABLE = 1e8  # bytes; smaller sizes are rounded too much to be compared
COUNT = "repos by account"
FIGURES = {  # BorgBase's figures in words, and as fields of an account
    COUNT: ("repo count", "reported_repos"),
    "usage by account": ("total usage", "reported_usage"),
    "usage by bill": ("last bill", "billed_usage"),
}

ADVICE = {
    "auth": "check that the token is complete, or create a new Read Only token",
    "token": "put the token, and nothing else, in its file, and let the exporter's user read it",
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
RENEW = "create a new token before that"
Severity = Literal["critical", "warning"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning")  # worst first


class Problem(msgspec.Struct, frozen=True):
    """Something to act on: its severity, where and what it is, and what to do."""

    severity: Severity
    where: str
    what: str
    advice: str = ""
    alert: str | None = None  # the alert rule on it, where there is one
    repo_id: str | None = None


class Comparison(msgspec.Struct, frozen=True):
    """A sum over the listed repos, and BorgBase's figure."""

    subject: str
    listed: float
    other: float
    agrees: bool


def ranked(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return the problems worst first, otherwise in their order."""
    return tuple(sorted(problems, key=lambda problem: SEVERITIES.index(problem.severity)))


def worst(problems: Iterable[Problem]) -> Severity | None:
    """Return the severity of the worst problem."""
    return min((p.severity for p in problems), key=SEVERITIES.index, default=None)


def severity(share: float | None, limits: Sequence[float]) -> Severity | None:
    """Return the severity of a share: warning above the first limit, critical above the second."""
    if share is None or share <= limits[0]:
        return None
    return "critical" if share > limits[1] else "warning"


def permission(status: AccountStatus) -> str | None:
    """Return the permission of the exporter's own token, as far as it is known."""
    # It is Create Only if the API refuses exactly what tokens of that kind may not read.
    refused = {n for n, c in status.collectors.items() if c.failure and c.failure.reason == "auth"}
    create_only = refused and status.up and refused == status.collectors.keys() - CREATE_ONLY
    return status.token_permission or ("create_only" if create_only else None)


def of_account(status: AccountStatus, now: float) -> Iterator[Problem]:
    """Yield an account's problems, except those of its repos."""
    account = status.snapshot.account or Account()
    yield from (*_failures(status, now), *_collectors(status, now))
    yield from (*_plan(account, status), *_subscription(account, now))
    yield from (*_tokens(status, now), *_differences(status))


def _failures(status: AccountStatus, now: float) -> Iterator[Problem]:
    causes = defaultdict(list)
    for name, collector in status.collectors.items():
        if collector.failure:
            causes[collector.failure].append(name)
    for failure, names in causes.items():
        reason, what, advice = failure.reason, failure.message, ADVICE.get(failure.reason, RETRY)
        where = ", ".join(names).replace("_", " ")
        if len(names) == len(status.collectors):
            where = "token" if reason in {"auth", "token"} else "API"
            if reason == "auth" and (status.token_expires or now) < now:
                continue  # `_tokens` reports the expiry instead
        elif reason == "auth":
            flags = " ".join(f"--no-collector.{name}" for name in names)
            advice = f"create a Read Only token, or disable what this one may not read: {flags}"
            if permission(status) == "create_only":
                what += "; the token seems to be Create Only"
        decisive = not status.up and ("repos" in names or "repos" not in status.collectors)
        alert = "BorgBaseCollectorFailing" if status.up else None
        if decisive:
            refused = reason in {"auth", "token"} and "repos" in status.collectors
            alert = "BorgBaseTokenInvalid" if refused else "BorgBaseAPIUnreachable"
        yield Problem("critical" if decisive else "warning", where, what, advice, alert)
    if status.token_problem and not any(failure.reason == "token" for failure in causes):
        what = f"{status.token_problem}; the exporter uses the previous one until it restarts"
        yield Problem("warning", "token", what, ADVICE["token"])


def _collectors(status: AccountStatus, now: float) -> Iterator[Problem]:
    for name, of in status.collectors.items():
        gone, unread, report = ", ".join(sorted(of.gaps)), "cannot be read", ADVICE["internal"]
        old = ago(of.taken or 0, now) if of.expired and not of.failure else ""
        read = f"the last values, read {old}, are too old to be shown"
        for is_so, what, advice, alert in (
            (of.skipped, f"{of.skipped} of the entries {unread}", report, "BorgBaseListIncomplete"),
            (of.fields_skipped, f"{of.fields_skipped} of the fields {unread}", report, None),
            (gone, f"the API no longer has {gone}", ADVICE["schema"], "BorgBaseSchemaDrift"),
            (old, read, "restart the exporter and keep its log", "BorgBasePollStale"),
        ):
            if is_so:
                yield Problem("warning", name.replace("_", " "), what, advice, alert)


def _plan(account: Account, status: AccountStatus) -> Iterator[Problem]:
    usage = status.snapshot.repos.usage if status.snapshot.repos else None
    limit, advice = account.plan.limit if account.plan else None, "choose a larger plan, or prune"
    if usage is not None and limit and (level := severity(usage / limit, PLAN)):
        what = f"{percent(usage / limit)} of the plan's {size(limit)} used"
        yield Problem(level, "plan", what, advice, "BorgBasePlanAlmostFull")
    if account.billed_excess:
        excess = size(account.billed_excess)
        what = f"{excess} over the storage included in your plan, billed as overage"
        yield Problem("warning", "plan", what, advice, "BorgBasePlanOverage")


def subscription(account: Account, now: float) -> tuple[str, float | None]:
    """Return in words what happens to the subscription, and when; "" where that is unknown."""
    end = account.subscription_end
    if account.subscription_active is False or end is None:
        return "not active" if account.subscription_active is False else "", None
    words = ("was due to renew", "renews") if account.auto_renew else ("ended", "ends")
    return words[end >= now], end


def _subscription(account: Account, now: float) -> Iterator[Problem]:
    words, end = subscription(account, now)
    ending, late = "BorgBaseSubscriptionExpiring", (account.subscription_end or now) < now
    if account.subscription_active is False:
        alert = ending if late else "BorgBaseSubscriptionInactive"
        yield Problem("warning", "subscription", f"is {words}", "renew it", alert)
    elif end is not None and (end <= now - GRACE if account.auto_renew else end < now + EXPIRY):
        what, advice = f"{words} {when(end, now)}", "check the payment method at BorgBase"
        if not account.auto_renew:
            what, advice = f"{what} and does not renew automatically", "renew it"
        level: Severity = "critical" if end < now + SOON else "warning"
        yield Problem(level, "subscription", what, advice, ending)


def _tokens(status: AccountStatus, now: float) -> Iterator[Problem]:
    """Yield what is wrong with the exporter's token, and which others expire soon."""
    end, alert = status.token_expires, "BorgBaseTokenExpiring"
    if end is not None and end < now:
        what, advice = f"expired {when(end, now)}", "create a new Read Only token"
        if status.up and (status.last_poll or 0) > end:
            what, advice = f"{what}, yet BorgBase accepts it", "check this machine's clock"
        fires = alert if status.up else "BorgBaseTokenInvalid"
        yield Problem("critical", "token", what, advice, fires)
    elif end is not None and end - now < EXPIRY:
        yield Problem("warning", "token", f"expires {when(end, now)}", RENEW, alert)
    if (allowed := status.token_permission) not in {None, "read_only"}:
        what = f"its permission is {str(allowed).replace('_', ' ')}"
        advice = "replace it with a Read Only token"
        yield Problem("warning", "token", what, advice, "BorgBaseTokenNotReadOnly")
    tokens = status.snapshot.tokens
    for token in tokens.tokens if tokens else ():
        other = token.expires or 0
        if 0 <= other - now < EXPIRY and (end is None or abs(other - end) >= 1):  # another's
            what = f"expires {when(other, now)}"
            yield Problem("warning", f"API token {token.name}", what, RENEW, alert)


def compared(status: AccountStatus) -> Iterator[Comparison]:
    """Yield sums over the repos, and BorgBase's figures, whose exact meaning is not documented."""
    # Sizes that agree show that the units are right; counts, that the list is complete.
    repos, account = status.snapshot.repos, status.snapshot.account
    if repos is None or not repos.complete or account is None:
        return
    for subject, (_, field) in FIGURES.items():
        listed = len(repos.repos) if subject == COUNT else repos.usage
        other: float | None = getattr(account, field)
        if listed is None or other is None:
            continue
        if subject == COUNT:
            yield Comparison(subject, listed, other, abs(listed - other) <= REPOS)
        elif min(listed, other) >= COMPARABLE:
            yield Comparison(subject, listed, other, 1 / FACTOR <= listed / other <= FACTOR)


def _differences(status: AccountStatus) -> Iterator[Problem]:
    for subject, listed, other, agrees in map(msgspec.structs.astuple, compared(status)):
        shown = f"{size(listed)} listed, but BorgBase's {FIGURES[subject][0]} is {size(other)}"
        suspicion = "sizes may be wrong unless much was written or deleted since"
        if subject == COUNT:
            shown = f"{count(listed, 'repo')} listed, but BorgBase's repo count is {other:,}"
            suspicion = "the list may be incomplete"
        if not agrees:
            advice = f"if this persists, {ADVICE['internal']}"
            yield Problem("warning", "comparison", f"{shown}: {suspicion}", advice)


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
        advice = "raise the quota, or prune and compact"
        yield Problem(level, where, what, advice, "BorgBaseRepoQuotaAlmostFull", repo.id)
    if level := severity(lateness(repo, now), AGE):
        limit = span(repo.inactivity_limit or 0)
        what = f"last written {when(repo.last_modified or 0, now)}, limit {limit}"
        advice = "check the client's backup job"
        yield Problem(level, where, what, advice, "BorgBaseRepoBackupOverdue", repo.id)
    if repo.never_written and repo.created is not None and now - repo.created > SETTLED:
        what = f"created {when(repo.created, now)} and never written to"
        advice = "set up the backup, or delete the repo"
        yield Problem("warning", where, what, advice, "BorgBaseRepoNeverBackedUp", repo.id)
