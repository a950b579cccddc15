"""The HTTP server: uvicorn in a thread, with limits on what a connection may cost."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import socket
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from borgbase_exporter.web.tls import FreshContext
from borgbase_exporter.webconfig import TLS

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope

REQUEST_SECONDS = 10.0
"""How long a new connection may take to send a whole request."""
KEEP_ALIVE_SECONDS = 75
"""How long one that has been answered may; longer than the usual minute between scrapes."""
ANSWER_SECONDS = 60.0
"""How long a reader may take over an answer."""
MAX_CONNECTIONS = 800
"""With more than that, the one that has been waiting longest is dropped: a scrape takes
milliseconds, so it is never the oldest. Below the 1,024 files that a process may have open."""
BACKLOG = 128
STOP_SECONDS = 0.5
"""How long answers under way may take once the server is to stop."""
SPARING_SECONDS = 60.0
SWITCH_SECONDS = 0.0002
"""How long a thread that computes may keep the interpreter from others: a large answer takes it a
dozen times, and a poll that is being decoded and rendered would keep it for 5 ms each time."""


class Connection(H11Protocol):
    """uvicorn's connection, limited in time and number: uvicorn lets stalled ones stay for ever."""

    opened: ClassVar[dict[Connection, None]]
    """The server's connections, those first whose last sign of progress is the oldest."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app_state = {"connection": self}
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, if need be in the place of the one that is stalled the longest."""
        super().connection_made(transport)
        if len(self.opened) >= MAX_CONNECTIONS:
            # Aborting takes effect later: the next one needs another victim.
            victim = next(iter(self.opened))
            del self.opened[victim]
            victim.transport.abort()
        self.progressed(REQUEST_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self.opened.pop(self, None)
        if self._timer:
            self._timer.cancel()

    def progressed(self, seconds: float) -> None:
        """Give the connection that long for its next step, then drop it."""
        if self._timer:
            self._timer.cancel()
        if not self.transport.is_closing() or self in self.opened:
            self.opened.pop(self, None)
            self.opened[self] = None
            self._timer = self.loop.call_later(seconds, self.transport.abort)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose TLS handshakes have no more time than requests: uvicorn has no say."""

    async def create_server(self, *args: Any, **kwargs: Any) -> asyncio.Server:
        if kwargs.get("ssl"):
            kwargs["ssl_handshake_timeout"] = REQUEST_SECONDS
        return await super().create_server(*args, **kwargs)


class _Sparing(logging.Filter):
    """Lets a record of the event loop pass once a minute: out of files, it repeats itself."""

    def __init__(self) -> None:
        super().__init__()
        self._last = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if "out of system resource" not in record.getMessage():
            return True
        due = record.created - self._last >= SPARING_SECONDS
        if due:
            self._last = record.created
        return due


_SPARING = _Sparing()
"""One for all servers of the process: a logger takes the same filter only once."""


class Server:
    """Serves an application on some addresses; raises OSError where one cannot be had."""

    def __init__(
        self, app: ASGI3Application, addresses: Sequence[tuple[str, int]], tls: TLS | None = None
    ) -> None:
        async def limited(
            scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
        ) -> None:
            connection: Connection = scope["state"]["connection"]
            connection.progressed(ANSWER_SECONDS)
            await app(scope, receive, send)
            connection.progressed(KEEP_ALIVE_SECONDS)

        self._sockets = [bound for address in addresses for bound in _bind(*address)]
        for bound in self._sockets:
            # Connections inherit it. Else the end of an answer waits 40 ms for the reader's
            # acknowledgement of its beginning; asyncio does it for sockets of another making only.
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.addresses: list[tuple[str, int]] = [s.getsockname()[:2] for s in self._sockets]
        """Host and port of each socket."""
        self._context = context = FreshContext(tls) if tls else None
        self._server = uvicorn.Server(
            uvicorn.Config(
                limited,
                http=type("ServersConnection", (Connection,), {"opened": {}}),
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=1,
                ssl_context_factory=(lambda *_: context) if context else None,
            )
        )
        # Signals are the main thread's: uvicorn in charge of them would exit with their status.
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the server runs."""
        return self._thread.is_alive()

    def configure(self, tls: TLS | None) -> bool:
        """Serve with other TLS settings from now on; false where that takes a new start."""
        if self._context and tls:
            self._context.configure(tls)
        return (self._context is None) == (tls is None)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(self._server.serve(self._sockets))

    def start(self) -> None:
        """Serve until stopped."""
        sys.setswitchinterval(SWITCH_SECONDS)
        # What the start has made stays for good; walking through it, a full collection of garbage
        # would keep a scrape waiting for 20 ms.
        gc.collect()
        gc.freeze()
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        logging.getLogger("asyncio").addFilter(_SPARING)
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections, and end once the answers under way are sent, or soon."""
        self._server.should_exit = True
        self._thread.join(STOP_SECONDS)


def _bind(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets for all addresses of a host; without a host, of the machine."""
    if not host and socket.has_dualstack_ipv6():
        return [
            socket.create_server(
                ("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
            )
        ]
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return [
        socket.create_server(address[:2], family=family, backlog=BACKLOG)
        for family, *_, address in dict.fromkeys(found)
    ]
