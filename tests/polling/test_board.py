from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from borgbase_exporter.model import AccountStatus
from borgbase_exporter.polling.board import LONGEST_REST, REST, Board
from tests.facts import NOW, status

MAX_AGE = 3600.0
Accounts = Mapping[str, AccountStatus]


class Rig:
    """A board whose clock and renderings a test controls."""

    def __init__(self) -> None:
        self.now = NOW
        self.ticks = 0.0
        self.rendered: list[list[str]] = []
        self.rests: list[float] = []
        self.while_resting: Callable[[], None] = lambda: None
        self.board = Board(
            self.render, MAX_AGE, clock=lambda: self.now, monotonic=lambda: self.ticks
        )

    def render(self, accounts: Accounts) -> str:
        shown = [name for name, one in accounts.items() if one.snapshot.repos]
        self.rendered.append(shown)
        self.ticks += 0.125 * len(shown)
        return ",".join(shown)

    async def rest(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.ticks += max(0.0, seconds)
        self.while_resting()


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_what_is_known_and_what_is_rendered_change_together(rig: Rig) -> None:
    assert rig.board.latest.pages == ""
    rig.board.put(status("a"))
    await rig.board.refresh()
    before = rig.board.latest
    rig.board.put(status("b"))
    await rig.board.refresh()
    assert (before.pages, list(before.accounts)) == ("a", ["a"])
    after = await rig.board.view()
    assert (after.pages, list(after.accounts)) == ("a,b", ["a", "b"])
    assert after.revision > before.revision
    rig.board.remove("a")
    await rig.board.refresh()
    assert rig.board.latest.pages == "b"


async def test_expired_values_are_never_in_a_view(rig: Rig) -> None:
    rig.board.put(status("a"))
    rig.board.put(status("b", taken=NOW - 60))
    await rig.board.refresh()
    rig.now += MAX_AGE - 60
    assert rig.board.latest.pages == "a,b"
    assert (await rig.board.view()).pages == "a"
    renderings = len(rig.rendered)
    await asyncio.gather(*(rig.board.view() for _ in range(3)))
    assert len(rig.rendered) == renderings
    rig.now += MAX_AGE
    views = await asyncio.gather(*(rig.board.view() for _ in range(3)))
    assert [view.pages for view in views] == [""] * 3
    assert len(rig.rendered) == renderings + 1
    assert rig.board.latest.accounts["a"].snapshot.repos is None
    assert rig.board.latest.accounts["a"].polls


async def test_values_from_a_clock_that_was_ahead_expire_by_the_right_one(rig: Rig) -> None:
    rig.board.put(status("a", taken=NOW + 10 * MAX_AGE))
    await rig.board.refresh()
    rig.now += MAX_AGE
    assert (await rig.board.view()).pages == ""


async def test_accounts_polled_together_share_a_rendering(rig: Rig, monkeypatch: Any) -> None:
    monkeypatch.setattr("borgbase_exporter.polling.board.asyncio.sleep", rig.rest)
    rig.board.put(status("a"))
    await rig.board.refresh()
    rig.while_resting = lambda: rig.board.put(status("c"))
    task = asyncio.create_task(rig.board.run())
    while len(rig.rests) < 2:
        rig.board.put(status("b"))
        await asyncio.wait([task], timeout=0.001)
    task.cancel()
    assert rig.rendered[1:3] == [["a"], ["a", "b", "c"]]
    assert rig.rests[:2] == [REST * 0.125, LONGEST_REST]


async def test_a_rendering_stays_until_a_change_or_expiry(rig: Rig, monkeypatch: Any) -> None:
    monkeypatch.setattr("borgbase_exporter.polling.board.asyncio.sleep", rig.rest)
    timeouts: list[float | None] = []

    def timeout(seconds: float | None) -> asyncio.Timeout:
        timeouts.append(seconds)
        if len(timeouts) == 2:  # it rests after the first rendering
            rig.now += seconds or 0.0
            return real(0.0)
        return real(seconds if len(timeouts) < 3 else None)

    real = asyncio.timeout
    monkeypatch.setattr("borgbase_exporter.polling.board.asyncio.timeout", timeout)
    task = asyncio.create_task(rig.board.run())
    rig.board.put(status("a"))
    while len(timeouts) < 3:
        await asyncio.wait([task], timeout=0.001)
    task.cancel()
    assert timeouts == [None, MAX_AGE, None]
    assert rig.rendered == [[], ["a"], []]


async def test_without_a_thread_left_it_renders_all_the_same(rig: Rig, monkeypatch: Any) -> None:
    async def no_thread(_name: str, _work: Callable[[], object]) -> object:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("borgbase_exporter.polling.board.in_thread", no_thread)
    rig.board.put(status("a"))
    await rig.board.refresh()
    assert rig.board.latest.pages == "a"
