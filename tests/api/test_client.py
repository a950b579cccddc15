"""What an answer is taken for: good, refused, drifted, or none at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import pytest

from borgbase_exporter.api.client import MAX_DRIFT_ROUNDS, MAX_ERRORS, Client
from borgbase_exporter.api.documents import ACCOUNT, REPOS, TOKENS, Document
from borgbase_exporter.api.transport import Reply
from borgbase_exporter.errors import (
    AuthError,
    GraphQLError,
    HTTPStatusError,
    NotJSONError,
    PollError,
    UnknownFieldError,
)
from tests.canary import CANARY, betrays

FLOOR = "query Repos { repoList { id name currentUsage } }"
GOOD = b'{"data":{"isAuthenticated":true,"repoList":[]}}'
FLOOR_GOOD = b'{"data":{"repoList":[{"id":"a","name":"b","currentUsage":1}]}}'


class Wire:
    """A transport whose replies a test decides, by the query."""

    def __init__(self, reply: Callable[[str], Reply]) -> None:
        self._reply = reply
        self.queries: list[str] = []
        self.reserves: list[float] = []

    def post(self, query: str, *, reserve: float = 0.0) -> Reply:
        self.queries.append(query)
        self.reserves.append(reserve)
        return self._reply(query)


def client(wire: Wire) -> Client:
    return Client(wire, CANARY)  # type: ignore[arg-type]  # all that a client uses of a transport


def run(
    body: bytes | dict[str, Any], status: int = 200, document: Document = REPOS, **reply: Any
) -> Any:
    encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return client(Wire(lambda _: Reply(status, encoded, **reply))).run(document)


def says(*messages: str) -> bytes:
    return msgspec.json.encode({"errors": [{"message": message} for message in messages]})


def without(fields: Iterable[str], message: str, status: int = 400, good: bytes = GOOD) -> Wire:
    """Return an API that has not got some fields, and says so of all that it is asked for."""

    def reply(query: str) -> Reply:
        asked = query.replace("{", " ").replace("}", " ").split()
        bad = [field for field in fields if field in asked]
        return Reply(status, says(*(message % field for field in bad))) if bad else Reply(200, good)

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

    answer = client(wire).run(REPOS)

    assert answer.missing == {"RepoType.quota", "RepoType.alertDays"}
    assert answer.errors == ()
    assert not answer.guessed
    assert wire.queries == [REPOS.text(), REPOS.text(answer.missing)]


def test_a_known_gap_is_not_asked_for_again() -> None:
    wire = without(["quota"], MESSAGES["double quotes"])

    answer = client(wire).run(REPOS, frozenset({"RepoType.quota"}), reserve=1.5)

    assert answer.missing == {"RepoType.quota"}
    assert wire.queries == [REPOS.text({"RepoType.quota"})]
    assert wire.reserves == [1.5]


def test_what_a_type_hides_comes_out_round_by_round() -> None:
    fields = ["maxSize", "includedSize", "maxSizeGb", "maxRepos"]
    message = "Cannot query field '%s' on type 'PlanType'."
    good = b'{"data":{"isAuthenticated":true}}'

    answer = client(without(fields, message, good=good)).run(ACCOUNT)

    assert answer.missing == {f"PlanType.{field}" for field in fields}
    assert ACCOUNT.gaps(answer.missing) == {"PlanType.maxSize", "PlanType.maxRepos"}


def test_a_whole_root_field_may_be_gone() -> None:
    wire = without(["overageList"], "Cannot query field '%s' on type 'Query'.")

    assert client(wire).run(ACCOUNT).missing == {"Query.overageList"}


@pytest.mark.parametrize("reason", ["Syntax Error GraphQL (1:7)", "Query is too complex", "400"])
def test_a_refusal_for_no_known_reason_leaves_the_documented_floor(reason: str) -> None:
    wire = Wire(
        lambda query: Reply(200, FLOOR_GOOD) if query == FLOOR else Reply(400, says(reason))
    )

    answer = client(wire).run(REPOS)

    assert wire.queries == [REPOS.text(), FLOOR]
    assert answer.guessed
    assert answer.missing == REPOS.names - REPOS.floor


@pytest.mark.parametrize("document", [ACCOUNT, TOKENS], ids=lambda document: document.name)
def test_without_a_floor_such_a_refusal_is_final(document: Document) -> None:
    wire = Wire(lambda _: Reply(400, says("Query is too complex")))

    with pytest.raises(UnknownFieldError, match=r"refuses the query \w+: Query is too complex"):
        client(wire).run(document)
    assert len(wire.queries) == 1


def test_a_floor_that_is_refused_too_is_the_end() -> None:
    wire = Wire(lambda _: Reply(400, says("Query is too complex")))

    with pytest.raises(UnknownFieldError, match="refuses the query Repos"):
        client(wire).run(REPOS)
    assert wire.queries == [REPOS.text(), FLOOR]


@pytest.mark.parametrize("field", ["id", "name", "currentUsage"])
def test_without_a_field_of_the_floor_there_is_nothing_to_show(field: str) -> None:
    wire = without([field], MESSAGES["double quotes"])

    with pytest.raises(UnknownFieldError, match=f"Cannot query field .{field}. on type"):
        client(wire).run(REPOS)
    assert len(wire.queries) == 1


def test_an_api_that_never_has_enough_is_given_up() -> None:
    names = iter(sorted(REPOS.names - REPOS.floor))

    def complain(_query: str) -> Reply:
        owner, _, name = next(names).partition(".")
        return Reply(400, says(f"Cannot query field '{name}' on type '{owner}'."))

    wire = Wire(complain)
    with pytest.raises(UnknownFieldError, match="refuses every form"):
        client(wire).run(REPOS)
    assert len(wire.queries) == MAX_DRIFT_ROUNDS


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"data":{"isAuthenticated":false,"repoList":[]}}', 200),
        (b'{"data":{"isAuthenticated":false,"repoList":null}}', 200),
        (b'{"data":{"isAuthenticated":null,"repoList":[]}}', 200),
        (b'{"data":{"isAuthenticated":"true","repoList":[]}}', 200),
        (b'{"data":{"isAuthenticated":1,"repoList":[]}}', 200),
        (b'{"data":{"repoList":[]}}', 200),
        (b'{"data":{}}', 200),
        (says("You do not have permission to perform this action"), 200),
        (says("Signature has expired"), 200),
        (says("Error decoding signature"), 200),
        (says("Invalid token"), 200),
        (says("You must log in"), 200),
        (says("User is not authenticated"), 400),
        (says("nope"), 401),
        (says("nope"), 403),
        (b"", 401),
        (b"<html>", 401),
        (b'{"detail":"Authentication credentials were not provided."}', 401),
        (b'{"detail":"Forbidden"}', 403),
        (b"null", 403),
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
        answer.root("repoList", list)


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"", 200, NotJSONError),
        (b"<html>", 200, NotJSONError),
        (b'{"data":', 200, NotJSONError),
        (b"\xff\xfe", 200, NotJSONError),
        (b'{"data":{"\xff":1}}', 200, NotJSONError),
        (b"<html>", 403, HTTPStatusError),
        (b"<html>", 502, HTTPStatusError),
        (b"null", 500, HTTPStatusError),
        (b"{}", 429, HTTPStatusError),
        (b"{}", 200, GraphQLError),
        (b"[]", 200, GraphQLError),
        (b'{"data":null,"errors":[]}', 200, GraphQLError),
        (b'{"data":null,"errors":null}', 200, GraphQLError),
        (says("boom"), 200, GraphQLError),
        (says("boom"), 500, GraphQLError),
        (b'{"errors":"boom"}', 200, GraphQLError),
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

    assert answer.errors == ("boom",)
    assert answer.lost
    assert answer.root("repoList", list) == []
    with pytest.raises(GraphQLError, match='gives no "x": boom'):
        answer.root("x", list)
    with pytest.raises(GraphQLError, match='gives no "y": boom'):
        answer.root("y", list)


def test_an_answer_without_nulls_has_lost_nothing() -> None:
    assert not run(GOOD).lost


@pytest.mark.parametrize("value", [b'"x"', b"{}", b"1", b"[" * 5000 + b"]" * 5000])
def test_a_root_field_of_another_shape(value: bytes) -> None:
    kind = list[int] if value.startswith(b"[") else list

    with pytest.raises(PollError):
        run(b'{"data":{"isAuthenticated":true,"repoList":%b}}' % value).root("repoList", kind)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ('[{"message":"a"},{"message":"b"}]', ("a", "b")),
        ('[{"message":null}]', ("{'message': None}",)),
        ("[{}]", ("{}",)),
        ('["a",1,null]', ("a", "1", "None")),
        ('"a"', ("a",)),
        ('{"a":"b"}', ("{'a': 'b'}",)),
        ("false", ()),
        ('[{"message":"\\ud800"}]', ("\ufffd",)),
        ('[{"message":"a\\nb\\u2028c"}]', ("a b c",)),
    ],
)
def test_errors_in_any_form_are_told(errors: str, expected: Sequence[str]) -> None:
    body = f'{{"data":{{"isAuthenticated":true}},"errors":{errors}}}'

    assert run(body.encode()).errors == expected


def test_errors_without_end_are_cut() -> None:
    body = {"data": {"isAuthenticated": True}, "errors": [{"message": "boom"}] * 999}

    assert run(body).errors == ("boom",) * MAX_ERRORS


def test_errors_that_cannot_be_read_are_told_as_such() -> None:
    (told,) = run(b'{"data":{"isAuthenticated":true},"errors":["\xff"]}').errors

    assert told.startswith("errors that are not readable: ")


ECHOES = [
    says(f"Error decoding signature of {CANARY}"),
    says(f"boom {CANARY}"),
    says(f"Cannot query field 'id' on type 'RepoType' for {CANARY}"),
    b'{"errors":"' + CANARY.replace("-", "\\u002d").encode() + b'"}',
    b'{"errors":[{"' + CANARY.encode() + b'":1}]}',
    b'{"errors":["' + CANARY.encode() + b'\xff"]}',
    b'{"data":"' + CANARY.encode() + b'"}',
    b'{"data":{"' + CANARY.encode() + b'":}}',
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
        run(says(*["a\r\nb\x00\x1b[31m\u202e" * 99] * 999))
    assert str(failure.value).isprintable()
    assert len(str(failure.value)) < 1200


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 503), (says("slow down"), 200), (b"{}", 429), (says("no"), 401)]
)
def test_an_error_tells_when_to_come_back(body: bytes, status: int) -> None:
    with pytest.raises(PollError) as failure:
        run(body, status, retry_after=7.0)
    assert failure.value.retry_after == 7


@pytest.mark.parametrize(
    ("spelt", "meant"),
    [
        (r"\ud800", "\ufffd"),
        (r"\udfff\ud800", "\ufffd\ufffd"),
        (r"\ud83d\ude00", "\U0001f600"),
        (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (r"\\ud800", r"\ud800"),
        (r"\\\ud800", "\\\ufffd"),
        (r"\u0041\"\uD800\n", 'A"\ufffd\n'),
    ],
)
def test_lone_surrogates_are_replaced(spelt: str, meant: str) -> None:
    body = f'{{"data":{{"isAuthenticated":true,"x":"{spelt}"}}}}'

    assert run(body.encode()).root("x", str) == meant
