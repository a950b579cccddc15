"""`textfile`: poll once and write the metrics to a file, for node_exporter's textfile collector.

Each run is a new process. What it must know of earlier runs (the last good parts, the counts) is in
the file's first line, which is a comment for all other readers:

    # borgbase-exporter {"version":"1.0.0","api":"https://…","accounts":{"default":{"polls":42,…}}}
    # HELP borgbase_repo_usage_bytes Space that the repo takes on the server.
    …
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from borgbase_exporter import __version__, settings
from borgbase_exporter.commands import oneshot
from borgbase_exporter.commands.main import make_poller
from borgbase_exporter.commands.oneshot import CommandError
from borgbase_exporter.metrics.exposition import TEXT, Renderer
from borgbase_exporter.model import AccountStatus, Snapshot
from borgbase_exporter.polling.poller import Poller

log = logging.getLogger(__name__)

MARK = b"# borgbase-exporter "
LONGEST = 256 * 2**20  # bytes of a first line; no run writes a longer one


def run(given: settings.Textfile) -> int:
    """Poll once and write the file; return 0 only if every query succeeded."""
    complain = functools.partial(log.error, "%s")
    return oneshot.run(lambda: _poll_and_write(given), complain, 1, given.path)


def _poll_and_write(given: settings.Textfile) -> int:
    assert given.tokens  # noqa: S101  # missing with --demo only, and then filled in
    sources = given.tokens.sources()
    memories = read(given.path, given.api.url)
    pollers = [make_poller(given, name, source) for name, source in sources.items()]
    for poller in pollers:
        poller.status = resumed(poller.status, memories.get(poller.status.name), time.time())
    oneshot.at_once(Poller.poll, pollers)
    now = time.time()
    accounts = {p.status.name: p.status.as_of(now, given.poll.max_age) for p in pollers}
    write(given.path, given.api.url, accounts)
    if not accounts:
        log.error("there is no account to poll")
    good = [c.success for status in accounts.values() for c in status.collectors.values()]
    return 0 if good and all(good) else 1


class CollectorMemory(msgspec.Struct, frozen=True):
    """What the next run must know of a collector, besides its part."""

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
    """What the next run must know, if it has the same version and polls the same API."""

    version: str
    api: str
    accounts: dict[str, AccountMemory]


def resumed(status: AccountStatus, memory: AccountMemory | None, now: float) -> AccountStatus:
    """Return an account's status in a new process, completed by what the last run stored."""
    # Future times, from a clock that was ahead, count as now; the poll corrects those of parts.
    if not memory:
        return status
    collectors = dict(status.collectors)
    for name in collectors.keys() & memory.collectors.keys():
        kept = msgspec.structs.asdict(memory.collectors[name])
        kept["missing_since"] = min(kept["missing_since"] or 0.0, now)
        collectors[name] = replace(collectors[name], part=getattr(memory.snapshot, name), **kept)
    success = memory.last_success and min(memory.last_success, now)
    return replace(status, collectors=collectors, polls=memory.polls, last_success=success)


def read(path: Path, api: str) -> Mapping[str, AccountMemory]:
    """Return what the file at `path`, which is no link, holds about each account of an API.

    Raises CommandError or OSError if another program wrote it or it cannot be replaced.
    """
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise CommandError(f"{path.parent}: no permission to write there")
    if not path.exists():
        return {}
    if not path.is_file():
        raise CommandError(f"{path}: is not a file")
    with path.open("rb") as file:
        line = file.readline(LONGEST)
    if not line:
        return {}  # no content to protect
    if not line.startswith(MARK):
        raise CommandError(f"{path}: is not a file of this program; delete it, or write elsewhere")
    try:
        memory = msgspec.json.decode(line.removeprefix(MARK), type=Memory)
    except (ValueError, RecursionError):
        log.warning("%s: is damaged; the values of the last run are lost", path)
        return {}
    return memory.accounts if (memory.version, memory.api) == (__version__, api) else {}


def write(path: Path, api: str, accounts: Mapping[str, AccountStatus]) -> None:
    """Replace the file by one of these accounts; on an OSError the old file stays."""
    new = {"version": __version__, "api": api, "accounts": accounts}
    memory = msgspec.json.encode(msgspec.convert(new, Memory, from_attributes=True))
    with oneshot.replacing(path) as file:
        file.writelines((MARK, memory, b"\n", *Renderer().render(accounts)[TEXT].pieces))
