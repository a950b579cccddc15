"""Backfilled history in a real Prometheus that continues to scrape the same exporter."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest

from borgbase_exporter.text import DAY
from tests.end_to_end.processes import Prometheus, accepted, exporter, run, until
from tests.end_to_end.stage import put_token
from tests.graphql import GraphQLApi, SimulatedAccount
from tests.programs import require
from tests.rules import rules
from tests.servers import prometheus

JOB = "borgbase"
FILLING = "mail.example.org"
METRICS = (
    "borgbase_repo_usage_bytes",
    "borgbase_account_usage_bytes",
    "borgbase_account_billed_usage_bytes",
)
RULES = {rule["record"]: rule["expr"].strip() for rule in rules() if "record" in rule}


@dataclass(frozen=True)
class Installed:
    """A Prometheus that imported the history after its start, and continues to scrape."""

    account: SimulatedAccount
    prometheus: Prometheus
    installed: float
    restarted: float

    def query(self, expression: str) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = self.prometheus.api(f"query?query={quote(expression)}")[
            "result"
        ]
        return result


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    promtool = require("promtool")
    folder = tmp_path_factory.mktemp("backfill")
    history = folder / "history.om"
    now = time.time()
    account = SimulatedAccount(clock=lambda: now, start=now)
    put_token(folder, "token", account.token)
    with GraphQLApi([account]) as api:
        flags = ["--api.url", api.url, "--token.file", f"{folder}/token"]
        with exporter(folder, *flags, "--poll.interval", "1s") as running:
            target = {JOB: running.address}
            with prometheus(folder, target) as first:
                until(lambda: first.query(METRICS[0]), "the first scrape")
            # Prometheus keeps 15 days by default.
            flags += ["--since", "14d", "--until", f"{now - 3 * 3600:.3f}"]
            flags += ["--label", f"instance={running.address}"]
            done = run("backfill", *flags, "--output", str(history))
            assert (done.returncode, done.stderr) == (0, "")
            command = (promtool, "tsdb", "create-blocks-from", "--max-block-duration=744h")
            accepted(*command, "openmetrics", history, folder / "data")
            restarted = time.time()
            with prometheus(folder, target) as second:
                fresh = f"{METRICS[0]} and timestamp({METRICS[0]}) > {restarted}"
                until(lambda: second.query(fresh), "the first scrape after that")
                yield Installed(account, second, now, restarted)


@pytest.mark.parametrize("metric", METRICS)
def test_the_past_and_the_present_are_the_same_series(installed: Installed, metric: str) -> None:
    live = installed.query(metric)
    through = installed.query(f"{metric}[15d]")

    names = [sample["metric"] for sample in live]
    assert len(names) == (12 if "repo" in metric else 1)
    assert sorted(map(str, names)) == sorted(str(series["metric"]) for series in through)
    for series in through:
        times = [float(moment) for moment, _ in series["values"]]
        assert all(earlier < later for earlier, later in pairwise(times))
        gaps = [(a, b) for a, b in pairwise(times) if b - a > 300]
        # The only gap is due to --until; what was scraped before the import is still there.
        ((last, first),) = gaps
        assert last < installed.installed - 3 * 3600 <= last + 300
        assert installed.installed < first < installed.restarted < times[-1]


def test_the_values_meet(installed: Installed) -> None:
    before = installed.query(f"last_over_time({METRICS[0]}[1d] offset 3h)")
    now = {
        sample["metric"]["repo_id"]: float(sample["value"][1])
        for sample in installed.query(METRICS[0])
    }

    newest = (installed.installed - 3 * 3600) // 300 * 300
    for sample in before:
        repo = next(r for r in installed.account.repos if r.id == sample["metric"]["repo_id"])
        end = min(installed.installed, (newest // DAY + 1) * DAY - 1)
        assert float(sample["value"][1]) == pytest.approx(repo.usage(end), abs=500_000)
        assert now[repo.id] == pytest.approx(repo.usage(installed.installed), rel=1e-12)


def test_the_forecast_is_right_with_the_first_scrapes(installed: Installed) -> None:
    expression = expanded("repo:borgbase_repo_time_to_quota:seconds")
    (found,) = (s for s in installed.query(expression) if s["metric"]["repo"] == FILLING)

    repo = next(r for r in installed.account.repos if r.name == FILLING)
    left = (repo.quota - repo.usage(installed.installed)) / repo.curve.surge
    assert float(found["value"][1]) / DAY == pytest.approx(left, rel=0.05)


def expanded(name: str) -> str:
    """Return a recorded expression by the exporter's own metrics alone, as of its first samples."""
    newest = re.sub(r"\w+_over_time\((\w+:\w+:\w+)\[.+?\)", r"\1", RULES[name])
    return re.sub(r"\w+:\w+:\w+", lambda match: f"({expanded(match[0])})", newest)
