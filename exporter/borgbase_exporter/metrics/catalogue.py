"""The catalogue: one row per metric, with its name, help, labels and value.

The names and labels are the public contract. A row's value is read from the model; what is
unknown (None) has no sample.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from borgbase_exporter import __version__
from borgbase_exporter.model import Account, AccountStatus, APIToken, Plan, Repo, Snapshot, SSHKey

S = TypeVar("S")
Value = float | bool | None
Labelled = Iterable[tuple[tuple[str, ...], Value]]


@dataclass(frozen=True, slots=True)
class Metric(Generic[S]):
    """A metric of some subject: either one value, or one for each combination of labels."""

    name: str
    help: str
    value: Callable[[S], Value] | None = None
    labels: tuple[str, ...] = ()
    values: Callable[[S], Labelled] | None = None
    type: Literal["gauge", "counter"] = "gauge"

    def samples(self, subject: S) -> Labelled:
        """Yield the values of the extra labels, and the sample."""
        if self.value:
            return (((), self.value(subject)),)
        assert self.values  # noqa: S101  # a row has the one or the other
        return self.values(subject)


@dataclass(frozen=True, slots=True)
class Scope(Generic[S]):
    """Metrics that share a subject and its labels; `subjects` finds the subjects of an account."""

    title: str
    labels: tuple[str, ...]
    subjects: Callable[[AccountStatus, Snapshot], Iterable[tuple[tuple[str, ...], S]]]
    metrics: tuple[Metric[S], ...]


_FACTS = ("region", "format", "borg_version", "encryption", "access_mode", "server")

REPO: Scope[Repo] = Scope(
    "Repos",
    ("account", "repo_id", "repo"),
    lambda status, snapshot: (
        ((status.name, repo.id, repo.name), repo)
        for repo in (snapshot.repos.repos if snapshot.repos else ())
    ),
    (
        Metric(
            "borgbase_repo_usage_bytes",
            "Space that the repo takes on the server.",
            lambda repo: repo.usage,
        ),
        Metric(
            "borgbase_repo_quota_bytes",
            "The repo's quota; absent when none is set or enforced.",
            lambda repo: repo.quota,
        ),
        Metric(
            "borgbase_repo_quota_enabled",
            "Whether the repo's quota is enforced.",
            lambda repo: repo.quota_enabled,
        ),
        Metric(
            "borgbase_repo_last_modified_timestamp_seconds",
            "Last write to the repo (backup, prune or compaction); absent when never written to.",
            lambda repo: repo.last_modified,
        ),
        Metric(
            "borgbase_repo_created_timestamp_seconds",
            "When the repo was created.",
            lambda repo: repo.created,
        ),
        Metric(
            "borgbase_repo_inactivity_limit_seconds",
            "How long the repo may go without a write before BorgBase alerts; absent when off.",
            lambda repo: repo.inactivity_limit,
        ),
        Metric(
            "borgbase_repo_append_only",
            "Whether the repo is append-only for all keys.",
            lambda repo: repo.append_only,
        ),
        Metric(
            "borgbase_repo_compaction_enabled",
            "Whether BorgBase compacts the repo on a schedule.",
            lambda repo: repo.compaction_enabled,
        ),
        Metric(
            "borgbase_repo_sftp_enabled",
            "Whether the repo can be reached by SFTP.",
            lambda repo: repo.sftp_enabled,
        ),
        Metric(
            "borgbase_repo_keys",
            "SSH keys that may access the repo, by kind of access.",
            labels=("access",),
            values=lambda repo: (
                (("full",), repo.full_access_keys),
                (("append_only",), repo.append_only_keys),
                (("rsync",), repo.rsync_keys),
            ),
        ),
        Metric(
            "borgbase_repo_info",
            "Facts about the repo as labels; always 1.",
            labels=("repo_region", *_FACTS[1:]),
            values=lambda repo: [(tuple(getattr(repo, fact) or "" for fact in _FACTS), 1)],
        ),
    ),
)


def _tokens_by_permission(snapshot: Snapshot) -> Iterator[tuple[tuple[str], int]]:
    if snapshot.tokens and snapshot.tokens.complete:
        held = [token.permission for token in snapshot.tokens.tokens]
        for permission in dict.fromkeys(("read_only", "full_access", "create_only", *held)):
            yield (permission,), held.count(permission)


def _account(read: Callable[[Account], Value]) -> Callable[[Snapshot], Value]:
    return lambda snapshot: read(snapshot.account) if snapshot.account else None


def _plan(read: Callable[[Plan], Value]) -> Callable[[Snapshot], Value]:
    return _account(lambda account: read(account.plan) if account.plan else None)


ACCOUNT: Scope[Snapshot] = Scope(
    "Accounts",
    ("account",),
    lambda status, snapshot: (((status.name,), snapshot),),
    (
        Metric(
            "borgbase_account_repos",
            "Number of repos; absent when some of the list could not be read.",
            lambda snapshot: len(r.repos) if (r := snapshot.repos) and r.complete else None,
        ),
        Metric(
            "borgbase_account_usage_bytes",
            "Space that all repos take together; absent when some of the list could not be read.",
            lambda snapshot: snapshot.repos.usage if snapshot.repos else None,
        ),
        Metric(
            "borgbase_account_ssh_keys",
            "Number of SSH keys.",
            lambda snapshot: snapshot.ssh_keys.length if snapshot.ssh_keys else None,
        ),
        Metric(
            "borgbase_account_api_tokens",
            "Number of API tokens, by what they may do.",
            labels=("permission",),
            values=_tokens_by_permission,
        ),
        Metric(
            "borgbase_account_plan_included_bytes",
            "Space that the plan's price includes.",
            _plan(lambda plan: plan.included),
        ),
        Metric(
            "borgbase_account_plan_max_bytes",
            "Space that the plan allows at most; absent when unlimited.",
            _plan(lambda plan: plan.maximum),
        ),
        Metric(
            "borgbase_account_plan_max_repos",
            "Repos that the plan allows at most; absent when unlimited.",
            _plan(lambda plan: plan.max_repos),
        ),
        Metric(
            "borgbase_account_plan_info",
            "The plan's name as a label; always 1.",
            labels=("plan",),
            values=lambda snapshot: (
                [((a.plan.name,), 1)] if (a := snapshot.account) and a.plan else []
            ),
        ),
        Metric(
            "borgbase_account_billed_usage_bytes",
            "Space used as last billed (the newest row of the overage list).",
            _account(lambda account: account.billed_usage),
        ),
        Metric(
            "borgbase_account_billed_excess_bytes",
            "Space beyond what the plan includes, as last billed.",
            _account(lambda account: account.billed_excess),
        ),
        Metric(
            "borgbase_account_accrued_overage_usd",
            "Overage accrued in this billing period, in US dollars.",
            _account(lambda account: account.accrued_overage_usd),
        ),
        Metric(
            "borgbase_account_subscription_end_timestamp_seconds",
            "When the current subscription ends.",
            _account(lambda account: account.subscription_end),
        ),
        Metric(
            "borgbase_account_subscription_active",
            "Whether the current subscription is active.",
            _account(lambda account: account.subscription_active),
        ),
        Metric(
            "borgbase_account_auto_renew",
            "Whether the subscription renews itself.",
            _account(lambda account: account.auto_renew),
        ),
    ),
)


SSH_KEY: Scope[SSHKey] = Scope(
    "SSH keys",
    ("account", "key_id", "key"),
    lambda status, snapshot: (
        ((status.name, key.id, key.name), key)
        for key in (snapshot.ssh_keys.keys if snapshot.ssh_keys else ())
    ),
    (
        Metric(
            "borgbase_ssh_key_added_timestamp_seconds",
            "When the SSH key was added.",
            lambda key: key.added,
        ),
        Metric(
            "borgbase_ssh_key_last_used_timestamp_seconds",
            "When the SSH key was last used; absent when never.",
            lambda key: key.last_used,
        ),
    ),
)


API_TOKEN: Scope[APIToken] = Scope(
    "API tokens",
    ("account", "token_id", "token", "permission"),
    lambda status, snapshot: (
        ((status.name, token.id, token.name, token.permission), token)
        for token in (snapshot.tokens.tokens if snapshot.tokens else ())
    ),
    (
        Metric(
            "borgbase_api_token_expiration_timestamp_seconds",
            "When the API token expires; absent when never.",
            lambda token: token.expires,
        ),
        Metric(
            "borgbase_api_token_last_used_timestamp_seconds",
            "When the API token was last used; absent when never.",
            lambda token: token.last_used,
        ),
    ),
)


def _per_collector(fact: str) -> Callable[[AccountStatus], Labelled]:
    return lambda status: (((n,), getattr(c, fact)) for n, c in status.collectors.items())


POLLING: Scope[AccountStatus] = Scope(
    "The exporter's polls",
    ("account",),
    lambda status, _snapshot: (((status.name,), status),),
    (
        Metric(
            "borgbase_up",
            "Whether the last poll of the repo list succeeded.",
            lambda status: status.up,
        ),
        Metric(
            "borgbase_collector_success",
            "Whether the last poll of this part of the API succeeded.",
            labels=("collector",),
            values=_per_collector("success"),
        ),
        Metric(
            "borgbase_last_poll_timestamp_seconds",
            "When the last poll ended; absent before the first.",
            lambda status: status.last_poll,
        ),
        Metric(
            "borgbase_last_success_timestamp_seconds",
            "When the last successful poll of the repo list ended; absent before the first.",
            lambda status: status.last_success,
        ),
        Metric(
            "borgbase_last_poll_duration_seconds",
            "How long the last poll took; absent before the first.",
            lambda status: status.duration,
        ),
        Metric(
            "borgbase_poll_interval_seconds",
            "Time between two polls of the account.",
            lambda status: status.interval,
        ),
        Metric(
            "borgbase_simulated",
            "Whether the account is simulated (--demo), so that its data is invented.",
            lambda status: status.simulated,
        ),
        Metric(
            "borgbase_polls_total",
            "Polls so far.",
            lambda status: status.polls,
            type="counter",
        ),
        Metric(
            "borgbase_poll_failures_total",
            "Failed queries so far, by part of the API and reason.",
            labels=("collector", "reason"),
            values=lambda status: (
                ((name, reason), count)
                for name, collector in status.collectors.items()
                for reason, count in collector.failures.items()
            ),
            type="counter",
        ),
        Metric(
            "borgbase_entries_skipped",
            "List entries of the last poll that were null or unreadable.",
            labels=("collector",),
            values=_per_collector("skipped"),
        ),
        Metric(
            "borgbase_fields_skipped",
            "Unreadable fields of the last poll that were left out of their entries.",
            labels=("collector",),
            values=_per_collector("fields_skipped"),
        ),
        Metric(
            "borgbase_schema_field_missing",
            "1 for each field the exporter asks for and the API no longer has.",
            labels=("field",),
            values=lambda status: (
                ((field,), 1)
                for field in sorted({gap for c in status.collectors.values() for gap in c.gaps})
            ),
        ),
        Metric(
            "borgbase_exporter_token_expiration_timestamp_seconds",
            "When the exporter's own token expires; absent if the token does not contain it.",
            lambda status: status.token_expires,
        ),
    ),
)

BUILD: Metric[None] = Metric(
    "borgbase_exporter_build_info",
    "The exporter's version as labels; always 1.",
    labels=("version", "python_version"),
    values=lambda _: (((__version__, platform.python_version()), 1),),
)

SCOPES: tuple[Scope[Any], ...] = (REPO, ACCOUNT, SSH_KEY, API_TOKEN, POLLING)
