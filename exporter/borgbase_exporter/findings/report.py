"""The report on all accounts: the schema of `/status.json` and of `check --json`.

Status page, text and plugin output are made from it. Sizes are bytes, moments Unix timestamps,
durations seconds; null means unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Literal

import msgspec

from borgbase_exporter import __version__
from borgbase_exporter.findings import comparisons, problems
from borgbase_exporter.findings.comparisons import Comparison, DailyUnit
from borgbase_exporter.findings.problems import SEVERITIES, Problem, Severity, ranked, worst
from borgbase_exporter.model import (
    Account,
    AccountStatus,
    APITokenList,
    CollectorStatus,
    Failure,
    Repo,
    SSHKeyList,
)
from borgbase_exporter.text import encodable

SCHEMA = 1
"""Grows when a key goes or means something else, not when one is added."""
UNREACHED = {"connect", "tls", "timeout"}
UNREADABLE = "missing or unreadable, see the exporter's log"
"""Replaces the place of a token for readers who need not know it."""
State = Literal["waiting", "failing", "problems", "well"]
LastWrite = Literal["known", "never", "unknown"]


@dataclass(frozen=True, slots=True)
class RepoReport(Repo):
    """A repo's facts, and what follows from them at the report's moment."""

    severity: Severity | None = None
    """Of its worst problem."""
    quota_used: float | None = None
    """The used share of the quota; 1 is all of it."""
    limit_used: float | None = None
    """The age of the last write as a share of the inactivity limit."""
    last_write: LastWrite = "unknown"


class Token(msgspec.Struct, frozen=True):
    """The exporter's own token."""

    origin: str | None
    """Where it is kept; only `check` reports it."""
    permission: str | None
    expires: float | None


class API(msgspec.Struct, frozen=True):
    """How the last poll went; `reachable` is null when the API was not asked."""

    reachable: bool | None
    seconds: float | None
    polls: int
    last_poll: float | None
    next_poll: float | None
    last_success: float | None


class Collector(msgspec.Struct, frozen=True):
    """How a collector's last query went."""

    success: bool
    failure: Failure | None
    skipped: int
    fields_skipped: int
    missing_fields: tuple[str, ...]
    taken: float | None
    """When the last good values were read."""
    shown: bool
    """Whether those are in this report."""


class AccountReport(msgspec.Struct, frozen=True):
    """One account."""

    name: str
    well: bool
    up: bool
    state: State
    simulated: bool
    problems: tuple[Problem, ...]
    """Worst first, those of its repos included."""
    token: Token
    api: API
    collectors: dict[str, Collector]
    comparisons: tuple[Comparison, ...]
    daily: DailyUnit | None
    """Only `check` asks for it."""
    repos: tuple[RepoReport, ...] | None
    """Worst first."""
    complete: bool
    """Whether no repo was unreadable."""
    usage: float | None
    account: Account | None
    ssh_keys: SSHKeyList | None
    api_tokens: APITokenList | None

    @property
    def own_problems(self) -> list[Problem]:
        """The account's problems, except those of its repos."""
        return [problem for problem in self.problems if problem.repo_id is None]

    @property
    def seen(self) -> bool:
        """Whether the account could be looked at: what it stores, or at least something."""
        if "repos" in self.collectors:
            return self.repos is not None
        return any(collector.shown for collector in self.collectors.values())


class Report(msgspec.Struct, frozen=True):
    """All accounts, in the order of their names."""

    schema: int
    version: str
    simulated: bool
    """Whether any account is the built-in simulated one."""
    well: bool
    at: float
    problems: tuple[Problem, ...]
    """Those that belong to no account."""
    accounts: tuple[AccountReport, ...]


def report(
    accounts: Iterable[AccountStatus],
    now: float,
    *,
    troubles: Sequence[str] = (),
    known: Iterable[Problem] = (),
    extras: Mapping[str, Extra] | None = None,
) -> Report:
    """Return the report on accounts at a moment.

    `troubles` are the exporter's own, in words; `known` are problems that were found elsewhere;
    `extras` are what `check` found out about accounts. Without them tokens' places are left out.
    """
    own = [
        Problem("critical", "exporter", text, "restart it and keep its log") for text in troubles
    ]
    general = ranked([*own, *known])
    found = [_account(status, now, extras) for status in accounts]
    found.sort(key=lambda account: (account.name.casefold(), account.name))
    return Report(
        schema=SCHEMA,
        version=__version__,
        simulated=any(account.simulated for account in found),
        well=bool(found) and not general and all(account.well for account in found),
        at=now,
        problems=general,
        accounts=tuple(found),
    )


@dataclass(frozen=True, slots=True)
class Extra:
    """What `check` found out about an account beyond a poll."""

    origin: str
    problems: tuple[Problem, ...] = ()
    daily: DailyUnit | None = None


