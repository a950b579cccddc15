"""The queries for the history, and what their answers mean."""

from __future__ import annotations

import msgspec
import pytest

from borgbase_exporter.api.client import Answer, Client
from borgbase_exporter.api.history import BILLED, billed_days, recent, usage, usage_days
from borgbase_exporter.api.query import Query
from borgbase_exporter.errors import PollError
from borgbase_exporter.model import Repo
from tests.clock import START, Clock
from tests.graphql import GraphQLApi, SimulatedAccount
from tests.lab.account import http
from tests.lab.bench import PLENTY, Endpoint
from tests.lab.scripts import says
from tests.lab.wire import Lab

TODAY = int(START // 86_400)
MB = 1_000_000


def new_account() -> SimulatedAccount:
    return SimulatedAccount(clock=Clock(), repos=3)


def run(api: str, query: Query, token: str) -> Answer:
    return Client(Endpoint(api)).run(query, token, seconds=PLENTY)


def test_one_query_asks_for_several_repos() -> None:
    assert usage(["a1", "b2"]).text() == (
        "query Usage { isAuthenticated "
        'u0: repoUsageList(repoId: "a1") { date diskUsage } '
        'u1: repoUsageList(repoId: "b2") { date diskUsage } }'
    )


def test_each_repo_has_its_own_days_and_the_billed_days_are_bytes_of_all() -> None:
    account = new_account()
    ids = [repo.id for repo in account.repos]
    with GraphQLApi([account]) as api:
        answer = run(api.url, usage(ids), account.token)
        billed = billed_days(run(api.url, BILLED, account.token))

    assert billed[TODAY] == pytest.approx(sum(repo.usage(START) for repo in account.repos), abs=1e6)
    assert set(billed) == set().union(*(usage_days(answer, n) for n in range(len(ids))))
    for number, repo in enumerate(account.repos):
        born = int(repo.curve.born // 86_400)
        ends = {day: (day + 1) * 86_400 - 1.0 for day in range(born, TODAY)} | {TODAY: START}
        assert usage_days(answer, number) == {
            day: round(repo.usage(moment) / MB) for day, moment in ends.items()
        }


@pytest.mark.parametrize("hostile", ['"}) { id } #', "\\", "\n", "\\u0022", "é😀"])
def test_an_id_is_nothing_but_a_string(hostile: str) -> None:
    account = new_account()
    known = account.repos[0].id
    with GraphQLApi([account]) as api:
        answer = run(api.url, usage([hostile, known]), account.token)

    assert usage_days(answer, 1)
    with pytest.raises(PollError, match="Repo matching query does not exist"):
        usage_days(answer, 0)


def test_rows_that_cannot_be_read_are_left_out() -> None:
    rows = (
        '{"date":"1970-01-02","diskUsage":"5"},null,{"date":"1970-01-03","diskUsage":-1},'
        '{"date":"soon","diskUsage":1},{"diskUsage":1},{"date":"1970-01-05","diskUsage":1e300},'
        '{"date":"1970-01-06","diskUsage":7.5,"more":{}}'
    )
    body = f'{{"data":{{"isAuthenticated":true,"u0":[{rows}]}}}}'
    with Lab(says(http(body.encode()))) as lab:
        assert usage_days(run(lab.url, usage(["x"]), "t"), 0) == {1: 5, 5: 7.5}


def test_recent_days_end_with_the_current_usage_if_their_unit_can_be_right() -> None:
    rows = [{"date": f"1970-01-{day:02}", "diskUsage": day} for day in range(1, 32)]
    data = msgspec.Raw(msgspec.json.encode(rows))
    usages = {"here": 31.31e6, "odd": 31.31e9, "unknown": None, "gone": 31.31e6}
    repos, now = [Repo(id_, id_, used) for id_, used in usages.items()], 30.5 * 86_400
    found = recent(Answer(dict.fromkeys(("u0", "u1", "u2"), data)), repos, now)
    ends = {id_: [*values[:2], *values[-2:]] for id_, values in found.items()}
    assert ends == {"here": [2 * 86_400, 2.02e6, now, 31.31e6]}
