"""The HTTP server: uvicorn in the caller's event loop, with limits on what a connection costs.

A connection is counted from its acceptance on, and is a bare socket until it sends something: only
then it gets a protocol and, if need be, TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import math
import socket
import struct
import termios
from asyncio import sslproto
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from borgbase_exporter.settings import Web
from borgbase_exporter.settings.webfile import TLS
from borgbase_exporter.web.app import METHODS, App, Request, Response, error
from borgbase_exporter.web.tls import Certificates

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

log = logging.getLogger(__name__)

REQUEST_SECONDS = 10.0
"""How long a new connection may take for the handshake and a whole request."""
KEEP_ALIVE_SECONDS = 75.0
"""How long one that has been answered may take; longer than the usual minute between scrapes."""
ANSWER_SECONDS = 60.0
"""How long a reader may take over an answer."""
STOP_SECONDS = 0.5
"""How long answers under way may take once the server is to stop."""
MAX_CONNECTIONS = 800
"""Below the 1,024 files that a process may have open."""
MAX_HELD = 16 << 20
"""Bytes held for readers that do not read, all of them together."""
SEND_BUFFER = 256 << 10
"""Bytes that the kernel holds for a reader; by itself it takes up to 4 MiB."""
READ = 4 << 10
"""Bytes read from a connection at a time; each TLS connection has a buffer of that size."""
SMALL = 16 << 10
"""Bytes written at a time to a reader that did not take all of the last ones at once."""
SLICE, MAX_SLICE = 64 << 10, 128 << 10
"""Bytes written at a time to others: to begin with, and at most."""
TLS_SLICE = 32 << 10
"""The same for TLS, which keeps a buffer as large as what it encrypted at once."""
BACKLOG = 128
ACCEPT_PAUSE_SECONDS = 1.0
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)
LOG_SECONDS = 60.0
"""How often the same thing may be logged."""
MAX_MESSAGES = 100

sslproto.SSLProtocol.max_size = READ  # 256 KiB by default


class StalledReaders:
    """Bounds what is held for readers that do not read; drops who has been stalled longest."""

    def __init__(self) -> None:
        self._held: dict[Connection, int] = {}
        self._total = 0

    @contextlib.contextmanager
    def waiting(self, connection: Connection, size: int) -> Iterator[None]:
        """Count the bytes in this process while a connection waits for its reader."""
        self._held[connection] = size
        self._total += size
        while self._total > MAX_HELD:
            longest = next(iter(self._held))
            self._forget(longest)
            longest.drop()
        try:
            yield
        finally:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        self._total -= self._held.pop(connection, 0)

    def sweep(self, connections: Iterable[Connection]) -> None:
        """Count what the kernel holds too; to be called each second."""
        stalled = sorted((c for c in connections if c.stalls()), key=lambda c: (-c.stalled, c.ends))
        total = sum(connection.unread for connection in stalled)
        for connection in stalled:
            if total <= MAX_HELD:
                break
            total -= connection.unread
            connection.drop()


class Connection(H11Protocol):
    """uvicorn's connection, limited in time and memory."""

    def __init__(self, server: _Uvicorn, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(server.config, server.server_state, {"connection": self}, loop)
        self._server = server
        self._deadline = deadline
        self._written = self._read = 0
        self.unread = 0
        """Bytes that the reader has not taken, as of the last sweep."""
        self.stalled = 0
        """For how many sweeps it has taken nothing."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to serve."""
        super().connection_made(transport)
        self._timer = self.loop.call_at(self._deadline, self.drop)
        # asyncio has no public way to what is beneath TLS, where bytes wait for the reader.
        secured = getattr(transport, "_ssl_protocol", None)
        self._wire: Any = secured._transport if secured else transport  # noqa: SLF001
        for each in (transport, self._wire):
            each.set_write_buffer_limits(high=1, low=0)
        if secured:
            transport.set_read_buffer_limits(READ)  # type: ignore[attr-defined]  # TLS has it
        else:
            transport.max_size = READ  # type: ignore[attr-defined]  # a plain socket's has it
        certificates = self._server.certificates
        if certificates and not certificates.allow(transport.get_extra_info("peercert") or {}):
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Read requests; one may come in the midst of the last one's answer."""
        if not self.transport.is_closing():
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP; where an answer has begun, end the connection."""
        begun, cycle = False, self.cycle
        if cycle is not None and not cycle.response_complete:  # type: ignore[redundant-expr]  # uvicorn's type is wrong
            begun = cycle.response_started
            cycle.disconnected = True  # the application's answer goes nowhere
        if begun or self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.drop()
        else:
            super().send_400_response(msg)

    def limit(self, seconds: float) -> None:
        """Give the connection that long for its next step."""
        self._timer.cancel()
        if not self.transport.is_closing():
            self._timer = self.loop.call_later(seconds, self.drop)

    @property
    def ends(self) -> float:
        """When it is dropped unless it makes its next step, by the loop's clock."""
        return self._timer.when()

    def drop(self) -> None:
        """End the connection, and have the kernel forget what it holds for the reader."""
        with contextlib.suppress(OSError):
            self.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self.transport.abort()

    def stalls(self) -> bool:
        """Return whether the reader has taken nothing since the last call."""
        held = b"\0" * 4
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile
            held = fcntl.ioctl(self.transport.get_extra_info("socket"), termios.TIOCOUTQ, held)
        self.unread = self._wire.get_write_buffer_size() + struct.unpack("i", held)[0]
        read = self._written - self.unread
        self.stalled = self.stalled + 1 if self.unread and read <= self._read else 0
        self._read = read
        return self.stalled > 0

    async def send(self, response: Response, *, close: bool) -> None:
        """Write a response except for its end; wait for a reader that does not read."""
        headers = [*self.cycle.default_headers, *_headers(response)]
        if close:
            headers.append((b"connection", b"close"))
        self.cycle.response_started = True
        reason = response.status.phrase.encode()
        head = h11.Response(status_code=response.status, headers=headers, reason=reason)
        body = () if self.scope["method"] == "HEAD" else response.body
        chunks = _chunks(self.conn.send(head) or b"", body)
        if body:  # h11 keeps count of the bytes, which need not go through it
            self.conn.send_with_data_passthrough(h11.Data(data=range(response.length)))  # type: ignore[arg-type]
        size, most = (TLS_SLICE, TLS_SLICE) if self.scheme == "https" else (SLICE, MAX_SLICE)
        for chunk in chunks:
            whole, at = memoryview(chunk), 0
            while at < len(whole) and not self.transport.is_closing():
                part = whole[at : at + size]
                self.transport.write(part)
                at += len(part)
                self._written += len(part)
                if held := self._wire.get_write_buffer_size():
                    size = SMALL
                    with self._server.stalled.waiting(self, held):
                        await self.flow.drain()
                else:
                    size = min(2 * size, most)


def _headers(response: Response) -> Iterator[tuple[bytes, bytes]]:
    yield b"content-type", response.content_type.encode()
    yield b"content-length", b"%d" % response.length
    for name, value in response.headers.items():
        yield name.lower().encode(), value.encode()


def _chunks(head: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join what is small: each chunk is a write of its own."""
    held = head
    for piece in pieces:
        if len(held) + len(piece) <= SMALL:
            held += piece
        else:
            yield held
            held = piece
    yield held


class _Uvicorn(uvicorn.Server):
    """uvicorn without signals, which are the caller's, and accepting by itself."""

    def __init__(
        self, config: uvicorn.Config, sockets: list[socket.socket], tls: TLS | None
    ) -> None:
        super().__init__(config)
        self.certificates = Certificates(tls) if tls else None
        self.stalled = StalledReaders()
        self.stopping = asyncio.Event()
        self._sockets = sockets
        self._silent: dict[socket.socket, asyncio.TimerHandle] = {}
        self._opening: set[asyncio.Task[None]] = set()

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        self._loop = asyncio.get_running_loop()
        for listening in self._sockets:
            listening.setblocking(False)
            self._loop.add_reader(listening, self._accept, listening)
        self.started = True

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # renews the date
            self.stalled.sweep(self.server_state.connections)  # type: ignore[arg-type]  # ours
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), 1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        state = self.server_state
        for listening in self._sockets:
            self._loop.remove_reader(listening)
            listening.close()
        for silent in list(self._silent):
            self._forget(silent).close()
        for connection in list(state.connections):
            connection.shutdown()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=STOP_SECONDS)
        for connection in list(state.connections):
            connection.transport.abort()
        for task in (*state.tasks, *self._opening):
            task.cancel()
        for _ in range(5):  # until all of them have noticed
            await asyncio.sleep(0)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(BACKLOG):
            try:
                accepted, _address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as fault:  # out of files or memory: it would be ready at once again
                log.error("cannot accept connections: %s", fault.strerror)  # noqa: TRY400  # the traceback says no more
                self._loop.remove_reader(listening)
                self._loop.call_later(ACCEPT_PAUSE_SECONDS, self._resume, listening)
                return
            accepted.setblocking(False)
            known = (self._silent, self._opening, self.server_state.connections)
            if sum(map(len, known)) >= MAX_CONNECTIONS:
                if not self.certificates:
                    with contextlib.suppress(OSError):
                        accepted.send(REFUSAL)
                accepted.close()
                continue
            ends = self._loop.time() + REQUEST_SECONDS
            self._silent[accepted] = self._loop.call_at(ends, self._expire, accepted)
            self._loop.add_reader(accepted, self._hear, accepted, ends)

    def _resume(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            self._loop.add_reader(listening, self._accept, listening)

    def _forget(self, silent: socket.socket) -> socket.socket:
        self._silent.pop(silent).cancel()
        self._loop.remove_reader(silent)
        return silent

    def _expire(self, silent: socket.socket) -> None:
        self._forget(silent).close()

    def _hear(self, accepted: socket.socket, ends: float) -> None:
        """Take a connection that has sent something, or has gone."""
        task = self._loop.create_task(self._open(self._forget(accepted), ends))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, accepted: socket.socket, ends: float) -> None:
        tls: dict[str, Any] = {}
        if self.certificates:
            left = max(0.001, ends - self._loop.time())
            tls = {"ssl": self.certificates.context(), "ssl_handshake_timeout": left}
            tls["ssl_shutdown_timeout"] = REQUEST_SECONDS
        try:
            await self._loop.connect_accepted_socket(
                lambda: Connection(self, ends), accepted, **tls
            )
        except OSError:  # the client has gone, or does not speak TLS
            accepted.close()


