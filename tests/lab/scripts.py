"""Scripts of what networks and servers do to a connection."""

from __future__ import annotations

import contextlib
import errno
import gzip
import itertools
import socket
import threading
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import pytest

from tests.lab.account import http
from tests.lab.wire import Script, Wire

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
PAUSE = 0.01
"""Seconds between two bytes of a drip, so short that no single read times out."""


hold: Script = Wire.hold
reset: Script = Wire.reset


def close(_wire: Wire) -> None:
    """End the connection at once."""


def says(*pieces: bytes, then: Script | None = None) -> Script:
    """Answer each request with these bytes, then run `then` on the connection."""

    def script(wire: Wire) -> None:
        while wire.request():
            wire.send(*pieces)
            if then:
                then(wire)
                return

    return script


def answers(body: bytes, status: str = "200 OK", *headers: str) -> Script:
    """Answer each request with this body."""
    return says(http(body, status, *headers))


def blurts(data: bytes, pause: float = 0) -> Script:
    """Answer a TLS handshake, or whatever comes first, with these bytes and then silence."""

    def script(wire: Wire) -> None:
        wire.greeting()
        wire.drip(data, pause)
        wire.hold()

    return script


def drips(fast: bytes, slow: bytes) -> Script:
    """Send the first part at once, and the second a byte at a time."""

    def script(wire: Wire) -> None:
        if wire.request():
            wire.send(fast)
            wire.drip(slow, PAUSE)
            wire.hold()

    return script


def streams(*pieces: Iterable[bytes]) -> Script:
    """Answer the first request with all these bytes, and close."""

    def script(wire: Wire) -> None:
        if wire.request():
            for piece in itertools.chain(*pieces):
                wire.send(piece)

    return script


def endless(head: bytes, piece: bytes) -> Script:
    """Answer with a piece over and over."""
    return streams([head], itertools.repeat(piece))


@cache
def _zipped_mebibyte() -> bytes:
    zipper = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return zipper.compress(bytes(1 << 20)) + zipper.flush(zlib.Z_FULL_FLUSH)


def zeros(mebibytes: int) -> list[bytes]:
    """Return this many MiB of zeros, gzipped to a thousandth, without a proper end."""
    return [gzip.compress(b"")[:10], *[_zipped_mebibyte()] * mebibytes]


@contextlib.contextmanager
def refused() -> Iterator[str]:
    """Yield the URL of a port that no server listens on, and no other process can bind."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/graphql"


@contextlib.contextmanager
def full() -> Iterator[str]:
    """Yield the URL of a port whose queue of connections to accept is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            assert client.connect_ex(listener.getsockname()) in {0, errno.EINPROGRESS}
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/graphql"


@contextlib.contextmanager
def unresolved(*, slowly: bool) -> Iterator[str]:
    """Yield the URL of a host name that cannot be resolved; if slowly, never an answer."""
    real, over = socket.getaddrinfo, threading.Event()

    def look_up(host: str, *args: Any, **kwargs: Any) -> Any:
        if host != "nowhere.test":
            return real(host, *args, **kwargs)
        if slowly:
            over.wait()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", look_up)
        yield "http://nowhere.test/graphql"
    over.set()
