"""What the status page says: the accounts' status in words, worst first.

It says what `check` says, by the same code, of what /metrics shows at the same moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

from rich.filesize import decimal

from borgbase_exporter.diagnosis import (
    ADVICE,
    PERMISSIONS,
    PLAN,
    QUOTA,
    Finding,
    Problem,
    examine,
    flags,
    repo_problems,
    worry,
)
from borgbase_exporter.model import (
    Account,
    AccountStatus,
    CollectorStatus,
    Failure,
    Plan,
    Repo,
    RepoList,
    Snapshot,
)
from borgbase_exporter.text import span, when

CRITICAL, WARNING, WAITING, WELL = LEVELS = ("critical", "warning", "waiting", "well")
"""How bad it is, worst first."""
FEW = 5
"""How many accounts to show in full: of more, the worst, and those that are well fold away."""
UNREADABLE = "missing or unreadable, its place is in the log"
"""Of a token: who may read the page need not know where the exporter keeps it."""


class Moment(NamedTuple):
    """A time, for machines as ISO 8601 (empty when there is no such date) and for people."""

    iso: str
    words: str


@dataclass(frozen=True, slots=True)
class Fact:
    """Something to know of an account: in words, maybe with a time, maybe with a bar."""

    name: str
    text: str = ""
    moment: Moment | None = None
    share: int | None = None
    """Per cent, for a bar."""
    level: str = WELL


@dataclass(frozen=True, slots=True)
class Card:
    """An account: how its polls go, what is wrong with it (but for its repos), and its facts."""

    name: str
    level: str
    state: str
    polled: Moment | None
    took: str
    next: Moment | None
    success: Moment | None
    """The last good poll, where the last one was not."""
    stale: str
    """From when the values shown are, and until when; empty while they are fresh."""
    problems: tuple[Problem, ...]
    repos: str
    facts: tuple[Fact, ...]


class Row(NamedTuple):
    """A repo as it stands in the table; what is unknown is empty, and never 0."""

    level: str
    account: str
    name: str
    id: str
    problems: tuple[Problem, ...]
    usage: str
    bytes: float | None
    quota: str
    """Its size; without one, why there is none."""
    share: int | None
    """Per cent of the quota that is used; the bar ends at 100."""
    quota_level: str
    written: Moment | None
    unwritten: str
    """Why there is no last write."""
    limit: str
    age: int | None
    """Per cent of the limit that the last write is old."""
    age_level: str
    format: str
    region: str
    flags: str


@dataclass(frozen=True, slots=True)
class Board:
    """All of the page. `rows` makes the repos' rows one by one, as they may be many."""

    level: str
    verdict: str
    summary: str
    made: Moment
    troubles: tuple[str, ...]
    """What is wrong with the exporter itself."""
    troubled: tuple[Card, ...]
    well: tuple[Card, ...]
    folded: bool
    """Whether those that are well are too many to be shown in full."""
    several: bool
    """Whether there is more than one account."""
    repos: int
    rows: Iterator[Row]
    nothing: str
    """Why there are no repos."""


