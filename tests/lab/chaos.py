"""Answers that make no sense, as strategies of Hypothesis."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

import requests
import responses
from hypothesis import strategies as st

from borgbase_exporter.api.client import Client
from tests.canary import CANARY
from tests.lab.account import answers, bodies
from tests.lab.bench import Outcomes, endpoint, poll

GOOD = bodies(usage=7.0)

TEXTS = st.text(st.characters(), max_size=20) | st.sampled_from(
    (
        *("", "\ud800", "\udfff\ud800", "\x00", "\r", "\n", '"', "\\", "\u2028", "x" * 2000),
        *("NaN", "-inf", "1e999", "true", "null", "2024-02-03", "2024-02-03T04:05:06Z"),
        *("9999-12-31T23:59:59-14:00", "253402300800", "-99999999999", "a1b2c3d4"),
    )
)
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from(
        [0, -1, 253402300800, 1e18, 1e19, 1e308, 2**53 + 1, 2**64, 10**400, -(10**400)]
    )
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place in a JSON value as what holds it and the key or index there."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


@st.composite
def mutants(draw: st.DrawFn) -> dict[str, bytes]:
    """Return the good answers with some places changed, removed or doubled."""
    document = {name: {"data": copy.deepcopy(data)} for name, data in answers(7.0).items()}
    for _ in range(draw(st.integers(1, 4))):
        places = list(_places(document))
        holder, key = places[draw(st.integers(len(document), len(places) - 1))]
        match draw(st.sampled_from(["change", "change", "change", "remove", "double"])):
            case "change":
                holder[key] = draw(VALUES)
            case "remove" if holder is not document:
                del holder[key]
            case "double" if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[key]))
    return {name: _encoded(answer) for name, answer in document.items()}


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, bytes]:
    """Return the good answers with some bytes replaced, inserted or cut off."""
    start, length = draw(st.integers(0, 300)), draw(st.integers(0, 300))
    patch = draw(st.binary(max_size=20))
    return {name: b[:start] + patch + b[start + length :] for name, b in GOOD.items()}


def _everywhere(body: bytes) -> dict[str, bytes]:
    return dict.fromkeys(GOOD, body)


def _encoded(value: Any) -> bytes:
    # Python's encoder spells lone surrogates, NaN and numbers of any length.
    return json.dumps(value).encode()


# A name may hold anything, but what comes in an error may be our own token.
ERRORS: st.SearchStrategy[Any] = VALUES | st.lists(st.builds(dict, message=TEXTS | st.just(CANARY)))
ANSWERS = (
    mutants()
    | damaged()
    | st.binary(max_size=200).map(_everywhere)
    | VALUES.map(_encoded).map(_everywhere)
    | VALUES.map(lambda value: _everywhere(_encoded({"data": value})))
    | ERRORS.map(lambda value: _everywhere(_encoded({"errors": value})))
    | ERRORS.map(
        lambda value: {
            name: _encoded({"data": data, "errors": value}) for name, data in answers(7.0).items()
        }
    )
)
"""The bodies of all four answers, by the name of the query."""

STATUSES = st.sampled_from([200, 200, 200, 204, 400, 401, 403, 429, 500, 503])


class Desk:
    """An API whose answers are a dictionary, and a client of it."""

    def __init__(self) -> None:
        self.client = Client(endpoint("https://api.example/graphql"))

    def poll(self, answers: Mapping[str, bytes], status: int = 200) -> Outcomes:
        """Query all areas, each once for certain."""

        def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], bytes]:
            query = json.loads(request.body or b"")["query"]
            return status, {}, answers[query.split()[1]]

        with responses.RequestsMock() as api:
            api.add_callback("POST", "https://api.example/graphql", answer)
            return poll(self.client)
