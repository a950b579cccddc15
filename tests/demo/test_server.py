"""The simulated API answers over HTTP, to valid tokens only, and like a GraphQL server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from borgbase_exporter.api.areas import AREAS
from borgbase_exporter.api.history import BILLED, usage
from borgbase_exporter.demo import SimulatedApi
from borgbase_exporter.demo.answers import DENIED
from borgbase_exporter.text import DAY
from tests.clock import START, Clock
from tests.graphql import Edition, SimulatedAccount, root

REPOS = "query Repos { isAuthenticated repoList { name } }"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def account(clock: Clock) -> SimulatedAccount:
    return SimulatedAccount(clock=clock)


@pytest.fixture
def api(account: SimulatedAccount) -> Iterator[SimulatedApi]:
    with SimulatedApi([account]) as api:
        yield api


def _ask(api: SimulatedApi, token: str | None, query: str = REPOS) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    response = requests.post(api.url, json={"query": query}, headers=headers, timeout=5)
    assert response.status_code == 200, response.text
    return response.json()  # type: ignore[no-any-return]


@pytest.mark.parametrize("permission", ["RO", "FA", "CO", None])
def test_it_answers_as_graphql_does(account: SimulatedAccount, permission: str | None) -> None:
    moment, server = account.moment(), Edition()
    some_repos = usage([account.repos[0].id, "unknown", account.repos[2].id])
    for query in (*(area.query for area in AREAS), some_repos, BILLED):
        expected = server.execute(query.text(), root(moment, permission))
        for error in expected.get("errors", []):
            del error["locations"]
        answer = moment.answer(query.text(), permission)

        assert json.loads(json.dumps(answer)) == expected, query.name


@pytest.mark.parametrize("kind", ["none", "empty", "unknown", "expired", "revoked"])
def test_an_invalid_token(api: SimulatedApi, account: SimulatedAccount, kind: str) -> None:
    revoked = account.add_token("passing", "FA")
    account.revoke(revoked)
    (expired,) = (key for key, it in account.tokens.items() if it.name == "old-dashboard")
    tokens = {"empty": "", "unknown": "a.b.c", "expired": expired, "revoked": revoked}

    assert _ask(api, tokens.get(kind)) == {
        "data": {"isAuthenticated": False, "repoList": None},
        "errors": [{"message": DENIED, "path": ["repoList"]}],
    }


def test_a_token_is_valid_until_the_expiry_in_its_payload(
    api: SimulatedApi, account: SimulatedAccount, clock: Clock
) -> None:
    token = account.add_token("short", "RO", expires=START + DAY)
    _, payload, _ = token.split(".")
    assert json.loads(base64.urlsafe_b64decode(payload + "=="))["exp"] == START + DAY

    for clock.now, valid in ((START + DAY - 1, True), (START + DAY, False)):
        assert _ask(api, token)["data"]["isAuthenticated"] is valid


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"query": 1}', b"\xff", b'{"query": "query Other { x }"}']
)
def test_other_queries_are_bad_requests(api: SimulatedApi, body: bytes) -> None:
    response = requests.post(api.url, data=body, timeout=5)

    assert response.status_code == 400
    assert response.json()["errors"]
