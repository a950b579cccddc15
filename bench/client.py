"""A client that costs little compared with the server: one connection, one buffer."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass
from typing import Self

TEXT = "text/plain;version=0.0.4"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
CHUNK = 1 << 20
PATIENCE = 120.0


@dataclass(frozen=True)
class Answer:
    """An answer and the seconds until all of it was there."""

    head: str
    body: memoryview
    """Valid until the next request."""
    seconds: float


class Client:
    """Asks one server, over one connection as long as the server keeps it."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._socket: socket.socket | None = None
        self._buffer = bytearray(CHUNK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None

    def get(self, path: str, *, accept: str = TEXT, gzip: bool = True) -> Answer:
        """Request a page; raise ConnectionError for any status but 200."""
        encoding = "gzip" if gzip else "identity"
        request = (
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n"
            f"Accept-Encoding: {encoding}\r\n\r\n"
        ).encode()
        begun = time.perf_counter()
        if not self._socket:
            self._socket = socket.create_connection(self._address, PATIENCE)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request)
        head, start, end = self._receive(self._socket)
        seconds = time.perf_counter() - begun
        if not re.match(r"HTTP/1\.[01] 200 ", head):
            raise ConnectionError(head)
        if head.startswith("HTTP/1.0") or "connection: close" in head.lower():
            self.__exit__()
        return Answer(head, memoryview(self._buffer)[start:end], seconds)

    def _receive(self, connection: socket.socket) -> tuple[str, int, int]:
        """Fill the buffer with an answer; return its head, and where the body starts and ends."""
        head, start, filled, length = "", 0, 0, -1
        chunked = False
        while True:
            if len(self._buffer) - filled < CHUNK:
                self._buffer = self._buffer + bytes(len(self._buffer))
            received = connection.recv_into(memoryview(self._buffer)[filled:])
            filled += received
            if not head and (at := self._buffer.find(b"\r\n\r\n", 0, filled)) >= 0:
                head, start = self._buffer[:at].decode("latin-1"), at + 4
                found = re.search(r"(?i)^content-length: *(\d+)", head, re.MULTILINE)
                length = int(found[1]) if found else -1
                chunked = "transfer-encoding: chunked" in head.lower()
            if head and filled - start == length:
                return head, start, filled
            # Compressed bytes end like this by chance once in 10^12 times.
            if chunked and self._buffer.endswith(b"\r\n0\r\n\r\n", start, filled):
                return head, start, filled
            if not received:
                if head and length < 0:
                    return head, start, filled
                raise ConnectionError("the connection ended within the answer")
