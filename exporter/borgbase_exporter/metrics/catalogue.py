"""The catalogue: one row per metric, with its name, help, labels and samples.

The names and labels are the public contract. A row's value is read from the model; what is
unknown (None) has no sample.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from borgbase_exporter import __version__
from borgbase_exporter.model import AccountStatus, APIToken, Repo, Snapshot, SSHKey

S = TypeVar("S")
Labelled = Iterable[tuple[tuple[str, ...], float | bool | None]]


@dataclass(frozen=True, slots=True)
class Metric(Generic[S]):
    """A metric of some subject; `samples` gives the values of the extra labels, and the sample."""

    name: str
    help: str
    samples: Callable[[S], Labelled]
    labels: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        """The type, which follows from the name's suffix."""
        return "counter" if self.name.endswith("_total") else "gauge"


@dataclass(frozen=True, slots=True)
class Scope(Generic[S]):
    """Metrics that share a subject and its labels; `subjects` finds the subjects of an account."""

    title: str
    labels: tuple[str, ...]
    subjects: Callable[[AccountStatus, Snapshot], Iterable[tuple[tuple[str, ...], S]]]
    metrics: tuple[Metric[S], ...]


_UNIT = re.compile("_(bytes|timestamp_seconds|seconds|total)$")
_FIELDS = {  # of the model, where metrics have another name for them
    "ssh_keys": "length",
    "max": "maximum",
    "expiration": "expires",
    "last_poll_duration": "duration",
    "poll_interval": "interval",
}


def _fact(path: str, subject: Any) -> Labelled:
    """Return a fact of the subject, such as `usage` or `plan.name`, as a sample without labels."""
    for step in path.split("."):
        subject = None if subject is None else getattr(subject, step)
    return (((), subject),)


def _facts(prefix: str, path: str = "", **helps: str) -> tuple[Metric[Any], ...]:
    """Return a metric for each fact; its name is that of the fact, with a prefix and a unit."""
    fields = ((name, _UNIT.sub("", name)) for name in helps)
    return tuple(
        Metric(prefix + name, helps[name], partial(_fact, path + _FIELDS.get(field, field)))
        for name, field in fields
    )


_INFO = ("region", "format", "borg_version", "encryption", "access_mode", "server")

REPO: Scope[Repo] = Scope(
    "Repos",
    ("account", "repo_id", "repo"),
    lambda status, snapshot: (
        ((status.name, repo.id, repo.name), repo)
        for repo in (snapshot.repos.repos if snapshot.repos else ())
    ),
    (
        *_facts(
            "borgbase_repo_",
            usage_bytes="Space that the repo takes on the server.",
            quota_bytes="The repo's quota; absent when none is set or enforced.",
            quota_enabled="Whether the repo's quota is enforced.",
            last_modified_timestamp_seconds="Last write to the repo (backup, prune or compaction); "
            "absent when never written to.",
            created_timestamp_seconds="When the repo was created.",
            inactivity_limit_seconds="How long the repo may go without a write before BorgBase "
            "alerts; absent when off.",
            append_only="Whether the repo is append-only for all keys.",
            compaction_enabled="Whether BorgBase compacts the repo on a schedule.",
            sftp_enabled="Whether the repo can be reached by SFTP.",
        ),
        Metric(
            "borgbase_repo_keys",
            "SSH keys that may access the repo, by kind of access.",
            lambda repo: (
                (("full",), repo.full_access_keys),
                (("append_only",), repo.append_only_keys),
                (("rsync",), repo.rsync_keys),
            ),
            ("access",),
        ),
        Metric(
            "borgbase_repo_info",
            "Facts about the repo as labels; always 1.",
            lambda repo: [(tuple(getattr(repo, fact) or "" for fact in _INFO), 1)],
            ("repo_region", *_INFO[1:]),
        ),
    ),
)


def _tokens_by_permission(snapshot: Snapshot) -> Labelled:
    if snapshot.tokens and snapshot.tokens.complete:
        held = [token.permission for token in snapshot.tokens.tokens]
        for permission in dict.fromkeys(("read_only", "full_access", "create_only", *held)):
            yield (permission,), held.count(permission)


