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

from borgbase_exporter import __version__, model
from borgbase_exporter.findings import problems
from borgbase_exporter.findings.problems import SEVERITIES, Comparison, Problem, Severity
from borgbase_exporter.text import encodable

UNREADABLE = "the token is missing or unreadable, see the exporter's log"
State = Literal["waiting", "failing", "problems", "well"]
_FACTS = attrgetter(*(field.name for field in fields(model.Repo)))


@dataclass(frozen=True, slots=True)
class RepoReport(model.Repo):
    """A repo's facts, and what follows from them at the report's moment."""

    severity: Severity | None = None  # of its worst problem
    quota_used: float | None = None  # the used share of the quota; 1 is all of it
    limit_used: float | None = None  # the age of the last write as a share of the inactivity limit


class Token(msgspec.Struct, frozen=True):
    """The exporter's own token."""

    origin: str | None  # where it is kept; only `check` reports it
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
    failure: model.Failure | None
    skipped: int
    fields_skipped: int
    missing_fields: tuple[str, ...]
    taken: float | None  # when the last good values were read
    shown: bool  # whether those are in this report


class AccountReport(msgspec.Struct, frozen=True):
    """One account."""

    name: str
    well: bool
    up: bool
    state: State
    simulated: bool
    problems: tuple[Problem, ...]  # worst first, those of its repos included
    token: Token
    api: API
    collectors: dict[str, Collector]
    comparisons: tuple[Comparison, ...]
    repos: tuple[RepoReport, ...] | None  # worst first
    complete: bool  # whether all repos could be read
    usage: float | None
    account: model.Account | None
    ssh_keys: model.SSHKeyList | None
    api_tokens: model.APITokenList | None

    @property
    def own_problems(self) -> list[Problem]:
        """The account's problems, except those of its repos."""
        return [problem for problem in self.problems if problem.repo_id is None]

    @property
    def severity(self) -> Severity | None:
        """The severity of the worst of these."""
        return problems.worst(self.own_problems)

    @property
    def seen(self) -> bool:
        """Whether the last poll could read the account."""
        return self.state in {"problems", "well"}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All accounts, in the order of their names."""

    schema: Literal[1] = 1  # increases when a key is removed or redefined, not when one is added
    version: str
    simulated: bool  # whether any account is the built-in simulated one
    well: bool
    at: float
    problems: tuple[Problem, ...]  # those that belong to no account
    accounts: tuple[AccountReport, ...]

    @property
    def every(self) -> list[tuple[str, Problem]]:
        """All problems, each with the name of its account, "" where it belongs to none."""
        named = [(one.name, problem) for one in self.accounts for problem in one.problems]
        return [*(("", problem) for problem in self.problems), *named]

    @property
    def repos(self) -> list[tuple[AccountReport, RepoReport]]:
        """All repos that are known, each with its account."""
        return [(account, repo) for account in self.accounts for repo in account.repos or ()]


@dataclass(frozen=True, slots=True)
class Extra:
    """What `check` found out about an account beyond a poll."""

    origin: str
    problems: tuple[Problem, ...] = ()


def report(
    accounts: Iterable[model.AccountStatus],
    now: float,
    *,
    troubles: Sequence[str] = (),
    known: Iterable[Problem] = (),
    extras: Mapping[str, Extra] | None = None,
) -> Report:
    """Return the report on accounts at a moment.

    `troubles` are the exporter's own, in words; `known` are problems that were found elsewhere;
    `extras` are what `check` found out about accounts. If None, tokens' places are left out.
    """
    advice = "restart it and keep its log"
    own = [Problem("critical", "exporter", text, advice) for text in troubles]
    general = problems.ranked([*own, *known])
    if extras is None:
        accounts = map(_discreet, accounts)
    found = [_account(status, (extras or {}).get(status.name), now) for status in accounts]
    found.sort(key=lambda account: (account.name.casefold(), account.name))
    return Report(
        version=__version__,
        simulated=any(account.simulated for account in found),
        well=bool(found) and not general and all(account.well for account in found),
        at=now,
        problems=general,
        accounts=tuple(found),
    )


def _discreet(status: model.AccountStatus) -> model.AccountStatus:
    """Return a status without the token's origin, which not every reader may see."""
    hidden = model.Failure("token", UNREADABLE)
    collectors = {
        name: replace(c, failure=hidden) if c.failure and c.failure.reason == "token" else c
        for name, c in status.collectors.items()
    }
    return replace(status, collectors=collectors, token_problem=status.token_problem and UNREADABLE)


