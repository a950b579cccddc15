"""What an answer is taken for: good, refused, drifted, or none at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import pytest
import requests
import responses

from borgbase_exporter.api.areas import AREAS
from borgbase_exporter.api.client import MAX_DRIFT_ROUNDS, Answer, Client
from borgbase_exporter.api.query import Query
from borgbase_exporter.api.reading import Skipped
from borgbase_exporter.errors import (
    AuthError,
    GraphQLError,
    HTTPStatusError,
    NotJSONError,
    PollError,
    UnknownFieldError,
)
from tests.canary import CANARY, betrays
from tests.lab.bench import PLENTY, endpoint

FLOOR = "query Repos { repoList { id name currentUsage } }"
GOOD = b'{"data":{"isAuthenticated":true,"repoList":[]}}'
FLOOR_GOOD = b'{"data":{"repoList":[{"id":"a","name":"b","currentUsage":1}]}}'


REPOS, ACCOUNT, _, TOKENS = (area.query for area in AREAS)
URL = "https://api.example/graphql"
Reply = tuple[int, bytes]


class Wire:
    """An API whose replies a test decides, by the query."""

    def __init__(
        self, reply: Callable[[str], Reply], headers: Mapping[str, str] | None = None
    ) -> None:
        self._reply = reply
        self._headers = dict(headers or {})
        self.queries: list[str] = []

    def _answer(self, request: requests.PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        self.queries.append(msgspec.json.decode(request.body or b"")["query"])
        status, body = self._reply(self.queries[-1])
        return status, self._headers, body

    def run(self, query: Query, missing: frozenset[str] = frozenset()) -> Answer:
        with responses.RequestsMock() as api:
            api.add_callback("POST", URL, self._answer)
            return Client(endpoint(URL), "home").run(query, CANARY, missing, seconds=PLENTY)


def run(
    body: bytes | dict[str, Any], status: int = 200, query: Query = REPOS, retry_after: str = ""
) -> Answer:
    encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Wire(lambda _: (status, encoded), {"Retry-After": retry_after}).run(query)


def root(answer: Answer, name: str, kind: Any = list) -> Any:
    return answer.root(name, kind, Skipped())


def says(*messages: str) -> bytes:
    return msgspec.json.encode({"errors": [{"message": message} for message in messages]})


def without(fields: Iterable[str], message: str, status: int = 400, good: bytes = GOOD) -> Wire:
    """Return an API that has not got some fields, and says so of all that it is asked for."""

    def reply(query: str) -> Reply:
        asked = query.replace("{", " ").replace("}", " ").split()
        bad = [field for field in fields if field in asked]
        return (status, says(*(message % field for field in bad))) if bad else (200, good)

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
def test_a_field_that_the_api_has_not_got_is_left_out(message: str, status: int) -> None:
    wire = without(["quota", "alertDays"], message, status)

    answer = wire.run(REPOS)

    assert answer.missing == {"RepoType.quota", "RepoType.alertDays"}
    assert answer.error == ""
    assert not answer.guessed
    assert wire.queries == [REPOS.text(), REPOS.text(answer.missing)]


def test_a_known_gap_is_not_asked_for_again() -> None:
    wire = without(["quota"], MESSAGES["double quotes"])

    answer = wire.run(REPOS, frozenset({"RepoType.quota"}))

    assert answer.missing == {"RepoType.quota"}
    assert wire.queries == [REPOS.text({"RepoType.quota"})]


def test_what_a_type_hides_comes_out_round_by_round() -> None:
    fields = ["maxSize", "includedGb", "maxSizeGb", "maxRepos"]
    message = "Cannot query field '%s' on type 'PlanType'."
    good = b'{"data":{"isAuthenticated":true}}'

    answer = without(fields, message, good=good).run(ACCOUNT)

    assert answer.missing == {f"PlanType.{field}" for field in fields}
    assert ACCOUNT.gaps(answer.missing) == {"PlanType.maxSizeGb", "PlanType.maxRepos"}


def test_a_whole_root_field_may_be_gone() -> None:
    wire = without(["overageList"], "Cannot query field '%s' on type 'Query'.")

    assert wire.run(ACCOUNT).missing == {"Query.overageList"}


@pytest.mark.parametrize("reason", ["Syntax Error GraphQL (1:7)", "Query is too complex", "400"])
def test_a_refusal_for_no_known_reason_leaves_the_queryed_floor(reason: str) -> None:
    wire = Wire(lambda query: (200, FLOOR_GOOD) if query == FLOOR else (400, says(reason)))

    answer = wire.run(REPOS)

    assert wire.queries == [REPOS.text(), FLOOR]
    assert answer.guessed
    assert answer.missing == REPOS.names - REPOS.floor


@pytest.mark.parametrize("query", [ACCOUNT, TOKENS], ids=lambda query: query.name)
def test_without_a_floor_such_a_refusal_is_final(query: Query) -> None:
    wire = Wire(lambda _: (400, says("Query is too complex")))

    with pytest.raises(UnknownFieldError, match=r"refuses the query \w+: Query is too complex"):
        wire.run(query)
    assert len(wire.queries) == 1


def test_a_floor_that_is_refused_too_is_the_end() -> None:
    wire = Wire(lambda _: (400, says("Query is too complex")))

    with pytest.raises(UnknownFieldError, match="refuses the query Repos"):
        wire.run(REPOS)
    assert wire.queries == [REPOS.text(), FLOOR]


@pytest.mark.parametrize("field", ["id", "name", "currentUsage"])
def test_without_a_field_of_the_floor_there_is_nothing_to_show(field: str) -> None:
    wire = without([field], MESSAGES["double quotes"])

    with pytest.raises(UnknownFieldError, match=f"Cannot query field .{field}. on type"):
        wire.run(REPOS)
    assert len(wire.queries) == 1


def test_an_api_that_never_has_enough_is_given_up() -> None:
    names = iter(sorted(REPOS.names - REPOS.floor))

    def complain(_query: str) -> Reply:
        owner, _, name = next(names).partition(".")
        return (400, says(f"Cannot query field '{name}' on type '{owner}'."))

    wire = Wire(complain)
    with pytest.raises(UnknownFieldError, match="refuses every form"):
        wire.run(REPOS)
    assert len(wire.queries) == MAX_DRIFT_ROUNDS


ANONYMOUS = (
    b'{"isAuthenticated":false,"repoList":[]}',
    b'{"isAuthenticated":false,"repoList":null}',
    b'{"isAuthenticated":null,"repoList":[]}',
    b'{"isAuthenticated":"true","repoList":[]}',
    b'{"isAuthenticated":1,"repoList":[]}',
    b'{"repoList":[]}',
)
REFUSALS = (
    "You do not have permission to perform this action",
    "Error decoding signature",
    "Invalid token",
    "You must log in",
    "User is not authenticated",
)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        *((b'{"data":%b}' % data, 200) for data in ANONYMOUS),
        *((says(message), status) for message in REFUSALS for status in (200, 400)),
        *((body, 403) for body in (says("nope"), b'{"detail":"Forbidden"}', b"null")),
        *((body, 401) for body in (says("nope"), b"", b"<html>")),
    ],
)
def test_a_token_that_is_not_accepted(body: bytes, status: int) -> None:
    with pytest.raises(AuthError):
        run(body, status)


def test_a_token_that_may_not_ask_for_this() -> None:
    answer = run(
        {
            "data": {"isAuthenticated": True, "repoList": None},
            "errors": [{"message": "You do not have permission to perform this action"}],
        }
    )

    with pytest.raises(AuthError, match='may not ask for "repoList"'):
        root(answer, "repoList")


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        *((body, 200, NotJSONError) for body in (b"", b'{"data":{"\xff":1}}', b"\xff\xfe")),
        (b"<html>", 403, HTTPStatusError),
        (b"null", 500, HTTPStatusError),
        (b"{}", 429, HTTPStatusError),
        (b'{"data":null,"errors":[]}', 200, GraphQLError),
        (b'{"data":null,"errors":null}', 200, GraphQLError),
    ],
)
def test_what_is_no_answer(body: bytes, status: int, kind: type[PollError]) -> None:
    with pytest.raises(kind) as failure:
        run(body, status)
    assert type(failure.value) is kind


def test_an_html_page_is_called_one() -> None:
    with pytest.raises(NotJSONError, match="is an HTML page"):
        run(b"\r\n  <!DOCTYPE html>")


def test_errors_beside_the_data_are_kept() -> None:
    answer = run(
        {
            "data": {"isAuthenticated": True, "repoList": [], "x": None},
            "errors": [{"message": "boom", "path": ["x"]}],
        }
    )

    assert answer.error == "boom"
    assert answer.lost
    assert root(answer, "repoList") == []
    with pytest.raises(GraphQLError, match='gives no "x": boom'):
        root(answer, "x")
    with pytest.raises(GraphQLError, match='gives no "y": boom'):
        root(answer, "y")


def test_an_answer_without_nulls_has_lost_nothing() -> None:
    assert not run(GOOD).lost


@pytest.mark.parametrize("value", [b'"x"', b"{}", b"1", b"[" * 5000 + b"]" * 5000])
def test_a_root_field_of_another_shape(value: bytes) -> None:
    kind = list[int] if value.startswith(b"[") else list

    with pytest.raises(PollError):
        root(run(b'{"data":{"isAuthenticated":true,"repoList":%b}}' % value), "repoList", kind)


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
        ('[{"message":"\\ud800"}]', "\ufffd"),
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


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "FORBIDDEN", "UNAUTHORIZED", "ACCESS_DENIED"])
@pytest.mark.parametrize("data", [None, {"isAuthenticated": True, "repoList": None}])
def test_the_code_of_an_error_counts(code: str, data: dict[str, Any] | None) -> None:
    errors = [{"message": "Nope.", "extensions": {"code": code}}]

    with pytest.raises(AuthError, match=rf"Nope\. \({code}\)"):
        root(run({"data": data, "errors": errors}), "repoList")


def test_a_code_that_refuses_the_query_counts_as_such() -> None:
    refusal = {"errors": [{"message": "x", "extensions": {"code": "GRAPHQL_VALIDATION_FAILED"}}]}
    wire = Wire(lambda q: (200, FLOOR_GOOD if q == FLOOR else msgspec.json.encode(refusal)))

    assert wire.run(REPOS).guessed


def test_other_codes_say_nothing_about_the_token() -> None:
    errors = [{"message": "boom", "extensions": {"code": "INTERNAL_SERVER_ERROR"}}]

    with pytest.raises(GraphQLError, match=r"boom \(INTERNAL_SERVER_ERROR\)"):
        run({"errors": errors})


ECHOES = [
    says(f"Error decoding signature of {CANARY}"),
    says(f"boom {CANARY}"),
    says(f"Cannot query field 'id' on type 'RepoType' for {CANARY}"),
    b'{"errors":"' + CANARY.replace("-", "\\u002d").encode() + b'"}',
    b'{"errors":[{"' + CANARY.encode() + b'":1}]}',
    b'{"errors":["' + CANARY.encode() + b'\xff"]}',
    b'{"data":"' + CANARY.encode() + b'"}',
    b'{"data":{"' + CANARY.encode() + b'":}}',
    says("x" * 20_000 + CANARY),
    says(CANARY + "x" * 20_000),
    msgspec.json.encode({"errors": [{"message": "a", "extensions": {"code": CANARY}}]}),
    CANARY.encode(),
]


@pytest.mark.parametrize("status", [200, 400, 401, 500])
@pytest.mark.parametrize("body", ECHOES)
def test_an_error_does_not_repeat_the_token(body: bytes, status: int) -> None:
    with pytest.raises(PollError) as failure:
        run(body, status)
    assert not betrays(f"{failure.value!r} {failure.value}")


def test_an_error_is_one_bounded_line() -> None:
    with pytest.raises(GraphQLError) as failure:
        run(says(*["a\r\nb\x00\x1b[31m\u202e" * 99] * 20))
    assert str(failure.value).isprintable()
    assert len(str(failure.value)) < 1200


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 503), (says("slow down"), 200), (b"{}", 429), (says("no"), 401)]
)
def test_an_error_holds_when_to_come_back(body: bytes, status: int) -> None:
    with pytest.raises(PollError) as failure:
        run(body, status, retry_after="7")
    assert failure.value.retry_after == 7


def test_each_query_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "borgbase_exporter")
    without(["quota"], MESSAGES["single quotes"]).run(REPOS)

    logged = [r for r in caplog.records if r.name == "borgbase_exporter.api.client"]
    assert [(r.account, r.query, r.bytes > 0, r.outcome) for r in logged] == [  # type: ignore[attr-defined]
        ("home", "Repos", True, "schema"),
        ("home", "Repos", True, "ok"),
    ]
    assert all(float(r.seconds) >= 0 for r in logged)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("spelt", "meant"),
    [
        (r"\ud800", "\ufffd"),
        (r"\udfff\ud800", "\ufffd\ufffd"),
        (r"\ud83d\ude00", "\U0001f600"),
        (r"\\ud800", r"\ud800"),
        (r"\\\ud800", "\\\ufffd"),
        (r"\u0041\"\uD800\n", 'A"\ufffd\n'),
    ],
)
def test_lone_surrogates_are_replaced(spelt: str, meant: str) -> None:
    body = f'{{"data":{{"isAuthenticated":true,"x":"{spelt}"}}}}'

    assert root(run(body.encode()), "x", str) == meant
