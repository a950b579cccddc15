"""Worlds: what happens to accounts over days, and the series that Prometheus scrapes.

All facts of an account and its repos are constants or functions of the seconds since the world's
start. A simulated exporter polls like the real one: at the interval, up to 10 % early or late,
and sooner after a failure; it exposes what it last read for six hours. Each world has its own job
name, so that one Prometheus can hold all of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from tests.rules import DAY, GB, HOUR, MINUTE

__all__ = ["DAY", "GB", "HOUR", "MINUTE", "Account", "Repo", "World"]

START = 1_700_006_400  # a midnight (UTC)
MAX_AGE = 6 * HOUR
Fact = Any  # a constant, or a function of the seconds since the start


def at(fact: Fact, t: float) -> Any:
    return fact(t) if callable(fact) else fact


def until(end: float, first: Fact, then: Fact = None) -> Fact:
    """Return one fact before `end`, and another from then on."""
    return lambda t: at(first, t) if t < end else at(then, t)


def during(*spans: tuple[float, float]) -> Callable[[float], bool]:
    """Return whether a moment lies in one of the spans."""
    return lambda t: any(begin <= t < end for begin, end in spans)


def now_and_then(share: float, seed: int = 1) -> Callable[[float], bool]:
    """Return a condition that is true at a random share of all moments, the same in each run."""
    return lambda t: random.Random(f"{seed} {t:.3f}").random() < share  # noqa: S311


@dataclass(kw_only=True)
class Repo:
    """A repo that is backed up nightly and grows a little; sizes in bytes."""

    name: Fact = "mail"
    id: str = "a1"
    usage: Fact = 50 * GB
    quota: Fact = 200 * GB
    quota_enabled: Fact = 1
    limit: Fact = 2 * DAY
    written: Fact = field(default=lambda t: t // DAY * DAY)  # when it was last written to
    created: Fact = -100 * DAY
    append_only: Fact = 0
    compaction: Fact = 1
    keys: Fact = 1
    there: Fact = True
    """False when it does not exist, None for an unreadable entry in its place."""

    def samples(self, t: float) -> Iterator[tuple[str, float]]:
        """Yield the repo's samples as the exporter exposes them."""
        labels = f'repo_id="{self.id}",repo="{at(self.name, t)}"'
        yield f'borgbase_repo_info{{{labels},format="borg"}}', 1
        if (keys := at(self.keys, t)) is not None:
            yield f'borgbase_repo_keys{{{labels},access="full"}}', keys
        for name, fact in (
            ("usage_bytes", self.usage),
            ("quota_bytes", self.quota if at(self.quota_enabled, t) else None),
            ("quota_enabled", self.quota_enabled),
            ("last_modified_timestamp_seconds", _moment(self.written, t)),
            ("created_timestamp_seconds", _moment(self.created, t)),
            ("inactivity_limit_seconds", self.limit),
            ("append_only", self.append_only),
            ("compaction_enabled", self.compaction),
        ):
            if (value := at(fact, t)) is not None:
                yield f"borgbase_repo_{name}{{{labels}}}", value


def _moment(fact: Fact, t: float) -> float | None:
    moment = at(fact, t)
    return None if moment is None else START + moment


TOKENS = {
    ("1", "exporter", "read_only"): 200 * DAY,
    ("2", "terraform", "full_access"): 300 * DAY,
}


@dataclass(kw_only=True)
class Account:
    """An account, and the failures of the exporter that polls it."""

    repos: tuple[Repo, ...] = (Repo(),)
    name: str = "acme"
    included: Fact = 250 * GB
    maximum: Fact = None
    subscription: Fact = 90 * DAY  # when it ends
    active: Fact = 1
    renews: Fact = 0
    tokens: Mapping[tuple[str, str, str], Fact] = field(default_factory=lambda: TOKENS)
    """When each ends, by id, name and permission; None for one that is not in the list."""
    own: Fact = 200 * DAY  # when the exporter's own token ends
    full_tokens: Fact = 1
    whole: Fact = True  # whether the list of repos is complete, unreadable entries apart
    unreadable_tokens: Fact = 0
    lost: Fact = ()  # fields that the API no longer has, as Type.field
    fails: Fact = None  # the reason why the list of repos cannot be read, if it cannot
    forbidden: Fact = ()  # collectors that fail
    hangs: Fact = False  # whether the poll loop of the exporter hangs
    down: Fact = False  # whether the exporter does not run
    removed: Fact = False  # whether the exporter does not have the account any more
    target: str = "a"  # the exporter's instance
    job: str = ""  # what the job has after the name of the world
    unconfigured: Fact = False  # whether Prometheus does not scrape the exporter at all

    def snapshot(self, t: float) -> tuple[dict[str, float], bool]:
        """Return the result of a successful poll, and whether the list of repos is complete."""
        lost = at(self.lost, t)
        there = [repo for repo in self.repos if at(repo.there, t)]
        skipped = sum(at(repo.there, t) is None for repo in self.repos)
        facts = {name: value for repo in there for name, value in repo.samples(t)}
        complete = bool(at(self.whole, t)) and not skipped
        if complete:
            facts["borgbase_account_repos"] = len(there)
            facts["borgbase_account_usage_bytes"] = sum(at(repo.usage, t) or 0 for repo in there)
        facts['borgbase_entries_skipped{collector="repos"}'] = skipped
        facts['borgbase_entries_skipped{collector="tokens"}'] = at(self.unreadable_tokens, t)
        facts |= {f'borgbase_schema_field_missing{{field="{name}"}}': 1 for name in lost}
        if "account" not in at(self.forbidden, t):
            facts |= {
                f"borgbase_account_{name}": at(fact, t)
                for name, fact in (
                    ("plan_included_bytes", self.included),
                    ("plan_max_bytes", self.maximum),
                    ("subscription_end_timestamp_seconds", _moment(self.subscription, t)),
                    ("subscription_active", self.active),
                    ("auto_renew", self.renews),
                )
                if at(fact, t) is not None
            }
        if "tokens" not in at(self.forbidden, t):
            facts['borgbase_account_api_tokens{permission="full_access"}'] = at(self.full_tokens, t)
            facts |= {
                "borgbase_api_token_expiration_timestamp_seconds"
                f'{{token_id="{key[0]}",token="{key[1]}",permission="{key[2]}"}}': START
                + at(end, t)
                for key, end in self.tokens.items()
                if at(end, t) is not None
            }
        return facts, complete


