"""Whatever the API answers: the poller lives, the exposition is valid, good values stay."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lab.account import MEGABYTE, bodies
from tests.lab.bench import PLENTY, Bench, endpoint, within
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


def endured(bench: Bench) -> None:
    """Assert what holds after a poll of anything, which followed a good poll."""
    seen = bench.scrape()
    assert all(map(math.isfinite, seen.samples.values()))
    assert not any(reason == "internal" for _, reason in seen.failures)
    if not seen.get("borgbase_up"):
        assert seen.usage == 7 * MEGABYTE
        assert seen.get("borgbase_account_repos") == 1


@FEW
@given(ANSWERS, STATUSES)
def test_any_answer_is_endured(answers: dict[str, bytes], status: int) -> None:
    desk = Desk()
    desk.poll(bodies(usage=7.0))

    desk.poll(answers, status)

    endured(desk.bench)
    desk.poll(bodies(usage=8.0))
    assert desk.bench.scrape().usage == 8 * MEGABYTE


@FEW
@given(st.binary(max_size=300), st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n"]))
def test_any_bytes_on_the_wire_are_endured(data: bytes, start: bytes) -> None:
    desk = Desk()
    desk.poll(bodies(usage=7.0))
    with Lab(says(start + data, then=close)) as lab:
        bench = Bench(endpoint(lab.url))
        bench.poller.status = desk.bench.poller.status

        within(PLENTY, bench.poller.poll)

        endured(bench)
        assert bench.scrape().get("borgbase_up") == 0


@FEW
@given(
    st.lists(
        st.fixed_dictionaries(
            {"id": TEXTS, "name": TEXTS},
            optional={"region": TEXTS, "format": TEXTS, "currentUsage": NUMBERS},
        ),
        max_size=5,
    )
)
def test_any_names_make_a_round_trip(repos: list[dict[str, Any]]) -> None:
    desk = Desk()
    listed = json.dumps({"data": {"isAuthenticated": True, "repoList": repos}})
    # JSON has no NaN and no infinities, and Python's encoder does not know.
    usages = [repo.get("currentUsage") for repo in repos]
    sane = all(math.isfinite(usage) for usage in usages if isinstance(usage, float))

    desk.poll(bodies(usage=7.0) | {"Repos": listed.encode()})

    seen = desk.bench.scrape()
    shown = [dict(labels) for _, labels in seen.all("borgbase_repo_info")]
    skipped = seen.get("borgbase_entries_skipped", collector="repos")
    readable: dict[str, str] = {}
    for repo in repos:
        texts = [value for value in repo.values() if isinstance(value, str)]
        usage = repo.get("currentUsage", 0)
        if all(len(text) <= 1000 for text in texts) and 0 <= usage <= 1e18:
            readable.setdefault(whole(repo["id"]), whole(repo["name"]))
    assert {label["repo_id"]: label["repo"] for label in shown} == (readable if sane else {})
    assert skipped == (len(repos) - len(readable) if sane else 0)


def whole(text: str) -> str:
    """Return a text with its lone surrogates replaced, as UTF-16's decoder would."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
