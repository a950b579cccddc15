"""The only thing that changes: what is known of the accounts, and what was made of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from borgbase_exporter.model import AccountStatus

log = logging.getLogger(__name__)

R = TypeVar("R")
Accounts = Mapping[str, AccountStatus]


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
    """

    def __init__(
        self,
        render: Callable[[Accounts, float], R],
        expiry: Callable[[Accounts, float], float],
        clock: Callable[[], float],
    ) -> None:
        self._render = render
        self._expiry = expiry
        self._clock = clock
        self._lock = threading.Lock()
        self.stale = False
        """Whether the newest view could not be rendered, so that an older one is shown."""
        self._view = self._make({})

    def view(self) -> View[R]:
        """Return the view as it is now."""
        if self._clock() >= self._view.expires:
            with self._lock:
                self._swap(self._view.accounts)
        return self._view

    def put(self, status: AccountStatus) -> None:
        """Replace what is known of an account."""
        with self._lock:
            self._swap({**self._view.accounts, status.name: status})

    def remove(self, account: str) -> None:
        """Forget an account."""
        with self._lock:
            self._swap({n: s for n, s in self._view.accounts.items() if n != account})

    def _swap(self, accounts: Accounts) -> None:
        try:
            self._view = self._make(accounts)
            self.stale = False
        except Exception:
            self.stale = True
            log.exception("a defect, please report it: the metrics cannot be rendered")

    def _make(self, accounts: Accounts) -> View[R]:
        now = self._clock()
        return View(accounts, self._render(accounts, now), self._expiry(accounts, now))