def board(
    accounts: Mapping[str, AccountStatus], troubles: Sequence[str], now: float, max_age: float
) -> Board:
    """Return what there is to say of the accounts; parts older than `max_age` are left out."""
    since = now - max_age
    shown = [_shown(status, since) for status in accounts.values()]
    listed = [(status, status.snapshot(since).repos) for status in shown]
    repos = [
        (status.name, repo, tuple(repo_problems(repo, now)))
        for status, part in listed
        for repo in (part.repos if part else ())
    ]
    of_repos = {problem for _, _, problems in repos for problem in problems}
    cards = [_card(status, of_repos, now, max_age) for status in shown]
    cards.sort(key=lambda card: (LEVELS.index(card.level), card.name))
    worst = sorted(
        repos,
        key=lambda entry: (
            LEVELS.index(_worst(entry[2])),
            worry(entry[1], now),
            entry[1].name,
            entry[0],
        ),
    )
    suffering = [_worst(problems) for _, _, problems in repos if problems]
    level, verdict = _verdict(cards, suffering, troubles)
    troubled = tuple(card for card in cards if card.level != WELL)
    return Board(
        level,
        verdict,
        _summary(listed),
        Moment(_iso(now), f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC"),
        tuple(troubles),
        troubled,
        tuple(card for card in cards if card.level == WELL),
        folded=len(cards) > FEW,
        several=len(cards) > 1,
        repos=len(repos),
        rows=(_row(account, repo, problems, now) for account, repo, problems in worst),
        nothing=""
        if repos
        else "There are no repos."
        if listed and all(part for _, part in listed)
        else "No repos are known.",
    )


def _shown(status: AccountStatus, since: float) -> AccountStatus:
    """Return what of a status may be shown: no parts that are too old, no place of a token."""
    return replace(
        status,
        collectors={name: _presentable(c, since) for name, c in status.collectors.items()},
        token_problem=UNREADABLE if status.token_problem else "",
    )


def _presentable(collector: CollectorStatus, since: float) -> CollectorStatus:
    if collector.taken is not None and collector.taken <= since:
        collector = replace(collector, part=None)
    if collector.failure and collector.failure.reason == "token":
        collector = replace(collector, failure=Failure("token", f"the token is {UNREADABLE}"))
    return collector


def _worst(problems: Iterable[Problem]) -> str:
    return min((p.severity for p in problems), key=LEVELS.index, default=WELL)


def _verdict(
    cards: Sequence[Card], suffering: Sequence[str], troubles: Sequence[str]
) -> tuple[str, str]:
    """Return in a line whether all is well."""
    failing = sum(card.state == "failing" for card in cards)
    others = sum(card.level in {CRITICAL, WARNING} for card in cards) - failing
    parts = ["the exporter has trouble"] if troubles else []
    parts += [f"{_count(failing, 'account')} failing"] if failing else []
    looks = {"account": others, "repo": len(suffering)}
    if named := [_count(count, noun) for noun, count in looks.items() if count]:
        parts.append(f"{' and '.join(named)} {_need(sum(looks.values()))} a look")
    if parts:
        levels = {card.level for card in cards} | set(suffering)
        level = CRITICAL if troubles or CRITICAL in levels else WARNING
        text = ", ".join(parts)
        return level, text[0].upper() + text[1:]
    if not cards:
        return WAITING, "There are no accounts"
    if waiting := sum(card.level == WAITING for card in cards):
        return WAITING, f"Waiting for the first poll of {_count(waiting, 'account')}"
    return WELL, "All is well"


def _need(count: int) -> str:
    return "needs" if count == 1 else "need"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _summary(listed: Sequence[tuple[AccountStatus, RepoList | None]]) -> str:
    parts = [part for _, part in listed if part]
    words = [_count(len(listed), "account")] if len(listed) > 1 else []
    if parts:
        words.append(_count(sum(len(part.repos) for part in parts), "repo"))
    usages = [part.usage for part in parts if part.usage is not None]
    if usages and len(usages) == len(listed):
        words.append(f"{decimal(int(sum(usages)))} stored")
    return ", ".join(words)


def _card(status: AccountStatus, of_repos: set[Problem], now: float, max_age: float) -> Card:
    found = examine(status, "", now, _rotation(status))
    problems = [problem for problem in found.problems if problem not in of_repos]
    known = status.snapshot(now - max_age)
    repos = known.repos.repos if known.repos else ()
    ailing = sum(any(True for _ in repo_problems(repo, now)) for repo in repos)
    failing = status.polls > 0 and not status.up
    if not status.polls:
        level, state = WAITING, "not polled yet"
    elif failing:
        level, state = CRITICAL, "failing"
    else:
        level = _worst(problems)
        state = "well" if level == WELL else "needs a look"
    count = _count(len(repos), "repo") if known.repos else "repos unknown"
    return Card(
        status.name,
        level,
        state,
        polled=_relative(status.last_poll, now),
        took=f"{status.duration:.1f} s" if status.duration is not None else "",
        next=_upcoming(status.next_poll, now),
        success=_relative(status.last_success, now) if failing else None,
        stale=_staleness(status, now, max_age),
        problems=tuple(problems),
        repos=f"{count}, {ailing:,} {_need(ailing)} a look" if ailing else count,
        facts=tuple(_facts(found, known)),
    )


def _rotation(status: AccountStatus) -> Iterator[Problem]:
    """Tell of a token that cannot be read while the one read before serves on."""
    reasons = {c.failure.reason for c in status.collectors.values() if c.failure}
    if status.token_problem and "token" not in reasons:
        what = f"{status.token_problem}; the one read before serves on until a restart"
        yield Problem(WARNING, "token", what, ADVICE["token"])


def _staleness(status: AccountStatus, now: float, max_age: float) -> str:
    """Tell of values that are not those of the last poll."""
    since = now - max_age
    old = {
        name: collector.taken
        for name, collector in status.collectors.items()
        if collector.taken is not None
        and status.last_poll is not None
        and collector.taken < status.last_poll
    }
    gone = [name for name, taken in old.items() if taken <= since]
    kept = {name: taken for name, taken in old.items() if taken > since}
    parts = []
    if kept:
        first = min(kept.values())
        parts.append(
            f"The values of {_listed(kept)} are those of {span(now - first)} ago; without a good "
            f"poll they leave this page and the metrics in {span(first + max_age - now)}."
        )
    if gone:
        parts.append(
            f"The last good values of {_listed(gone)} are older than {span(max_age)}, so neither "
            "this page nor the metrics show them."
        )
    return " ".join(parts)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names)


