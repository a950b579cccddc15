"""Whatever the API answers: every query ends in facts or in one of the known failures."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import astuple
from typing import Any

import pytest
import requests
import responses
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from borgbase_exporter.api.areas import AREAS
from borgbase_exporter.api.client import Client
from borgbase_exporter.errors import Reason
from borgbase_exporter.model import CollectorStatus
from tests.canary import CANARY
from tests.lab.account import MEGABYTE, answers, bodies
from tests.lab.bench import Endpoint, Outcomes, poll, reasons, usage
from tests.lab.scripts import close, says
from tests.lab.wire import Lab

FEW = settings(
    max_examples=100,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
GOOD = bodies(usage=7.0)
URL = "https://api.example/graphql"

TEXTS = st.text(st.characters(), max_size=20) | st.sampled_from(
    (
        *("", "\ud800", "\udfff\ud800", "\x00", "\r", "\n", '"', "\\", "\u2028", "x" * 2000),
        *("NaN", "-inf", "1e999", "true", "null", "2024-02-03", "2024-02-03T04:05:06Z"),
        *("9999-12-31T23:59:59-14:00", "253402300800", "-99999999999", "a1b2c3d4"),
    )
)
ODD_NUMBERS = (0, -1, 253402300800, 1e18, 1e19, 1e308, 2**53 + 1, 2**64, 10**400, -(10**400))
NUMBERS = st.integers() | st.floats() | st.sampled_from(ODD_NUMBERS)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place in a JSON value as what holds it and the key or index there."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


@st.composite
def mutants(draw: st.DrawFn) -> dict[str, bytes]:
    """Return the good answers with some places changed, removed or doubled."""
    document = {name: {"data": copy.deepcopy(data)} for name, data in answers(7.0).items()}
    for _ in range(draw(st.integers(1, 4))):
        found = list(places(document))
        holder, key = found[draw(st.integers(len(document), len(found) - 1))]
        match draw(st.sampled_from(["change", "change", "change", "remove", "double"])):
            case "change":
                holder[key] = draw(VALUES)
            case "remove" if holder is not document:
                del holder[key]
            case "double" if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[key]))
    return {name: encoded(answer) for name, answer in document.items()}


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, bytes]:
    """Return the good answers with some bytes replaced, inserted or cut off."""
    start, length = draw(st.integers(0, 300)), draw(st.integers(0, 300))
    patch = draw(st.binary(max_size=20))
    return {name: b[:start] + patch + b[start + length :] for name, b in GOOD.items()}


def everywhere(body: bytes) -> dict[str, bytes]:
    return dict.fromkeys(GOOD, body)


def encoded(value: Any) -> bytes:
    # Python's encoder writes lone surrogates, NaN and numbers of any length.
    return json.dumps(value).encode()


# A name may contain anything, but an error message may contain the token.
ERRORS: st.SearchStrategy[Any] = VALUES | st.lists(st.builds(dict, message=TEXTS | st.just(CANARY)))
ANSWERS = (
    mutants()
    | damaged()
    | st.binary(max_size=200).map(everywhere)
    | VALUES.map(encoded).map(everywhere)
    | VALUES.map(lambda value: everywhere(encoded({"data": value})))
    | ERRORS.map(lambda value: everywhere(encoded({"errors": value})))
    | ERRORS.map(
        lambda value: {
            name: encoded({"data": data, "errors": value}) for name, data in answers(7.0).items()
        }
    )
)
STATUSES = st.sampled_from([200, 200, 200, 204, 400, 401, 403, 429, 500, 503])


def endured(outcomes: Outcomes) -> None:
    """Assert what is true of the outcomes of any answers."""
    for outcome in outcomes.values():
        if isinstance(outcome, CollectorStatus):
            assert all(map(math.isfinite, numbers(astuple(outcome))))
        else:
            assert outcome.reason != Reason.INTERNAL
            assert str(outcome).isprintable()


def numbers(value: Any) -> list[float]:
    if isinstance(value, tuple):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, float | int) else []


@pytest.mark.slow
@FEW
@given(ANSWERS, STATUSES)
def test_any_answer_is_endured(bad: dict[str, bytes], status: int) -> None:
    client, served = Client(Endpoint(URL)), [(200, bodies(usage=8.0)), (status, bad)]

    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        name = json.loads(request.body or b"")["query"].split()[1]
        code, replies = served[-1]
        return code, {}, replies[name]

    with responses.RequestsMock() as api:
        api.add_callback("POST", URL, answer)
        endured(poll(client))
        served.pop()
        assert usage(poll(client)) == 8 * MEGABYTE


@FEW
@given(st.binary(max_size=300), st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n"]))
def test_any_bytes_on_the_wire_are_endured(data: bytes, start: bytes) -> None:
    with Lab(says(start + data, then=close)) as lab:
        outcomes = poll(Client(Endpoint(lab.url)), areas=AREAS[:1])

    endured(outcomes)
    assert "repos" in reasons(outcomes)
