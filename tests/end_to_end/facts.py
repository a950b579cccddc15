"""The contract's metrics, and what a simulated account's facts make of each.

Written from the contract and the account's own facts (bytes, Unix seconds), with nothing of the
exporter's: what comes out of Prometheus is compared with it whole.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from borgbase_exporter.demo import Trouble
from borgbase_exporter.demo.cast import SSH_KEYS, Repo
from borgbase_exporter.demo.curves import DAY
from tests.end_to_end.processes import Series
from tests.graphql import SimulatedAccount

NOW = 1_750_000_000.0  # 2025-06-15 15:06:40 UTC

# Name and labels of every metric, as the contract lists them.
CONTRACT = {
    name: frozenset(labels)
    for name, *labels in map(
        str.split,
        """
        borgbase_repo_usage_bytes                            account repo_id repo
        borgbase_repo_quota_bytes                            account repo_id repo
        borgbase_repo_quota_enabled                          account repo_id repo
        borgbase_repo_last_modified_timestamp_seconds        account repo_id repo
        borgbase_repo_created_timestamp_seconds              account repo_id repo
        borgbase_repo_inactivity_limit_seconds               account repo_id repo
        borgbase_repo_append_only                            account repo_id repo
        borgbase_repo_compaction_enabled                     account repo_id repo
        borgbase_repo_sftp_enabled                           account repo_id repo
        borgbase_repo_keys                                   account repo_id repo access
        borgbase_repo_info                                   account repo_id repo repo_region \
                                             format borg_version encryption access_mode server
        borgbase_account_repos                               account
        borgbase_account_usage_bytes                         account
        borgbase_account_ssh_keys                            account
        borgbase_account_api_tokens                          account permission
        borgbase_account_plan_included_bytes                 account
        borgbase_account_plan_max_bytes                      account
        borgbase_account_plan_max_repos                      account
        borgbase_account_plan_info                           account plan
        borgbase_account_billed_usage_bytes                  account
        borgbase_account_billed_excess_bytes                 account
        borgbase_account_accrued_overage_usd                 account
        borgbase_account_subscription_end_timestamp_seconds  account
        borgbase_account_subscription_active                 account
        borgbase_account_auto_renew                          account
        borgbase_ssh_key_added_timestamp_seconds             account key_id key
        borgbase_ssh_key_last_used_timestamp_seconds         account key_id key
        borgbase_api_token_expiration_timestamp_seconds      account token_id token permission
        borgbase_api_token_last_used_timestamp_seconds       account token_id token permission
        borgbase_up                                          account
        borgbase_collector_success                           account collector
        borgbase_last_poll_timestamp_seconds                 account
        borgbase_last_success_timestamp_seconds              account
        borgbase_last_poll_duration_seconds                  account
        borgbase_polls_total                                 account
        borgbase_poll_failures_total                         account collector reason
        borgbase_poll_interval_seconds                       account
        borgbase_simulated                                   account
        borgbase_entries_skipped                             account collector
        borgbase_fields_skipped                              account collector
        borgbase_schema_field_missing                        account field
        borgbase_exporter_token_expiration_timestamp_seconds account
        borgbase_exporter_build_info                         version python_version
        """.strip().splitlines(),
    )
}

MOVING = frozenset(
    {
        "borgbase_last_poll_timestamp_seconds",
        "borgbase_last_success_timestamp_seconds",
        "borgbase_last_poll_duration_seconds",
        "borgbase_polls_total",
    }
)
"""Metrics whose values are the exporter's own time and count, not the account's facts."""

COLLECTORS = ("repos", "account", "ssh_keys", "tokens")
REASONS = (
    *("connect", "tls", "timeout", "http_status", "redirect", "too_large", "not_json"),
    *("graphql", "auth", "schema", "token", "internal"),
)
PERMISSIONS = {"RO": "read_only", "FA": "full_access", "CO": "create_only"}

REPO_VALUES: dict[str, Callable[[Repo], float | None]] = {
    "borgbase_repo_usage_bytes": lambda repo: repo.usage(NOW),
    "borgbase_repo_quota_bytes": lambda repo: repo.quota if repo.quota_enabled else None,
    "borgbase_repo_quota_enabled": lambda repo: repo.quota_enabled,
    "borgbase_repo_last_modified_timestamp_seconds": lambda repo: repo.last_write(NOW),
    "borgbase_repo_created_timestamp_seconds": lambda repo: round(repo.curve.born, 6),
    "borgbase_repo_inactivity_limit_seconds": lambda repo: repo.alert_days * 86_400 or None,
    "borgbase_repo_append_only": lambda repo: repo.append_only,
    "borgbase_repo_compaction_enabled": lambda repo: repo.compaction_enabled,
    "borgbase_repo_sftp_enabled": lambda repo: repo.sftp_enabled,
}


def new_account(seed: int, repos: int = 3, *, well: bool = True) -> SimulatedAccount:
    """Make an account whose time stands still."""
    troubles = () if well else tuple(Trouble)
    return SimulatedAccount(seed=seed, clock=lambda: NOW, repos=repos, troubles=troubles)


def series(name: str, **labels: str) -> Series:
    return name, frozenset(labels.items())


def equal_to(facts: Mapping[Series, float]) -> Any:
    """Return what is equal to the same series with the same values.

    The API tells sizes as decimal numbers of MB and GB: the last bit of a float is lost to that.
    """
    return pytest.approx(dict(facts), rel=1e-15, abs=0)


def expected(name: str, account: SimulatedAccount) -> dict[Series, float]:
    """Return what an account's series must be after polls that all went well."""
    facts = (*_repos(account), *_account(account), *_keys_and_tokens(account), *_polling(account))
    return {
        series(metric, account=name, **labels): float(value)
        for metric, labels, value in facts
        if value is not None
    }


