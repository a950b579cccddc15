"""What an account's status means to a person: its troubles, worst first, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich.filesize import decimal

from borgbase_exporter.model import (
    Account,
    AccountStatus,
    Plan,
    Repo,
    RepoList,
    Snapshot,
)
from borgbase_exporter.text import DAY, span, when

QUOTA = (0.85, 0.95)
"""Share of a repo's quota above which to warn, and above which it is critical."""
PLAN = (0.9, 0.97)
"""The same for the plan."""
AGE = (1.0, 2.0)
"""The same for the age of a repo's last write as a share of its inactivity limit."""
EXPIRY = 14 * DAY
"""How long before something expires to warn."""
SOON = 3 * DAY
SETTLED = 3 * DAY
"""How old a repo may get before its first backup."""
AHEAD = 3600.0
"""How far the API may be ahead of this machine's clock; seconds."""
ALIKE = 2.0
"""How many times one size may be the other, and still be of the same unit: usage changes by the
day, but units are at least a thousand apart."""
TELLING = 1e8
"""Bytes below which sizes are too small, and rounded too much, to be compared."""
ADVICE = {
    "auth": "check that the token is whole, else make a new one with the permission Read Only",
    "token": "put the token there, alone, and let this user read it",
    "http_status": "check --api.url; if it is right, try again later, the API may be down",
    "connect": "check the network, --api.url and --api.proxy",
    "tls": "check this machine's clock, --api.url and, where TLS is intercepted, --api.ca-file",
    "timeout": "try again, or give it longer: --poll.timeout",
    "not_json": "check --api.url; if it is right, try again later: it may be under maintenance",
    "redirect": "check --api.url",
    "too_large": "raise --api.max-response",
    "schema": "look for a newer release of this exporter",
    "internal": "please report it",
}
RETRY = "try again in a few minutes; the API may be under maintenance"
MORE = "make a token with the permission Read Only"
UNREACHED = {"connect", "tls", "timeout"}
PERMISSIONS = {
    "read_only": "Read Only",
    "full_access": "Full Access",
    "create_only": "Create Only",
}
"""What a token may do, in the words of BorgBase's control panel."""
SEVERITIES = ("critical", "warning", "")
LAST_WRITE = "RepoType.lastModified"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that needs a hand: where, what, and what to do."""

    severity: str
    where: str
    what: str
    advice: str = ""


class Daily(NamedTuple):
    """The unit of the daily values: it fits the current usage of so many of the repos compared."""

    unit: str | None = None
    """None where none fits most of them."""
    fits: int = 0
    compared: int = 0


UNKNOWN = Daily()


class RepoFinding(NamedTuple):
    """One repo as it was found at a moment."""

    repo: Repo
    problems: tuple[Problem, ...]
    lateness: float | None
    """The age of its last write as a share of its inactivity limit."""
    unwritten: str
    """Why it has no last write, "never" or "unknown"; empty where it has one."""

    @property
    def rank(self) -> tuple[int, float, str, str]:
        """What puts the repos that need a hand first, and others by their fill and name."""
        late = self.lateness or 0.0
        worry = max(late if late > 1 else 0.0, self.repo.fill or 0.0)
        name = self.repo.name
        return SEVERITIES.index(worst(self.problems)), -worry, name.casefold(), name


@dataclass(frozen=True, slots=True)
class Finding:
    """One account as it was found at a moment."""

    status: AccountStatus
    token_origin: str
    at: float
    snapshot: Snapshot
    """What of the status is fresh enough to be shown."""
    own: tuple[Problem, ...]
    """The account's problems, but for its repos', worst first."""
    repos: tuple[RepoFinding, ...]
    """Worst first."""
    daily: Daily = UNKNOWN

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems, worst first."""
        return _ranked([*self.own, *(problem for repo in self.repos for problem in repo.problems)])

    @property
    def permission(self) -> str | None:
        """What the token may do, when that can be known."""
        known = _permission(self.status, self.snapshot)
        return known or ("create_only" if _narrow(self.status) else None)

    @property
    def reachable(self) -> bool | None:
        """Whether the API answered at all; None when it was not asked."""
        reasons = {c.failure.reason if c.failure else "" for c in self.status.collectors.values()}
        return None if reasons == {"token"} else bool(reasons - UNREACHED)

    @property
    def usage_per_billed(self) -> float | None:
        """The repos' usage as a share of what was billed last: about 1 if our units are right."""
        return _usage_per_billed(self.snapshot)

    @property
    def well(self) -> bool:
        """Whether there is nothing to worry about."""
        return not self.problems


