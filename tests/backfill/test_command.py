"""`backfill`: its queries, its output, and how it ends."""

from __future__ import annotations

import os
import signal
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from borgbase_exporter import settings
from borgbase_exporter.api.history import BATCH
from borgbase_exporter.commands.backfill import run
from borgbase_exporter.text import DAY
from tests.backfill.canned import MB, NOON, TODAY, Canned, Usage
from tests.canary import CANARY
from tests.clock import START, Clock
from tests.end_to_end import processes
from tests.graphql import GraphQLApi, SimulatedAccount
from tests.lab.account import http
from tests.lab.wire import Lab, Request, Wire

REPO = "borgbase_repo_usage_bytes"
ACCOUNT = "borgbase_account_usage_bytes"
BILLED = "borgbase_account_billed_usage_bytes"
BUSY = b'{"errors":[{"message":"too busy"}]}'

Samples = dict[tuple[str, ...], dict[float, float]]


class Backfill:
    """The command, run in this process as if at noon: its output, and how long it waited."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.output = folder / "history.om"
        self.waited: list[float] = []
        self.wait: Callable[[float], None] = self.waited.append
        self.printed = self.problems = ""
        self.requests: Sequence[Request] = ()
        self.now = NOON
        self._tokens = folder / "tokens"
        self._tokens.mkdir()
        self._capsys = capsys
        self.token_file().write_text(CANARY)

    def token_file(self, account: str = "default") -> Path:
        return self._tokens / account

    def __call__(self, api: str | Canned, *flags: str) -> int:
        if isinstance(api, Canned):
            with Lab(api) as lab:
                self.requests = lab.requests
                return self(lab.url, *flags)
        self.waited.clear()
        words = ["backfill", "--api.url", api, "--token.dir", str(self._tokens)]
        words += ["--output", str(self.output), *flags]
        given = settings.load(words, {})
        assert isinstance(given, settings.Backfill)
        try:
            return run(given, self.wait, lambda: self.now)
        finally:
            self.printed, self.problems = self._capsys.readouterr()

    @property
    def samples(self) -> Samples:
        """What was written: metric, account, repo (if any), and then values by time."""
        found: Samples = {}
        text = self.output.read_text("utf-8")
        for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
            for sample in family.samples:
                labels = (
                    sample.labels[name] for name in ("account", "repo") if name in sample.labels
                )
                key = (sample.name, *labels)
                found.setdefault(key, {})[float(sample.timestamp or 0)] = sample.value
        return found

    @property
    def left(self) -> list[str]:
        """The files in the output's folder."""
        return sorted(path.name for path in self.output.parent.iterdir() if path.is_file())


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Backfill:
    return Backfill(tmp_path, capsys)


def many(count: int, days: int = 2) -> Usage:
    return {f"r{number:04}": range(1000, 1000 + days) for number in range(count)}


