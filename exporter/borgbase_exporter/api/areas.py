"""The areas of the API: the fields of each, converted to the model's units and timestamps.

A struct defines the fields of a query and decodes its answer. Fields are named as in the model;
`field(name=…)` gives the API's name where it differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, TypeVar

from msgspec import UNSET, Meta, Raw, UnsetType, field

from borgbase_exporter import model
from borgbase_exporter.api.client import Answer, Client
from borgbase_exporter.api.query import Node, Query, Root
from borgbase_exporter.api.reading import NULL, Skipped, reader
from borgbase_exporter.errors import PollError, Reason

MEGABYTE, GIGABYTE, DAY = 10**6, 10**9, 86_400
UNITS: Mapping[str, int] = {
    **dict.fromkeys(("usage", "quota", "reported_usage", "included_size", "max_size"), MEGABYTE),
    **dict.fromkeys(("billed_usage", "billed_excess", "included_gb", "max_size_gb"), GIGABYTE),
    "inactivity_limit": DAY,
}
"""Fields that the API gives in other units than the model: decimal ones, and days. BorgBase does
not document them; its public clients use them."""
LIMITS = {"quota", "inactivity_limit", "max_repos"} | {"included_size", "included_gb"}
LIMITS |= {"max_size", "max_size_gb"}  # in these, zero or less means "no limit"

HUGE = 10**18
"""No real value is larger, and sums stay below 1.8e308, beyond which Prometheus would reject the
whole scrape. The bounds also exclude NaN and infinities, which the API may send as strings."""
Number = Annotated[float, Meta(ge=-HUGE, le=HUGE)]
Size = Annotated[float, Meta(ge=0, le=HUGE)]
Count = Annotated[int, Meta(ge=-HUGE, le=HUGE)]
Natural = Annotated[int, Meta(ge=0, le=HUGE)]
Text = Annotated[str, Meta(max_length=1000)]
Fact = TypeVar("Fact")
Listed = TypeVar("Listed", model.Repo, model.SSHKey, model.APIToken)


@dataclass(frozen=True, slots=True)
class Area:
    """One area of the API; it fails independently of the others."""

    name: str
    query: Query
    decode: Callable[[Answer, Skipped], model.Part]

    def collect(
        self, client: Client, token: str, missing: frozenset[str] = frozenset(), *, seconds: float
    ) -> model.CollectorStatus:
        """Query and decode within `seconds`, leaving out the `missing` fields.

        Errors beside the data count as a failure if a root field is missing. Raises a PollError
        when there is no usable data.
        """
        answer = client.run(self.query, token, missing, seconds=seconds)
        skipped = Skipped()
        return model.CollectorStatus(
            self.decode(answer, skipped),
            success=not answer.error or NULL not in answer.data.values(),
            failure=model.Failure(Reason.GRAPHQL.value, answer.error) if answer.error else None,
            skipped=skipped.entries,
            fields_skipped=skipped.fields,
            gaps=self.query.gaps(answer.missing),
            missing=frozenset() if answer.guessed else answer.missing,
        )


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
        # An invalid token also returns an empty list, and nothing here distinguishes the two.
        text = "the list of repos is empty, and the API does not confirm the token"
        raise PollError(Reason.GRAPHQL, text)
    repos = _distinct(map(_repo, nodes), skipped)
    unknown = any(node.usage is UNSET for node in nodes)
    return model.RepoList(repos, complete=not (skipped.entries or unknown or answer.error))


def _repo(node: _Repo) -> model.Repo:
    more: dict[str, Any] = {"server": node.server.hostname if node.server else None}
    if not node.quota_enabled:
        more["quota"] = None
    if node.format and not node.format.lower().startswith("borg"):
        more |= dict.fromkeys(("full_access_keys", "append_only_keys", "rsync_keys"))
    if isinstance(node.last_modified, datetime):
        more["never_written"] = False
    elif node.last_modified is None and node.usage in {None, 0}:
        more["never_written"] = True
    return _known(model.Repo, node, **more)


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
    subscription_end: datetime | None = field(default=None, name="endDate")
    subscription_active: bool | None = field(default=None, name="active")


class _Me(Node):
    graphql = "UserType"
    optional = frozenset({"diskUsage", "repoCount"})
    active_plan: _Plan | None = None
    current_subscription: _Subscription | None = None
    auto_renew: bool | None = None
    reported_usage: Size | None = field(default=None, name="diskUsage")
    reported_repos: Natural | None = field(default=None, name="repoCount")


class Overage(Node):
    """What was billed on a day."""

    graphql = "OverageType"
    date: date
    billed_usage: Size | None = field(default=None, name="usedGb")
    billed_excess: Size | None = field(default=None, name="excessGb")


class _Account(Root):
    me: _Me
    overage_list: list[Overage] | None = None
    accrued_overage_usd: Number | None = field(default=None, name="accruedOverage")


def _account(answer: Answer, skipped: Skipped) -> model.Account:
    root = answer.read(_Account, skipped)
    newest = max(root.overage_list or (), key=lambda row: row.date, default=None)
    plan = root.me.active_plan and _plan(root.me.active_plan)
    return _known(model.Account, root, root.me, root.me.current_subscription, newest, plan=plan)


def _plan(node: _Plan) -> model.Plan:
    sizes = _facts(node)
    included = sizes["included_gb"] or sizes["included_size"]
    maximum = sizes["max_size_gb"] or sizes["max_size"]
    return _known(model.Plan, node, included=included, maximum=maximum)


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
    keys = (_known(model.SSHKey, node, id=str(node.id)) for node in nodes)
    return model.SSHKeyList(_distinct(keys, skipped), length)


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
    return _known(model.APIToken, node, id=str(node.id), permission=permission)


_REPOS_FLOOR = ("Query.repoList", "RepoType.id", "RepoType.name", "RepoType.currentUsage")
_KEYS_FLOOR = ("Query.sshList", "PublicSSHKeyType.id", "PublicSSHKeyType.name")

AREAS: tuple[Area, ...] = (
    Area("repos", Query("Repos", _Repos, frozenset(_REPOS_FLOOR)), _repos),
    Area("account", Query("Account", _Account), _account),
    Area("ssh_keys", Query("SSHKeys", _SSHKeys, frozenset(_KEYS_FLOOR)), _ssh_keys),
    Area("tokens", Query("Tokens", _Tokens), _tokens),
)
for _area in AREAS:
    reader(_area.query.root)


def _distinct(listed: Iterable[Listed], skipped: Skipped) -> tuple[Listed, ...]:
    """Return the first entry of each id; count the others as skipped."""
    found: dict[str, Listed] = {}
    for fact in listed:
        if found.setdefault(fact.id, fact) is not fact:
            skipped.entries += 1
    return tuple(found.values())


def _known(kind: type[Fact], *nodes: Node | None, **more: Any) -> Fact:
    """Return a fact: the nodes' values for the fields it has, and `more`."""
    facts = {name: value for node in nodes if node for name, value in _facts(node).items()}
    return kind(**{name: facts[name] for name in facts.keys() & kind.__annotations__} | more)


def _facts(node: Node) -> dict[str, Any]:
    """Return the fields of a node in the units of the model, lists as their lengths."""
    return {name: _fact(name, getattr(node, name)) for name in node.__struct_fields__}


def _fact(name: str, value: Any) -> Any:
    match value:
        case datetime():  # UTC if it has no offset
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        case list():
            return len(value)
        case float() | int() if name in LIMITS and value <= 0:
            return None
        case float() if name in UNITS:
            return round(value * UNITS[name])
    return None if value is UNSET else value
