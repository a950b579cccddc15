"""One HTTP exchange with the API, bounded in time and size whatever the network does."""

from __future__ import annotations

import contextlib
import io
import logging
import queue
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import msgspec
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError

from borgbase_exporter import __version__
from borgbase_exporter.errors import (
    ConnectError,
    DeadlineError,
    NotJSONError,
    PollError,
    RedirectError,
    TLSError,
    TooLargeError,
)
from borgbase_exporter.text import redacted

CHUNK = 64 * 1024
BYTES_A_PART = 64
"""What a comma or an escape of the answer costs at the least once it is decoded: a hostile answer
of nothing else would take many times its own size."""
READABLE_ENCODINGS = {"", "identity", "gzip", "x-gzip"}

# It quotes headers that it cannot parse, and a broken proxy may have put our own among them.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)


class Endpoint(Protocol):
    """Where the API is and how to get there; the settings of --api.*."""

    @property
    def url(self) -> str:
        """Address of the GraphQL endpoint."""

    @property
    def ca_file(self) -> str | None:
        """PEM bundle to trust instead of the one that comes with requests."""

    @property
    def proxy(self) -> str | None:
        """URL of an HTTP proxy."""

    @property
    def max_response(self) -> int:
        """Bytes of a decoded answer that are too many."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came: status, the decoded body, and when to come back (seconds)."""

    status: int
    body: bytes = field(repr=False)
    retry_after: float | None = None


class Transport:
    """A session of one poll: HTTP with the bearer token, and nothing from the environment.

    No netrc (it would replace the token), no proxy or certificate variables, no cookies, no
    redirects. It lasts for `seconds` at most. Neither requests nor its timeouts bound an exchange
    as a whole (a server may drip a byte at a time), so a watchdog shuts the connections down.
    """

    def __init__(self, endpoint: Endpoint, token: str, seconds: float) -> None:
        self._endpoint = endpoint
        self._token = token
        self._ends = time.monotonic() + seconds
        self._host = self._way = urlsplit(endpoint.url).hostname or ""
        if endpoint.proxy:
            netloc = urlsplit(endpoint.proxy).netloc.rpartition("@")[2]  # without its password
            self._way += f" by the proxy {netloc}"
        self._watchdog = _Watchdog()
        self._session = _Session()
        self._session.trust_env = False
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.verify = endpoint.ca_file or True
        self._session.headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "User-Agent": f"borgbase-exporter/{__version__}",
        }
        if endpoint.proxy:
            self._session.proxies = {"http": endpoint.proxy, "https": endpoint.proxy}
        adapter = _GuardedAdapter(self._watchdog)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()
        self._watchdog.close()

    def post(self, query: str, *, reserve: float = 0.0) -> Reply:
        """Send a query and return the answer, leaving `reserve` seconds for what comes later.

        Raises ConnectError, TLSError, DeadlineError, RedirectError, TooLargeError or, where the
        compression is broken or none that we know, NotJSONError. An error status is the caller's
        to judge: GraphQL servers explain themselves in the body.
        """
        seconds = self._ends - time.monotonic() - reserve
        if seconds <= 0:
            raise DeadlineError("the poll's time was used up before this query")
        try:
            with self._watchdog.armed(seconds), self._send(query, seconds) as response:
                if response.status_code // 100 == 3:  # noqa: PLR2004  # the class of redirects
                    raise RedirectError(
                        f"{self._host} answered with a redirect (HTTP {response.status_code}), "
                        "which is not followed"
                    )
                reply = Reply(response.status_code, self._read(response), _retry_after(response))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._failure(error) from None
        if self._watchdog.fired:
            # The library may have taken the cut for the end of the answer.
            raise self._late()
        return reply

    def _send(self, query: str, seconds: float) -> requests.Response:
        return self._session.post(
            self._endpoint.url,
            data=msgspec.json.encode({"query": query}),
            timeout=seconds,
            allow_redirects=False,
            stream=True,
        )

    def _read(self, response: requests.Response) -> bytes:
        encoding = response.headers.get("Content-Encoding", "").lower()
        if encoding not in READABLE_ENCODINGS:
            # Not asked for; and five layers of gzip can keep a processor busy for ever.
            raise NotJSONError(f"{self._host} compressed its answer in a way we did not ask for")
        body = io.BytesIO()
        # Not `read`, which takes a chunk of size -1 for one without end.
        while chunk := response.raw.read1(CHUNK, decode_content=True):
            body.write(chunk)
            if body.tell() > self._endpoint.max_response:
                raise TooLargeError(
                    f"the answer is larger than {self._endpoint.max_response} bytes "
                    "(--api.max-response)"
                )
        answer = body.getvalue()  # its own buffer, not a copy
        if sum(map(answer.count, (b",", b"\\"))) * BYTES_A_PART > self._endpoint.max_response:
            raise TooLargeError(
                "the answer has more parts than fit into the memory of "
                f"{self._endpoint.max_response} bytes (--api.max-response)"
            )
        return answer

    def _late(self) -> PollError:
        return DeadlineError(f"no complete answer from {self._way} in time")

    def _failure(self, error: Exception) -> PollError:
        chain = list(_causes(error))
        for cause in chain:
            # The libraries' frames are in cycles with their exceptions, and keep sockets open.
            traceback.clear_frames(cause.__traceback__)
        if self._watchdog.fired or any(_is_timeout(cause) for cause in chain):
            return self._late()
        # The libraries quote what came, and a server may send our own headers back.
        text = redacted(_words(chain[-1]), self._token) or type(chain[-1]).__name__
        if any(isinstance(c, requests.exceptions.SSLError | _SSL_ERRORS) for c in chain):
            return TLSError(f"no trusted connection to {self._way}: {text}")
        if any(isinstance(c, urllib3.exceptions.DecodeError) for c in chain):
            return NotJSONError(f"the answer of {self._host} is not validly compressed: {text}")
        return ConnectError(f"no answer from {self._way}: {text}")