def _account(status: model.AccountStatus, extra: Extra | None, now: float) -> AccountReport:
    known = status.snapshot
    own = [*(extra.problems if extra else ()), *problems.of_account(status, now)]
    listed = known.repos.repos if known.repos else ()
    by_repo = [(repo, tuple(problems.of_repo(repo, now))) for repo in listed]
    every = problems.ranked([*own, *(problem for _, found in by_repo for problem in found)])
    repos = [_repo(*pair, now) for pair in by_repo]
    state: State = "failing" if not status.up else "problems" if own else "well"
    origin = encodable(extra.origin) if extra else None
    reasons = {c.failure.reason if c.failure else "" for c in status.collectors.values()}
    asked = status.polls and reasons != {"token"}
    reached = bool(reasons - {"connect", "tls", "timeout"}) if asked else None
    moments = status.last_poll, status.next_poll, status.last_success
    collectors = {}
    for name, of in status.collectors.items():
        values = tuple(sorted(of.gaps)), of.taken, of.part is not None
        collectors[name] = Collector(of.success, of.failure, of.skipped, of.fields_skipped, *values)
    return AccountReport(
        name=encodable(status.name),
        well=bool(status.polls) and not every,
        up=status.up,
        state=state if status.polls else "waiting",
        simulated=status.simulated,
        problems=every,
        token=Token(origin, problems.permission(status), status.token_expires),
        api=API(reached, status.duration, status.polls, *moments),
        collectors=collectors,
        comparisons=tuple(problems.compared(status)),
        repos=tuple(sorted(repos, key=rank)) if known.repos else None,
        complete=bool(known.repos and known.repos.complete),
        usage=known.repos.usage if known.repos else None,
        account=known.account,
        ssh_keys=known.ssh_keys,
        api_tokens=known.tokens,
    )


def _repo(repo: model.Repo, found: Iterable[Problem], now: float) -> RepoReport:
    derived = problems.worst(found), repo.fill, problems.lateness(repo, now)
    return RepoReport(*_FACTS(repo), *derived)  # type: ignore[call-arg]  # unknown number of facts


def rank(repo: RepoReport) -> tuple[int, float, str, str]:
    """Return a sort key: the worst repos first, the others by their fill and name."""
    level = SEVERITIES.index(repo.severity) if repo.severity else len(SEVERITIES)
    late = repo.limit_used if repo.limit_used and repo.limit_used > 1 else 0.0
    return level, -max(late, repo.quota_used or 0.0), repo.name.casefold(), repo.name


def encode(report: Report) -> bytes:
    """Return a report as JSON in which characters that are not printable are escaped."""
    text = msgspec.json.format(msgspec.json.encode(report), indent=2).decode()
    if not text.replace("\n", "").isprintable():
        text = "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text)
    return f"{text}\n".encode()


def decode(document: bytes) -> Report:
    """Return an encoded report; raise ValueError when it is none, or of another schema."""
    try:
        return msgspec.json.decode(document, type=Report)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a report that this release can read: {error}") from None


def well(report: Report, account: str | None, severity: str) -> tuple[int, str]:
    """Return the HTTP status and text for monitors that ask whether an account is well.

    503 where a problem of at least this severity is known; 404 for an unknown account, 400 for
    an unknown severity. Without an account, all of them and the exporter itself count.
    """
    if severity not in SEVERITIES:
        return 400, f"severity: {' or '.join(SEVERITIES)}"
    if account not in {None, *(one.name for one in report.accounts)}:
        return 404, "unknown account"
    lines = [
        f"{problem.severity}: {name}{': ' if name else ''}{problem.where}: {problem.what}"
        for name, problem in report.every
        if account in {None, name} and severity in {problem.severity, "warning"}
    ]
    return (503, "\n".join(lines)) if lines else (200, "OK")