ACCOUNT: Scope[Snapshot] = Scope(
    "Accounts",
    ("account",),
    lambda status, snapshot: (((status.name,), snapshot),),
    (
        Metric(
            "borgbase_account_repos",
            "Number of repos; absent when some of the list could not be read.",
            lambda snapshot: [((), len(r.repos))] if (r := snapshot.repos) and r.complete else [],
        ),
        Metric(
            "borgbase_account_usage_bytes",
            "Space that all repos take together; absent when some of the list could not be read.",
            partial(_fact, "repos.usage"),
        ),
        *_facts("borgbase_account_", "ssh_keys.", ssh_keys="Number of SSH keys."),
        Metric(
            "borgbase_account_api_tokens",
            "Number of API tokens, by what they may do.",
            _tokens_by_permission,
            ("permission",),
        ),
        *_facts(
            "borgbase_account_plan_",
            "account.plan.",
            included_bytes="Space that the plan's price includes.",
            max_bytes="Space that the plan allows at most; absent when unlimited.",
            max_repos="Repos that the plan allows at most; absent when unlimited.",
        ),
        Metric(
            "borgbase_account_plan_info",
            "The plan's name as a label; always 1.",
            lambda snapshot: [((a.plan.name,), 1)] if (a := snapshot.account) and a.plan else [],
            ("plan",),
        ),
        *_facts(
            "borgbase_account_",
            "account.",
            billed_usage_bytes="Space used as last billed (the newest row of the overage list).",
            billed_excess_bytes="Space beyond what the plan includes, as last billed.",
            accrued_overage_usd="Overage accrued in this billing period, in US dollars.",
            subscription_end_timestamp_seconds="When the current subscription ends.",
            subscription_active="Whether the current subscription is active.",
            auto_renew="Whether the subscription renews itself.",
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
    _facts(
        "borgbase_ssh_key_",
        added_timestamp_seconds="When the SSH key was added.",
        last_used_timestamp_seconds="When the SSH key was last used; absent when never.",
    ),
)


API_TOKEN: Scope[APIToken] = Scope(
    "API tokens",
    ("account", "token_id", "token", "permission"),
    lambda status, snapshot: (
        ((status.name, token.id, token.name, token.permission), token)
        for token in (snapshot.tokens.tokens if snapshot.tokens else ())
    ),
    _facts(
        "borgbase_api_token_",
        expiration_timestamp_seconds="When the API token expires; absent when never.",
        last_used_timestamp_seconds="When the API token was last used; absent when never.",
    ),
)


def _per_collector(fact: str) -> Callable[[AccountStatus], Labelled]:
    return lambda status: (((n,), getattr(c, fact)) for n, c in status.collectors.items())


POLLING: Scope[AccountStatus] = Scope(
    "The exporter's polls",
    ("account",),
    lambda status, _snapshot: (((status.name,), status),),
    (
        *_facts("borgbase_", up="Whether the last poll of the repo list succeeded."),
        Metric(
            "borgbase_collector_success",
            "Whether the last poll of this part of the API succeeded.",
            _per_collector("success"),
            ("collector",),
        ),
        *_facts(
            "borgbase_",
            last_poll_timestamp_seconds="When the last poll ended; absent before the first.",
            last_success_timestamp_seconds="When the last successful poll of the repo list ended; "
            "absent before the first.",
            last_poll_duration_seconds="How long the last poll took; absent before the first.",
            poll_interval_seconds="Time between two polls of the account.",
            simulated="Whether the account is simulated (--demo), so that its data is invented.",
            polls_total="Polls so far.",
        ),
        Metric(
            "borgbase_poll_failures_total",
            "Failed queries so far, by part of the API and reason.",
            lambda status: (
                ((name, reason), count)
                for name, collector in status.collectors.items()
                for reason, count in collector.failures.items()
            ),
            ("collector", "reason"),
        ),
        Metric(
            "borgbase_entries_skipped",
            "List entries of the last poll that were null or unreadable.",
            _per_collector("skipped"),
            ("collector",),
        ),
        Metric(
            "borgbase_fields_skipped",
            "Unreadable fields of the last poll that were left out of their entries.",
            _per_collector("fields_skipped"),
            ("collector",),
        ),
        Metric(
            "borgbase_schema_field_missing",
            "1 for each field the exporter asks for and the API no longer has.",
            lambda status: (
                ((field,), 1)
                for field in sorted({gap for c in status.collectors.values() for gap in c.gaps})
            ),
            ("field",),
        ),
        Metric(
            "borgbase_exporter_token_expiration_timestamp_seconds",
            "When the exporter's own token expires; absent if the token does not contain it.",
            partial(_fact, "token_expires"),
        ),
    ),
)

BUILD: Metric[None] = Metric(
    "borgbase_exporter_build_info",
    "The exporter's version as labels; always 1.",
    lambda _: (((__version__, platform.python_version()), 1),),
    ("version", "python_version"),
)

SCOPES: tuple[Scope[Any], ...] = (REPO, ACCOUNT, SSH_KEY, API_TOKEN, POLLING)
