"""A poll loop per account, kept in step with the accounts that have a token."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

from borgbase_exporter.credentials import AccountTokens, TokenFile, TokenSource
from borgbase_exporter.errors import TokenError
from borgbase_exporter.model import AccountStatus
from borgbase_exporter.poller import Poller

log = logging.getLogger(__name__)

Publish = Callable[[AccountStatus], None]


class Board(Protocol):
    """Where the accounts' statuses go: noted at once, shown together."""

    def put(self, status: AccountStatus) -> None:
        """Take note of an account's status."""

    def remove(self, account: str) -> None:
        """Take note that an account is gone."""

    def show(self) -> None:
        """Show what has changed, now."""

    def settle(self) -> None:
        """See to it that what has changed shows soon."""


class Loops:
    """Runs the loops; `make` gives the poller of an account."""

    def __init__(
        self,
        tokens: AccountTokens,
        make: Callable[[str, TokenSource, Publish], Poller],
        board: Board,
    ) -> None:
        self._tokens = tokens
        self._make = make
        self._board = board
        self._lock = threading.Lock()
        self._loops: dict[str, _Loop] = {}
        self._complaint = ""
        self._exposed: set[TokenSource] = set()
        self._stuck: set[str] = set()

    def sync(self) -> None:
        """Start loops for new accounts, and stop those of accounts that are gone."""
        try:
            sources = self._tokens.sources()
            complaint = "" if sources else "no token files, so there is nothing to poll"
        except TokenError as error:
            complaint = f"{error}; the accounts known so far are polled on"
            sources = None
        if complaint and complaint != self._complaint:
            log.warning("%s", complaint)
        self._complaint = complaint
        if sources is None:
            return
        for account in self._loops.keys() - sources.keys():
            with self._lock:
                self._loops.pop(account).stop()
                self._board.remove(account)
            log.info("the account is gone", extra={"account": account})
        begun = [
            self._made(account, sources[account]) for account in sources.keys() - self._loops.keys()
        ]
        self._board.show()
        if begun:
            # Aside: a thread takes until it gets the processor to start, which the polls of many
            # accounts keep busy, and whoever called has scrapes and signals to see to.
            threading.Thread(target=_start, args=(begun,), name="start polls", daemon=True).start()

    def _made(self, account: str, source: TokenSource) -> _Loop:
        if isinstance(source, TokenFile) and source.exposed and source not in self._exposed:
            self._exposed.add(source)
            log.warning(
                "%s can be read by other users; chmod 600 it",
                source.origin,
                extra={"account": account},
            )

        def publish(status: AccountStatus) -> None:
            # A poll under way when its account goes must not bring the account back.
            with self._lock:
                if self._loops.get(account) is not loop:
                    return
                self._board.put(status)
            self._board.settle()

        loop = _Loop(self._make(account, source, publish))
        self._loops[account] = loop
        self._board.put(loop.poller.status)
        return loop

    def poll_now(self) -> None:
        """Have every account polled at once."""
        for loop in self._loops.values():
            loop.wake()

    def stop(self) -> None:
        """Let every loop end after its poll; nobody waits for it."""
        for loop in self._loops.values():
            loop.stop()

    def stuck(self) -> list[str]:
        """Return the accounts whose loop is dead or stuck; log each when that begins."""
        stuck = [account for account, loop in list(self._loops.items()) if loop.stuck]
        for account in set(stuck) - self._stuck:
            log.error("the poll loop is dead or stuck", extra={"account": account})
        self._stuck = set(stuck)
        return stuck


def _start(loops: Iterable[_Loop]) -> None:
    for loop in loops:
        loop.start()


class _Loop:
    """The thread of one poller."""

    def __init__(self, poller: Poller) -> None:
        self.poller = poller
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(
            target=poller.run, args=(self._wait,), name=f"poll {poller.status.name}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()

    @property
    def stuck(self) -> bool:
        begun = self._thread.ident is not None
        dead = begun and not self._thread.is_alive() and not self._stopped
        return dead or self.poller.late > 0

    def _wait(self, seconds: float) -> bool:
        self._wake.wait(seconds)
        self._wake.clear()
        return self._stopped
