"""`textfile`: poll once and write the metrics to a file, for node_exporter's textfile collector.

A run has no memory of its own. What it must know of earlier runs (the last good parts, the counts)
is in the file's first line, a comment to any other reader:

    # borgbase-exporter {"version":"1.0.0","api":"https://…","accounts":{"default":{"polls":42,…}}}
    # HELP borgbase_repo_usage_bytes Space that the repo takes on the server.
    …
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from borgbase_exporter import __version__, settings
from borgbase_exporter.commands.main import make_poller
from borgbase_exporter.commands.oneshot import INTERRUPTED, at_once, interruptible, replacing
from borgbase_exporter.errors import TokenError
from borgbase_exporter.metrics.exposition import TEXT, Renderer
from borgbase_exporter.model import AccountStatus, Snapshot

log = logging.getLogger(__name__)

MARK = b"# borgbase-exporter "
LONGEST = 256 * 2**20
"""Bytes of a first line; a longer one is not ours."""


def run(given: settings.Textfile) -> int:
    """Poll once and write the file; return 0 only if every query succeeded."""
    try:
        with interruptible():
            accounts = _poll_and_write(given)
    except (TokenError, TextfileError) as error:
        log.error("%s", error)  # noqa: TRY400  # the traceback says no more
        return 1
    except OSError as error:
        log.error("%s: cannot be written: %s", given.path, error.strerror)  # noqa: TRY400
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    if not accounts:
        log.error("there is no account to poll")
    good = [c.success for status in accounts.values() for c in status.collectors.values()]
    return 0 if good and all(good) else 1


def _poll_and_write(given: settings.Textfile) -> Mapping[str, AccountStatus]:
    assert given.tokens  # noqa: S101  # missing with --demo only, and then filled in
    file = MetricsFile(given.path, given.api.url)
    sources = given.tokens.sources()
    memories = file.read()
    pollers = [make_poller(given, name, source) for name, source in sources.items()]
    for poller in pollers:
        poller.status = resumed(poller.status, memories.get(poller.status.name), time.time())
    at_once([poller.poll for poller in pollers])
    accounts = {poller.status.name: poller.status for poller in pollers}
    file.write(accounts, given.poll.max_age, time.time())
    return accounts


class TextfileError(Exception):
    """Why the file cannot be written, in words."""


class CollectorMemory(msgspec.Struct, frozen=True):
    """What the next run must know of a collector, beside its part."""

    taken: float | None
    failures: dict[str, int]
    gaps: frozenset[str]
    missing: frozenset[str]
    missing_since: float | None


class AccountMemory(msgspec.Struct, frozen=True):
    """What the next run must know of an account."""

    polls: int
    last_success: float | None
    collectors: dict[str, CollectorMemory]
    snapshot: Snapshot


class Memory(msgspec.Struct, frozen=True):
    """What the next run must know, if it is of the same version and asks the same API."""

    version: str
    api: str
    accounts: dict[str, AccountMemory]


_MEMORY = msgspec.json.Decoder(Memory)


def remember(status: AccountStatus) -> AccountMemory:
    """Return what the next run must know of an account."""
    collectors = {
        name: msgspec.convert(collector, CollectorMemory, from_attributes=True)
        for name, collector in status.collectors.items()
    }
    return AccountMemory(status.polls, status.last_success, collectors, status.snapshot)


def resumed(status: AccountStatus, memory: AccountMemory | None, now: float) -> AccountStatus:
    """Return the status of an account that is new to this process, as the last run left it.

    What was remembered while the clock was ahead counts as of now: else it would never expire.
    """
    if not memory:
        return status
    collectors = {
        name: replace(
            collector,
            part=getattr(memory.snapshot, name),
            taken=_past(kept.taken, now),
            failures={reason: kept.failures.get(reason, 0) for reason in collector.failures},
            gaps=kept.gaps,
            missing=kept.missing,
            missing_since=_past(kept.missing_since, now),
        )
        if (kept := memory.collectors.get(name))
        else collector
        for name, collector in status.collectors.items()
    }
    last_success = _past(memory.last_success, now)
    return replace(status, collectors=collectors, polls=memory.polls, last_success=last_success)


def _past(moment: float | None, now: float) -> float | None:
    return None if moment is None else min(moment, now)


@dataclass(frozen=True, slots=True)
class MetricsFile:
    """The file at `path`, no link; what it remembers is true of the API at the URL `api`."""

    path: Path
    api: str

    def read(self) -> Mapping[str, AccountMemory]:
        """Return what is remembered of each account.

        Raises TextfileError, or OSError, when the file is not ours or cannot be replaced.
        """
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise TextfileError(f"{self.path.parent}: no permission to write there")
        if not self.path.exists():
            return {}
        if not self.path.is_file():
            raise TextfileError(f"{self.path}: is not a file")
        with self.path.open("rb") as file:
            line = file.readline(LONGEST)
        if not line:
            return {}  # an empty file is nobody's
        if not line.startswith(MARK):
            raise TextfileError(f"{self.path}: is of another origin; delete it, or write elsewhere")
        try:
            memory = _MEMORY.decode(line.removeprefix(MARK))
        except (ValueError, RecursionError):
            log.warning("%s: is damaged; the values of the last run are lost", self.path)
            return {}
        fits = (memory.version, memory.api) == (__version__, self.api)
        return memory.accounts if fits else {}

    def write(self, accounts: Mapping[str, AccountStatus], max_age: float, now: float) -> None:
        """Replace the file by one of these accounts; OSError where that fails, and it stays."""
        shown = {name: status.as_of(now, max_age) for name, status in accounts.items()}
        memories = {name: remember(status) for name, status in shown.items()}
        memory = msgspec.json.encode(Memory(__version__, self.api, memories))
        page = Renderer().render(shown)[TEXT]
        with replacing(self.path) as file:
            file.writelines((MARK, memory, b"\n", page.plain))
