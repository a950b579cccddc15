from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from borgbase_exporter import threads
from borgbase_exporter.model import AccountStatus
from borgbase_exporter.polling import accounts as module
from borgbase_exporter.polling.accounts import GRACE, Accounts
from borgbase_exporter.polling.poller import Poller
from borgbase_exporter.settings.options import Poll
from borgbase_exporter.tokens import TokenFolder, TokenSource
from tests.canary import CANARY


class Scripted(Poller):
    """A poller that reports its polls, and can hang or break."""

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
        self.during_a_poll: Callable[[], None] = lambda: None
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
        while not condition():  # noqa: ASYNC110  # what is waited for is not ours to signal
            await asyncio.sleep(0)

    async def polled(self, polls: int) -> None:
        """Wait until so many polls have ended; each account is also put once before its first."""
        await self.until(lambda: self.put_count == polls + len(self.pollers))


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Rig], Coroutine[Any, Any, None]]], None]:
    def runner(test: Callable[[Rig], Coroutine[Any, Any, None]]) -> None:
        async def bounded() -> None:
            rig = Rig(tmp_path)
            async with asyncio.timeout(30):
                try:
                    await test(rig)
                finally:
                    rig.accounts.stop()

        asyncio.run(bounded())

    return runner


Run = Callable[[Callable[[Rig], Coroutine[Any, Any, None]]], None]


def test_accounts_come_and_go_with_their_files(run: Run) -> None:
    async def test(rig: Rig) -> None:
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

    run(test)


def test_polls_end_when_they_are_stopped(run: Run) -> None:
    async def test(rig: Rig) -> None:
        rig.add("home")
        await rig.accounts.sync()
        await rig.polled(1)
        rig.accounts.stop()
        await rig.until(lambda: len(asyncio.all_tasks()) == 1)

    run(test)


def test_accounts_are_looked_for_again_and_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(rig: Rig) -> None:
        task = asyncio.create_task(rig.accounts.run())
        for polls, name in enumerate(("home", "work"), 1):
            rig.add(name)
            await rig.polled(polls)
        task.cancel()
        assert set(rig.known) == {"home", "work"}

    run(test)


def test_a_poll_under_way_does_not_bring_a_removed_account_back(run: Run) -> None:
    async def test(rig: Rig) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def wait() -> None:
            begun.set()
            assert go_on.wait(30)

        rig.during_a_poll = wait
        rig.add("home")
        await rig.accounts.sync()
        await rig.until(begun.is_set)
        (rig.folder / "home").unlink()
        await rig.accounts.sync()
        go_on.set()
        threads = [thread for thread in threading.enumerate() if thread.name == "poll home"]
        await rig.until(lambda: not any(thread.is_alive() for thread in threads))
        await asyncio.sleep(0)
        assert rig.known == {}

    run(test)


def test_everything_is_polled_at_once_when_asked(run: Run) -> None:
    async def test(rig: Rig) -> None:
        rig.add("home")
        rig.add("work")
        await rig.accounts.sync()
        await rig.polled(2)
        rig.accounts.poll_now()
        await rig.polled(4)

    run(test)


def test_an_unreadable_folder_is_logged_once_and_changes_nothing(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(rig: Rig) -> None:
        rig.add("home")
        await rig.accounts.sync()
        hidden = rig.folder.rename(rig.folder.with_name("elsewhere"))
        await rig.accounts.sync()
        await rig.accounts.sync()
        assert set(rig.known) == {"home"}
        assert caplog.text.count("No such file") == 1
        hidden.rename(rig.folder)
        await rig.accounts.sync()
        assert set(rig.known) == {"home"}

    run(test)


def test_an_empty_folder_is_logged_once(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def test(rig: Rig) -> None:
        await rig.accounts.sync()
        await rig.accounts.sync()
        assert caplog.text.count("nothing to poll") == 1

    run(test)


def test_exposed_token_files_are_logged_once(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def test(rig: Rig) -> None:
        rig.add("home")
        (rig.folder / "home").chmod(0o644)
        await rig.accounts.sync()
        await rig.accounts.sync()
        assert caplog.text.count("can be read by other users") == 1

    run(test)


def test_an_account_whose_poll_hangs_is_stuck(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def test(rig: Rig) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def wait() -> None:
            begun.set()
            assert go_on.wait(30)

        rig.during_a_poll = wait
        rig.add("home")
        await rig.accounts.sync()
        await rig.until(begun.is_set)
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
        rig.ticks += 3600 + GRACE + 1
        assert rig.accounts.stuck() == ["home"]

    run(test)


def test_an_account_whose_polls_have_ended_is_stuck(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(rig: Rig) -> None:
        def fail() -> None:
            raise ZeroDivisionError("surprise")

        rig.during_a_poll = fail
        rig.add("home")
        await rig.accounts.sync()
        await rig.until(lambda: rig.accounts.stuck() == ["home"])
        assert "surprise" in caplog.text

    run(test)


def test_without_a_thread_left_polls_wait_and_go_on(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(rig: Rig) -> None:
        real, tries = threads.in_thread, 0

        async def scarce(name: str, work: Callable[[], Any]) -> Any:
            nonlocal tries
            if name.startswith("poll ") and (tries := tries + 1) < 4:
                raise RuntimeError("can't start new thread")
            return await real(name, work)

        monkeypatch.setattr(module, "in_thread", scarce)
        monkeypatch.setattr(module, "NO_THREAD_PAUSE", 0.0)
        rig.add("home")
        await rig.accounts.sync()
        await rig.polled(1)
        assert caplog.text.count("no thread left") == 1
        assert rig.accounts.stuck() == []

    run(test)