def examine(
    status: AccountStatus,
    token_origin: str,
    now: float,
    known: Iterable[Problem] = (),
    daily: Daily = UNKNOWN,
    *,
    since: float = 0.0,
) -> Finding:
    """Look an account's status through for problems; the limits are those of the alert rules.

    `known` are problems that were found elsewhere; what was taken until `since` is left out.
    """
    snapshot = status.snapshot(since)
    own = [
        *known,
        *_polling_problems(status, now),
        *_clock_problems(snapshot.repos, now),
        *_unit_problems(snapshot),
        *(_account_problems(snapshot.account, snapshot.repos, now) if snapshot.account else ()),
        *_token_problems(status, snapshot, now),
    ]
    repos: tuple[RepoFinding, ...] = ()
    if snapshot.repos:
        listing = status.collectors["repos"]
        told = LAST_WRITE not in listing.gaps | listing.missing
        looked = (_look(repo, now, told=told) for repo in snapshot.repos.repos)
        repos = tuple(sorted(looked, key=lambda repo: repo.rank))
    return Finding(status, token_origin, now, snapshot, _ranked(own), repos, daily)


def _ranked(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: SEVERITIES.index(problem.severity)))


def worst(problems: Sequence[Problem]) -> str:
    """Return the severity of the worst problem; empty where there is none."""
    return min((p.severity for p in problems), key=SEVERITIES.index) if problems else ""


def severity(share: float | None, limits: tuple[float, float]) -> str:
    """Return how bad a share is by the limits above which to warn and to be critical."""
    if share is None or share <= limits[0]:
        return ""
    return "critical" if share > limits[1] else "warning"


def _permission(status: AccountStatus, snapshot: Snapshot) -> str | None:
    return snapshot.tokens.permission(status.token_expires) if snapshot.tokens else None


def _narrow(status: AccountStatus) -> bool:
    """Tell whether the token may list repos and keys, and nothing else."""
    refused = {n for n, c in status.collectors.items() if c.failure and c.failure.reason == "auth"}
    return status.up and bool(refused) and refused == {"account", "tokens"} & set(status.collectors)


def _polling_problems(status: AccountStatus, now: float) -> Iterator[Problem]:
    failures: dict[tuple[str, str], list[str]] = {}
    for name, collector in status.collectors.items():
        if collector.failure:
            failure = collector.failure
            failures.setdefault((failure.reason, failure.message), []).append(name)
        if collector.skipped:
            what = f"{collector.skipped} of the entries cannot be read"
            yield Problem("warning", name, what, "please report it")
        if collector.gaps:
            fields = ", ".join(sorted(collector.gaps))
            yield Problem("warning", name, f"the API no longer has {fields}", ADVICE["schema"])
    expired = status.token_expires is not None and status.token_expires < now
    for (reason, message), names in failures.items():
        where, what, advice = ", ".join(names), message, ADVICE.get(reason, RETRY)
        if len(names) == len(status.collectors):
            where = "token" if reason in {"auth", "token"} else "API"
            if reason == "auth" and expired:
                continue  # which is a problem by itself
        elif reason == "auth":
            advice = f"{MORE}, or do without: {' '.join(f'--no-collector.{n}' for n in names)}"
            if _narrow(status):
                what += "; it seems to be Create Only, so plan, bills and tokens stay unknown"
        yield Problem("critical" if "repos" in names else "warning", where, what, advice)


def _clock_problems(repos: RepoList | None, now: float) -> Iterator[Problem]:
    moments = [repo.last_modified for repo in repos.repos if repo.last_modified] if repos else []
    if moments and (ahead := max(moments) - now) > AHEAD:
        what = f"a repo was written to {span(ahead)} in the future"
        yield Problem("warning", "clock", what, "set this machine's clock")


def _unit_problems(snapshot: Snapshot) -> Iterator[Problem]:
    ratio = _usage_per_billed(snapshot)
    if ratio is not None and not 1 / ALIKE <= ratio <= ALIKE:
        assert snapshot.account  # noqa: S101  # or there was nothing to compare with
        billed = size(snapshot.account.billed_usage or 0)
        times = f"{ratio:,.0f}" if ratio > 10 * ALIKE else f"{ratio:.2g}"
        what = f"the repos use {times} times the {billed} that were billed last"
        advice = "unless much was written or deleted since, please report it: sizes may be wrong"
        yield Problem("warning", "units", what, advice)


def _usage_per_billed(snapshot: Snapshot) -> float | None:
    usage = snapshot.repos.usage if snapshot.repos else None
    billed = snapshot.account.billed_usage if snapshot.account else None
    if usage is None or billed is None or min(usage, billed) < TELLING:
        return None
    return usage / billed


