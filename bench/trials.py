"""The experiments. Each measures its contenders in turns, so that noise affects all alike."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from unittest import mock
from urllib.parse import quote

from bench import answers
from bench.client import Client
from bench.contenders import (
    OURS,
    STOCK,
    Contender,
    Field,
    await_polls,
    exporter_command,
    polls,
    serving,
)
from bench.figures import cpu_seconds, megabytes
from borgbase_exporter.api.areas import AREAS
from borgbase_exporter.api.client import Client as APIClient
from borgbase_exporter.api.transport import Reply
from borgbase_exporter.metrics.exposition import OPENMETRICS, TEXT, Page, Renderer
from borgbase_exporter.model import AccountStatus, CollectorStatus
from tests.lab.bench import Endpoint
from tests.programs import program

BATCH_SECONDS = 0.2
BATCH = 20
"""Scrapes of one contender in a row, and the most seconds for them."""
PAUSE = 0.002
HALF_A_REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow:"
"""What a client sends that then stalls."""
SETTLE_SECONDS = 0.5
PATIENCE = 120.0


@dataclass
class Scrapes:
    """How a contender answered; times in milliseconds, memory in megabytes."""

    times: list[float] = field(default_factory=list)
    cpu: float = 0.0
    memory: float = 0.0
    bytes: int = 0


def scrapes(contenders: Sequence[Contender], rounds: int, *, gzip: bool = True) -> list[Scrapes]:
    """Scrape each contender over its own connection, several times in a row, in rounds."""
    results = [Scrapes() for _ in contenders]
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(c.port)) for c in contenders]
        for client, contender in zip(clients, contenders, strict=True):
            client.get(contender.path, gzip=gzip)
        begun = [cpu_seconds(contender.pid) for contender in contenders]
        for _ in range(rounds):
            for client, contender, result in zip(clients, contenders, results, strict=True):
                ends = time.perf_counter() + BATCH_SECONDS
                for _ in range(BATCH):
                    answer = client.get(contender.path, gzip=gzip)
                    result.times.append(answer.seconds * 1000)
                    result.bytes = len(answer.body)
                    if time.perf_counter() > ends:
                        break
        for contender, result, before in zip(contenders, results, begun, strict=True):
            result.cpu = (cpu_seconds(contender.pid) - before) * 1000 / len(result.times)
            result.memory = megabytes(contender.pid)
    return results


def scrape_durations(found: Field, folder: Path, interval: int, samples: int) -> list[float]:
    """Have a real Prometheus scrape all; return the median of its scrape_duration_seconds, in ms.

    A target's first scrapes also make its series, so the first quarter does not count.
    """
    jobs = [
        {
            "job_name": contender.name,
            "metrics_path": contender.openmetrics,
            "static_configs": [{"targets": [f"127.0.0.1:{contender.port}"]}],
        }
        for contender in found.all
    ]
    config = folder / "prometheus.yml"  # JSON is YAML
    times = {"scrape_interval": f"{interval}s", "scrape_timeout": f"{interval}s"}
    config.write_text(json.dumps({"global": times, "scrape_configs": jobs}))

    def command(port: int) -> Sequence[str | Path]:
        return [
            *(program("prometheus"), f"--config.file={config}"),
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]

    query = "/api/v1/query?query=" + quote("scrape_duration_seconds[1h]")
    with (
        serving("Prometheus", command, folder / "prometheus.log", "/-/ready") as prometheus,
        Client(prometheus.port) as client,
    ):
        while True:
            time.sleep(interval)
            result = json.loads(bytes(client.get(query, gzip=False).body))["data"]["result"]
            taken = {
                entry["metric"]["job"]: [float(value) * 1000 for _, value in entry["values"]]
                for entry in result
            }
            if all(len(taken.get(contender.name, ())) >= samples for contender in found.all):
                return [median(taken[contender.name][samples // 4 :]) for contender in found.all]


@dataclass
class Polls:
    """The cost of polls to the exporter and to its scrapes meanwhile, in milliseconds."""

    cpu: float = 0.0
    quiet: float = 0.0
    worst: list[float] = field(default_factory=list)
    """The worst scrape of each poll."""
    worst_beside: list[float] = field(default_factory=list)
    """The worst scrape of another server at the same time: the noise of the machine."""
    peak: float = 0.0
    """Megabytes."""


def polling(ours: Contender, other: Contender | None, count: int) -> Polls:
    """Have the exporter poll, this many times undisturbed and as many times during scrapes."""
    with ExitStack() as stack:
        client = stack.enter_context(Client(ours.port))
        beside = stack.enter_context(Client(other.port)) if other else None
        begun = time.perf_counter()
        await_polls(ours, _poll(ours, client))
        window = 1.5 * (time.perf_counter() - begun) + 0.1
        result = Polls()
        for _ in range(count):
            before = cpu_seconds(ours.pid)
            _poll(ours, client)
            time.sleep(window)
            result.cpu += (cpu_seconds(ours.pid) - before) * 1000 / count
        result.quiet = median(client.get(ours.path).seconds * 1000 for _ in range(BATCH))
        for _ in range(count):
            during, meanwhile = [0.0], [0.0]
            _poll(ours, client)
            ends = time.perf_counter() + window
            while time.perf_counter() < ends:
                during.append(client.get(ours.path).seconds * 1000)
                if beside and other:
                    meanwhile.append(beside.get(other.path).seconds * 1000)
                time.sleep(PAUSE)
            result.worst.append(max(during))
            result.worst_beside.append(max(meanwhile))
        result.peak = megabytes(ours.pid, "VmHWM")
    return result


def _poll(ours: Contender, client: Client) -> int:
    """Have the exporter poll at once; return the number of polls after that one."""
    count = polls(client, ours.path) + 1
    ours.process.send_signal(signal.SIGHUP)
    return count


def starts(folder: Path, count: int) -> dict[str, list[float]]:
    """Start servers repeatedly; return the milliseconds until the first answered scrape."""
    empty = folder / "empty.prom"
    empty.touch()
    commands: dict[str, Callable[[int], Sequence[str | Path]]] = {
        OURS: exporter_command(1),  # no API listens there: a scrape does not need one
        STOCK: lambda port: [sys.executable, "-m", "bench.stock", str(port), empty],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(count):
        for name, command in commands.items():
            begun = time.perf_counter()
            with serving(name, command, folder / "start.log"):
                times[name].append((time.perf_counter() - begun) * 1000)
    return times


@dataclass(frozen=True)
class Siege:
    """A server's scrapes with and without hostile clients: milliseconds and megabytes."""

    before: list[float]
    meanwhile: list[float]
    memory: float
    """The memory that hostile clients cost."""


