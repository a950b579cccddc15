"""The contract's metrics with their labels, and the accounts of these tests."""

from borgbase_exporter.demo import Trouble
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


def new_account(seed: int, repos: int = 3, *, well: bool = True) -> SimulatedAccount:
    """Make an account whose time does not pass."""
    troubles = () if well else tuple(Trouble)
    return SimulatedAccount(seed=seed, clock=lambda: NOW, repos=repos, troubles=troubles)


def series(name: str, **labels: str) -> Series:
    return name, frozenset(labels.items())