@dataclass(kw_only=True)
class World:
    """Accounts over days, and the notifications that are due.

    `sent` is the number that begin and that end, by receiver and alert; `within` is how soon after
    `since` the first is sent.
    """

    accounts: tuple[Account, ...] = (Account(),)
    days: float = 3
    interval: float = 15 * MINUTE
    scrape: float | None = None
    """None for once per evaluation, which is sparser than documented, and saves time."""
    sent: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    since: float = 0
    within: float = 0

    def write(self, lines: IO[str], job: str, step: float) -> None:
        """Write what Prometheus scrapes, which evaluates rules every `step` seconds."""
        targets = {}
        for account in self.accounts:
            exporter = _Exporter(account, self.interval, job)
            labels = f'job="{job}{account.job}",instance="{account.target}"'
            targets[labels] = account
            for t in self._scrapes(account, self.scrape or step):
                page = exporter.page(t, labels)
                lines.write(page.replace("\n", f" {START + t:.0f}\n"))
        for labels, account in targets.items():
            for t in self._scrapes(account, self.scrape or step):
                lines.write(f"up{{{labels}}} {int(not at(account.down, t))} {START + t:.0f}\n")

    def _scrapes(self, account: Account, every: float) -> Iterator[float]:
        moments = (n * every for n in range(int(self.days * DAY / every)))
        return (t for t in moments if not at(account.unconfigured, t))


class _Exporter:
    def __init__(self, account: Account, interval: float, job: str) -> None:
        self._account, self._interval = account, interval
        self._name = f"{account.name} {job[-2:]}"
        self._random = random.Random(f"{job} {account.name}")  # noqa: S311
        self._start()

    def _start(self, t: float = 0) -> None:
        self._facts: dict[str, float] = {}
        self._failures = {"auth": 0, "connect": 0, "token": 0}
        self._row, self._due, self._last, self._up = 0, t, 0.0, 0
        self._text = ""

    def page(self, t: float, labels: str) -> str:
        """Return the exposition of this moment."""
        if at(self._account.down, t) or at(self._account.removed, t):
            self._start(t)
            return ""
        changed = not self._text
        while self._due <= t and not at(self._account.hangs, t):
            self._poll(self._due)
            changed = True
        if self._facts and t - self._last > MAX_AGE and not self._up:
            self._facts, changed = {}, True
        if changed:
            self._text = "".join(self._lines(labels, t))
        return self._text

    def _poll(self, t: float) -> None:
        reason = at(self._account.fails, t)
        self._up = int(not reason)
        if reason:
            self._failures[reason] += 1
            self._row += 1
            self._due = t + min(30 * 2 ** (self._row - 1), self._interval)
            return
        self._facts, _ = self._account.snapshot(t)
        self._row, self._last = 0, t
        self._due = t + self._interval * self._random.uniform(0.9, 1.1)

    def _lines(self, labels: str, t: float) -> Iterator[str]:
        facts = {
            "borgbase_up": self._up,
            "borgbase_poll_interval_seconds": self._interval,
            "borgbase_exporter_token_expiration_timestamp_seconds": START
            + at(self._account.own, t),
            **{
                f'borgbase_collector_success{{collector="{name}"}}': self._up
                and int(name not in at(self._account.forbidden, t))
                for name in ("account", "tokens")
            },
            **{
                f'borgbase_poll_failures_total{{collector="repos",reason="{reason}"}}': count
                for reason, count in self._failures.items()
            },
            **self._facts,
        }
        if self._last:
            facts["borgbase_last_success_timestamp_seconds"] = START + self._last
        for series, value in facts.items():
            name, _, own = series.rstrip("}").partition("{")
            account = f'{labels},account="{self._name}"'
            yield f"{name}{{{account}{',' if own else ''}{own}}} {value:.17g}\n"