def _account(
    status: AccountStatus, now: float, extras: Mapping[str, Extra] | None
) -> AccountReport:
    extra = extras.get(status.name) if extras else None
    status = status if extras is not None else _discreet(status)
    known = status.snapshot
    by_repo = [(repo, tuple(problems.of_repo(repo, now))) for repo in _repos(status)]
    compared = tuple(comparisons.of_account(status))
    own = [
        *(extra.problems if extra else ()),
        *problems.of_account(status, now),
        *(comparisons.problem(one) for one in compared if not one.agrees),
    ]
    every = ranked([*own, *(problem for _, found in by_repo for problem in found)])
    well = bool(status.polls) and not every
    repos = sorted((_repo(repo, found, now) for repo, found in by_repo), key=rank)
    return AccountReport(
        name=encodable(status.name),
        well=well,
        up=status.up,
        state=_state(status, own),
        simulated=status.simulated,
        problems=every,
        token=Token(
            origin=encodable(extra.origin) if extra else None,
            permission=problems.permission(status),
            expires=status.token_expires,
        ),
        api=_api(status),
        collectors={name: _collector(part) for name, part in status.collectors.items()},
        comparisons=compared,
        daily=extra.daily if extra else None,
        repos=tuple(repos) if known.repos else None,
        complete=bool(known.repos and known.repos.complete),
        usage=known.repos.usage if known.repos else None,
        account=known.account,
        ssh_keys=known.ssh_keys,
        api_tokens=known.tokens,
    )


def _state(status: AccountStatus, own: Sequence[Problem]) -> State:
    if not status.polls:
        return "waiting"
    return "failing" if not status.up else "problems" if own else "well"


def _repos(status: AccountStatus) -> tuple[Repo, ...]:
    repos = status.snapshot.repos
    return repos.repos if repos else ()


def _discreet(status: AccountStatus) -> AccountStatus:
    """Return a status without the place of a token."""

    def discreet(collector: CollectorStatus) -> CollectorStatus:
        if collector.failure is None or collector.failure.reason != "token":
            return collector
        return replace(collector, failure=Failure("token", f"the token is {UNREADABLE}"))

    collectors = {name: discreet(collector) for name, collector in status.collectors.items()}
    problem = f"the token is {UNREADABLE}" if status.token_problem else ""
    return replace(status, collectors=collectors, token_problem=problem)


def _api(status: AccountStatus) -> API:
    reasons = {c.failure.reason if c.failure else "" for c in status.collectors.values()}
    asked = bool(status.polls) and reasons != {"token"}
    return API(
        reachable=bool(reasons - UNREACHED) if asked else None,
        seconds=status.duration,
        polls=status.polls,
        last_poll=status.last_poll,
        next_poll=status.next_poll,
        last_success=status.last_success,
    )


def _collector(status: CollectorStatus) -> Collector:
    return Collector(
        success=status.success,
        failure=status.failure,
        skipped=status.skipped,
        fields_skipped=status.fields_skipped,
        missing_fields=tuple(sorted(status.gaps)),
        taken=status.taken,
        shown=status.part is not None,
    )


_FACTS = attrgetter(*(field.name for field in fields(Repo)))


def _repo(repo: Repo, found: Sequence[Problem], now: float) -> RepoReport:
    missing: LastWrite = "never" if repo.never_written else "unknown"
    return RepoReport(
        *_FACTS(repo),  # type: ignore[misc]  # mypy takes them for any number
        severity=worst(found),
        quota_used=repo.fill,
        limit_used=problems.lateness(repo, now),
        last_write=missing if repo.last_modified is None else "known",
    )


def rank(repo: RepoReport) -> tuple[int, float, str, str]:
    """Return what puts the worst repos first, the others by their fill and name."""
    level = SEVERITIES.index(repo.severity) if repo.severity else len(SEVERITIES)
    late = repo.limit_used if repo.limit_used and repo.limit_used > 1 else 0.0
    return level, -max(late, repo.quota_used or 0.0), repo.name.casefold(), repo.name


def encode(report: Report) -> bytes:
    """Return a report as JSON in which characters that are not printable are escaped."""
    text = msgspec.json.format(msgspec.json.encode(report), indent=2).decode()
    if not text.replace("\n", "").isprintable():
        text = "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text)
    return f"{text}\n".encode()


class _Header(msgspec.Struct):
    schema: int


def decode(document: bytes) -> Report:
    """Return an encoded report; raise ValueError when it is none, or of another schema."""
    try:
        schema = msgspec.json.decode(document, type=_Header).schema
        if schema != SCHEMA:
            raise ValueError(f"schema {schema}, where this release reads {SCHEMA}")
        return msgspec.json.decode(document, type=Report)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a report: {error}") from None


def well(report: Report, account: str | None, severity: str) -> tuple[int, str]:
    """Return the HTTP status and text for monitors that ask whether an account is well.

    503 where a problem of at least this severity is known; 404 for an unknown account, 400 for
    an unknown severity. Without an account, all of them and the exporter itself count.
    """
    if severity not in SEVERITIES:
        return 400, f"severity: {' or '.join(SEVERITIES)}"
    chosen = [one for one in report.accounts if account in {None, one.name}]
    if account is not None and not chosen:
        return 404, "unknown account"
    counted = SEVERITIES[: [*SEVERITIES].index(severity) + 1]
    found = [("", problem) for problem in report.problems if account is None]
    found += [(f"{one.name}: ", problem) for one in chosen for problem in one.problems]
    lines = [
        f"{problem.severity}: {name}{problem.where}: {problem.what}"
        for name, problem in found
        if problem.severity in counted
    ]
    return (503, "\n".join(lines)) if lines else (200, "OK")