Facts = Iterator[tuple[str, dict[str, str], float | None]]


def _repos(account: SimulatedAccount) -> Facts:
    for repo in account.repos:
        labels = {"repo_id": repo.id, "repo": repo.name}
        for metric, value in REPO_VALUES.items():
            yield metric, labels, value(repo)
        for access, keys in (
            ("full", repo.full_access_keys),
            ("append_only", repo.append_only_keys),
            ("rsync", repo.rsync_keys),
        ):
            keyed = (repo.format or "borg").startswith("borg")
            count = len(keys) if keys is not None and keyed else None
            yield "borgbase_repo_keys", labels | {"access": access}, count
        info = {
            "repo_region": repo.server[:2],
            "format": repo.format or "",
            "borg_version": repo.borg_version,
            "encryption": repo.encryption,
            "access_mode": repo.access_mode,
            "server": repo.server,
        }
        yield "borgbase_repo_info", labels | info, 1


def _account(account: SimulatedAccount) -> Facts:
    usage = sum(repo.usage(NOW) for repo in account.repos)
    included = account.included_gb * 1_000_000_000
    billed = round(usage, -6)  # the API tells it in GB with three decimals
    ending = Trouble.SUBSCRIPTION_ENDING in account.troubles
    held = [token.permission for token in account.tokens.values()]
    for metric, value in {
        "repos": len(account.repos),
        "usage_bytes": usage,
        "ssh_keys": len(SSH_KEYS),
        "plan_included_bytes": included,
        "plan_max_bytes": 4 * included,
        "plan_max_repos": 1_000_000,
        "billed_usage_bytes": billed,
        "billed_excess_bytes": max(0, billed - included),
        "accrued_overage_usd": account.moment().accrued_overage(),
        "subscription_end_timestamp_seconds": NOW + (9 if ending else 230) * DAY,
        "subscription_active": 1,
        "auto_renew": not ending,
    }.items():
        yield f"borgbase_account_{metric}", {}, value
    yield "borgbase_account_plan_info", {"plan": "Business"}, 1
    for short, permission in PERMISSIONS.items():
        yield "borgbase_account_api_tokens", {"permission": permission}, held.count(short)


def _keys_and_tokens(account: SimulatedAccount) -> Facts:
    for id_, (name, age) in SSH_KEYS.items():
        labels = {"key_id": id_, "key": name}
        uses = [
            repo.last_write(NOW)
            for repo in account.repos
            if id_ in (repo.full_access_keys or ()) + (repo.append_only_keys or ())
        ]
        used = max((moment for moment in uses if moment is not None), default=None)
        yield "borgbase_ssh_key_added_timestamp_seconds", labels, NOW - age * DAY
        yield "borgbase_ssh_key_last_used_timestamp_seconds", labels, used
    for token in account.tokens.values():
        permission = PERMISSIONS[token.permission]
        labels = {"token_id": token.id, "token": token.name, "permission": permission}
        yield "borgbase_api_token_expiration_timestamp_seconds", labels, token.expires
        yield "borgbase_api_token_last_used_timestamp_seconds", labels, token.last_used(NOW)


def _polling(account: SimulatedAccount) -> Facts:
    yield "borgbase_up", {}, 1
    yield "borgbase_simulated", {}, 0
    yield "borgbase_poll_interval_seconds", {}, 1
    yield "borgbase_exporter_token_expiration_timestamp_seconds", {}, NOW + 700 * DAY
    for collector in COLLECTORS:
        labels = {"collector": collector}
        yield "borgbase_collector_success", labels, 1
        yield "borgbase_entries_skipped", labels, 0
        yield "borgbase_fields_skipped", labels, 0
        for reason in REASONS:
            yield "borgbase_poll_failures_total", labels | {"reason": reason}, 0
