from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from borgbase_exporter.model import AccountStatus
from borgbase_exporter.state import LONGEST_REST, State
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
    state.show()
    before = state.view()
    state.put(status("b"))
    state.show()
    assert before.rendered == "a at 100"
    assert list(before.accounts) == ["a"]
    assert state.view().rendered == "a,b at 100"
    state.remove("a")
    state.show()
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


def fragile(accounts: Accounts, now: float) -> str:
    if "bad" in accounts:
        raise ValueError("cannot render this")
    return names(accounts, now)


def test_an_account_that_cannot_be_rendered_costs_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    state = State(fragile, never, Clock())
    for name in ("old", "gone"):
        state.put(status(name))
    state.show()
    for name in ("bad", "new"):
        state.put(status(name))
    state.remove("gone")
    state.show()
    assert state.view().rendered == "old,new at 100"
    assert state.stale
    state.show()
    assert caplog.text.count("cannot be rendered") == 1
    state.remove("bad")
    state.show()
    assert state.view().rendered == "old,new at 100"
    assert not state.stale


def test_what_could_not_be_rendered_for_a_moment_shows_later() -> None:
    broken = True

    def render(accounts: Accounts, now: float) -> str:
        if broken and accounts:
            raise MemoryError
        return names(accounts, now)

    state = State(render, never, Clock())
    state.put(status("a"))
    state.show()
    assert state.view().rendered == " at 100"
    broken = False
    state.show()
    assert state.view().rendered == "a at 100"
    assert not state.stale


def test_what_expires_and_cannot_be_rendered_anew_is_tried_once() -> None:
    clock, tries = Clock(), []

    def render(accounts: Accounts, now: float) -> str:
        tries.append(now)
        if now >= 150.0:
            raise ValueError("cannot render this")
        return names(accounts, now)

    state = State(render, lambda *_: 150.0, clock)
    clock.now = 150.0
    for _ in range(3):
        assert state.view().rendered == " at 100"
    assert state.stale
    assert tries == [100.0, 150.0]


def test_each_view_has_a_number_of_its_own() -> None:
    state = State(names, never, Clock())
    first = state.view().revision
    assert state.view().revision == first
    state.put(status("a"))
    state.show()
    assert state.view().revision != first


class Work:
    """Renderings that take a second each, and somebody who sleeps without losing time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.renderings = 0
        self.slept: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def render(self, accounts: Accounts, _now: float) -> str:
        self.renderings += 1
        self.now += 1.0
        return ",".join(accounts)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self.meanwhile()


def test_polls_that_end_together_share_a_rendering() -> None:
    work = Work()
    state = State(work.render, never, Clock(), monotonic=lambda: work.now, sleep=work.sleep)
    state.put(status("a"))
    state.settle()
    assert work.slept == [0.0]

    def more() -> None:
        state.put(status("c"))

    work.meanwhile = more
    state.put(status("b"))
    state.settle()
    assert state.view().rendered == "a,b,c"
    assert work.slept == [0.0, LONGEST_REST]
    state.settle()
    state.show()
    assert work.renderings == 3


def test_nobody_rests_who_asks_after_a_while() -> None:
    work = Work()
    state = State(work.render, never, Clock(), monotonic=lambda: work.now, sleep=work.sleep)
    state.put(status("a"))
    state.settle()
    work.now += LONGEST_REST
    state.put(status("b"))
    state.settle()
    assert work.slept == [0.0, 0.0]


def test_a_reader_does_not_wait_for_somebody_who_rests() -> None:
    clock, work = Clock(), Work()
    state = State(
        work.render,
        lambda _, now: 150.0 if now < 150.0 else float("inf"),
        clock,
        monotonic=lambda: work.now,
        sleep=work.sleep,
    )
    seen: list[str] = []

    def read() -> None:
        clock.now = 150.0
        seen.append(state.view().rendered)

    work.meanwhile = read
    state.put(status("a"))
    state.settle()
    assert seen == ["a"]
