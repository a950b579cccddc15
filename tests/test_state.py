from __future__ import annotations

from collections.abc import Mapping

import pytest

from borgbase_exporter.model import AccountStatus
from borgbase_exporter.state import State
from tests.facts import status

Accounts = Mapping[str, AccountStatus]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def never(_accounts: Accounts, _now: float) -> float:
    return float("inf")


def names(accounts: Accounts, now: float) -> str:
    return f"{','.join(accounts)} at {now:g}"


def test_what_is_rendered_and_what_is_known_change_together() -> None:
    state = State(names, never, Clock())
    assert state.view().rendered == " at 100"
    state.put(status("a"))
    before = state.view()
    state.put(status("b"))
    assert before.rendered == "a at 100"
    assert list(before.accounts) == ["a"]
    assert state.view().rendered == "a,b at 100"
    state.remove("a")
    assert state.view().rendered == "b at 100"
    assert list(state.view().accounts) == ["b"]


def test_time_alone_renders_anew_once() -> None:
    clock = Clock()
    state = State(names, lambda _, now: 150.0 if now < 150.0 else float("inf"), clock)
    clock.now = 149.0
    assert state.view().rendered == " at 100"
    clock.now = 150.0
    assert state.view().rendered == " at 150"
    clock.now = 160.0
    assert state.view().rendered == " at 150"


def test_where_rendering_fails_the_old_bytes_stay(caplog: pytest.LogCaptureFixture) -> None:
    def fragile(accounts: Accounts, now: float) -> str:
        if "bad" in accounts:
            raise ValueError("cannot render this")
        return names(accounts, now)

    state = State(fragile, never, Clock())
    state.put(status("good"))
    state.put(status("bad"))
    assert state.view().rendered == "good at 100"
    assert "cannot be rendered" in caplog.text
    assert state.stale
    state.put(status("better"))
    assert state.view().rendered == "good,better at 100"
    assert not state.stale
