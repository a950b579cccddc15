"""The real poller, client and transport, wired up for experiments."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from borgbase_exporter.api.client import Client, connect
from borgbase_exporter.collectors import COLLECTORS
from borgbase_exporter.config import API
from borgbase_exporter.credentials import GivenToken
from borgbase_exporter.exposition import FORMATS, Format, Renderer
from borgbase_exporter.model import AccountStatus
from borgbase_exporter.poller import Poller, Schedule
from borgbase_exporter.state import State
from tests.canary import CANARY, betrays

INTERVAL = 900.0
PLENTY = 30.0
"""Seconds: a poll that is expected to fail or succeed by itself does so long before."""
SHORT = 0.3
"""Seconds: a poll that is expected to be cut off is cut off then."""
HARD = 15.0
"""Seconds after which a poll counts as never ending, however busy the machine."""
LIMIT = 1 << 20

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
Connect = Callable[[str], AbstractContextManager[Client]]
T = TypeVar("T")


def endpoint(url: str, ca_file: str | None = None, max_response: int = LIMIT) -> API:
    return API(url, ca_file, None, max_response)


def within(seconds: float, work: Callable[[], T]) -> T:
    """Return what the work returns; fail when it does not return in time."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"not over within {seconds} s"
    assert results, "ended with an exception"
    return results[0]


def parsed(format_: Format, text: str) -> Samples:
    """Parse an exposition as Prometheus would."""
    families = list((parse_openmetrics if format_.openmetrics else parse_text)(text))
    samples = [sample for family in families for sample in family.samples]
    found = {(s.name, frozenset(s.labels.items())): s.value for s in samples}
    assert len(found) == len(samples), "a series is there twice"
    return found


@dataclass(frozen=True)
class Result:
    """What a scrape shows."""

    samples: Samples

    def get(self, name: str, **labels: str) -> float | None:
        return next(iter(self.all(name, **labels).values()), None)

    def all(self, name: str, **labels: str) -> Samples:
        wanted = labels.items()
        return {k: v for k, v in self.samples.items() if k[0] == name and wanted <= k[1]}

    @property
    def failures(self) -> dict[tuple[str, str], float]:
        """The failures counted, by collector and reason."""
        found = {}
        for (_, labels), count in self.all("borgbase_poll_failures_total").items():
            label = dict(labels)
            if count:
                found[label["collector"], label["reason"]] = count
        return found

    @property
    def usage(self) -> float | None:
        return self.get("borgbase_repo_usage_bytes")


class Bench:
    """An exporter without its web server: polls when told, and shows what it would serve.

    It asks the API at an address, or whatever a `client` stands for.
    """

    def __init__(self, api: API | None = None, client: Connect | None = None) -> None:
        self.api = api or endpoint("http://nowhere.test")
        self.seconds = PLENTY
        renderer = Renderer(max_age=6 * 3600)
        self.state = State(renderer.render, renderer.expiry, time.time)
        self.poller = Poller(
            "default",
            GivenToken("a test", CANARY),
            COLLECTORS,
            client or (lambda token: connect(self.api, self.seconds, token)),
            self.put,
            Schedule(INTERVAL, SHORT),
            jitter=lambda: 1.0,
        )
        self.put(self.poller.status)

    def put(self, status: AccountStatus) -> None:
        """Show a status."""
        self.state.put(status)
        self.state.show()

    def poll(self) -> float:
        """Poll; fail when the poll does not end."""
        return within(HARD, self.poller.poll)

    @contextlib.contextmanager
    def pointed(self, at: API, seconds: float = PLENTY) -> Iterator[None]:
        """Point the exporter at another API for a while."""
        before = self.api, self.seconds
        self.api, self.seconds = at, seconds
        yield
        self.api, self.seconds = before

    def scrape(self) -> Result:
        """Parse what is served, in both formats; they must agree, and hold no token."""
        results = []
        for format_ in FORMATS:
            page = self.state.view().rendered[format_].plain.decode()
            assert not betrays(page)
            end = "# EOF\n" if format_.openmetrics else ""
            results.append(Result(parsed(format_, page + end)))
        assert results[0] == results[1]
        return results[0]


def descriptors() -> set[str]:
    """Return the open files of this process."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists
            found.add(f"{link.name} {link.readlink()}")
    return found


def lingering(before: set[threading.Thread]) -> list[threading.Thread]:
    """Return the threads that were not there before and do not end."""
    for thread in set(threading.enumerate()) - before:
        thread.join(HARD)
    return [thread for thread in threading.enumerate() if thread not in before]
