from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from borgbase_exporter.api.client import Client
from borgbase_exporter.credentials import TokenFile, TokenFolder, TokenSource
from borgbase_exporter.loops import Loops
from borgbase_exporter.model import AccountStatus
from borgbase_exporter.poller import Poller, Schedule
from tests.canary import CANARY

PATIENCE = 10.0
"""Seconds after which a thread that should have done something counts as failed."""


class Polled(Poller):
    """A poller that only says that it was asked to poll."""

    def __init__(self, account: str, publish: Callable[[AccountStatus], None], rig: Rig) -> None:
        super().__init__(account, rig.source, [], rig.connect, publish, Schedule(3600, 1))
        self._rig = rig
        self.publish = publish
        self.is_late = False

    @property
    def late(self) -> float:
        return 1.0 if self.is_late else -1.0

    def poll(self) -> float:
        self._rig.polls.release()
        if self._rig.fatal:
            raise SystemExit
        return 3600.0


class Rig:
    """A folder of tokens, and the loops that follow it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = TokenFile(folder / "unused")
        self.statuses: dict[str, AccountStatus] = {}
        self.pollers: dict[str, Polled] = {}
        self.polls = threading.Semaphore(0)
        self.shown: set[str] = set()
        self.settled = threading.Semaphore(0)
        self.fatal = False
        self.on_put: Callable[[], None] = lambda: None
        self.loops = Loops(TokenFolder(folder), self.make, self)

    def connect(self, _token: str) -> AbstractContextManager[Client]:
        raise AssertionError("nothing is polled here")

    def make(
        self, account: str, _source: TokenSource, publish: Callable[[AccountStatus], None]
    ) -> Poller:
        self.pollers[account] = Polled(account, publish, self)
        return self.pollers[account]

    def remove(self, account: str) -> None:
        del self.statuses[account]

    def put(self, status: AccountStatus) -> None:
        self.on_put()
        self.statuses[status.name] = status

    def show(self) -> None:
        self.shown = set(self.statuses)

    def settle(self) -> None:
        self.settled.release()

    def add(self, account: str) -> None:
        path = self.folder / account
        path.write_text(CANARY)
        path.chmod(0o600)

    def sync_and_wait_for(self, polls: int) -> None:
        self.loops.sync()
        for _ in range(polls):
            assert self.polls.acquire(timeout=PATIENCE)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.loops.stop()
    for thread in threads_of_loops():
        thread.join(PATIENCE)


def threads_of_loops() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("poll ")]


def test_accounts_come_and_go_with_their_files(rig: Rig) -> None:
    rig.add("home")
    rig.add("work")
    rig.sync_and_wait_for(2)
    assert rig.shown == {"home", "work"}
    rig.add("club")
    (rig.folder / "work").unlink()
    rig.sync_and_wait_for(1)
    assert rig.shown == {"home", "club"}
    rig.loops.sync()
    assert not rig.polls.acquire(blocking=False)


def test_a_poll_under_way_does_not_bring_a_removed_account_back(rig: Rig) -> None:
    rig.add("home")
    rig.sync_and_wait_for(1)
    poller = rig.pollers["home"]
    (rig.folder / "home").unlink()
    rig.loops.sync()
    poller.publish(poller.status)
    assert rig.statuses == {}
    assert not rig.settled.acquire(blocking=False)


def test_what_a_poll_brings_is_noted_and_shown(rig: Rig) -> None:
    rig.add("home")
    rig.sync_and_wait_for(1)
    poller = rig.pollers["home"]
    brought = replace(poller.status, polls=7)
    poller.publish(brought)
    assert rig.statuses == {"home": brought}
    assert rig.settled.acquire(blocking=False)


def test_nor_does_that_of_a_predecessor_replace_a_successors_status(rig: Rig) -> None:
    rig.add("home")
    rig.sync_and_wait_for(1)
    first = rig.pollers["home"]
    (rig.folder / "home").unlink()
    rig.loops.sync()
    rig.add("home")
    rig.sync_and_wait_for(1)
    second = rig.pollers["home"]
    assert second is not first
    first.publish(first.status)
    assert rig.statuses["home"] is second.status


def test_everything_is_polled_at_once_when_asked(rig: Rig) -> None:
    rig.add("home")
    rig.add("work")
    rig.sync_and_wait_for(2)
    rig.loops.poll_now()
    for _ in range(2):
        assert rig.polls.acquire(timeout=PATIENCE)


def test_an_unreadable_folder_is_told_once_and_changes_nothing(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.add("home")
    rig.sync_and_wait_for(1)
    hidden = rig.folder.rename(rig.folder.with_name("elsewhere"))
    rig.loops.sync()
    rig.loops.sync()
    assert set(rig.statuses) == {"home"}
    assert caplog.text.count("No such file") == 1
    hidden.rename(rig.folder)
    rig.loops.sync()
    assert set(rig.statuses) == {"home"}


def test_an_empty_folder_is_told_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.loops.sync()
    rig.loops.sync()
    assert caplog.text.count("nothing to poll") == 1


def test_exposed_token_files_are_told_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.add("home")
    (rig.folder / "home").chmod(0o644)
    rig.sync_and_wait_for(1)
    rig.loops.sync()
    assert caplog.text.count("can be read by other users") == 1
    assert CANARY not in caplog.text


def test_a_stuck_loop_is_told_and_logged_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.add("home")
    rig.sync_and_wait_for(1)
    assert rig.loops.stuck() == []
    rig.pollers["home"].is_late = True
    assert rig.loops.stuck() == ["home"]
    assert rig.loops.stuck() == ["home"]
    assert caplog.text.count("dead or stuck") == 1
    rig.pollers["home"].is_late = False
    assert rig.loops.stuck() == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_loop_is_stuck(rig: Rig) -> None:
    rig.fatal = True
    rig.add("home")
    rig.sync_and_wait_for(1)
    for thread in threads_of_loops():
        thread.join(PATIENCE)
    assert rig.loops.stuck() == ["home"]


def test_a_loop_that_was_stopped_is_not_stuck(rig: Rig) -> None:
    rig.add("home")
    rig.sync_and_wait_for(1)
    rig.loops.stop()
    for thread in threads_of_loops():
        thread.join(PATIENCE)
    assert rig.loops.stuck() == []


def test_a_loop_that_has_not_begun_is_not_stuck(rig: Rig) -> None:
    seen: list[list[str]] = []
    rig.on_put = lambda: seen.append(rig.loops.stuck())
    rig.add("home")
    rig.sync_and_wait_for(1)
    assert seen == [[]]


def test_stopped_loops_end(rig: Rig) -> None:
    rig.add("home")
    rig.sync_and_wait_for(1)
    (thread,) = threads_of_loops()
    rig.loops.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()
