"""What the status page says: the accounts' status in words, worst first.

It says what `check` says, by the same code, of what /metrics shows at the same moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

from borgbase_exporter.diagnosis import (
    ADVICE,
    AGE,
    PLAN,
    QUOTA,
    Finding,
    Problem,
    RepoFinding,
    count,
    examine,
    expiry,
    flags,
    plan_sizes,
    severity,
    size,
    spelled,
    subscription,
    worst,
)
from borgbase_exporter.model import (
    Account,
    AccountStatus,
    CollectorStatus,
    Failure,
    Plan,
    Repo,
    RepoList,
)
from borgbase_exporter.text import ago, span, when

CRITICAL, WARNING, WAITING, WELL = LEVELS = ("critical", "warning", "waiting", "well")
"""How bad it is, worst first."""
FEW = 3
"""How many accounts to show in full: of more, the worst, so that the repos are in sight."""
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
    """Of the bar."""


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
class Overview:
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
    """Whether the accounts are too many to be shown in full."""
    several: bool
    """Whether there is more than one account."""
    repos: int
    rows: Iterator[Row]
    nothing: str
    """Why there are no repos."""


def overview(
    accounts: Mapping[str, AccountStatus], troubles: Sequence[str], now: float, max_age: float
) -> Overview:
    """Return what there is to say of the accounts; parts older than `max_age` are left out."""
    since = now - max_age
    findings = [
        examine(status, "", now, _rotation(status), since=since)
        for status in map(_presentable, accounts.values())
    ]
    cards = [_card(found, max_age) for found in findings]
    cards.sort(key=lambda card: (LEVELS.index(card.level), card.name.casefold(), card.name))
    repos = [(found.status.name, repo) for found in findings for repo in found.repos]
    repos.sort(key=lambda entry: (entry[1].rank, entry[0]))
    suffering = [worst(repo.problems) for _, repo in repos if repo.problems]
    level, verdict = _verdict(cards, suffering, troubles)
    return Overview(
        level,
        verdict,
        _summary(findings),
        Moment(_iso(now), f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC"),
        tuple(troubles),
        troubled=tuple(card for card in cards if card.level != WELL),
        well=tuple(card for card in cards if card.level == WELL),
        folded=len(cards) > FEW,
        several=len(cards) > 1,
        repos=len(repos),
        rows=(_row(account, repo, now) for account, repo in repos),
        nothing=""
        if repos
        else "There are no repos."
        if findings and all(found.snapshot.repos for found in findings)
        else "No repos are known.",
    )


def _presentable(status: AccountStatus) -> AccountStatus:
    """Return a status without the place of a token."""
    return replace(
        status,
        collectors={name: _discreet(c) for name, c in status.collectors.items()},
        token_problem=UNREADABLE if status.token_problem else "",
    )


def _discreet(collector: CollectorStatus) -> CollectorStatus:
    if collector.failure and collector.failure.reason == "token":
        return replace(collector, failure=Failure("token", f"the token is {UNREADABLE}"))
    return collector


def _verdict(
    cards: Sequence[Card], suffering: Sequence[str], troubles: Sequence[str]
) -> tuple[str, str]:
    """Return in a line whether all is well."""
    failing = sum(card.state == "failing" for card in cards)
    others = sum(card.level in {CRITICAL, WARNING} for card in cards) - failing
    parts = ["the exporter has trouble"] if troubles else []
    parts += [f"{count(failing, 'account')} failing"] if failing else []
    looks = {"account": others, "repo": len(suffering)}
    if named := [count(number, noun) for noun, number in looks.items() if number]:
        parts.append(f"{' and '.join(named)} {_need(sum(looks.values()))} a look")
    if parts:
        levels = {card.level for card in cards} | set(suffering)
        level = CRITICAL if troubles or CRITICAL in levels else WARNING
        text = ", ".join(parts)
        return level, text[0].upper() + text[1:]
    if not cards:
        return WAITING, "There are no accounts"
    if waiting := sum(card.level == WAITING for card in cards):
        return WAITING, f"Waiting for the first poll of {count(waiting, 'account')}"
    return WELL, "All is well"


def _need(count: int) -> str:
    return "needs" if count == 1 else "need"


def _summary(findings: Sequence[Finding]) -> str:
    parts = [found.snapshot.repos for found in findings if found.snapshot.repos]
    words = [count(len(findings), "account")] if len(findings) > 1 else []
    if parts:
        words.append(count(sum(len(part.repos) for part in parts), "repo"))
    usages = [part.usage for part in parts if part.usage is not None]
    if usages and len(usages) == len(findings):
        words.append(f"{size(sum(usages))} stored")
    return ", ".join(words)


def _card(found: Finding, max_age: float) -> Card:
    status, now = found.status, found.at
    failing = status.polls > 0 and not status.up
    gone = [n for n, c in status.collectors.items() if c.taken and c.taken <= now - max_age]
    if not status.polls:
        level, state = WAITING, "not polled yet"
    elif failing:
        level, state = CRITICAL, "failing"
    elif level := worst(found.own) or (WARNING if gone else ""):
        state = "needs a look"
    else:
        level, state = WELL, "well"
    ailing = sum(bool(repo.problems) for repo in found.repos)
    repos = count(len(found.repos), "repo") if found.snapshot.repos else "repos unknown"
    return Card(
        status.name,
        level,
        state,
        polled=_past(status.last_poll, now),
        took=f"{status.duration:.1f} s" if status.duration is not None else "",
        next=_upcoming(status.next_poll, now),
        success=_past(status.last_success, now) if failing else None,
        stale=" ".join(_staleness(status, gone, now, max_age)),
        problems=tuple(_named(problem, status) for problem in found.own),
        repos=f"{repos}, {ailing:,} {_need(ailing)} a look" if ailing else repos,
        facts=tuple(_facts(found)),
    )


def _named(problem: Problem, status: AccountStatus) -> Problem:
    """Return a problem with the names of collectors as people write them, and no others."""
    names = problem.where.split(", ")
    known = all(name in status.collectors for name in names)
    return replace(problem, where=_listed(names)) if known else problem


def _rotation(status: AccountStatus) -> Iterator[Problem]:
    """Tell of a token that cannot be read while the one read before serves on."""
    reasons = {c.failure.reason for c in status.collectors.values() if c.failure}
    if status.token_problem and "token" not in reasons:
        what = f"{status.token_problem}; the one read before serves on until a restart"
        yield Problem(WARNING, "token", what, ADVICE["token"])


def _staleness(
    status: AccountStatus, gone: Sequence[str], now: float, max_age: float
) -> Iterator[str]:
    """Tell of values that are not those of the last poll, and of those that are `gone`."""
    kept = {
        name: collector.taken
        for name, collector in status.collectors.items()
        if collector.taken and name not in gone and collector.taken < (status.last_poll or 0)
    }
    if kept:
        first = min(kept.values())
        yield (
            f"The values of {_listed(kept)} are those of {ago(first, now)}; without a good "
            f"poll they leave this page and the metrics in {span(first + max_age - now)}."
        )
    if gone:
        yield (
            f"The last good values of {_listed(gone)} are older than {span(max_age)}, so neither "
            "this page nor the metrics show them."
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names)


def _facts(found: Finding) -> Iterator[Fact]:
    known, now = found.snapshot, found.at
    if known.repos:
        yield from _repo_facts(known.repos, known.account.plan if known.account else None)
    if known.account:
        yield from _account_facts(known.account, now)
    if known.ssh_keys:
        yield Fact("SSH keys", f"{known.ssh_keys.length:,}")
    if known.tokens:
        yield Fact("API tokens", f"{len(known.tokens.tokens):,}")
    end = found.status.token_expires
    words = [spelled(found.permission)] if found.permission else []
    words += [expiry(end, now)] if end is not None else []
    if words:
        yield Fact("Token in use", ", ".join(words), None if end is None else _dated(end, now))


def _repo_facts(repos: RepoList, plan: Plan | None) -> Iterator[Fact]:
    most = f" of at most {plan.max_repos:,}" if plan and plan.max_repos else ""
    gaps = "" if repos.complete else ", not all of them could be read"
    yield Fact("Repos", f"{len(repos.repos):,}{most}{gaps}")
    if repos.usage is None:
        return
    if plan and plan.limit:
        share = repos.usage / plan.limit
        text = f"{size(repos.usage)}, {share:.0%} of {size(plan.limit)}"
        yield Fact("Stored", text, share=_percent(share), level=_level(share, PLAN))
    else:
        yield Fact("Stored", size(repos.usage))


def _account_facts(account: Account, now: float) -> Iterator[Fact]:
    if plan := account.plan:
        yield Fact("Plan", ", ".join([plan.name, *plan_sizes(plan)]))
    if account.accrued_overage_usd:
        yield Fact("Overage so far", f"{account.accrued_overage_usd:.2f} USD")
    verb, end = subscription(account, now)
    if verb:
        yield Fact("Subscription", verb, None if end is None else _dated(end, now))


def _row(account: str, found: RepoFinding, now: float) -> Row:
    repo = found.repo
    limit = repo.inactivity_limit
    return Row(
        worst(found.problems) or WELL,
        account,
        repo.name,
        repo.id,
        found.problems,
        usage="" if repo.usage is None else size(repo.usage),
        bytes=repo.usage,
        quota=size(repo.quota) if repo.quota else _unlimited(repo),
        share=None if repo.fill is None else _percent(repo.fill),
        quota_level=_level(repo.fill, QUOTA),
        written=_past(repo.last_modified, now),
        unwritten=found.unwritten,
        limit=span(limit) if limit else "",
        age=None if found.lateness is None else _percent(found.lateness),
        age_level=_level(found.lateness, AGE),
        format=repo.format or "",
        region=repo.region or "",
        flags=", ".join(flags(repo)),
    )


def _unlimited(repo: Repo) -> str:
    return "unknown" if repo.quota_enabled is None else "no quota"


def _percent(share: float) -> int:
    return int(min(max(0.0, share * 100), 999))


def _level(share: float | None, limits: tuple[float, float]) -> str:
    return severity(share, limits) or WELL


def _past(moment: float | None, now: float) -> Moment | None:
    return None if moment is None else Moment(_iso(moment), ago(moment, now))


def _upcoming(moment: float | None, now: float) -> Moment | None:
    """Spell when something is due: what is late a little is not "ago" but about to happen."""
    if moment is None:
        return None
    return Moment(_iso(moment), f"in {span(moment - now)}" if moment > now else "now")


def _dated(moment: float, now: float) -> Moment:
    return Moment(_iso(moment), when(moment, now))


def _iso(moment: float) -> str:
    try:
        return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return ""
