"""A task per account that has a token: poll, publish, wait."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from borgbase_exporter.errors import TokenError
from borgbase_exporter.polling.board import Board
from borgbase_exporter.polling.poller import Poller
from borgbase_exporter.threads import in_thread
from borgbase_exporter.tokens import AccountTokens, TokenSource

log = logging.getLogger(__name__)

RESCAN = 15.0  # seconds between two checks of which accounts have a token
GRACE = 30.0  # seconds that a poll may be late before its account counts as stuck
AT_ONCE = 128  # polls under way at the same time; each takes two threads
PACE = 0.002  # seconds between the starts of two polls: all at once, their threads would compete
NO_THREAD_PAUSE = 5.0  # seconds to wait where the system has no thread left for a poll


@dataclass(slots=True)
class _Account:
    """An account's poller and task; `due` is when it must have made progress."""

    poller: Poller
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    due: float = float("inf")
    task: asyncio.Task[None] = field(init=False)


@dataclass(eq=False, repr=False)
class Accounts:
    """Polls the accounts that have a token; `make` returns the poller of an account."""

    tokens: AccountTokens
    make: Callable[[str, TokenSource], Poller]
    board: Board[Any]
    rescan: float = RESCAN
    monotonic: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self.starting = asyncio.Lock()  # held while a poll starts; no other starts meanwhile
        self._complaint = ""
        self._exposed: set[str] = set()
        self._stuck: set[str] = set()
        self._no_threads = False

    async def run(self) -> None:
        """Look for accounts that come and go, until cancelled."""
        while True:
            await self.sync()
            self.stuck()
            await asyncio.sleep(self.rescan)

    async def sync(self) -> None:
        """Start polling new accounts, and stop polling those without a token."""
        try:
            sources, exposed = await in_thread("token folder", self._look)
        except (TokenError, RuntimeError) as error:
            self._complain(f"{error}; the known accounts are polled as before")
            return
        self._complain("" if sources else "no token files, so there is nothing to poll")
        for name in self._accounts.keys() - sources.keys():
            self._accounts.pop(name).task.cancel()
            self.board.remove(name)
            log.info("polling stops: the token file is gone", extra={"account": name})
        for name in exposed - self._exposed:
            origin = sources[name].origin
            what = f"{origin} can be read by other users; chmod 600 it"
            log.warning("%s", what, extra={"account": name})
        self._exposed = exposed
        for name in sources.keys() - self._accounts.keys():
            account = self._accounts[name] = _Account(self.make(name, sources[name]))
            self.board.put(account.poller.status)
            account.task = asyncio.create_task(self._poll(name, account), name=f"poll {name}")

    def _look(self) -> tuple[Mapping[str, TokenSource], set[str]]:
        """Return the token sources by account, and the accounts whose file others can read."""
        sources = self.tokens.sources()
        return sources, {name for name, source in sources.items() if source.exposed}

    async def _poll(self, name: str, account: _Account) -> None:
        poller = account.poller
        while True:
            delay = NO_THREAD_PAUSE
            async with self._turns:
                async with self.starting:
                    await asyncio.sleep(PACE)
                account.due = self.monotonic() + poller.schedule.timeout + GRACE
                account.wake.clear()
                try:
                    self.board.put(await in_thread(f"poll {name}", poller.poll))
                    delay, self._no_threads = poller.delay, False
                except RuntimeError as error:
                    if "thread" not in str(error):
                        raise
                    if not self._no_threads:
                        log.error("no thread left to poll with; trying again", exc_info=False)  # noqa: TRY400  # the traceback says no more
                    self._no_threads = True
            account.due = self.monotonic() + delay + GRACE
            try:
                async with asyncio.timeout(delay):
                    await account.wake.wait()
            except TimeoutError:
                continue

    def _complain(self, complaint: str) -> None:
        if complaint and complaint != self._complaint:
            log.warning("%s", complaint)
        self._complaint = complaint

    def poll_now(self) -> None:
        """Poll every account at once, or again after a poll under way."""
        for account in self._accounts.values():
            account.wake.set()

    def stop(self) -> None:
        """Stop polling; threads under way end with the process."""
        for account in self._accounts.values():
            account.task.cancel()

    def stuck(self) -> list[str]:
        """Return the accounts whose polls have ended or hang; log each when that begins."""
        now = self.monotonic()
        stuck = [n for n, a in self._accounts.items() if now > a.due or a.task.done()]
        for name in set(stuck) - self._stuck:
            task = self._accounts[name].task
            error = task.exception() if task.done() and not task.cancelled() else None
            what = "the polls of the account hang or have ended"
            log.error(what, exc_info=error, extra={"account": name})
        self._stuck = set(stuck)
        return stuck
