"""The source of the pages, and a cache for pages too costly to make for each request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from borgbase_exporter.metrics.exposition import Pages
from borgbase_exporter.polling.board import View
from borgbase_exporter.threads import in_thread

T = TypeVar("T")
Clock = Callable[[], float]
FRESH = 10.0  # seconds after which times such as "3 min ago" are made anew
REST = 10  # a page is kept at least this many times as long as it took to make


class Source(Protocol):
    """Where the content comes from; called in the event loop only."""

    def view(self) -> Awaitable[View[Pages]]:
        """Return the newest view, in which nothing has expired."""

    def troubles(self) -> Sequence[str]:
        """Return in words what is wrong with the exporter itself."""


class Kept(Generic[T]):
    """A page that `make` makes from a view and the troubles, in a thread."""

    def __init__(
        self, name: str, source: Source, make: Callable[[View[Pages], Sequence[str]], T]
    ) -> None:
        self._name, self._source, self._make = name, source, make
        self.monotonic: Clock = time.monotonic
        self._turn, self._pages = asyncio.Lock(), dict[int, T]()
        self.made = self.took = 0.0  # when it was made, and the seconds of processor time

    async def current(self) -> T:
        """Return the page, made again if it is due; requests in the meantime wait for it."""
        async with self._turn:
            view, age = await self._source.view(), self.monotonic() - self.made
            least = FRESH if view.revision in self._pages else 0.0
            if not self._pages or age >= max(least, self.took * REST):
                troubles = self._source.troubles()

                def work() -> tuple[T, float]:
                    begun = time.thread_time()
                    return self._make(view, troubles), time.thread_time() - begun

                page, self.took = await in_thread(self._name, work)
                self._pages, self.made = {view.revision: page}, self.monotonic()
            (page,) = self._pages.values()
            return page