def test_the_samples_are_what_the_account_used(command: Backfill) -> None:
    account = SimulatedAccount(clock=Clock(), repos=5)
    command.token_file().write_text(account.token)
    command.now = START
    with GraphQLApi([account]) as api:
        assert command(api.url, "--since", "4d") == 0

    samples = command.samples
    assert len(samples) == 7
    for repo in account.repos:
        series = samples[REPO, "default", repo.name]
        ends = [min(START, (moment // DAY + 1) * DAY - 1) for moment in series]
        used = [round(repo.usage(end) / MB) * MB for end in ends]
        assert [*series.values()] == used
    long_there = samples[REPO, "default", "laptop-anna"]
    assert START - 4 * DAY <= min(long_there) < START - 4 * DAY + 300
    assert START - 3 * 3600 - 300 <= max(long_there) < START - 3 * 3600
    assert list(long_there) == list(range(int(min(long_there)), int(max(long_there)) + 1, 300))
    for metric in (ACCOUNT, BILLED):
        assert max(samples[metric, "default"].values()) == pytest.approx(
            sum(repo.usage(START) for repo in account.repos), abs=5 * MB
        )
        assert samples[metric, "default"].keys() == long_there.keys()


@pytest.mark.parametrize(
    ("flags", "labels"),
    [
        ((), 'job="borgbase",instance="localhost:10133"'),
        (("--label", "instance=", "--label", 'pod=a"b', "--label=job=x"), 'job="x",pod="a\\"b"'),
    ],
)
def test_series_have_the_labels_of_the_shipped_scrape_unless_others_are_given(
    command: Backfill, flags: Sequence[str], labels: str
) -> None:
    assert command(Canned(many(1)), *flags) == 0
    own = 'account="default",repo_id="r0000",repo="host-r0000"'
    first = command.output.read_text().splitlines()[2]
    assert first.startswith(f"{REPO}{{{own},{labels}}} 1000000000 ")


def test_metrics_are_written_one_after_the_other_and_series_too(command: Backfill) -> None:
    command.token_file("second").write_text(CANARY)
    assert command(Canned(many(3))) == 0

    lines = command.output.read_text().splitlines()
    series = [line.rpartition(" ")[0].rpartition(" ")[0] for line in lines if line[0] != "#"]
    assert len([*groupby(series)]) == len(set(series)) == 2 * (3 + 1 + 1)
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert names == [REPO, ACCOUNT, BILLED]
    assert lines[-1] == "# EOF"
    times = [int(line.rpartition(" ")[2]) for line in lines if line.startswith(series[0])]
    assert times == sorted(times)


def test_queries_are_few_and_far_between(command: Backfill) -> None:
    canned = Canned(many(2 * BATCH + 1))
    assert command(canned) == 0

    assert [len(ids) for ids in canned.asked] == [BATCH, BATCH, 1]
    assert command.waited == [1, 1]
    assert len(command.requests) == 5
    assert not [request for request in command.requests if "mutation" in request.query]


def test_a_query_that_fails_is_tried_again_with_fewer_repos(command: Backfill) -> None:
    def fault(wire: Wire, ids: Sequence[str]) -> bool:
        if len(ids) <= 13:
            return False
        wire.send(http(BUSY, "503 Busy", f"Retry-After: {7 if len(ids) == BATCH else 3600}"))
        return True

    canned = Canned(many(40), fault=fault)
    assert command(canned, "--since=4h") == 0

    # After a success, batches grow by one; the last batches are too small to fail.
    assert [len(ids) for ids in canned.asked] == [40, 25, 12, 13, 14, 7, 8]
    assert command.waited == [60, 60, 1, 1, 60, 1]
    assert len(command.samples) == 42


def test_a_token_that_is_revoked_halfway_ends_the_run_at_once(command: Backfill) -> None:
    def fault(wire: Wire, ids: Sequence[str]) -> bool:
        if len(ids) == BATCH:
            return False
        wire.send(http(b"", "401 Unauthorized"))
        return True

    canned = Canned(many(BATCH + 10), fault=fault)
    assert command(canned) == 1

    assert command.problems.startswith(
        "borgbase-exporter: account default: the API refuses the token (HTTP 401): check that"
    )
    assert command.waited == [1]
    assert [len(ids) for ids in canned.asked] == [BATCH, 10]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_leaves_the_old_file_alone(command: Backfill, number: int) -> None:
    command.output.write_text("what was there before")
    before = signal.getsignal(signal.SIGTERM)
    command.wait = lambda _seconds: os.kill(os.getpid(), number)
    assert command(Canned(many(BATCH + 1))) == 130

    assert command.problems == "borgbase-exporter: interrupted; nothing was written\n"
    assert command.output.read_text() == "what was there before"
    assert command.left == ["history.om"]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("unit", [1, 1000, 1024, MB, 2**20, 10**9, 2**30])
def test_the_unit_is_found_and_printed(command: Backfill, unit: int) -> None:
    assert command(Canned({"a": [5000], "b": [7]}, unit)) == 0

    names = {1: "bytes", 1000: "kB", 1024: "KiB", MB: "MB", 2**20: "MiB"}
    names |= {10**9: "GB", 2**30: "GiB"}
    unit_line = f"Account default: the daily values are in {names[unit]}, which fits 1 of 1 repos"
    assert command.printed.splitlines()[0] == unit_line
    assert set(command.samples[REPO, "default", "host-a"].values()) == {5000 * unit}
    assert set(command.samples[REPO, "default", "host-b"].values()) == {7 * unit}


def test_a_unit_that_fits_nothing_is_refused_unless_given(command: Backfill) -> None:
    canned = Canned({"a": [5000], "b": [6000]}, unit=12)
    assert command(canned) == 1
    assert "the current usage of only 0 of 2 repos; set --unit" in command.problems
    assert command(canned, "--unit", "12") == 0
    assert set(command.samples[REPO, "default", "host-a"].values()) == {60_000}


def test_nothing_but_zeros_needs_no_unit(command: Backfill) -> None:
    assert command(Canned({"a": [0, 0], "b": []})) == 0

    assert set(command.samples[REPO, "default", "host-a"].values()) == {0}
    assert " samples of 2 series, " in command.printed


def test_a_repo_without_history_is_left_out_and_reported(command: Backfill) -> None:
    assert command(Canned({"a": range(1000, 1005), "b": None})) == 1

    assert command.problems == (
        'borgbase-exporter: account default: repo host-b is left out: the API returns no "u1": '
        "null without an error\n"
    )
    samples = command.samples
    assert (REPO, "default", "host-b") not in samples
    # It is two days old: what the account has used since is unknown.
    assert max(samples[REPO, "default", "host-a"]) > (TODAY - 2) * DAY
    assert max(samples[ACCOUNT, "default"]) == (TODAY - 2) * DAY - 300


def test_without_the_billed_usage_the_rest_is_written(command: Backfill) -> None:
    assert command(Canned(many(1), billed=None)) == 1

    assert command.problems.startswith("borgbase-exporter: account default: the billed usage")
    assert {name for name, *_ in command.samples} == {REPO, ACCOUNT}


def test_some_repos_by_name_or_id(command: Backfill) -> None:
    canned = Canned(many(5))
    assert command(canned, "--repo", "r0001", "--repo", "host-r0003") == 0

    assert canned.asked == [["r0001", "r0003"]]
    # Some repos are not all: the account's usage is unknown.
    assert command.samples.keys() == {
        (REPO, "default", "host-r0001"),
        (REPO, "default", "host-r0003"),
        (BILLED, "default"),
    }


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--repo=r0000", "--repo=x", "--repo=y\x1b[1m"], "--repo: there is no x, no y�[1m"),
        (["--repo", "x" * 70], "--repo: there is no word of 70 characters"),
        (["--since=2h"], "--since: is not before --until, so there is nothing to write"),
        (["--until=2h59m"], "--until: must be 3h ago or more, or Prometheus drops recent samples"),
        (
            ["--since=2024-09-01", "--until=2024-09-02"],
            "there is nothing to write: no daily values in that time",
        ),
    ],
)
def test_impossible_requests_are_reported_and_nothing_is_written(
    command: Backfill, flags: list[str], problem: str
) -> None:
    assert command(Canned(many(1), billed=()), *flags) == 1

    assert command.problems == f"borgbase-exporter: {problem}\n"
    assert not command.output.exists()


@pytest.mark.parametrize(
    ("output", "why"),
    [("", "is not a file"), ("none/history.om", "cannot be written: No such file or directory")],
)
def test_an_impossible_output_is_reported_before_any_query(
    command: Backfill, tmp_path: Path, output: str, why: str
) -> None:
    command.output = tmp_path / output
    assert command(Canned(many(1))) == 1
    assert command.problems == f"borgbase-exporter: {command.output}: {why}\n"
    assert command.requests == []


def test_without_a_token_file_there_is_nothing_to_query(command: Backfill) -> None:
    command.token_file().unlink()
    assert command("https://api.invalid/graphql") == 1
    assert command.problems == "borgbase-exporter: no token files, so there is nothing to query\n"


def test_a_token_without_permission_is_reported_at_once(command: Backfill) -> None:
    account = SimulatedAccount(clock=Clock(), repos=2)
    command.token_file().write_text(account.add_token("narrow", "CO"))
    with GraphQLApi([account]) as api:
        assert command(api.url) == 1

    assert command.waited == []
    *_, last = command.problems.splitlines()
    assert last.startswith('borgbase-exporter: account default: the token may not read "u0": ')
    assert command.left == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_repos(command: Backfill) -> None:
    def peak(count: int) -> int:
        with Lab(Canned(many(count, days=200))) as lab:
            tracemalloc.start()
            try:
                assert command(lab.url, "--since", "2d", "--dense", "1d") == 0
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    few, many_more = peak(BATCH), peak(3 * BATCH)
    # The days of the other 100 repos alone would be 2.4 MB.
    assert many_more < few + 1_000_000


def test_the_demo_by_the_command_line(tmp_path: Path) -> None:
    output = tmp_path / "history.om"
    done = processes.run(
        "backfill", "--demo", "--output", str(output), "--since", "5d", "--dense", "1d"
    )

    assert done.stderr == ""
    assert done.returncode == 0
    unit, summary = done.stdout.splitlines()
    assert unit == "Account demo: the daily values are in MB, which fits 11 of 11 repos"
    assert summary.startswith(f"{output}: ")
    assert " samples of 14 series, " in summary
    assert output.read_bytes().endswith(b"\n# EOF\n")
