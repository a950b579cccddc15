"""`textfile`: the file that node_exporter's textfile collector reads, and what the next run needs.

A run has no memory of its own. What one must know of those before it (the last good parts, the
counts) stands in the file's first line, which is a comment to everybody else:

    # borgbase-exporter {"version":"1.0.0","api":"https://…","accounts":{"default":{"polls":42,…}}}
    # HELP borgbase_repo_usage_bytes Space that the repo takes on the server.
    …

Atomic: node_exporter finds the old file or the new one, and no draft, as it reads *.prom only.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from borgbase_exporter import __version__
from borgbase_exporter.exposition import TEXT, Renderer
from borgbase_exporter.model import AccountStatus, Snapshot

log = logging.getLogger(__name__)

MARK = b"# borgbase-exporter "
LONGEST = 256 * 2**20
"""Bytes of a first line; a longer one is none of ours."""


class TextfileError(Exception):
    """Why the file cannot be written, in words."""


class CollectorMemory(msgspec.Struct, frozen=True):
    """What the next run needs to know of a collector, beside its part."""

    taken: float | None
    failures: dict[str, int]
    gaps: frozenset[str]
    missing: frozenset[str]
    missing_since: float | None


class AccountMemory(msgspec.Struct, frozen=True):
    """What the next run needs to know of an account."""

    polls: int
    last_success: float | None
    collectors: dict[str, CollectorMemory]
    snapshot: Snapshot


class Memory(msgspec.Struct, frozen=True):
    """What the next run needs to know; one of another version, or of another API, does not."""

    version: str
    api: str
    accounts: dict[str, AccountMemory]


_MEMORY = msgspec.json.Decoder(Memory)


def remember(status: AccountStatus, since: float) -> AccountMemory:
    """Return what is to be known of an account by the next run, with the parts after `since`."""
    collectors = {
        name: msgspec.convert(collector, CollectorMemory, from_attributes=True)
        for name, collector in status.collectors.items()
    }
    return AccountMemory(status.polls, status.last_success, collectors, status.snapshot(since))


def resumed(status: AccountStatus, memory: AccountMemory | None, now: float) -> AccountStatus:
    """Return the status of an account that is new to this process, as the last run left it.

    What was remembered when the clock was ahead counts as of now: else it would never grow old.
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
    return replace(
        status,
        collectors=collectors,
        polls=memory.polls,
        last_success=_past(memory.last_success, now),
    )


def _past(moment: float | None, now: float) -> float | None:
    return None if moment is None else min(moment, now)


@dataclass(frozen=True, slots=True)
class Textfile:
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
        if line and not line.startswith(MARK):  # an empty one is nobody's
            raise TextfileError(f"{self.path}: is of another origin; delete it, or write elsewhere")
        try:
            memory = _MEMORY.decode(line.removeprefix(MARK)) if line else None
        except (ValueError, RecursionError):
            log.warning("%s: is damaged; the values of the last run are lost", self.path)
            return {}
        fits = memory and (memory.version, memory.api) == (__version__, self.api)
        return memory.accounts if memory and fits else {}

    def write(self, accounts: Mapping[str, AccountStatus], max_age: float, now: float) -> None:
        """Replace the file by one of these accounts; OSError where that fails, and it stays."""
        memories = {name: remember(status, now - max_age) for name, status in accounts.items()}
        memory = msgspec.json.encode(Memory(__version__, self.api, memories))
        page = Renderer(max_age).render(accounts, now)[TEXT]
        with tempfile.NamedTemporaryFile(
            dir=self.path.parent, prefix=f".{self.path.name}.", delete=False
        ) as file:
            try:
                file.writelines((MARK, memory, b"\n", page.plain))
                file.flush()
                os.fsync(file.fileno())
                os.fchmod(file.fileno(), 0o644)  # node_exporter is another user
                Path(file.name).replace(self.path)
            except BaseException:
                Path(file.name).unlink()
                raise
