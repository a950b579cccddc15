"""The HTTP server: uvicorn's connections in the caller's event loop, with limits on their cost.

A connection is counted from its acceptance on, and is a bare socket until it sends something: only
then it gets a protocol and, if need be, TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import logging
import math
import socket
import struct
import termios
from asyncio import sslproto
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from borgbase_exporter.settings import Web
from borgbase_exporter.settings.readers import Address
from borgbase_exporter.settings.webfile import TLS
from borgbase_exporter.web import certificates
from borgbase_exporter.web.app import App, Request, Response

if TYPE_CHECKING:
    from uvicorn._types import ASGISendCallable, Scope

log = logging.getLogger(__name__)

REQUEST_SECONDS = 10.0  # how long a new connection may take for the handshake and a whole request
KEEP_ALIVE_SECONDS = 75.0  # how long after an answer; scrapes are usually a minute apart
ANSWER_SECONDS = 60.0  # how long a reader may take over an answer
STOP_SECONDS = 0.5  # how long answers under way may take after the stop
MAX_CONNECTIONS = 800  # below the 1,024 files that a process may have open
MAX_HELD = 16 << 20  # total bytes held for readers that do not read
SEND_BUFFER = 256 << 10  # bytes that the kernel holds for a reader; its default is up to 4 MiB
READ = 4 << 10  # bytes read from a connection at a time; each TLS connection has such a buffer
SMALL = 16 << 10  # smaller pieces (bytes) are joined, since each write costs time
SLICE, TLS_SLICE = 128 << 10, 32 << 10  # bytes written at a time; TLS buffers as much at once
ACCEPT_PAUSE_SECONDS = 1.0
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nConnection: close\r\n\r\n"
LOG_SECONDS = 60.0  # how often a line of code may log

sslproto.SSLProtocol.max_size = READ  # 256 KiB by default
_logged: dict[tuple[str, int], float] = {}


class Connection(H11Protocol):
    """uvicorn's connection, limited in time and memory."""

    def __init__(self, server: Server, ends: float) -> None:
        state = {"connection": self}
        super().__init__(server.config, server.state, state, asyncio.get_running_loop())
        self._server, self.ends = server, ends  # dropped then if it has made no progress
        self._written = self._read = 0
        self.unread = 0  # bytes that the reader has not taken, as of the last call of `stalls`
        self.stalled = 0  # for how many calls it has taken nothing

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to serve, unless the client certificate's name is not allowed."""
        super().connection_made(transport)
        # asyncio has no public access to the transport beneath TLS, where bytes wait.
        secured = getattr(transport, "_ssl_protocol", None)
        self._socket: Any = transport.get_extra_info("socket")  # TLS forgets it before we do
        self._wire: Any = secured._transport if secured else transport  # noqa: SLF001
        transport.set_write_buffer_limits(high=1, low=0)
        self._wire.set_write_buffer_limits(high=1, low=0)
        if secured:
            transport.set_read_buffer_limits(READ)  # type: ignore[attr-defined]  # TLS has it
        else:
            transport.max_size = READ  # type: ignore[attr-defined]  # a plain socket's has it
        known = self._server.certificates
        if known and not known.tls.allows(transport.get_extra_info("peercert") or {}):
            self.drop()

    def data_received(self, data: bytes) -> None:
        """Read requests, but not those that TLS passes on while the connection closes."""
        if not self.transport.is_closing():
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP; the answer to a request with such a body ends the connection."""
        if self.cycle is None or self.cycle.response_complete:  # type: ignore[redundant-expr]  # uvicorn's type is wrong
            super().send_400_response(msg)
        else:
            self.flow.pause_reading()

    def drop(self) -> None:
        """End the connection, and discard what the kernel holds for the reader."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def stalls(self) -> bool:
        """Return whether the reader has taken nothing since the last call."""
        held = b"\0" * 4
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile
            held = fcntl.ioctl(self._socket, termios.TIOCOUTQ, held)
        self.unread = self._wire.get_write_buffer_size() + struct.unpack("i", held)[0]
        read = self._written - self.unread
        self.stalled = self.stalled + 1 if self.unread and read <= self._read else 0
        self._read = read
        return self.stalled > 0

    async def respond(self, response: Response, send: ASGISendCallable) -> None:
        """Write a response; wait for a reader that does not read."""
        headers = response.all_headers()
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        body = () if self.scope["method"] == "HEAD" else response.body
        waiting = self._server.waiting
        for part in _parts(body, TLS_SLICE if self.scheme == "https" else SLICE):
            if self.transport.is_closing():
                return
            await send({"type": "http.response.body", "body": part, "more_body": True})
            self._written += len(part)
            if held := self._wire.get_write_buffer_size():
                waiting[self] = held
                bound(waiting)
                await self.flow.drain()
                del waiting[self]
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _parts(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Join what is small, and cut what is larger than `size`: each part is a write of its own."""
    joined, length = list[bytes](), 0
    for piece in (*pieces, b""):
        if not piece or length + len(piece) > SMALL:
            whole = memoryview(b"".join(joined))
            for at in range(0, len(whole), size):
                yield whole[at : at + size]  # type: ignore[misc]  # as good as bytes here
            joined, length = [], 0
        joined.append(piece)
        length += len(piece)


def bound(held: Mapping[Connection, int]) -> None:
    """Drop connections, in order, until the others hold no more than MAX_HELD bytes."""
    total = sum(held.values())
    for connection, size in held.items():
        if total > MAX_HELD:
            connection.drop()
        total -= size


def sparing(record: logging.LogRecord) -> bool:
    """Limit each line of code to one log record a minute, whatever clients do."""
    place = record.pathname, record.lineno
    if record.created - _logged.get(place, -math.inf) < LOG_SECONDS:
        return False
    _logged[place] = record.created
    return True


class Server:
    """Serves an application on the configured addresses; raises OSError if it cannot."""

    def __init__(self, app: App, web: Web) -> None:
        self._app = app
        self._sockets = [bound for at in web.listen_addresses for bound in _bind(at)]
        self.addresses = [str(Address(*each.getsockname()[:2])) for each in self._sockets]
        self.config = uvicorn.Config(
            self._answer,
            interface="asgi3",
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # this module logs errors in answers
            access_log=False,
            timeout_keep_alive=int(KEEP_ALIVE_SECONDS),
            proxy_headers=False,
        )
        self.certificates = certificates.Certificates(web.config.tls) if web.config.tls else None
        self.state = ServerState()
        self._connections: AbstractSet[Connection] = self.state.connections  # type: ignore[assignment]  # ours
        self.waiting: dict[Connection, int] = {}  # bytes for each reader, the longest wait first
        self._opening: set[asyncio.Task[None]] = set()
        self._stopping, self._ended = asyncio.Event(), asyncio.Event()
        for name in ("asyncio", __name__, certificates.__name__):
            logging.getLogger(name).addFilter(sparing)

    async def serve(self) -> None:
        """Serve until stopped."""
        try:
            async with asyncio.TaskGroup() as group:
                accepting = [group.create_task(self._accept(each)) for each in self._sockets]
                while not self._stopping.is_set():
                    self._sweep()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._stopping.wait(), 1)
                for task in accepting:
                    task.cancel()
            await self._close()
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Accept no more; return when the answers under way are sent, or after STOP_SECONDS."""
        self._stopping.set()
        await self._ended.wait()

    def configure(self, tls: TLS | None) -> bool:
        """Serve with other TLS settings from now on; return false if that needs a restart."""
        if self.certificates and tls:
            self.certificates.tls = tls
        return (self.certificates is None) == (tls is None)

    def _sweep(self) -> None:
        """Update the Date header; drop slow clients, and as many stalled readers as needed."""
        self.state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        for connection in self._connections:
            if connection.ends <= connection.loop.time():
                connection.drop()
        stalled = [connection for connection in self._connections if connection.stalls()]
        stalled.sort(key=lambda connection: (-connection.stalled, connection.ends))
        bound({connection: connection.unread for connection in stalled})

    async def _close(self) -> None:
        for listening in self._sockets:
            listening.close()
        for connection in list(self._connections):
            connection.shutdown()
        if self.state.tasks:
            await asyncio.wait(self.state.tasks, timeout=STOP_SECONDS)
        for connection in list(self._connections):
            connection.transport.abort()
        for task in (left := (*self.state.tasks, *self._opening)):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError as fault:  # out of files or memory
                log.error("cannot accept connections: %s", fault.strerror)  # noqa: TRY400  # the traceback says no more
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            if len(self._opening) + len(self._connections) < MAX_CONNECTIONS:
                task = loop.create_task(self._open(accepted))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
            else:
                with contextlib.suppress(OSError), accepted:
                    accepted.send(b"" if self.certificates else REFUSAL)
            await asyncio.sleep(0)  # let others run even if more connections wait

    async def _open(self, accepted: socket.socket) -> None:
        """Serve a connection once it has sent something."""
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        ends = loop.time() + REQUEST_SECONDS
        try:
            async with asyncio.timeout_at(ends):
                loop.add_reader(accepted, heard.set)
                try:
                    await heard.wait()
                finally:
                    loop.remove_reader(accepted)
                tls = self.certificates.context() if self.certificates else None
                make = functools.partial(Connection, self, ends)
                await loop.connect_accepted_socket(make, accepted, ssl=tls)
        except (OSError, asyncio.CancelledError):  # too slow, gone, not TLS, or the server stops
            accepted.close()

    async def _answer(self, scope: Scope, _receive: object, send: ASGISendCallable) -> None:
        assert scope["type"] == "http"  # noqa: S101  # neither websockets nor lifespan are on
        connection: Connection = scope["state"]["connection"]
        connection.ends = connection.loop.time() + ANSWER_SECONDS
        try:
            request = Request.of(scope, connection.transport.is_closing)
            await connection.respond(await self._app.respond(request), send)
        except Exception:  # uvicorn answers, with 500
            log.exception("a defect, please report it: a request cannot be answered")
        connection.ends = connection.loop.time() + KEEP_ALIVE_SECONDS


def _bind(at: Address) -> Iterator[socket.socket]:
    """Yield listening sockets for all addresses of a host, or else of the machine."""
    dualstack = not at.host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dualstack else socket.AF_UNSPEC
    wanted = family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE
    found = socket.getaddrinfo(at.host or None, at.port, *wanted)
    for family, *_, address in dict.fromkeys(found):
        listening = socket.create_server(address[:2], family=family, dualstack_ipv6=dualstack)
        listening.setblocking(False)
        # Connections inherit these. Without the first, the end of an answer waits up to 40 ms until
        # the reader acknowledges its beginning.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        yield listening
