"""The facts, frozen. What is not known is `None`.

Sizes are bytes, moments are Unix timestamps in seconds, spans are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Repo:
    """One repository."""

    id: str
    name: str
    usage: float | None = None
    quota: float | None = None
    """Only where a quota is set and enforced."""
    quota_enabled: bool | None = None
    last_modified: float | None = None
    """The last write of any kind (prune and compact too); unknown also when never written to."""
    created: float | None = None
    inactivity_limit: float | None = None
    """How long it may stay silent before BorgBase alerts its owner; unknown also when off."""
    append_only: bool | None = None
    compaction_enabled: bool | None = None
    sftp_enabled: bool | None = None
    full_access_keys: int | None = None
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
        """The share of its quota that a repo uses, 1 being all of it."""
        return self.usage / self.quota if self.usage is not None and self.quota else None


@dataclass(frozen=True, slots=True)
class RepoList:
    """The repos of an account; `complete` when none was missing or unreadable."""

    repos: tuple[Repo, ...]
    complete: bool

    @property
    def usage(self) -> float | None:
        """The sum of what is known, if the list is complete and anything is known at all."""
        known = [repo.usage for repo in self.repos if repo.usage is not None]
        return sum(known) if self.complete and (known or not self.repos) else None


@dataclass(frozen=True, slots=True)
class Plan:
    """What the account has booked; sizes and counts only where there is a limit."""

    name: str
    included: float | None = None
    maximum: float | None = None
    max_repos: int | None = None

    @property
    def limit(self) -> float | None:
        """How much may be stored: without a maximum, what costs nothing extra."""
        return self.maximum or self.included


@dataclass(frozen=True, slots=True)
class Account:
    """What the account pays for."""

    plan: Plan | None = None
    billed_usage: float | None = None
    billed_excess: float | None = None
    accrued_overage_usd: float | None = None
    subscription_end: float | None = None
    subscription_active: bool | None = None
    auto_renew: bool | None = None


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
    """An API token of the account: what it may do and until when, never the secret."""

    id: str
    name: str
    permission: str
    last_used: float | None = None
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class APITokenList:
    """The account's API tokens; `complete` when none was missing or unreadable."""

    tokens: tuple[APIToken, ...]
    complete: bool

    def permission(self, expires: float | None) -> str | None:
        """Return what the token that expires then may do, if only one answer is possible."""
        possible = {
            token.permission
            for token in self.tokens
            if expires is None or (token.expires and abs(token.expires - expires) < 1)
        }
        return possible.pop() if self.complete and len(possible) == 1 else None


Part = RepoList | Account | SSHKeyList | APITokenList
"""What one collector brings home."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a collector's last query failed: a reason for machines, a message for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class CollectorStatus:
    """What became of one collector: its last good part, and how the last poll went."""

    part: Part | None = None
    taken: float | None = None
    """When `part` was taken."""
    success: bool = False
    failure: Failure | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    """Failures so far, by reason."""
    skipped: int = 0
    gaps: frozenset[str] = frozenset()
    """`Type.field` of each selected field that the API does not have."""
    missing: frozenset[str] = frozenset()
    """The fields to leave out of the next query: the gaps, and spellings that have another."""
    missing_since: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The parts of an account that are fresh enough to be shown."""

    repos: RepoList | None = None
    account: Account | None = None
    ssh_keys: SSHKeyList | None = None
    tokens: APITokenList | None = None


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """All that is known of one account: replaced whole after each poll."""

    name: str
    collectors: Mapping[str, CollectorStatus]
    polls: int = 0
    last_poll: float | None = None
    next_poll: float | None = None
    """When the next one is due; it may come sooner."""
    last_success: float | None = None
    duration: float | None = None
    token_problem: str = ""
    """Why the token could not be read before the last poll, in words."""
    token_expires: float | None = None
    """The `exp` of the exporter's own token."""

    @property
    def token_permission(self) -> str | None:
        """What the exporter's own token may do, when that can be known."""
        tokens = self.snapshot(since=0).tokens
        return tokens.permission(self.token_expires) if tokens else None

    @property
    def up(self) -> bool:
        """Whether the last poll of the repo list (or, without it, of all else) succeeded."""
        decisive = self.collectors.get("repos")
        return (
            decisive.success
            if decisive
            else all(collector.success for collector in self.collectors.values())
        )

    def snapshot(self, since: float) -> Snapshot:
        """Return the parts taken after `since`."""
        return Snapshot(
            **{
                name: collector.part
                for name, collector in self.collectors.items()
                if collector.taken is not None and collector.taken > since
            }  # type: ignore[arg-type]  # a collector's name is the name of the part it brings
        )

    def oldest_part(self, since: float) -> float | None:
        """Return when the oldest part taken after `since` was taken."""
        return min(
            (c.taken for c in self.collectors.values() if c.taken is not None and c.taken > since),
            default=None,
        )
