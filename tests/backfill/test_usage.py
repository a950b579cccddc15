"""The queries for the history, and what their answers say."""

from __future__ import annotations

import pytest

from borgbase_exporter.api.client import connect
from borgbase_exporter.api.usage import BILLED, billed_days, usage, usage_days
from borgbase_exporter.errors import AuthError, GraphQLError, UnknownFieldError
from borgbase_exporter.simulator import SimulatedAccount, SimulatedApi
from tests.lab.account import http
from tests.lab.bench import PLENTY, endpoint
from tests.lab.scripts import says
from tests.lab.wire import Lab
from tests.simulator.asking import START, Clock

TODAY = int(START // 86_400)
MB = 1_000_000


def new_account() -> SimulatedAccount:
    return SimulatedAccount(clock=Clock(), repos=3)


def test_one_query_asks_for_several_repos() -> None:
    assert usage(["a1", "b2"]).text() == (
        "query Usage { isAuthenticated "
        'u0: repoUsageList(repoId: "a1") { date diskUsage } '
        'u1: repoUsageList(repoId: "b2") { date diskUsage } }'
    )


def test_each_repo_has_its_own_days() -> None:
    account = new_account()
    ids = [repo.id for repo in account.repos]
    with SimulatedApi([account]) as api, connect(endpoint(api.url), PLENTY, account.token) as asked:
        answer = asked.run(usage(ids))

    for number, repo in enumerate(account.repos):
        born = int(repo.curve.born // 86_400)
        ends = {day: (day + 1) * 86_400 - 1.0 for day in range(born, TODAY)} | {TODAY: START}
        assert usage_days(answer, number) == {
            day: round(repo.usage(moment) / MB) for day, moment in ends.items()
        }


def test_the_billed_days_are_bytes() -> None:
    account = new_account()
    with SimulatedApi([account]) as api, connect(endpoint(api.url), PLENTY, account.token) as asked:
        found = billed_days(asked.run(BILLED))

    assert found[TODAY] == pytest.approx(sum(repo.usage(START) for repo in account.repos), abs=1e6)
    assert max(found) == TODAY
    assert min(found) == min(int(repo.curve.born // 86_400) for repo in account.repos)


@pytest.mark.parametrize("hostile", ['"}) { id } #', "\\", "\n", "\\u0022", "é😀"])
def test_an_id_is_nothing_but_a_string(hostile: str) -> None:
    account = new_account()
    known = account.repos[0].id
    with SimulatedApi([account]) as api, connect(endpoint(api.url), PLENTY, account.token) as asked:
        answer = asked.run(usage([hostile, known]))

    assert usage_days(answer, 1)
    with pytest.raises(GraphQLError, match="Repo matching query does not exist"):
        usage_days(answer, 0)


def test_a_token_that_may_not_ask_is_told() -> None:
    account = new_account()
    narrow = account.add_token("narrow", "CO")
    with SimulatedApi([account]) as api, connect(endpoint(api.url), PLENTY, narrow) as asked:
        answer = asked.run(usage([account.repos[0].id]))

    with pytest.raises(AuthError, match="permission"):
        usage_days(answer, 0)


def test_without_a_field_there_is_no_history() -> None:
    account = new_account()
    lacking = SimulatedApi([account], without=["RepoUsageType.diskUsage"])
    with (
        lacking as api,
        connect(endpoint(api.url), PLENTY, account.token) as asked,
        pytest.raises(UnknownFieldError, match="diskUsage"),
    ):
        asked.run(usage([account.repos[0].id]))


def test_rows_that_cannot_be_read_are_left_out() -> None:
    rows = (
        '{"date":"1970-01-02","diskUsage":"5"},null,{"date":"1970-01-03","diskUsage":-1},'
        '{"date":"soon","diskUsage":1},{"diskUsage":1},{"date":"1970-01-05","diskUsage":1e300},'
        '{"date":"1970-01-06","diskUsage":7.5,"more":{}}'
    )
    body = f'{{"data":{{"isAuthenticated":true,"u0":[{rows}]}}}}'
    with Lab(says(http(body.encode()))) as lab, connect(endpoint(lab.url), PLENTY, "t") as asked:
        assert usage_days(asked.run(usage(["x"])), 0) == {1: 5, 5: 7.5}
