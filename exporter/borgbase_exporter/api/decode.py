"""From the API's JSON to the model: units, dates and nulls end here.

Lists are read entry by entry: one that cannot be read is skipped and counted, never the list.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from datetime import UTC, date, datetime
from typing import Annotated, TypeVar

import msgspec

from borgbase_exporter.api.client import UNREADABLE, Answer
from borgbase_exporter.errors import GraphQLError, PollError
from borgbase_exporter.model import (
    Account,
    APIToken,
    APITokenList,
    Plan,
    Repo,
    RepoList,
    SSHKey,
    SSHKeyList,
)

MEGABYTE = 1_000_000
GIGABYTE = 1_000_000_000
DAY = 86_400
"""`currentUsage`, `quota`, `includedSize` and `maxSize` are decimal megabytes; `usedGb`,
`excessGb`, `includedGb` and `maxSizeGb` decimal gigabytes; `alertDays` days. Not documented:
read off the public clients of the API."""

PERMISSIONS = {"RO": "read_only", "FA": "full_access", "CO": "create_only"}

Node = TypeVar("Node", bound=msgspec.Struct)
Fact = TypeVar("Fact")
HUGE = 1e18
"""No true number is larger, and it leaves room for sums: past 1.8e308 Prometheus would refuse the
whole scrape. Neither are NaN and the infinities, which a string may spell, within such bounds."""
Number = Annotated[float, msgspec.Meta(ge=-HUGE, le=HUGE)]
Size = Annotated[float, msgspec.Meta(ge=0, le=HUGE)]
Text = Annotated[str, msgspec.Meta(max_length=1000)]
Entries = list[msgspec.Raw]


class _Node(msgspec.Struct, rename="camel"):
    """What the API sends of a type; fields it does not have (any more) stay None."""


class _Server(_Node):
    hostname: Text | None = None


class _Repo(_Node):
    id: Text
    name: Text
    current_usage: Size | None = None
    quota: Number | None = None
    quota_enabled: bool | None = None
    alert_days: Number | None = None
    last_modified: datetime | None = None
    created_at: datetime | None = None
    append_only: bool | None = None
    compaction_enabled: bool | None = None
    sftp_enabled: bool | None = None
    full_access_keys: Entries | None = None
    append_only_keys: Entries | None = None
    rsync_keys: Entries | None = None
    region: Text | None = None
    format: Text | None = None
    borg_version: Text | None = None
    encryption: Text | None = None
    access_mode: Text | None = None
    server: _Server | None = None


class _Plan(_Node):
    name: Text = ""
    max_repos: Annotated[int, msgspec.Meta(le=10**18)] | None = None
    max_size: Number | None = None
    max_size_gb: Number | None = None
    included_size: Number | None = None
    included_gb: Number | None = None


class _Subscription(_Node):
    end_date: datetime | None = None
    active: bool | None = None


class _Me(_Node):
    active_plan: _Plan | None = None
    current_subscription: _Subscription | None = None
    auto_renew: bool | None = None


class _Overage(_Node):
    date: date
    used_gb: Size | None = None
    excess_gb: Size | None = None


class _SSHKey(_Node):
    id: Text | int
    name: Text
    added_at: datetime | None = None
    last_used_at: datetime | None = None


class _APIToken(_Node):
    id: Text | int
    name: Text
    permission: Text
    last_used: datetime | None = None
    expiration: datetime | None = None


class _TokenOwner(_Node):
    jwttoken_set: Entries


# msgspec works a type out when it first meets it; two threads that do so at once crash the process.
for _kind in (_Repo, _Me, _Overage, _SSHKey, _APIToken, _TokenOwner):
    msgspec.json.Decoder(_kind)


def repos(answer: Answer) -> tuple[RepoList, int]:
    """Decode the answer to REPOS; return the repos and how many entries were skipped."""
    entries = answer.root("repoList", Entries)
    if not entries and "Query.isAuthenticated" in answer.missing:
        # An invalid token gives an empty list, too, and nothing here tells the two apart.
        raise GraphQLError("the list of repos is empty, and the API does not say who asks")
    found, skipped = readable(entries, _Repo, _repo, lambda repo: repo.id)
    return RepoList(found, complete=not skipped and not answer.errors), skipped


def account(answer: Answer) -> tuple[Account, int]:
    """Decode the answer to ACCOUNT; what the API withholds stays unknown."""
    me = answer.root("me", _Me)
    subscription = me.current_subscription or _Subscription()
    overage, skipped = _newest_overage(answer)
    return Account(
        plan=_plan(me.active_plan) if me.active_plan else None,
        billed_usage=_times(overage.used_gb, GIGABYTE) if overage else None,
        billed_excess=_times(overage.excess_gb, GIGABYTE) if overage else None,
        accrued_overage_usd=_optional(answer, "accruedOverage", Number),
        subscription_end=_timestamp(subscription.end_date),
        subscription_active=subscription.active,
        auto_renew=me.auto_renew,
    ), skipped


def ssh_keys(answer: Answer) -> tuple[SSHKeyList, int]:
    """Decode the answer to SSH_KEYS."""
    entries = answer.root("sshList", Entries)
    found, skipped = readable(entries, _SSHKey, _ssh_key, lambda key: key.id)
    return SSHKeyList(found, length=len(entries)), skipped


def tokens(answer: Answer) -> tuple[APITokenList, int]:
    """Decode the answer to TOKENS."""
    entries = answer.root("me", _TokenOwner).jwttoken_set
    found, skipped = readable(entries, _APIToken, _api_token, lambda token: token.id)
    return APITokenList(found, complete=not skipped and not answer.errors), skipped


def readable(
    entries: Iterable[msgspec.Raw],
    kind: type[Node],
    convert: Callable[[Node], Fact],
    identity: Callable[[Fact], Hashable],
) -> tuple[tuple[Fact, ...], int]:
    """Convert the entries that can be read; count the others, and repeated ones with them."""
    decoder = msgspec.json.Decoder(kind, strict=False)
    found: dict[Hashable, Fact] = {}
    skipped = 0
    for entry in entries:
        try:
            fact = convert(decoder.decode(entry))
        except UNREADABLE:
            skipped += 1
            continue
        if found.setdefault(identity(fact), fact) is not fact:
            skipped += 1
    return tuple(found.values()), skipped


def _repo(node: _Repo) -> Repo:
    return Repo(
        id=node.id,
        name=node.name,
        usage=_times(node.current_usage, MEGABYTE),
        quota=_limit(node.quota, MEGABYTE) if node.quota_enabled else None,
        quota_enabled=node.quota_enabled,
        last_modified=_timestamp(node.last_modified),
        created=_timestamp(node.created_at),
        inactivity_limit=_limit(node.alert_days, DAY),
        append_only=node.append_only,
        compaction_enabled=node.compaction_enabled,
        sftp_enabled=node.sftp_enabled,
        full_access_keys=_length(node.full_access_keys),
        append_only_keys=_length(node.append_only_keys),
        rsync_keys=_length(node.rsync_keys),
        region=node.region,
        format=node.format,
        borg_version=node.borg_version,
        encryption=node.encryption,
        access_mode=node.access_mode,
        server=node.server.hostname if node.server else None,
    )


def _plan(node: _Plan) -> Plan:
    return Plan(
        name=node.name,
        included=_either(_limit(node.included_size, MEGABYTE), _limit(node.included_gb, GIGABYTE)),
        maximum=_either(_limit(node.max_size, MEGABYTE), _limit(node.max_size_gb, GIGABYTE)),
        max_repos=node.max_repos if node.max_repos and node.max_repos > 0 else None,
    )


def _ssh_key(node: _SSHKey) -> SSHKey:
    return SSHKey(str(node.id), node.name, _timestamp(node.added_at), _timestamp(node.last_used_at))


def _api_token(node: _APIToken) -> APIToken:
    return APIToken(
        str(node.id),
        node.name,
        PERMISSIONS.get(node.permission, node.permission.lower()),
        _timestamp(node.last_used),
        _timestamp(node.expiration),
    )


def _newest_overage(answer: Answer) -> tuple[_Overage | None, int]:
    rows = _optional(answer, "overageList", Entries)
    found, skipped = readable(rows or (), _Overage, lambda row: row, id)
    return max(found, key=lambda row: row.date, default=None), skipped


def _optional(answer: Answer, name: str, kind: type[Fact]) -> Fact | None:
    """Decode a root field whose absence leaves the rest worth having."""
    try:
        return answer.root(name, kind)
    except PollError:
        return None


def _times(value: float | None, unit: int) -> float | None:
    if value is None:
        return None
    # In whole bytes (or seconds), exact where the value is whole.
    return int(value) * unit if value == int(value) else round(value * unit)


def _limit(value: float | None, unit: int) -> float | None:
    return _times(value, unit) if value is not None and value > 0 else None


def _length(entries: Entries | None) -> int | None:
    return None if entries is None else len(entries)


def _either(first: float | None, second: float | None) -> float | None:
    return second if first is None else first


def _timestamp(moment: datetime | None) -> float | None:
    """Seconds since the epoch; a moment without an offset is UTC."""
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
