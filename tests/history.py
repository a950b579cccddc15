"""Simulated history in a real Prometheus: weeks of scrapes, made in seconds.

The samples come from the exporter's Poller, Client and Renderer; only the network is left out. The
samples that Prometheus adds at a scrape are added: `job`, `instance` and `up`.
Two things differ from a real history: a series that ends leaves no staleness marker, so queries see
it for the five minutes of lookback, and `process_*` are the test process's current values.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import msgspec

from borgbase_exporter.api.areas import AREAS
from borgbase_exporter.api.client import Client
from borgbase_exporter.api.transport import Reply, Transport
from borgbase_exporter.errors import PollError, Reason
from borgbase_exporter.metrics.exposition import OPENMETRICS, Renderer
from borgbase_exporter.model import AccountStatus
from borgbase_exporter.polling.poller import Poller
from borgbase_exporter.settings.options import Poll
from borgbase_exporter.tokens import GivenToken
from tests.clock import Clock
from tests.graphql import Edition, SimulatedAccount, root
from tests.lab.bench import Endpoint
from tests.tsdb import lines_to

HOUR = 3600.0
DAY = 24 * HOUR

Span = tuple[float, float]  # from one moment until just before another


@dataclass(frozen=True)
class Target:
    """The labels that Prometheus gives to an exporter."""

    job: str = "borgbase"
    instance: str = "localhost:10133"

    @property
    def labels(self) -> str:
        return f'instance="{self.instance}",job="{self.job}"'


@dataclass(kw_only=True)
class History:
    """What happens to some accounts, and the series that Prometheus scrapes. In Unix seconds.

    The accounts, here by name, must live by `clock`. Every `step` seconds Prometheus scrapes, every
    `interval` the exporter polls. Each of the `events` is carried out when its time comes: it may
    change accounts, or set this history's `schema`, by which a real GraphQL server answers from
    then on, much more slowly than the accounts do. While `failing`, the API answers with HTTP 503.
    While `down`, the exporter does not run; then it starts anew, its counters at 0. The `targets`
    are the exporter and its replicas, equal in all but their labels.
    """

    clock: Clock
    accounts: Mapping[str, SimulatedAccount]
    events: Mapping[float, Callable[[], object]] = field(default_factory=dict)
    failing: Collection[Span] = ()
    down: Collection[Span] = ()
    schema: Edition | None = None
    simulated: bool = False
    targets: Sequence[Target] = (Target(),)
    step: float = 300.0
    interval: float = HOUR
    max_age: float = 6 * HOUR

    def write(self, data: Path, start: float, end: float) -> Path:
        """Add the scrapes from `start` to `end` to a Prometheus' data folder, and return that."""
        with lines_to(data) as lines:
            for now, page in self._scrapes(start, end):
                ups = "".join(
                    f"up{{{target.labels}}} {int(bool(page))}\n" for target in self.targets
                )
                lines.write((page + ups).replace("\n", f" {now:.0f}\n"))
        return data

    def _scrapes(self, start: float, end: float) -> Iterator[tuple[float, str]]:
        """Yield the time of each scrape and its samples, which are none while down."""
        events = sorted(self.events)
        exporter: _Exporter | None = None
        for number in range(int((end - start) // self.step) + 1):
            now = start + number * self.step
            while events and events[0] <= now:
                self._live_until(events[0], exporter)
                self.events[events.pop(0)]()
            if within(now, self.down):
                exporter = None
            self._live_until(now, exporter)
            if exporter is None and not within(now, self.down):
                exporter = _Exporter(self)
                exporter.poll_until(now)
            yield now, exporter.page() if exporter else ""

    def _live_until(self, moment: float, exporter: _Exporter | None) -> None:
        if exporter:
            exporter.poll_until(moment)
        self.clock.now = max(moment, self.clock.now)  # a poll may end after the scrape it began at


class _Exporter:
    """An exporter from its start to its end, without threads, sockets and waiting."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._latency = random.Random(history.clock.now)  # noqa: S311  # variety, not secrecy
        self._renderer = Renderer()
        self._pollers = [self._poller(*account) for account in history.accounts.items()]
        self._due = [history.clock.now] * len(self._pollers)
        self._shown: list[AccountStatus] = []
        self._text = ""

    def _poller(self, name: str, account: SimulatedAccount) -> Poller:
        history = self._history
        client = Client(Endpoint("http://history.invalid/graphql"))
        client._transport = _Wire(history, account, self._take_time)
        return Poller(
            AccountStatus(name, {}, interval=history.interval, simulated=history.simulated),
            GivenToken("the history", account.token),
            client,
            AREAS,
            Poll(interval=history.interval, timeout=30.0, max_age=history.max_age),
            clock=history.clock,
            monotonic=history.clock,
            jitter=lambda: 1.0,
        )

    def _take_time(self) -> None:
        self._history.clock.now += self._latency.uniform(0.05, 0.4)

    def poll_until(self, moment: float) -> None:
        """Poll whatever is due by then, one after the other."""
        while self._due and (due := min(self._due)) <= moment:
            first = self._due.index(due)
            self._history.clock.now = due
            self._pollers[first].poll()
            self._due[first] = self._history.clock.now + self._pollers[first].delay

    def page(self) -> str:
        """Return the samples exposed now, each with the labels of each target."""
        now, max_age = self._history.clock.now, self._history.max_age
        shown = [poller.status.as_of(now, max_age) for poller in self._pollers]
        if not self._text or shown != self._shown:
            self._shown = shown
            pages = self._renderer.render({status.name: status for status in shown})
            text = b"".join(pages[OPENMETRICS].body()).decode()
            samples = re.sub("^#.*\n", "", text, flags=re.MULTILINE)
            self._text = "".join(
                _labelled(samples, target.labels) for target in self._history.targets
            )
        return self._text


def _labelled(samples: str, labels: str) -> str:
    """Add labels to samples: a metric's name ends at the first brace or space of its line."""
    parts = (re.split(r"([{ ])", line, maxsplit=1) for line in samples[:-1].split("\n"))
    ends = {"{": ",", " ": "} "}
    return "".join(f"{name}{{{labels}{ends[end]}{rest}\n" for name, end, rest in parts)


@dataclass
class _Wire(Transport):
    """A Transport without a network: it calls the API directly."""

    history: History
    account: SimulatedAccount
    take_time: Callable[[], None]

    def post(self, query: str, token: str, *, seconds: float) -> Reply:
        self.take_time()
        if within(self.account.now(), self.history.failing):
            raise PollError(Reason.HTTP_STATUS, "answered with HTTP 503")
        record = self.account.token_for(token)
        moment, permission = self.account.moment(), record.permission if record else None
        if self.history.schema:
            answer = self.history.schema.execute(query, root(moment, permission))
        else:
            answer = moment.answer(query, permission)
        status = HTTPStatus.OK if "data" in answer else HTTPStatus.BAD_REQUEST
        return Reply(status, msgspec.json.encode(answer))

    def close(self) -> None:
        """Do nothing: no connection is open."""


def within(moment: float, spans: Collection[Span]) -> bool:
    """Return whether a moment lies in one of the spans."""
    return any(begin <= moment < end for begin, end in spans)
