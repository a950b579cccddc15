"""Simulated history looks, in a real Prometheus, as if it had been lived through."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from borgbase_exporter.demo.cast import repo_id
from borgbase_exporter.errors import ConnectError
from tests.clock import START as BEGIN
from tests.clock import Clock
from tests.end_to_end.processes import Prometheus
from tests.graphql import Drift, Edition, SimulatedAccount
from tests.history import DAY, HOUR, History, Target, serve

END = BEGIN + 4 * DAY
FAILING = (BEGIN + DAY, BEGIN + DAY + 8 * HOUR)
DOWN = (BEGIN + 2 * DAY, BEGIN + 2 * DAY + 2 * HOUR)
RENAMED = BEGIN + 3 * DAY
DRIFTED = BEGIN + 3.5 * DAY
REPO = repo_id(1, 0)
GAP = 'borgbase_schema_field_missing{field="RepoType.alertDays"}'

Samples = dict[frozenset[tuple[str, str]], float]


def at(prometheus: Prometheus, moment: float, query: str) -> Samples:
    result = prometheus.api(f"query?time={moment}&query={quote(query)}")["result"]
    return {frozenset(one["metric"].items()): float(one["value"][1]) for one in result}


def value(prometheus: Prometheus, moment: float, query: str) -> float | None:
    samples = at(prometheus, moment, query)
    assert len(samples) <= 1, samples
    return next(iter(samples.values()), None)


@pytest.fixture(scope="module")
def home() -> SimulatedAccount:
    return SimulatedAccount(clock=Clock(BEGIN), start=END, repos=10)


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory, home: SimulatedAccount
) -> Iterator[Prometheus]:
    clock = home.now
    assert isinstance(clock, Clock)
    history = History(
        clock=clock,
        accounts={
            "home": home,
            "work": SimulatedAccount(clock=clock, start=END, repos=2, seed=2),
        },
        events={
            RENAMED: lambda: home.rename(REPO, "desktop"),
            DRIFTED: lambda: drift(history),
        },
        failing=[FAILING],
        fault=ConnectError("no such host"),
        down=[DOWN],
        targets=[Target(), Target(instance="replica:10133")],
    )
    data = history.write(tmp_path_factory.mktemp("history") / "data", BEGIN, END)
    with serve(data) as running:
        yield running


def drift(history: History) -> None:
    history.schema = Edition(Drift(without=frozenset({"RepoType.alertDays"})))


def test_every_scrape_is_there(prometheus: Prometheus) -> None:
    scrapes = at(prometheus, END, f"count_over_time(up[{END - BEGIN + 1:.0f}s])")
    assert set(scrapes.values()) == {4 * DAY / 300 + 1}
    assert len(scrapes) == 2


def test_the_exporters_own_lines_arrive_with_the_targets_labels(prometheus: Prometheus) -> None:
    query = '{job="borgbase",instance="replica:10133",__name__=~"(borgbase|process|python)_.+"}'
    there = at(prometheus, END, query)
    names = {dict(labels)["__name__"] for labels in there}
    assert {"borgbase_repo_info", "borgbase_exporter_build_info", "python_info"} < names
    assert len(at(prometheus, END, '{job="borgbase"}')) == 2 * (len(there) + 1)  # and `up`


def test_names_arrive_as_they_are(prometheus: Prometheus, home: SimulatedAccount) -> None:
    query = 'count by (repo_id, repo) (borgbase_repo_info{account="home"})'
    names = {repo.name for repo in home.repos}
    assert {dict(labels)["repo"] for labels in at(prometheus, END, query)} == names
    assert {'web "staging"', "Zoë's phone 📱"} < names


def test_usage_is_that_of_the_account(prometheus: Prometheus, home: SimulatedAccount) -> None:
    for moment in (BEGIN, BEGIN + 0.7 * DAY, END):
        for repo in home.repos:
            query = f'max by (repo_id) (borgbase_repo_usage_bytes{{repo_id="{repo.id}"}})'
            usage = value(prometheus, moment, query)
            # As of the last poll, which was an hour ago at most.
            assert usage in {repo.usage(moment - ago) for ago in range(0, 3601, 300)}


def test_failing_polls_show_and_old_values_disappear_after_a_while(prometheus: Prometheus) -> None:
    begin, end = FAILING
    up = 'max(borgbase_up{account="home"})'
    repos = 'max(borgbase_account_repos{account="home"})'
    failures = (
        'max(borgbase_poll_failures_total{account="home",collector="repos",reason="connect"})'
    )
    before, during, late, after = begin - 300, begin + 2 * HOUR, begin + 7 * HOUR, end + 2 * HOUR
    moments = (before, during, late, after)
    assert [value(prometheus, moment, up) for moment in moments] == [1, 0, 0, 1]
    assert [value(prometheus, moment, repos) for moment in moments] == [10, 10, None, 10]
    assert value(prometheus, before, failures) == 0
    # 30 s, 1, 2, 4, … minutes of back-off, then hourly.
    assert value(prometheus, during, failures) == 8


def test_while_down_there_is_nothing_and_then_it_starts_anew(prometheus: Prometheus) -> None:
    begin, end = DOWN
    polls = 'max(borgbase_polls_total{account="work"})'
    assert value(prometheus, begin + HOUR, 'max(up{job="borgbase"})') == 0
    assert value(prometheus, begin + HOUR, polls) is None
    # Each hour of two days but for the eight that failed, in which it tried 14 times.
    assert value(prometheus, begin - 300, polls) == 48 - 8 + 14
    assert value(prometheus, end, polls) == 1


def test_a_rename_and_a_drift_happen_on_time(prometheus: Prometheus) -> None:
    names = f'count by (repo) (borgbase_repo_info{{repo_id="{REPO}"}})'
    for moment, name in ((RENAMED - 300, "laptop-anna"), (RENAMED + HOUR + 300, "desktop")):
        assert list(at(prometheus, moment, names)) == [frozenset({("repo", name)})]
    gap = f"max({GAP})"
    assert value(prometheus, DRIFTED - 300, gap) is None
    assert value(prometheus, DRIFTED + HOUR, gap) == 1
