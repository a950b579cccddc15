"""What an account's status means to a person: its troubles, worst first, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.filesize import decimal

from borgbase_exporter.model import (
    Account,
    AccountStatus,
    APITokenList,
    Repo,
    RepoList,
    Snapshot,
)
from borgbase_exporter.text import DAY, span, when

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
    """One account as it was found at a moment."""

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
            for problem in repo_problems(repo, now)
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
        what = f"ends {when(end, now)} and does not renew itself"
        yield Problem(severity, "subscription", what, "renew it")


def _token_problems(
    status: AccountStatus, tokens: APITokenList | None, now: float
) -> Iterator[Problem]:
    own_end = status.token_expires
    if own_end is not None and own_end < now:
        expired = f"expired {when(own_end, now)}"
        yield Problem("critical", "the token used here", expired, "make a new one")
    elif own_end is not None and own_end - now < EXPIRY:
        what = f"expires {when(own_end, now)}"
        yield Problem("warning", "the token used here", what, "make a new one in time")
    for token in tokens.tokens if tokens else ():
        if token.expires is not None and now <= token.expires < now + EXPIRY:
            what = f"expires {when(token.expires, now)}"
            yield Problem("warning", f"API token {token.name}", what, "make a new one in time")
    if status.token_permission not in {None, "read_only"}:
        what = f"is {status.token_permission}"
        yield Problem("warning", "the token used here", what, "a read-only one is enough")


def repo_problems(repo: Repo, now: float) -> Iterator[Problem]:
    """Yield what is wrong with a repo."""
    where = f"repo {repo.name}"
    if repo.fill is not None and repo.fill > QUOTA[0]:
        severity = "critical" if repo.fill > QUOTA[1] else "warning"
        what = f"{repo.fill:.0%} of its quota used"
        yield Problem(severity, where, what, "raise the quota, or prune and compact")
    if repo.last_modified is None:
        if repo.created is not None and now - repo.created > SETTLED:
            what = f"created {when(repo.created, now)} and never written to"
            yield Problem("warning", where, what, "set the backup up, or delete the repo")
    elif repo.inactivity_limit and now - repo.last_modified > repo.inactivity_limit:
        severity = "critical" if now - repo.last_modified > 2 * repo.inactivity_limit else "warning"
        what = f"last written {when(repo.last_modified, now)}, limit {span(repo.inactivity_limit)}"
        yield Problem(severity, where, what, "look at the client's backup job")


def worry(repo: Repo, now: float) -> float:
    """Return a number that puts the repos that need a hand first."""
    age = now - repo.last_modified if repo.last_modified is not None else 0.0
    lateness = age / repo.inactivity_limit if repo.inactivity_limit else 0.0
    return -max(lateness if lateness > 1 else 0.0, repo.fill or 0.0)


def flags(repo: Repo) -> Iterator[str]:
    """Yield what is switched on for a repo, in words."""
    if repo.append_only:
        yield "append-only"
    if repo.compaction_enabled:
        yield "compaction"
    if repo.sftp_enabled:
        yield "sftp"
