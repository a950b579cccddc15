"""The server in a separate thread, on loopback, and what clients do to it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from borgbase_exporter.metrics.exposition import OPENMETRICS, TEXT, Page
from borgbase_exporter.settings import Serve, Web, load
from borgbase_exporter.settings.webfile import TLS, WebConfig
from borgbase_exporter.web import server as server_module
from borgbase_exporter.web.app import App
from borgbase_exporter.web.page import StatusPage
from borgbase_exporter.web.server import Server
from tests.web.casts import Stage
from tests.web.conftest import Certificates

PATIENCE = 20.0  # seconds after which an answer that should have come counts as missing
BIG = b"x" * 12_000_000
HALF_A_REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow:"


def big_stage() -> Stage:
    """A source whose pages are as large as those of ten thousand repos."""
    return Stage(pages={f: Page(f, (BIG,), BIG, zlib.compressobj()) for f in (TEXT, OPENMETRICS)})


def web(config: WebConfig | None = None, **fields: Any) -> Web:
    """Settings for a port of loopback."""
    flags = ("--demo", "--web.listen-address=127.0.0.1:0", "--web.no-status-page")
    loaded = load(flags, {})
    assert isinstance(loaded, Serve)
    return replace(loaded.web, config=config or WebConfig(), **fields)


class Running:
    """A server that runs in another thread."""

    def __init__(self, source: Stage, settings: Web, page: StatusPage | None = None) -> None:
        begun: Future[tuple[asyncio.AbstractEventLoop, App, Server]] = Future()

        async def main() -> None:
            app = App(source, settings, page)
            begun.set_result((asyncio.get_running_loop(), app, server := Server(app, settings)))
            await server.serve()

        server_module._logged.clear()
        self.thread = threading.Thread(target=lambda: asyncio.run(main()))
        self.thread.start()
        self.loop, self.app, self.server = begun.result(PATIENCE)
        host, _, port = self.server.addresses[0].rpartition(":")
        self.address = (host, int(port))

    def stop(self) -> None:
        if self.thread.is_alive():
            asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop).result(PATIENCE)
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    def connected(self, receive_buffer: int = 0) -> socket.socket:
        made = socket.socket()
        made.settimeout(PATIENCE)
        if receive_buffer:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            made.connect(self.address)
        except OSError:
            made.close()
            raise
        return made

    def get(self, path: str = "/metrics", **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()

    def exchange(self, request: bytes) -> bytes:
        """Send bytes, and return all that comes back until the server closes."""
        with self.connected() as connection:
            received = b""
            with contextlib.suppress(ConnectionError):
                connection.sendall(request)
            with contextlib.suppress(ConnectionError):
                while chunk := connection.recv(65536):
                    received += chunk
            return received


@contextlib.contextmanager
def serving(settings: Web | None = None, source: Stage | None = None) -> Iterator[Running]:
    running = Running(source or Stage(), settings or web())
    try:
        yield running
    finally:
        running.stop()


def dropped(connection: socket.socket) -> bool:
    """Wait until the server ends a connection without an answer."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def tls(certificates: Certificates, **fields: Any) -> TLS:
    return TLS(cert_file=str(certificates.cert_file), key_file=str(certificates.key_file), **fields)
