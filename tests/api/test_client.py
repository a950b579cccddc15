"""How answers are classified: good, refused, drifted, or none at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
import requests
import responses

from borgbase_exporter.api.areas import AREAS
from borgbase_exporter.api.client import MAX_DRIFT_ROUNDS, Answer, Client
from borgbase_exporter.api.query import Query
from borgbase_exporter.api.reading import Skipped
from borgbase_exporter.errors import PollError, Reason
from tests.canary import CANARY, betrays
from tests.lab.bench import PLENTY, Endpoint

FLOOR = "query Repos { repoList { id name currentUsage } }"
GOOD = b'{"data":{"isAuthenticated":true,"repoList":[]}}'
FLOOR_GOOD = b'{"data":{"repoList":[{"id":"a","name":"b","currentUsage":1}]}}'
REPOS, ACCOUNT, _, TOKENS = (area.query for area in AREAS)
URL = "https://api.example/graphql"
Body = bytes | dict[str, Any]
Reply = tuple[int, Body]


class Wire:
    """An API whose replies a test decides, by the query."""

    def __init__(self, reply: Callable[[str], Reply]) -> None:
        self._reply = reply
        self.queries: list[str] = []

    def _answer(self, request: requests.PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        self.queries.append(msgspec.json.decode(request.body or b"")["query"])
        status, body = self._reply(self.queries[-1])
        return status, {}, body if isinstance(body, bytes) else msgspec.json.encode(body)

    def run(self, query: Query, missing: frozenset[str] = frozenset()) -> Answer:
        with responses.RequestsMock() as api:
            api.add_callback("POST", URL, self._answer)
            return Client(Endpoint(URL), "home").run(query, CANARY, missing, seconds=PLENTY)


def run(body: Body, status: int = 200) -> Answer:
    return Wire(lambda _: (status, body)).run(REPOS)


def root(answer: Answer, name: str = "repoList") -> Any:
    return answer.root(name, list, Skipped())


def says(*messages: str) -> dict[str, Any]:
    return {"errors": [{"message": message} for message in messages]}


def coded(code: str) -> dict[str, Any]:
    return {"errors": [{"message": "Nope.", "extensions": {"code": code}}]}


def without(fields: Iterable[str], message: str, status: int = 400) -> Wire:
    """Return an API that lacks some fields, and reports all of them that a query selects."""

    def reply(query: str) -> Reply:
        asked = query.replace("{", " ").replace("}", " ").split()
        bad = [field for field in fields if field in asked]
        return (status, says(*(message % field for field in bad))) if bad else (200, GOOD)

    return Wire(reply)


MESSAGES = {
    "single quotes": "Cannot query field '%s' on type 'RepoType'.",
    "double quotes": 'Cannot query field "%s" on type "RepoType".',
    "a suggestion": 'Cannot query field "%s" on type "RepoType". Did you mean "name" or "id"?',
    "another suggestion": "Cannot query field '%s' on type 'RepoType'. Did you mean 'name'?",
    "a renamed type": 'Cannot query field "%s" on type "RepoNode".',
    "needs a selection": 'Field "%s" of type "Quota!" must have a selection of subfields.'
    ' Did you mean "quota { ... }"?',
    "needs a sub selection": "Field '%s' of type 'Quota' must have a sub selection.",
    "needs none": "Field '%s' of type 'Int!' must not have a sub selection.",
    "has no subfields": 'Field "%s" must not have a selection since type "Int!" has no subfields.',
}


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
def test_a_field_that_the_api_lacks_is_left_out(message: str, status: int) -> None:
    wire = without(["quota", "alertDays"], message, status)

    answer = wire.run(REPOS)

    assert answer.missing == {"RepoType.quota", "RepoType.alertDays"}
    assert (answer.error, answer.guessed) == ("", False)
    assert wire.queries == [REPOS.text(), REPOS.text(answer.missing)]


def test_a_known_gap_is_not_asked_for_again() -> None:
    wire = without(["quota"], MESSAGES["double quotes"])

    assert wire.run(REPOS, frozenset({"RepoType.quota"})).missing == {"RepoType.quota"}
    assert wire.queries == [REPOS.text({"RepoType.quota"})]


@pytest.mark.parametrize(
    ("owner", "fields", "gaps"),
    [
        # Errors about nested fields appear round by round.
        ("PlanType", ["maxSize", "includedGb", "maxSizeGb", "maxRepos"], ["maxSizeGb", "maxRepos"]),
        ("Query", ["overageList"], ["overageList"]),
    ],
)
def test_all_of_the_account_may_be_gone(owner: str, fields: list[str], gaps: list[str]) -> None:
    answer = without(fields, f"Cannot query field '%s' on type '{owner}'.").run(ACCOUNT)

    assert answer.missing == {f"{owner}.{field}" for field in fields}
    assert ACCOUNT.gaps(answer.missing) == {f"{owner}.{field}" for field in gaps}


@pytest.mark.parametrize(
    "refusal",
    [
        *((400, says(why)) for why in ("Syntax Error GraphQL (1:7)", "Query is too complex")),
        (200, coded("GRAPHQL_VALIDATION_FAILED")),
    ],
)
def test_a_refusal_for_no_known_reason_leaves_the_querys_floor(refusal: Reply) -> None:
    wire = Wire(lambda query: (200, FLOOR_GOOD) if query == FLOOR else refusal)

    answer = wire.run(REPOS)

    assert wire.queries == [REPOS.text(), FLOOR]
    assert answer.guessed
    assert answer.missing == REPOS.names - REPOS.floor


@pytest.mark.parametrize(
    ("query", "message", "rounds"),
    [
        (ACCOUNT, "Query is too complex", 1),
        (TOKENS, "Query is too complex", 1),
        (REPOS, "Query is too complex", 2),
        *((REPOS, MESSAGES["double quotes"] % field, 1) for field in ("id", "currentUsage")),
    ],
)
def test_below_the_floor_there_is_nothing_to_show(query: Query, message: str, rounds: int) -> None:
    wire = Wire(lambda _: (400, says(message)))

    with pytest.raises(PollError) as failure:
        wire.run(query)
    assert failure.value.reason == Reason.SCHEMA
    assert str(failure.value) == f"the API refuses the query {query.name}: {message}"
    assert wire.queries == [query.text(), FLOOR][:rounds]


def test_an_api_that_rejects_every_query_is_given_up() -> None:
    names = iter(sorted(REPOS.names - REPOS.floor))

    def complain(_query: str) -> Reply:
        owner, _, name = next(names).partition(".")
        return (400, says(f"Cannot query field '{name}' on type '{owner}'."))

    wire = Wire(complain)
    with pytest.raises(PollError, match="refuses every form"):
        wire.run(REPOS)
    assert len(wire.queries) == MAX_DRIFT_ROUNDS


DENIAL = "You do not have permission to perform this action"


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(
    "body",
    [
        b'{"data":{"isAuthenticated":"true","repoList":[]}}',
        b'{"data":{"isAuthenticated":1,"repoList":[]}}',
        *map(says, (DENIAL, "Error decoding signature", "Invalid token", "You must log in")),
        *map(says, ("User is not authenticated", "nope, signature has expired")),
        *map(coded, ("UNAUTHENTICATED", "FORBIDDEN", "UNAUTHORIZED", "ACCESS_DENIED")),
    ],
)
def test_a_token_that_is_not_accepted(body: Body, status: int) -> None:
    with pytest.raises(PollError) as failure:
        run(body, status)
    assert failure.value.reason == Reason.AUTH


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        (says(DENIAL), Reason.AUTH),
        (coded("FORBIDDEN"), Reason.AUTH),
        (says("boom"), Reason.GRAPHQL),
        (coded("INTERNAL_SERVER_ERROR"), Reason.GRAPHQL),
    ],
)
def test_errors_beside_the_data_are_kept(errors: dict[str, Any], reason: Reason) -> None:
    answer = run({"data": {"isAuthenticated": True, "repoList": [], "x": None}} | errors)

    assert root(answer) == []
    for lost in ("x", "y"):
        with pytest.raises(PollError) as failure:
            root(answer, lost)
        assert failure.value.reason == reason
        assert f'"{lost}": {answer.error}' in str(failure.value)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ('[{"message":"a"},{"message":"b"},{"message":"a"}]', "a; b"),
        ('[{"message":null}]', "{'message': None}"),
        ("[{}]", "{}"),
        ('["a",1,null]', "a; 1; None"),
        ('"a"', "a"),
        ('{"a":"b"}', "{'a': 'b'}"),
        ("false", ""),
        ("[]", ""),
        ('[{"message":"a\\nb\\u2028c"}]', "a b c"),
        ('[{"message":"a","extensions":{"code":"B"}}]', "a (B)"),
        ('[{"message":"a","extensions":{"code":null}}]', "a"),
        ('[{"message":"a","extensions":["code"]}]', "a"),
        ('["a","b","c","d"]', "a; b; c"),
    ],
)
def test_errors_of_any_form_are_reported(errors: str, expected: str) -> None:
    body = f'{{"data":{{"isAuthenticated":true}},"errors":{errors}}}'

    assert run(body.encode()).error == expected


ECHOES = [
    says(f"Error decoding signature of {CANARY}"),
    says(f"Cannot query field 'id' on type 'RepoType' for {CANARY}"),
    b'{"errors":"' + CANARY.replace("-", "\\u002d").encode() + b'"}',
    b'{"errors":[{"' + CANARY.encode() + b'":1}]}',
    b'{"errors":["' + CANARY.encode() + b'\xff"]}',
    b'{"data":"' + CANARY.encode() + b'"}',
    b'{"data":{"' + CANARY.encode() + b'":}}',
    says("x" * 20_000 + CANARY),
    says(CANARY + "x" * 20_000),
    says(*["a\r\nb\x00\x1b[31m\u202e" * 99] * 20),
    coded(CANARY),
    CANARY.encode(),
]


@pytest.mark.parametrize("status", [200, 400, 401, 500])
@pytest.mark.parametrize("body", ECHOES)
def test_an_error_is_one_bounded_line_without_the_token(body: Body, status: int) -> None:
    with pytest.raises(PollError) as failure:
        run(body, status)
    assert not betrays(f"{failure.value!r} {failure.value}")
    assert str(failure.value).isprintable()
    assert len(str(failure.value)) < 1200


def test_each_query_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "borgbase_exporter")
    without(["quota"], MESSAGES["single quotes"]).run(REPOS)

    logged = [r for r in caplog.records if r.name == "borgbase_exporter.api.client"]
    assert [(r.account, r.query, r.bytes > 0, r.outcome) for r in logged] == [  # type: ignore[attr-defined]
        ("home", "Repos", True, "schema"),
        ("home", "Repos", True, "ok"),
    ]
    assert all(float(r.seconds) >= 0 for r in logged)  # type: ignore[attr-defined]
