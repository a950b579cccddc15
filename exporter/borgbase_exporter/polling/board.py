"""What is known of the accounts, and what was rendered from it. The event loop alone touches it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from borgbase_exporter.model import AccountStatus
from borgbase_exporter.threads import in_thread

log = logging.getLogger(__name__)

R = TypeVar("R")
REST = 20
"""A rendering is followed by a rest of that many times its duration, so that a round of polls of
many accounts takes a twentieth of a core, and accounts that end together share a rendering."""
LONGEST_REST = 3.0  # seconds: with hundreds of accounts, freshness counts more


@dataclass(frozen=True, slots=True)
class View(Generic[R]):
    """The accounts as they may be shown, and what was rendered from them."""

    accounts: Mapping[str, AccountStatus]
    pages: R
    revision: int = 0  # grows with each view
    expires: float = float("inf")  # when the next value becomes too old to be shown


@dataclass(eq=False, repr=False)
class Board(Generic[R]):
    """Holds the newest view, which is replaced whole; a thread runs `render` to make its pages."""

    render: Callable[[Mapping[str, AccountStatus]], R]
    max_age: float  # seconds after which a value is not shown any more
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.latest: View[R] = View({}, self.render({}))
        self._known: dict[str, AccountStatus] = {}
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._rested = float("-inf")

    def put(self, status: AccountStatus) -> None:
        """Note what is known of an account; it shows with the next rendering."""
        self._known[status.name] = status
        self._changed.set()

    def remove(self, account: str) -> None:
        """Note that an account is gone."""
        self._known.pop(account, None)
        self._changed.set()

    async def view(self) -> View[R]:
        """Return the newest view; render first if values in it have expired."""
        while self.clock() >= self.latest.expires:
            async with self._turn:
                if self.clock() >= self.latest.expires:  # unless another reader did
                    await self._refresh()
        return self.latest

    async def run(self) -> None:
        """Render what changes, until cancelled."""
        while True:
            timeout = self.latest.expires - self.clock()
            try:
                async with asyncio.timeout(None if timeout == float("inf") else max(0.0, timeout)):
                    await self._changed.wait()
            except TimeoutError:
                await self.view()
                continue
            await asyncio.sleep(self._rested - self.monotonic())
            await self.refresh()

    async def refresh(self) -> None:
        """Render what has changed now."""
        async with self._turn:
            await self._refresh()

    async def _refresh(self) -> None:
        self._changed.clear()
        now = self.clock()
        self._known = {n: s.as_of(now, self.max_age) for n, s in self._known.items()}
        accounts = dict(self._known)
        begun = self.monotonic()
        try:
            pages = await in_thread("render", lambda: self.render(accounts))
        except RuntimeError:  # the system has no thread left
            pages = self.render(accounts)
        expires = min((s.expires(self.max_age) for s in accounts.values()), default=float("inf"))
        self.latest = View(accounts, pages, self.latest.revision + 1, expires)
        ended = self.monotonic()
        self._rested = ended + min(REST * (ended - begun), LONGEST_REST)
        log.debug("rendered", extra={"accounts": len(accounts), "seconds": f"{ended - begun:.3f}"})
