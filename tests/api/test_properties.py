"""Whatever the API answers: every query ends in facts or in one of the known failures."""

from __future__ import annotations

import json
import math
from dataclasses import astuple
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from borgbase_exporter.api.areas import AREAS, Collected
from borgbase_exporter.api.client import Client
from borgbase_exporter.errors import InternalError
from borgbase_exporter.model import RepoList
from tests.lab.account import MEGABYTE, bodies
from tests.lab.bench import Outcomes, endpoint, poll, reasons, usage
from tests.lab.chaos import ANSWERS, NUMBERS, STATUSES, TEXTS, Desk
from tests.lab.scripts import close, says
from tests.lab.wire import Lab

FEW = settings(
    max_examples=100,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# A lone surrogate anywhere costs a document all that are spelled by two of them.
WHOLE = TEXTS.filter(lambda text: not any("\ud800" <= char <= "\udfff" for char in text))


def endured(outcomes: Outcomes) -> None:
    """Assert what holds of the outcomes of any answers."""
    for outcome in outcomes.values():
        if isinstance(outcome, Collected):
            assert all(map(math.isfinite, numbers(astuple(outcome.part))))
        else:
            assert not isinstance(outcome, InternalError)
            assert str(outcome).isprintable()


def numbers(value: Any) -> list[float]:
    if isinstance(value, tuple):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, float | int) else []


@FEW
@given(ANSWERS, STATUSES)
def test_any_answer_is_endured(answers: dict[str, bytes], status: int) -> None:
    desk = Desk()

    endured(desk.poll(answers, status))
    assert usage(desk.poll(bodies(usage=8.0))) == 8 * MEGABYTE


@FEW
@given(st.binary(max_size=300), st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n"]))
def test_any_bytes_on_the_wire_are_endured(data: bytes, start: bytes) -> None:
    with Lab(says(start + data, then=close)) as lab:
        outcomes = poll(Client(endpoint(lab.url)), areas=AREAS[:1])

    endured(outcomes)
    assert "repos" in reasons(outcomes)


@FEW
@given(
    st.lists(
        st.fixed_dictionaries(
            {"id": WHOLE, "name": WHOLE},
            optional={"region": WHOLE, "format": WHOLE, "lastModified": WHOLE | NUMBERS},
        ),
        max_size=5,
    )
)
def test_any_names_make_a_round_trip(repos: list[dict[str, Any]]) -> None:
    listed = json.dumps({"data": {"isAuthenticated": True, "repoList": repos}})
    # JSON has no NaN and no infinities, and Python's encoder does not know.
    dates = [repo.get("lastModified") for repo in repos]
    sane = all(math.isfinite(date) for date in dates if isinstance(date, float))

    outcomes = Desk().poll(bodies(usage=7.0) | {"Repos": listed.encode()})

    readable: dict[str, str] = {}
    for repo in repos:
        if all(len(text) <= 1000 for text in (repo["id"], repo["name"])):
            readable.setdefault(repo["id"], repo["name"])
    found = outcomes["repos"]
    endured(outcomes)
    assert isinstance(found, Collected) is sane
    if isinstance(found, Collected):
        assert isinstance(found.part, RepoList)
        assert {repo.id: repo.name for repo in found.part.repos} == readable
        assert found.skipped == len(repos) - len(readable)