def _account_problems(account: Account, repos: RepoList | None, now: float) -> Iterator[Problem]:
    usage, limit = repos.usage if repos else None, account.plan.limit if account.plan else None
    if usage is not None and limit and (level := severity(usage / limit, PLAN)):
        what = f"{usage / limit:.0%} of the plan's {size(limit)} used"
        yield Problem(level, "plan", what, "book a larger plan, or prune")
    if account.billed_excess:
        what = f"{size(account.billed_excess)} beyond what the plan includes are billed"
        yield Problem("warning", "plan", what, "book a larger plan, or prune")
    verb, end = subscription(account, now)
    if account.subscription_active is False:
        yield Problem("warning", "subscription", f"is {verb}", "renew it")
    elif end is None or end - now >= EXPIRY:
        return
    elif not account.auto_renew:
        level = "critical" if end - now < SOON else "warning"
        what = f"{verb} {when(end, now)} and does not renew itself"
        yield Problem(level, "subscription", what, "renew it")
    elif end - now <= -DAY:
        what = f"{verb} {when(end, now)}"
        yield Problem("critical", "subscription", what, "check the payment method at BorgBase")


def subscription(account: Account, now: float) -> tuple[str, float | None]:
    """Return in words what becomes of the subscription, and when; nothing where that is unknown."""
    end = account.subscription_end
    if account.subscription_active is False:
        return "not active", None
    if end is None:
        return "", None
    if account.auto_renew:
        return "renews" if end >= now else "should have renewed itself", end
    return "ends" if end >= now else "ended", end


def _token_problems(status: AccountStatus, snapshot: Snapshot, now: float) -> Iterator[Problem]:
    own_end = status.token_expires
    if own_end is not None and own_end < now:
        expired = f"expired {when(own_end, now)}"
        advice = "make a new one with the permission Read Only"
        if status.up and (status.last_poll or 0) > own_end:
            expired += ", and yet BorgBase takes it"
            advice = "check this machine's clock"
        yield Problem("critical", "token", expired, advice)
    elif own_end is not None and own_end - now < EXPIRY:
        what = f"expires {when(own_end, now)}"
        yield Problem("warning", "token", what, "make a new one in time")
    for token in snapshot.tokens.tokens if snapshot.tokens else ():
        if token.expires is None or (own_end is not None and abs(token.expires - own_end) < 1):
            continue  # the last is the one used here
        if now <= token.expires < now + EXPIRY:
            what = f"expires {when(token.expires, now)}"
            yield Problem("warning", f"API token {token.name}", what, "make a new one in time")
    permission = _permission(status, snapshot)
    if permission and permission != "read_only":
        what = f"its permission is {spelled(permission)}"
        yield Problem("warning", "token", what, "a token that is Read Only is enough")


def _look(repo: Repo, now: float, *, told: bool) -> RepoFinding:
    """Look a repo through; `told` is whether the API still tells of last writes."""
    late = None
    if repo.last_modified is not None and repo.inactivity_limit:
        late = (now - repo.last_modified) / repo.inactivity_limit
    unwritten = ""
    if repo.last_modified is None:
        unwritten = "unknown" if repo.usage or not told else "never"
    return RepoFinding(repo, tuple(_repo_problems(repo, now, late, unwritten)), late, unwritten)


def _repo_problems(repo: Repo, now: float, late: float | None, unwritten: str) -> Iterator[Problem]:
    where = f"repo {repo.name}"
    if level := severity(repo.fill, QUOTA):
        what = f"{repo.fill:.0%} of its quota used"
        yield Problem(level, where, what, "raise the quota, or prune and compact")
    if level := severity(late, AGE):
        assert repo.last_modified is not None  # noqa: S101  # or it would not be late
        assert repo.inactivity_limit  # noqa: S101  # the same
        what = f"last written {when(repo.last_modified, now)}, limit {span(repo.inactivity_limit)}"
        yield Problem(level, where, what, "look at the client's backup job")
    if unwritten == "never" and repo.created is not None and now - repo.created > SETTLED:
        what = f"created {when(repo.created, now)} and never written to"
        yield Problem("warning", where, what, "set the backup up, or delete the repo")


def flags(repo: Repo) -> Iterator[str]:
    """Yield what is switched on for a repo, in words."""
    if repo.append_only:
        yield "append-only"
    if repo.compaction_enabled:
        yield "compaction"
    if repo.sftp_enabled:
        yield "sftp"


def size(amount: float) -> str:
    """Spell bytes in decimal units."""
    return decimal(int(amount))


def count(number: int, noun: str) -> str:
    """Spell a number of things."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def spelled(permission: str) -> str:
    """Return a token's permission in words."""
    return PERMISSIONS.get(permission, permission)


def expiry(moment: float, now: float) -> str:
    """Return the verb for a token that expires then."""
    return "expires" if moment >= now else "expired"


def plan_sizes(plan: Plan) -> list[str]:
    """Return in words how much the plan has room for, as far as that is limited."""
    included = [f"{size(plan.included)} included"] if plan.included else []
    return included + ([f"{size(plan.maximum)} at most"] if plan.maximum else [])
