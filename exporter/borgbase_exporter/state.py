"""The only thing that changes: what is known of the accounts, and what was made of it."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from borgbase_exporter.model import AccountStatus

log = logging.getLogger(__name__)

R = TypeVar("R")
Accounts = Mapping[str, AccountStatus]
Changes = dict[str, AccountStatus | None]
"""The accounts' new statuses; None for one that is gone."""
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
    revision: int
    """Another one for each view."""


class State(Generic[R]):
    """Holds the newest view, which is swapped whole.

    `render` makes the bytes that are served from the accounts at a moment, and `expiry` tells
    when time alone will change them. Where an account cannot be rendered its old bytes stay, and
    it is tried again with the next change of any account.

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
        self._changes: Changes = {}
        self._revisions = itertools.count()
        self._rested = float("-inf")
        self.stale = False
        """Whether something could not be rendered, so that older bytes of it are shown."""
        self._view = self._make({})

    def view(self) -> View[R]:
        """Return the view as it is now."""
        if self._clock() >= self._view.expires:
            self._swap(expired=True)
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
        self._swap()

    def settle(self) -> None:
        """See to it that what has changed shows, after a rest if there was a rendering just now."""
        with self._turn:
            if self._changes:
                self._sleep(max(0.0, self._rested - self._monotonic()))
                self._swap()

    def _swap(self, *, expired: bool = False) -> None:
        with self._rendering:
            if expired and self._clock() < self._view.expires:
                return  # another reader was faster
            with self._noting:
                changes, self._changes = self._changes, {}
            if not changes and not expired:
                return  # another rendering has taken them along
            begun = self._monotonic()
            failed = {} if self._take(changes) else self._take_singly(changes)
            with self._noting:
                self._changes = {**failed, **self._changes}
            ended = self._monotonic()
            self._rested = ended + min(REST * (ended - begun), LONGEST_REST)

    def _take_singly(self, changes: Changes) -> Changes:
        """Take what can be rendered, so that one account costs no other; return the rest."""
        if not changes:  # what was shown has expired, and cannot be rendered without it
            self._view = replace(self._view, expires=float("inf"))
        failed = {n: s for n, s in changes.items() if not self._take({n: s})}
        self.stale = bool(failed) or not changes
        return failed

    def _take(self, changes: Changes) -> bool:
        """Swap the view for one with these changes, if that can be rendered."""
        accounts = {n: s for n, s in {**self._view.accounts, **changes}.items() if s}
        try:
            self._view = self._make(accounts)
        except Exception:
            if not self.stale:
                log.exception("a defect, please report it: the metrics cannot be rendered")
            self.stale = True
            return False
        self.stale = False
        return True

    def _make(self, accounts: Accounts) -> View[R]:
        now = self._clock()
        return View(
            accounts,
            self._render(accounts, now),
            self._expiry(accounts, now),
            next(self._revisions),
        )
