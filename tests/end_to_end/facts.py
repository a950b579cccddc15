"""The accounts of these tests, and how their metrics are called."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from borgbase_exporter.demo import Trouble
from tests.end_to_end.processes import Series
from tests.graphql import SimulatedAccount

GOLDEN = Path(__file__).parent / "golden.txt"
NOW = 1_750_000_000.0  # 2025-06-15 15:06:40 UTC

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
    """Make an account with a stopped clock."""
    troubles = () if well else tuple(Trouble)
    return SimulatedAccount(seed=seed, clock=lambda: NOW, repos=repos, troubles=troubles, billed=7)


def series(name: str, **labels: str) -> Series:
    return name, frozenset(labels.items())


def parsed(page: str) -> dict[Series, float]:
    """Return the exporter's metrics in a page."""
    return {
        series(sample.name, **sample.labels): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name.startswith("borgbase_")
    }