def _retry_after(response: requests.Response) -> float | None:
    """Read Retry-After (RFC 9110, 10.2.3): seconds, or a date that tells when."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    with contextlib.suppress(ValueError, OverflowError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    return None


_SSL_ERRORS = urllib3.exceptions.SSLError
_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}
"""How OpenSSL's releases call an answer that is none to a handshake."""


def _words(error: BaseException) -> str:
    """Return what an error says to people, without numbers of errors and of lines in C files."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message).rstrip(".")
    if isinstance(error, ssl.SSLError) and error.reason:
        words = str(error.reason).replace("_", " ").lower()
        return "it does not speak TLS" if error.reason in _NO_TLS else words
    return str((isinstance(error, OSError) and error.strerror) or error).strip()


def _is_timeout(error: BaseException) -> bool:
    # urllib3 counts refused connections and unknown hosts among its connect time-outs' kin.
    return isinstance(
        error, TimeoutError | requests.exceptions.Timeout | urllib3.exceptions.ReadTimeoutError
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it wraps, outermost first: the libraries nest them in many ways."""
    seen: set[int] = set()
    inner: object = error
    while isinstance(inner, BaseException) and id(inner) not in seen:
        seen.add(id(inner))
        yield inner
        nested = [inner.__cause__, getattr(inner, "reason", None), *reversed(inner.args)]
        inner = next((item for item in nested if isinstance(item, BaseException)), None)


class _Watchdog:
    """Shuts down every connection it has been shown when the time is over."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._ends = 0.0
        self.fired = False

    @contextlib.contextmanager
    def armed(self, seconds: float) -> Iterator[None]:
        """Watch for that many seconds."""
        self.fired = False
        self._ends = time.monotonic() + seconds
        timer = threading.Timer(seconds, self._fire)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def remaining(self) -> float:
        """Return the seconds left; raise TimeoutError when there are none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def watch(self, connection: socket.socket) -> None:
        """Take charge of a connection.

        The duplicate is ours: it stays valid when TLS takes the original over, and can never
        be a number that something else has been given since.
        """
        with self._lock:
            self._sockets.append(connection.dup())
        if self.fired:
            self._fire()

    def _fire(self) -> None:
        with self._lock:
            self.fired = True
            for connection in self._sockets:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            for connection in self._sockets:
                connection.close()
            self._sockets.clear()


def _connect(host: str, port: int, watchdog: _Watchdog) -> socket.socket:
    """Connect to the first address of a host that answers, within the watchdog's time."""
    addresses = _resolve(host, port, watchdog.remaining())
    failure: OSError = ConnectionError(f"{host} has no address")
    for count, address in enumerate(addresses):
        share = watchdog.remaining() / (len(addresses) - count)
        try:
            return _open(address, share, watchdog)
        except OSError as error:
            failure = error
    raise failure


def _open(address: tuple[str, int], seconds: float, watchdog: _Watchdog) -> socket.socket:
    connection = socket.create_connection(address, seconds)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(watchdog.remaining())
        watchdog.watch(connection)
    except OSError:
        connection.close()
        raise
    return connection


def _resolve(host: str, port: int, seconds: float) -> list[tuple[str, int]]:
    """Look a name up, in a thread: nothing else bounds the system's resolver."""
    answers: queue.SimpleQueue[list[tuple[str, int]] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put([(str(address[0]), int(address[1])) for *_, address in found])
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else OSError(str(error)))

    threading.Thread(target=look_up, name="resolver", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, OSError):
        raise answer
    return answer


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return nothing: told not to follow, requests still reads the body, however large."""


class _GuardedAdapter(HTTPAdapter):
    """Has every connection of the session opened under a watchdog's eyes."""

    def __init__(self, watchdog: _Watchdog) -> None:
        self._connect: Callable[[str, int], socket.socket] = lambda host, port: _connect(
            host, port, watchdog
        )
        self._opened: list[HTTPConnection] = []
        super().__init__(max_retries=0)

    def close(self) -> None:
        """End all connections now; urllib3 leaves that to the garbage collector."""
        super().close()
        for connection in self._opened:
            connection.close()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._guard(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        self._guard(manager)
        return manager

    def _guard(self, manager: urllib3.PoolManager) -> None:
        connect, opened = self._connect, self._opened

        # urllib3's own SOCKS support opens its connections by this same override.
        def new_conn(connection: HTTPConnection) -> socket.socket:
            opened.append(connection)
            try:
                return connect(connection.host, connection.port or connection.default_port)
            except OSError as error:
                # A bare "connection reset" would pass for one that came after the request.
                raise NewConnectionError(connection, str(error)) from error

        class Plain(HTTPConnection):
            _new_conn = new_conn

        class Encrypted(HTTPSConnection):
            _new_conn = new_conn

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class EncryptedPool(HTTPSConnectionPool):
            ConnectionCls = Encrypted

        manager.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}
