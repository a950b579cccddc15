from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest

from borgbase_exporter import threads
from borgbase_exporter.model import AccountStatus
from borgbase_exporter.polling import accounts as module
from borgbase_exporter.polling.accounts import GRACE, PACE, Accounts
from borgbase_exporter.polling.poller import Poller
from borgbase_exporter.settings.options import Poll
from borgbase_exporter.tokens import TokenFolder, TokenSource
from tests.canary import CANARY


class Scripted(Poller):
    """A poller that records its polls, and can hang or fail."""

    def __init__(self, rig: Rig, account: str, source: TokenSource) -> None:
        schedule = Poll(interval=3600, timeout=30, max_age=3600)
        super().__init__(AccountStatus(account, {}), source, None, [], schedule)  # type: ignore[arg-type]  # there are no areas to ask
        self.rig = rig
        self.delay = 3600.0

    def poll(self) -> AccountStatus:
        self.rig.polled_by.append(self)
        self.rig.during_a_poll()
        return self.status


class Rig:
    """A folder of tokens, and the accounts that follow it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ticks = 0.0
        self.pollers: list[Scripted] = []
        self.known: dict[str, AccountStatus] = {}
        self.polled_by: list[Scripted] = []
        self.put_count = 0
        self.during_a_poll: Callable[[], object] = lambda: None
        board: Any = self
        self.accounts = Accounts(TokenFolder(folder), self.make, board, 0.0, lambda: self.ticks)

    def make(self, account: str, source: TokenSource) -> Poller:
        self.pollers.append(Scripted(self, account, source))
        return self.pollers[-1]

    def put(self, status: AccountStatus) -> None:
        self.known[status.name] = status
        self.put_count += 1

    def remove(self, account: str) -> None:
        del self.known[account]

    def add(self, account: str) -> None:
        path = self.folder / account
        path.write_text(CANARY)
        path.chmod(0o600)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110  # the condition has no event
            await asyncio.sleep(0)

    async def hanging(self) -> threading.Event:
        """Let the poll of an account begin; it hangs until the event is set."""
        begun, go_on = threading.Event(), threading.Event()

        def hang() -> None:
            begun.set()
            go_on.wait(30)

        self.during_a_poll = hang
        self.add("home")
        await self.accounts.sync()
        await self.until(begun.is_set)
        return go_on

    async def polled(self, polls: int) -> None:
        """Wait for this number of ended polls; each account is also put once before its first."""
        await self.until(lambda: self.put_count == polls + len(self.pollers))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_accounts_come_and_go_with_their_files(rig: Rig) -> None:
    rig.add("home")
    rig.add("work")
    await rig.accounts.sync()
    await rig.polled(2)
    assert set(rig.known) == {"home", "work"}
    rig.add("club")
    (rig.folder / "work").unlink()
    await rig.accounts.sync()
    await rig.polled(3)
    assert set(rig.known) == {"home", "club"}
    await rig.accounts.sync()
    rig.accounts.poll_now()
    await rig.polled(5)
    names = [poller.status.name for poller in rig.polled_by]
    assert (sorted(names[:2]), names[2]) == (["home", "work"], "club")
    assert sorted(names[3:]) == ["club", "home"]


async def test_polls_end_when_they_are_stopped(rig: Rig) -> None:
    rig.add("home")
    await rig.accounts.sync()
    await rig.polled(1)
    rig.accounts.stop()
    await rig.until(lambda: len(asyncio.all_tasks()) == 1)


async def test_accounts_are_looked_for_again_and_again(rig: Rig) -> None:
    rig.accounts.rescan = 15.0
    with patch.object(asyncio, "sleep", Mock(side_effect=partial(asyncio.sleep, 0))) as rest:
        task = asyncio.create_task(rig.accounts.run())
        for polls, name in enumerate(("home", "work"), 1):
            rig.add(name)
            await rig.polled(polls)
        task.cancel()
    assert {15.0, PACE} < {call.args[0] for call in rest.call_args_list}
    assert set(rig.known) == {"home", "work"}


async def test_a_poll_under_way_does_not_bring_a_removed_account_back(rig: Rig) -> None:
    go_on = await rig.hanging()
    (rig.folder / "home").unlink()
    await rig.accounts.sync()
    go_on.set()
    threads = [thread for thread in threading.enumerate() if thread.name == "poll home"]
    await rig.until(lambda: not any(thread.is_alive() for thread in threads))
    await asyncio.sleep(0)
    assert rig.known == {}


async def test_an_unreadable_folder_is_logged_once_and_changes_nothing(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.add("home")
    await rig.accounts.sync()
    hidden = rig.folder.rename(rig.folder.with_name("elsewhere"))
    await rig.accounts.sync()
    assert caplog.text.count("No such file") == 1
    await rig.accounts.sync()
    assert set(rig.known) == {"home"}
    assert caplog.text.count("No such file") == 1
    hidden.rename(rig.folder)
    await rig.accounts.sync()
    assert set(rig.known) == {"home"}


async def test_odd_token_files_are_logged_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        await rig.accounts.sync()
        assert caplog.text.count("nothing to poll") == 1
    rig.add("home")
    (rig.folder / "home").chmod(0o644)
    await rig.accounts.sync()
    await rig.accounts.sync()
    assert caplog.text.count("can be read by other users") == 1


async def test_an_account_that_hangs_is_stuck(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    go_on = await rig.hanging()
    rig.ticks = 30 + GRACE
    assert rig.accounts.stuck() == []
    rig.ticks += 1
    assert rig.accounts.stuck() == ["home"]
    assert rig.accounts.stuck() == ["home"]
    assert caplog.text.count("hang or have ended") == 1
    go_on.set()
    await rig.polled(1)
    await asyncio.sleep(0)
    assert rig.accounts.stuck() == []
    rig.ticks += 3600 + GRACE
    assert rig.accounts.stuck() == []
    rig.ticks += 1
    assert rig.accounts.stuck() == ["home"]


async def test_an_account_that_ended_is_stuck(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.during_a_poll = lambda: 1 // 0
    rig.add("home")
    task = asyncio.create_task(rig.accounts.run())
    await rig.until(lambda: "ZeroDivisionError" in caplog.text)
    task.cancel()
    assert rig.accounts.stuck() == ["home"]


async def test_without_a_thread_left_polls_wait_and_go_on(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = threads.in_thread, 0

    async def scarce(name: str, work: Callable[[], Any]) -> Any:
        nonlocal tries
        if name.startswith("poll ") and (tries := tries + 1) in {1, 2, 3, 5}:
            raise RuntimeError("can't start new thread")
        return await real(name, work)

    monkeypatch.setattr(module, "in_thread", scarce)
    monkeypatch.setattr(module, "NO_THREAD_PAUSE", 0.0)
    rig.add("home")
    await rig.accounts.sync()
    await rig.polled(1)
    assert caplog.text.count("no thread left") == 1
    assert rig.accounts.stuck() == []
    rig.accounts.poll_now()
    await rig.polled(2)
    assert caplog.text.count("no thread left") == 2