def _facts(found: Finding, known: Snapshot) -> Iterator[Fact]:
    plan = known.account.plan if known.account else None
    if known.repos:
        yield from _repo_facts(known.repos, plan)
    if known.account:
        yield from _account_facts(known.account, found.at)
    if known.ssh_keys:
        yield Fact("SSH keys", f"{known.ssh_keys.length:,}")
    if known.tokens:
        yield Fact("API tokens", f"{len(known.tokens.tokens):,}")
    permission = PERMISSIONS.get(found.permission or "", found.permission or "")
    expires = found.status.token_expires
    if expires is not None:
        text = f"{permission}, expires" if permission else "expires"
        yield Fact("Token in use", text, _dated(expires, found.at))
    elif permission:
        yield Fact("Token in use", permission)


def _repo_facts(repos: RepoList, plan: Plan | None) -> Iterator[Fact]:
    most = f" of at most {plan.max_repos:,}" if plan and plan.max_repos else ""
    gaps = "" if repos.complete else ", not all of them could be read"
    yield Fact("Repos", f"{len(repos.repos):,}{most}{gaps}")
    if repos.usage is None:
        return
    used = decimal(int(repos.usage))
    if limit := (plan.maximum or plan.included) if plan else None:
        share = repos.usage / limit
        text = f"{used}, {share:.0%} of {decimal(int(limit))}"
        yield Fact("Stored", text, share=_percent(share), level=_level(share, PLAN))
    else:
        yield Fact("Stored", used)


def _account_facts(account: Account, now: float) -> Iterator[Fact]:
    if plan := account.plan:
        sizes = [f"{decimal(int(plan.included))} included"] if plan.included else []
        sizes += [f"{decimal(int(plan.maximum))} at most"] if plan.maximum else []
        yield Fact("Plan", ", ".join([plan.name, *sizes]))
    if account.accrued_overage_usd:
        yield Fact("Overage so far", f"{account.accrued_overage_usd:.2f} USD")
    if account.subscription_active is False:
        yield Fact("Subscription", "not active", level=WARNING)
    elif account.subscription_end is not None:
        verb = "renews" if account.auto_renew else "ends"
        yield Fact("Subscription", verb, _dated(account.subscription_end, now))


def _row(account: str, repo: Repo, problems: tuple[Problem, ...], now: float) -> Row:
    fill, limit = repo.fill, repo.inactivity_limit
    age = None if repo.last_modified is None else now - repo.last_modified
    lateness = age / limit if age is not None and limit else None
    return Row(
        _worst(problems),
        account,
        repo.name,
        repo.id,
        problems,
        usage="" if repo.usage is None else decimal(int(repo.usage)),
        bytes=repo.usage,
        quota=decimal(int(repo.quota)) if repo.quota else _unlimited(repo),
        share=None if fill is None else _percent(fill),
        quota_level=WELL if fill is None else _level(fill, QUOTA),
        written=_relative(repo.last_modified, now),
        unwritten="unknown" if repo.usage else "never",
        limit=span(limit) if limit else "",
        age=None if lateness is None else _percent(lateness),
        age_level=WELL if lateness is None else _level(lateness, (1.0, 2.0)),
        format=repo.format or "",
        region=repo.region or "",
        flags=", ".join(flags(repo)),
    )


def _unlimited(repo: Repo) -> str:
    return "unknown" if repo.quota_enabled is None else "no quota"


def _percent(share: float) -> int:
    return int(min(max(0.0, share * 100), 999))


def _level(share: float, limits: tuple[float, float]) -> str:
    return CRITICAL if share > limits[1] else WARNING if share > limits[0] else WELL


def _relative(moment: float | None, now: float) -> Moment | None:
    if moment is None:
        return None
    gap = span(abs(moment - now))
    return Moment(_iso(moment), f"in {gap}" if moment > now else f"{gap} ago")


def _upcoming(moment: float | None, now: float) -> Moment | None:
    """Spell when something is due: what is late a little is not "ago" but about to happen."""
    due = _relative(moment, now)
    return due if moment is None or moment > now else Moment(_iso(moment), "now")


def _dated(moment: float, now: float) -> Moment:
    return Moment(_iso(moment), when(moment, now))


def _iso(moment: float) -> str:
    try:
        return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return ""
