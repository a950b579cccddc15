"""Servers of the same series, each a process on loopback."""

# ruff: noqa: D102, D103, S106, S603  # a tool, with an invented token
from __future__ import annotations

import contextlib
import gzip
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.client import OPENMETRICS, TEXT, Client
from tests.end_to_end.processes import EXPORTER, environment
from tests.programs import UnavailableError, program

OURS, NGINX, STOCK = "borgbase-exporter", "nginx", "prometheus_client"
NODE, PUSH = "node_exporter", "pushgateway"
PATIENCE = 120.0
PAUSE = 0.002
OWN = ("process_", "python_")
"""Families that each process adds itself."""


@dataclass(frozen=True)
class Contender:
    """A running server; `openmetrics` is its path for that format, if it differs."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    path: str = "/metrics"
    openmetrics: str = "/metrics"

    @property
    def pid(self) -> int:
        return self.process.pid


@dataclass(frozen=True)
class Field:
    """The contenders that could be started, and why others could not."""

    all: list[Contender]
    missing: list[str] = field(default_factory=list)

    @property
    def ours(self) -> Contender:
        return self.all[0]


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@contextmanager
def serving(
    name: str, command: Callable[[int], Sequence[str | Path]], log: Path, path: str = "/metrics"
) -> Iterator[Contender]:
    """Start a server on the port in its command; stop it afterwards."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(port),
            env=environment(BORGBASE_TOKEN="of-nobody"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    contender = Contender(name, process, port, path)
    try:
        await_answer(contender, log)
        yield contender
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_answer(contender: Contender, log: Path) -> None:
    """Send requests until one is answered."""
    deadline = time.monotonic() + PATIENCE
    while contender.process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), Client(contender.port) as client:
            client.get(contender.path)
            return
        time.sleep(PAUSE)
    raise UnavailableError(f"{contender.name} does not answer: {log.read_text()[-500:]}")


def exporter_command(api: int, *flags: str) -> Callable[[int], Sequence[str]]:
    """Return the exporter's command line for an API on a port of this machine."""
    return lambda port: [
        *(*EXPORTER, "serve", "--web.listen-address", f"127.0.0.1:{port}"),
        *("--api.url", f"http://127.0.0.1:{api}/graphql", "--api.max-response", "256MiB"),
        *("--poll.interval", "1h", *flags),
    ]


@contextmanager
def polled(repos: int, folder: Path) -> Iterator[Contender]:
    """Run the exporter with an API of this many repos, and wait for its first poll."""
    with ExitStack() as stack:
        api = stack.enter_context(
            serving(
                "the API",
                lambda port: [sys.executable, "-m", "bench.answers", str(port), str(repos)],
                folder / "api.log",
                "/",
            )
        )
        ours = stack.enter_context(
            serving(OURS, exporter_command(api.port), folder / "exporter.log")
        )
        await_polls(ours, 1)
        yield ours


def polls(client: Client, path: str) -> int:
    """Return how many polls the exporter's page reports."""
    body = bytes(client.get(path, gzip=False).body[-50_000:])  # these families come last
    counts = [x for x in body.splitlines() if x.startswith(b"borgbase_polls_total{")]
    return int(counts[0].rpartition(b" ")[2]) if counts else 0


def await_polls(ours: Contender, count: int) -> None:
    with Client(ours.port) as client:
        deadline = time.monotonic() + PATIENCE
        while polls(client, ours.path) < count:
            if time.monotonic() > deadline:
                raise UnavailableError("the exporter does not poll")
            time.sleep(0.02)
        text = bytes(client.get(ours.path, gzip=False).body)
    if b'borgbase_up{account="default"} 1' not in text:
        raise UnavailableError("the exporter's poll failed")


