"""The only thing that changes: what is known of the accounts, and what was made of it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from borgbase_exporter.model import AccountStatus

log = logging.getLogger(__name__)

R = TypeVar("R")
Accounts = Mapping[str, AccountStatus]
REST = 20
"""How many times as long as a rendering to rest after it: polls take a twentieth of a core."""
LONGEST_REST = 5.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class View(Generic[R]):
    """The accounts, what was rendered from them, and until when that is true."""

    accounts: Accounts
    rendered: R
    expires: float


class State(Generic[R]):
    """Holds the newest view; it is swapped whole, so a reader needs no lock.

    `render` makes the bytes that are served from the accounts at a moment, and `expiry` tells
    when time alone will change them. Where rendering fails the old bytes stay.

    All accounts are rendered together, so those whose polls end close to one another share a
    rendering: else the work of a round of polls would grow with the square of the accounts.
    """

    def __init__(
        self,
        render: Callable[[Accounts, float], R],
        expiry: Callable[[Accounts, float], float],
        clock: Callable[[], float],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._render = render
        self._expiry = expiry
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._turn = threading.Lock()
        """Of the one who renders next, and rests before; the others wait for that."""
        self._rendering = threading.Lock()
        self._noting = threading.Lock()
        self._changes: dict[str, AccountStatus | None] = {}
        self._rested = float("-inf")
        self.stale = False
        """Whether the newest view could not be rendered, so that an older one is shown."""
        self._view = self._make({})

    def view(self) -> View[R]:
        """Return the view as it is now."""
        if self._clock() >= self._view.expires:
            self._swap()
        return self._view

    def put(self, status: AccountStatus) -> None:
        """Take note of what is known of an account; it shows with the next rendering."""
        with self._noting:
            self._changes[status.name] = status

    def remove(self, account: str) -> None:
        """Take note that an account is gone."""
        with self._noting:
            self._changes[account] = None

    def show(self) -> None:
        """Render what has changed, now."""
        if self._changes:
            self._swap()

    def settle(self) -> None:
        """See to it that what has changed shows, after a rest if there was a rendering just now."""
        with self._turn:
            if self._changes:
                self._sleep(max(0.0, self._rested - self._monotonic()))
                self._swap()

    def _swap(self) -> None:
        with self._rendering:
            with self._noting:
                changes, self._changes = self._changes, {}
            accounts = {n: s for n, s in {**self._view.accounts, **changes}.items() if s}
            begun = self._monotonic()
            try:
                self._view = self._make(accounts)
                self.stale = False
            except Exception:
                self.stale = True
                log.exception("a defect, please report it: the metrics cannot be rendered")
            ended = self._monotonic()
            self._rested = ended + min(REST * (ended - begun), LONGEST_REST)

    def _make(self, accounts: Accounts) -> View[R]:
        now = self._clock()
        return View(accounts, self._render(accounts, now), self._expiry(accounts, now))
