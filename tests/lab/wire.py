"""A TCP server that runs a script on each connection."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from tests.end_to_end.processes import until

HERE = Path(__file__).parent
LOCALHOST, ELSEWHERE, EXPIRED = (
    str(HERE / f"{name}.pem") for name in ("localhost", "elsewhere", "expired")
)
"""Keys with their self-signed certificates: for this machine, for another, and of the past."""


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    head: str
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}

    @property
    def query(self) -> str:
        return str(msgspec.json.decode(self.body)["query"])

    @property
    def name(self) -> str:
        """The name of the operation."""
        return self.query.split()[1]


class Wire:
    """The server's end of a connection."""

    def __init__(self, end: socket.socket, note: Callable[[Request], None]) -> None:
        self._end = end
        self._note = note

    def request(self) -> Request | None:
        """Wait for a request; return None when the client is gone."""
        data = b""
        while True:
            head, end, body = data.partition(b"\r\n\r\n")
            request = Request(head.decode("latin-1"), body)
            if end and len(body) >= int(request.headers.get("content-length", 0)):
                self._note(request)
                return request
            if not (more := self._end.recv(65_536)):
                return None
            data += more

    def greeting(self) -> None:
        """Wait for the first bytes of any kind, such as a TLS handshake."""
        self._end.recv(65_536)

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._end.sendall(piece)

    def drip(self, data: bytes, pause: float) -> None:
        """Send a byte at a time, with pauses, while the client is there."""
        for byte in data:
            self.wait(pause)
            self._end.sendall(bytes([byte]))

    def wait(self, seconds: float) -> None:
        """Wait this long, or until the client is gone."""
        if select.select([self._end], [], [], seconds)[0]:
            raise ConnectionAbortedError

    def close(self) -> None:
        """Close the connection properly."""
        self._end.shutdown(socket.SHUT_RDWR)

    def hold(self) -> None:
        """Send nothing until the client gives up."""
        while self._end.recv(65_536):
            pass

    def reset(self) -> None:
        """Cut the connection (RST in place of FIN)."""
        self._end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end.close()


Script = Callable[[Wire], None]


@contextlib.contextmanager
def interrupted() -> Iterator[None]:
    """Wait in the end for threads that began inside: no query may reach the next test's mocks."""
    before = set(threading.enumerate())
    yield
    until(lambda: set(threading.enumerate()) <= before, "the threads have ended")


class Lab:
    """Listens on loopback in a `with` block; `script` may be exchanged at any time.

    With a `certificate` it serves TLS; `scheme` is that of its URL.
    """

    def __init__(
        self, script: Script, *, certificate: str = "", scheme: str = "", host: str = "127.0.0.1"
    ) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.connections = 0
        self._tls: ssl.SSLContext | None = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=128)
        self.port: int = self._listener.getsockname()[1]
        scheme = scheme or ("https" if certificate else "http")
        self.url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}/graphql"
        self._ends: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        """Cut open connections, and wait for their threads."""
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _run(self, target: Callable[..., None], *args: object) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(threading.Thread(target=target, args=args, name="lab", daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with self._listener, contextlib.suppress(OSError):
            while True:
                end, _ = self._listener.accept()
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                self._ends.add(end)
                self._run(self._serve, end)

    def _serve(self, end: socket.socket) -> None:
        # Most experiments end with a client that disconnects early.
        with contextlib.suppress(OSError):
            stream = self._tls.wrap_socket(end, server_side=True) if self._tls else end
            self._ends.add(stream)
            with stream:
                self.script(Wire(stream, self.requests.append))
            self._ends.discard(stream)
        self._ends.discard(end)