@contextmanager
def everybody(repos: int, folder: Path) -> Iterator[Field]:
    """Start all contenders with the series of this many repos."""
    with ExitStack() as stack:
        ours = stack.enter_context(polled(repos, folder))
        text = _exposition(ours, TEXT)
        series = folder / "series.prom"
        series.write_bytes(_without_own(text))
        found = Field([ours])
        starters: tuple[Callable[[], AbstractContextManager[Contender]], ...] = (
            partial(_nginx, folder, text, _exposition(ours, OPENMETRICS)),
            partial(_stock, folder, series),
            partial(_node_exporter, folder, series),
            partial(_pushgateway, folder, series),
        )
        for start in starters:
            try:
                found.all.append(stack.enter_context(start()))
            except UnavailableError as why:
                found.missing.append(str(why))
        yield found


def _exposition(ours: Contender, accept: str) -> bytes:
    with Client(ours.port) as client:
        return bytes(client.get(ours.path, accept=accept, gzip=False).body)


def _without_own(text: bytes) -> bytes:
    """Leave out the families that the other processes add themselves."""
    kept = []
    for line in text.splitlines(keepends=True):
        name = line.split()[2] if line.startswith(b"#") else line
        if not name.startswith(tuple(prefix.encode() for prefix in OWN)):
            kept.append(line)
    return b"".join(kept)


# Without sendfile nginx is twice as fast on loopback.
NGINX_CONF = """\
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{}}
http {{
  access_log off; gzip_static on; keepalive_requests 1000000; types {{}}
  sendfile off; tcp_nopush on; gzip_vary on;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port}; root {folder};
    location /metrics {{ default_type "text/plain; version=0.0.4; charset=utf-8"; }}
    location /openmetrics {{
      default_type "application/openmetrics-text; version=1.0.0; charset=utf-8";
    }}
  }}
}}
"""


@contextmanager
def _nginx(folder: Path, text: bytes, openmetrics: bytes) -> Iterator[Contender]:
    """Serve the exporter's page as files, compressed in advance, in a single process."""
    binary = program("nginx")
    for name, data in (("metrics", text), ("openmetrics", openmetrics)):
        (folder / name).write_bytes(data)
        (folder / f"{name}.gz").write_bytes(gzip.compress(data, 6))

    def command(port: int) -> Sequence[str | Path]:
        conf = folder / "nginx.conf"
        conf.write_text(NGINX_CONF.format(folder=folder, port=port))
        return [binary, "-p", folder, "-e", folder / "nginx.err", "-c", conf]

    with serving(NGINX, command, folder / "nginx.log") as running:
        yield Contender(NGINX, running.process, running.port, openmetrics="/openmetrics")


@contextmanager
def _stock(folder: Path, series: Path) -> Iterator[Contender]:
    command = (sys.executable, "-m", "bench.stock")
    log = folder / "stock.log"
    with serving(STOCK, lambda port: [*command, str(port), series], log) as running:
        yield running


@contextmanager
def _node_exporter(folder: Path, series: Path) -> Iterator[Contender]:
    binary = program("node_exporter")
    directory = folder / "textfile"
    directory.mkdir()
    (directory / "series.prom").write_bytes(series.read_bytes())

    def command(port: int) -> Sequence[str | Path]:
        return [
            *(binary, f"--web.listen-address=127.0.0.1:{port}", "--web.disable-exporter-metrics"),
            *("--collector.disable-defaults", "--collector.textfile"),
            f"--collector.textfile.directory={directory}",
        ]

    with serving(NODE, command, folder / "node.log") as running:
        yield running


@contextmanager
def _pushgateway(folder: Path, series: Path) -> Iterator[Contender]:
    binary = program("pushgateway")
    log = folder / "push.log"
    with serving(PUSH, lambda port: [binary, f"--web.listen-address=127.0.0.1:{port}"], log) as it:
        url = f"http://127.0.0.1:{it.port}/metrics/job/bench"
        request = urllib.request.Request(url, series.read_bytes(), method="PUT")
        with urllib.request.urlopen(request, timeout=PATIENCE):  # noqa: S310  # loopback
            yield it