class _Sparing(logging.Filter):
    """Passes the same message once a minute; what clients cause comes without a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        cause = record.exc_info[1] if record.exc_info else None
        if isinstance(cause, asyncio.CancelledError):  # by the end of the server
            return False
        what = str(record.msg).partition("\n")[0]  # asyncio adds addresses and the like
        if record.created - self._last.get(what, -math.inf) < LOG_SECONDS:
            return False
        if len(self._last) >= MAX_MESSAGES:
            self._last.clear()
        self._last[what] = record.created
        if isinstance(cause, OSError | h11.ProtocolError):
            record.msg, record.args, record.exc_info = f"{what}: {cause}", (), None
        return True


_SPARING = _Sparing()
"""One for all servers of the process: a logger takes the same filter only once."""


class Server:
    """Serves an application on the addresses of the settings; raises OSError where it cannot."""

    def __init__(self, app: App, web: Web) -> None:
        self._app = app
        sockets = [bound for at in web.listen_addresses for bound in _bind(at.host, at.port)]
        self.addresses = [_spelled(*bound.getsockname()[:2]) for bound in sockets]
        """`host:port` of each socket."""
        config = uvicorn.Config(
            self._answer,
            interface="asgi3",
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=int(KEEP_ALIVE_SECONDS),
        )
        self._server = _Uvicorn(config, sockets, web.config.tls)
        self._ended = asyncio.Event()
        for name in ("asyncio", "uvicorn.error", __name__):
            logging.getLogger(name).addFilter(_SPARING)

    async def serve(self) -> None:
        """Serve until stopped."""
        try:
            await self._server.serve()
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Accept no more, and return once the answers under way are sent, or soon."""
        self._server.should_exit = True
        self._server.stopping.set()
        await self._ended.wait()

    def configure(self, tls: TLS | None) -> bool:
        """Serve with other TLS settings from now on; false where that takes a restart."""
        certificates = self._server.certificates
        if certificates and tls:
            certificates.configure(tls)
        return (certificates is None) == (tls is None)

    async def _answer(
        self, scope: Scope, _receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        assert scope["type"] == "http"  # noqa: S101  # neither websockets nor lifespan are on
        connection: Connection = scope["state"]["connection"]
        connection.limit(ANSWER_SECONDS)
        request = Request.of(scope, connection.transport.is_closing)
        if request.has_body and request.method in METHODS:
            response = error(HTTPStatus.BAD_REQUEST, "a request with a body")
        else:
            try:
                response = await self._app.respond(request)
            except Exception:
                log.exception("a defect, please report it: a request cannot be answered")
                response = error(HTTPStatus.INTERNAL_SERVER_ERROR)
        if not connection.transport.is_closing():
            # A body is never read to its end, so nothing can follow it.
            await connection.send(response, close=request.has_body)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        connection.limit(KEEP_ALIVE_SECONDS)


def _spelled(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bind(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets for all addresses of a host; without a host, of the machine."""
    dualstack = not host and socket.has_dualstack_ipv6()
    kind, flags = socket.SOCK_STREAM, socket.AI_PASSIVE
    family = socket.AF_INET6 if dualstack else socket.AF_UNSPEC
    found = socket.getaddrinfo(host or None, port, family=family, type=kind, flags=flags)
    bound = []
    for family, *_, address in dict.fromkeys(found):
        listening = socket.create_server(
            address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=dualstack
        )
        # Connections inherit these. Without the first, the end of an answer waits 40 ms for the
        # reader's acknowledgement of its beginning.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        bound.append(listening)
    return bound
