"""The areas of the API: what is read of each, and what it becomes. Units and dates end here.

A struct is both: the query asks for its fields, and reads the answer into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, TypeVar

from msgspec import UNSET, Meta, Raw, UnsetType, field

from borgbase_exporter import model
from borgbase_exporter.api.client import Answer, Client
from borgbase_exporter.api.query import Node, Query, Root
from borgbase_exporter.api.reading import Skipped, reader
from borgbase_exporter.errors import GraphQLError

MEGABYTE = 1_000_000
GIGABYTE = 1_000_000_000
DAY = 86_400
"""`currentUsage`, `quota`, `includedSize`, `maxSize` and the account's `diskUsage` are decimal
megabytes; `usedGb`, `excessGb`, `includedGb` and `maxSizeGb` decimal gigabytes; `alertDays` days.
Not documented: read off the public clients of the API."""

HUGE = 10**18
"""No true number is larger, and it leaves room for sums: past 1.8e308 Prometheus would refuse the
whole scrape. Neither are NaN and the infinities, which a string may spell, within such bounds."""
Number = Annotated[float, Meta(ge=-HUGE, le=HUGE)]
Size = Annotated[float, Meta(ge=0, le=HUGE)]
Count = Annotated[int, Meta(ge=-HUGE, le=HUGE)]
Text = Annotated[str, Meta(max_length=1000)]
Fact = TypeVar("Fact", model.Repo, model.SSHKey, model.APIToken)


@dataclass(frozen=True, slots=True)
class Collected:
    """The outcome of one query: a part of the snapshot, and what was wrong with it.

    `failure` is set when the API reported errors beside the data, `whole` unless they cost a root
    field. `gaps` are the fields that the API does not have, `missing` those to leave out next time.
    """

    part: model.Part
    skipped: int
    fields_skipped: int
    failure: model.Failure | None
    whole: bool
    gaps: frozenset[str]
    missing: frozenset[str]


@dataclass(frozen=True, slots=True)
class Area:
    """One area of the API; it fails apart from the others."""

    name: str
    query: Query
    decode: Callable[[Answer, Skipped], model.Part]

    def collect(
        self, client: Client, token: str, missing: frozenset[str] = frozenset(), *, seconds: float
    ) -> Collected:
        """Ask and decode within `seconds`, leaving out the `missing` fields.

        Raises a PollError when there is nothing to show.
        """
        answer = client.run(self.query, token, missing, seconds=seconds)
        skipped = Skipped()
        return Collected(
            self.decode(answer, skipped),
            skipped.entries,
            skipped.fields,
            failure=model.Failure(GraphQLError.reason, answer.error) if answer.error else None,
            whole=not answer.error or not answer.lost,
            gaps=self.query.gaps(answer.missing),
            missing=frozenset() if answer.guessed else answer.missing,
        )


# ---- Repos: where a field is named as in the model, its name in the API comes with it.


class _Server(Node):
    graphql = "ServerType"
    hostname: Text | None = None


class _Repo(Node):
    graphql = "RepoType"
    id: Text
    name: Text
    usage: Size | UnsetType | None = field(default=None, name="currentUsage")
    quota: Number | None = None
    quota_enabled: bool | None = None
    inactivity_limit: Number | None = field(default=None, name="alertDays")
    last_modified: datetime | UnsetType | None = UNSET
    created: datetime | None = field(default=None, name="createdAt")
    append_only: bool | None = None
    compaction_enabled: bool | None = None
    sftp_enabled: bool | None = None
    full_access_keys: list[Raw] | None = None
    append_only_keys: list[Raw] | None = None
    rsync_keys: list[Raw] | None = None
    region: Text | None = None
    format: Text | None = None
    borg_version: Text | None = None
    encryption: Text | None = None
    access_mode: Text | None = None
    server: _Server | None = None


class _Repos(Root):
    repo_list: list[_Repo]


def _repos(answer: Answer, skipped: Skipped) -> model.RepoList:
    nodes = answer.read(_Repos, skipped).repo_list
    if not nodes and not skipped.entries and "Query.isAuthenticated" in answer.missing:
        # An invalid token gives an empty list, too, and nothing here tells the two apart.
        raise GraphQLError("the list of repos is empty, and the API does not report who asks")
    repos = _distinct(map(_repo, nodes), skipped)
    unknown = any(node.usage is UNSET for node in nodes)
    return model.RepoList(repos, complete=not (skipped.entries or unknown or answer.error))


def _repo(node: _Repo) -> model.Repo:
    facts = _facts(node) | {
        "usage": _times(node.usage, MEGABYTE),
        "quota": _limit(node.quota, MEGABYTE) if node.quota_enabled else None,
        "inactivity_limit": _limit(node.inactivity_limit, DAY),
        "server": node.server.hostname if node.server else None,
    }
    if node.format and not node.format.lower().startswith("borg"):
        facts |= dict.fromkeys(("full_access_keys", "append_only_keys", "rsync_keys"))
    never = True if node.last_modified is None and node.usage in {None, 0} else None
    written = isinstance(node.last_modified, datetime)
    return model.Repo(**facts, never_written=False if written else never)


# ---- Account


class _Plan(Node):
    graphql = "PlanType"
    newer = {"maxSize": "maxSizeGb", "includedSize": "includedGb"}  # noqa: RUF012  # a ClassVar
    name: Text = ""
    max_repos: Count | None = None
    max_size_gb: Number | None = None
    max_size: Number | None = None
    included_gb: Number | None = None
    included_size: Number | None = None


class _Subscription(Node):
    graphql = "SubscriptionType"
    end_date: datetime | None = None
    active: bool | None = None


class _Me(Node):
    graphql = "UserType"
    optional = frozenset({"diskUsage", "repoCount"})
    active_plan: _Plan | None = None
    current_subscription: _Subscription | None = None
    auto_renew: bool | None = None
    disk_usage: Size | None = None
    repo_count: Annotated[int, Meta(ge=0, le=HUGE)] | None = None


class _Overage(Node):
    graphql = "OverageType"
    date: date
    used_gb: Size | None = None
    excess_gb: Size | None = None


class _Account(Root):
    me: _Me
    overage_list: list[_Overage] | None = None
    accrued_overage: Number | None = None


def _account(answer: Answer, skipped: Skipped) -> model.Account:
    root = answer.read(_Account, skipped)
    plan, subscription = root.me.active_plan, root.me.current_subscription or _Subscription()
    overage = max(root.overage_list or (), key=lambda row: row.date, default=None)
    return model.Account(
        plan=_plan(plan) if plan else None,
        billed_usage=_times(overage.used_gb, GIGABYTE) if overage else None,
        billed_excess=_times(overage.excess_gb, GIGABYTE) if overage else None,
        accrued_overage_usd=root.accrued_overage,
        subscription_end=_fact(subscription.end_date),
        subscription_active=subscription.active,
        auto_renew=root.me.auto_renew,
        reported_usage=_times(root.me.disk_usage, MEGABYTE),
        reported_repos=root.me.repo_count,
    )


def _plan(node: _Plan) -> model.Plan:
    return model.Plan(
        name=node.name,
        included=_limit(node.included_gb, GIGABYTE) or _limit(node.included_size, MEGABYTE),
        maximum=_limit(node.max_size_gb, GIGABYTE) or _limit(node.max_size, MEGABYTE),
        max_repos=node.max_repos if node.max_repos and node.max_repos > 0 else None,
    )


# ---- SSH keys


class _SSHKey(Node):
    graphql = "PublicSSHKeyType"
    id: Text | Count
    name: Text
    added: datetime | None = field(default=None, name="addedAt")
    last_used: datetime | None = field(default=None, name="lastUsedAt")


class _SSHKeys(Root):
    ssh_list: list[_SSHKey]


def _ssh_keys(answer: Answer, skipped: Skipped) -> model.SSHKeyList:
    nodes = answer.read(_SSHKeys, skipped).ssh_list
    length = len(nodes) + skipped.entries
    keys = (model.SSHKey(**_facts(node) | {"id": str(node.id)}) for node in nodes)
    return model.SSHKeyList(_distinct(keys, skipped), length)


# ---- API tokens

PERMISSIONS = {"RO": "read_only", "FA": "full_access", "CO": "create_only"}


class _APIToken(Node):
    graphql = "JWTTokenType"
    id: Text | Count
    name: Text
    permission: Text
    last_used: datetime | None = None
    expires: datetime | None = field(default=None, name="expiration")


class _TokenOwner(Node):
    graphql = "UserType"
    jwttoken_set: list[_APIToken]


class _Tokens(Root):
    me: _TokenOwner


def _tokens(answer: Answer, skipped: Skipped) -> model.APITokenList:
    nodes = answer.read(_Tokens, skipped).me.jwttoken_set
    tokens = _distinct(map(_api_token, nodes), skipped)
    complete = not (skipped.entries or skipped.fields or answer.error)
    return model.APITokenList(tokens, complete)


def _api_token(node: _APIToken) -> model.APIToken:
    permission = PERMISSIONS.get(node.permission, node.permission.lower())
    return model.APIToken(**_facts(node) | {"id": str(node.id), "permission": permission})


_REPOS_FLOOR = frozenset(
    {"Query.repoList", *(f"RepoType.{n}" for n in ("id", "name", "currentUsage"))}
)
_KEYS_FLOOR = frozenset({"Query.sshList", "PublicSSHKeyType.id", "PublicSSHKeyType.name"})

AREAS: tuple[Area, ...] = (
    Area("repos", Query("Repos", _Repos, _REPOS_FLOOR), _repos),
    Area("account", Query("Account", _Account), _account),
    Area("ssh_keys", Query("SSHKeys", _SSHKeys, _KEYS_FLOOR), _ssh_keys),
    Area("tokens", Query("Tokens", _Tokens), _tokens),
)
for _area in AREAS:
    reader(_area.query.root)


def _distinct(facts: Iterable[Fact], skipped: Skipped) -> tuple[Fact, ...]:
    """Return the first fact of each id; count the others as skipped entries."""
    found: dict[str, Fact] = {}
    for fact in facts:
        if found.setdefault(fact.id, fact) is not fact:
            skipped.entries += 1
    return tuple(found.values())


def _facts(node: Node) -> dict[str, Any]:
    """Return the fields of a node as the model has them."""
    return {name: _fact(getattr(node, name)) for name in node.__struct_fields__}


def _fact(value: Any) -> Any:
    """Return a moment in seconds since the epoch (UTC without an offset), a list as its length."""
    match value:
        case datetime():
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        case list():
            return len(value)
    return None if value is UNSET else value


def _times(value: float | UnsetType | None, unit: int) -> float | None:
    if not isinstance(value, float):
        return None
    # In whole bytes (or seconds), exact where the value is whole.
    return int(value) * unit if value == int(value) else round(value * unit)


def _limit(value: float | None, unit: int) -> float | None:
    return _times(value, unit) if value is not None and value > 0 else None
