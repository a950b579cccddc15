"""The real areas, client and transport, set up for experiments."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from borgbase_exporter.api.areas import AREAS, Area
from borgbase_exporter.api.client import Client
from borgbase_exporter.errors import PollError
from borgbase_exporter.model import CollectorStatus, RepoList
from borgbase_exporter.settings import API
from tests.canary import CANARY

PLENTY = 30.0  # seconds: a query that should fail or succeed by itself does so long before
SHORT = 0.3  # seconds: a query that should be cut off is cut off then
HARD = 15.0  # seconds after which a query counts as never ending, however busy the machine
LIMIT = 1 << 20

Outcomes = dict[str, CollectorStatus | PollError]
T = TypeVar("T")


@dataclass(frozen=True)
class Endpoint(API):
    """The settings of --api.*."""

    url: str
    ca_file: str | None = None
    proxy: str | None = None
    max_response: int = LIMIT


def within(seconds: float, work: Callable[[], T]) -> T:
    """Return the result of the work; fail if it takes too long."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"not over within {seconds} s"
    assert results, "ended with an exception"
    return results[0]


def poll(client: Client, seconds: float = PLENTY, areas: Iterable[Area] = AREAS) -> Outcomes:
    """Query all areas; return the outcome of each by its name."""
    with contextlib.closing(client):
        return {a.name: within(HARD, partial(_collect, a, client, seconds)) for a in areas}


def _collect(area: Area, client: Client, seconds: float) -> CollectorStatus | PollError:
    try:
        return area.collect(client, CANARY, seconds=seconds)
    except PollError as error:
        return error.without_frames()


def reasons(outcomes: Outcomes) -> dict[str, str]:
    """Return why areas failed."""
    return {name: o.reason for name, o in outcomes.items() if isinstance(o, PollError)}


def usage(outcomes: Outcomes) -> float | None:
    """Return the usage of the first repo, in bytes."""
    found = outcomes["repos"]
    assert isinstance(found, CollectorStatus), found
    assert isinstance(found.part, RepoList)
    return found.part.repos[0].usage


def descriptors() -> set[str]:
    """Return the open files of this process."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor that lists them
            found.add(f"{link.name} {link.readlink()}")
    return found


def lingering(before: set[threading.Thread]) -> list[threading.Thread]:
    """Return the threads that were not there before and do not end."""
    for thread in set(threading.enumerate()) - before:
        thread.join(HARD)
    return [thread for thread in threading.enumerate() if thread not in before]
