"""Immutable facts. None means unknown; sizes are bytes, times Unix times, durations seconds."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Repo:
    """One repository."""

    id: str
    name: str
    usage: float | None = None
    quota: float | None = None  # only where a quota is set and enforced
    quota_enabled: bool | None = None
    last_modified: float | None = None  # of any kind, prune and compact too; None also if never
    never_written: bool | None = None  # no last write and no data; None when that is unknown
    created: float | None = None
    inactivity_limit: float | None = None  # silence before BorgBase alerts; None also when off
    append_only: bool | None = None
    compaction_enabled: bool | None = None
    sftp_enabled: bool | None = None
    full_access_keys: int | None = None  # None for formats that SSH keys give no access to
    append_only_keys: int | None = None
    rsync_keys: int | None = None
    region: str | None = None
    format: str | None = None
    borg_version: str | None = None
    encryption: str | None = None
    access_mode: str | None = None
    server: str | None = None

    @property
    def fill(self) -> float | None:
        """The used share of the quota; 1 is all of it."""
        return self.usage / self.quota if self.usage is not None and self.quota else None


@dataclass(frozen=True, slots=True)
class RepoList:
    """The repos of an account; `complete` when no entry was missing or unreadable."""

    repos: tuple[Repo, ...]
    complete: bool

    @property
    def usage(self) -> float | None:
        """The sum of what is known, if the list is complete and anything is known at all."""
        known = [repo.usage for repo in self.repos if repo.usage is not None]
        return sum(known) if self.complete and (known or not self.repos) else None


@dataclass(frozen=True, slots=True)
class Plan:
    """The account's plan; sizes and counts only where there is a limit."""

    name: str
    included: float | None = None
    maximum: float | None = None
    max_repos: int | None = None

    @property
    def limit(self) -> float | None:
        """How much may be stored: the maximum, else what the price includes."""
        return self.maximum or self.included


@dataclass(frozen=True, slots=True)
class Account:
    """What the account pays for, and what BorgBase itself counts."""

    plan: Plan | None = None
    billed_usage: float | None = None
    billed_excess: float | None = None
    accrued_overage_usd: float | None = None
    subscription_end: float | None = None
    subscription_active: bool | None = None
    auto_renew: bool | None = None
    reported_usage: float | None = None  # BorgBase's own sum; what it counts is not documented
    reported_repos: int | None = None


@dataclass(frozen=True, slots=True)
class SSHKey:
    """A public SSH key of the account."""

    id: str
    name: str
    added: float | None = None
    last_used: float | None = None


@dataclass(frozen=True, slots=True)
class SSHKeyList:
    """The account's SSH keys; `length` counts the unreadable ones too."""

    keys: tuple[SSHKey, ...]
    length: int


@dataclass(frozen=True, slots=True)
class APIToken:
    """An API token of the account: its permission and expiry, never the secret."""

    id: str
    name: str
    permission: str
    last_used: float | None = None
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class APITokenList:
    """The account's API tokens; `complete` when no entry was missing or unreadable."""

    tokens: tuple[APIToken, ...]
    complete: bool

    def permission(self, expires: float | None) -> str | None:
        """Return the permission of the token with this expiry, if only one is possible."""
        possible = {
            token.permission
            for token in self.tokens
            if expires is None or (token.expires and abs(token.expires - expires) < 1)
        }
        return possible.pop() if self.complete and len(possible) == 1 else None


Part = RepoList | Account | SSHKeyList | APITokenList  # what one collector reads


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known of an account: a field per collector, with the collector's name."""

    repos: RepoList | None = None
    account: Account | None = None
    ssh_keys: SSHKeyList | None = None
    tokens: APITokenList | None = None


COLLECTORS: Mapping[str, str] = {  # what each of them collects
    "repos": "the repos, their usage, quotas and settings",
    "account": "plan, subscription and billed usage",
    "ssh_keys": "the account's SSH keys",
    "tokens": "the account's API tokens and when they expire",
}

CREATE_ONLY = frozenset({"repos", "ssh_keys"})  # the collectors that a Create Only token may run


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a collector's last query failed: a reason for machines, a message for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class CollectorStatus:
    """The last good part of a collector, and how its last query went."""

    part: Part | None = None  # None also when the last good one is too old to be shown
    taken: float | None = None  # when the last good part was read, even if that has expired
    success: bool = False
    failure: Failure | None = None
    failures: Mapping[str, int] = field(default_factory=dict)  # failures so far, by reason
    skipped: int = 0  # list entries of the last query that were null or unreadable
    fields_skipped: int = 0  # unreadable fields of the last query, left out of their entries
    gaps: frozenset[str] = frozenset()  # selected fields that the API lacks, as `Type.field`
    missing: frozenset[str] = frozenset()  # not to select: gaps, and spellings that the API lacks
    missing_since: float | None = None

    @property
    def expired(self) -> bool:
        """Whether there was a good part that is too old to be shown."""
        return self.part is None and self.taken is not None

    def as_of(self, now: float, max_age: float) -> CollectorStatus:
        """Return the status without a part that is `max_age` seconds old or older."""
        if self.part is None or self.taken is None:
            return self
        if self.taken > now:  # it was read before a clock was set back
            return replace(self, taken=now)
        return self if self.taken > now - max_age else replace(self, part=None)


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """All that is known of one account: replaced whole after each poll."""

    name: str
    collectors: Mapping[str, CollectorStatus]
    interval: float | None = None  # seconds between polls; None where others schedule them
    simulated: bool = False  # whether it is the built-in simulated account
    polls: int = 0
    last_poll: float | None = None
    next_poll: float | None = None  # when the next one is due; it may come sooner
    last_success: float | None = None
    duration: float | None = None
    token_problem: str = ""  # why the token could not be read before the last poll, in words
    token_expires: float | None = None  # the `exp` of the exporter's own token
    daily: Mapping[str, array[float]] = field(default_factory=dict)  # times and bytes, by repo id

    @property
    def snapshot(self) -> Snapshot:
        """The parts that are known and fresh enough to be shown."""
        parts = {name: collector.part for name, collector in self.collectors.items()}
        return Snapshot(**parts)  # type: ignore[arg-type]  # a collector's name is its part's

    @property
    def token_permission(self) -> str | None:
        """The permission of the exporter's own token, when that can be known."""
        tokens = self.snapshot.tokens
        return tokens.permission(self.token_expires) if tokens else None

    @property
    def up(self) -> bool:
        """Whether the last poll of the repo list (or, without it, of all else) succeeded."""
        repos = self.collectors.get("repos")
        return all(c.success for c in ([repos] if repos else self.collectors.values()))

    def as_of(self, now: float, max_age: float) -> AccountStatus:
        """Return the status with the parts that may be shown `now`; itself if none is dropped."""
        collectors = {n: c.as_of(now, max_age) for n, c in self.collectors.items()}
        same = all(collectors[n] is c for n, c in self.collectors.items())
        return self if same else replace(self, collectors=collectors)

    def expires(self, max_age: float) -> float:
        """Return when the next part becomes too old to be shown; infinity when none does."""
        taken = (c.taken for c in self.collectors.values() if c.part is not None)
        return min((t + max_age for t in taken if t is not None), default=float("inf"))