def besieged(
    target: Contender, clients: int, request: bytes, count: int, *, small_window: bool = False
) -> Siege:
    """Scrape while clients that sent this stay idle."""
    with Client(target.port) as client:
        before = [client.get(target.path).seconds * 1000 for _ in range(count)]
        memory = megabytes(target.pid)
        with _stalled(target.port, clients, request, small_window=small_window):
            time.sleep(SETTLE_SECONDS)
            meanwhile = [client.get(target.path).seconds * 1000 for _ in range(count)]
            return Siege(before, meanwhile, megabytes(target.pid) - memory)


@contextmanager
def _stalled(port: int, count: int, request: bytes, *, small_window: bool) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            if small_window:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", port))
            connection.sendall(request)
        yield


@dataclass(frozen=True)
class Stages:
    """What the parts of a poll take, in microseconds per repo."""

    decode: float
    render: float
    compress: float


def stages(repos: int, count: int) -> Stages:
    """Decode, render and compress in this process, so that each part can be timed by itself."""
    area = AREAS[0]
    reply = Reply(200, answers.bodies(repos)[area.query.name])
    client = APIClient(Endpoint("http://127.0.0.1:1/"))
    times: list[tuple[float, float, float]] = []
    with mock.patch("borgbase_exporter.api.transport.Transport.post", return_value=reply):
        for _ in range(count):
            begun = time.perf_counter()
            part = area.collect(client, "", seconds=PATIENCE).part
            decoded = time.perf_counter()
            status = AccountStatus("default", {"repos": CollectorStatus(part, taken=begun)})
            pages = Renderer().render({"default": status})
            rendered = time.perf_counter()
            for format_ in (TEXT, OPENMETRICS):
                Page.of(format_, pages[format_].pieces)
            compress = time.perf_counter() - rendered
            times.append((decoded - begun, rendered - decoded - compress, compress))
    return Stages(*(median(column) * 1e6 / repos for column in zip(*times, strict=True)))


def load() -> float:
    """Return how many processes wanted a core in the last minute."""
    return os.getloadavg()[0]
