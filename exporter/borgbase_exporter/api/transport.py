"""One HTTP exchange with the API, bounded in time and size whatever the network does."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import queue
import socket
import ssl
import threading
import time
import traceback
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import msgspec
import requests
import urllib3
from requests.adapters import DEFAULT_CA_BUNDLE_PATH, HTTPAdapter

from borgbase_exporter import __version__
from borgbase_exporter.errors import (
    ConnectError,
    DeadlineError,
    InternalError,
    NotJSONError,
    PollError,
    RedirectError,
    TLSError,
    TooLargeError,
)
from borgbase_exporter.text import redacted

log = logging.getLogger(__name__)

CHUNK = 64 * 1024
BYTES_A_PART = 64
"""What a comma or an escape of the answer costs at the least once it is decoded: a hostile answer
of nothing else would take many times its own size."""
READABLE_ENCODINGS = {"", "identity", "gzip", "x-gzip"}
CUT_SECONDS = 1.0
"""How long a thread may take to notice that its connection was shut down."""
ADDRESSES = 3
"""How many addresses of a host there is time to try, if none of them answers."""
SHORTEST = 0.001
"""Seconds: sockets take a time-out of 0 for none at all."""

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


def secrets(endpoint: Endpoint, token: str) -> tuple[str, ...]:
    """Return what a server or a proxy may repeat and must not be shown."""
    proxy = urlsplit(endpoint.proxy or "")
    if not proxy.password:
        return (token,)
    password = unquote(proxy.password)
    return token, password, f"{unquote(proxy.username or '')}:{password}"


class Transport:
    """Exchanges with one endpoint, a fresh connection each, one at a time.

    Neither requests nor its timeouts bound an exchange as a whole: a server may drip a byte at a
    time, and a name may take for ever to be resolved. So each exchange has a thread that is
    abandoned when the time is over, its connection shut down. There is never more than one.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._leftover: threading.Thread | None = None

    def post(self, query: str, token: str, *, seconds: float) -> Reply:
        """Send a query and return the answer within so many seconds, or raise a PollError.

        An error status is for the caller to judge: GraphQL servers explain themselves in the body.
        """
        ends = time.monotonic() + seconds
        if seconds <= 0:
            raise DeadlineError("the poll's time was used up before this query")
        if self._leftover:
            self._leftover.join(min(seconds, CUT_SECONDS))
            if self._leftover.is_alive():
                raise DeadlineError("an earlier query to the API has still not ended")
        exchange = _Exchange(self._endpoint, token, ends)
        thread = threading.Thread(target=exchange.run, args=[query], name="exchange", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise InternalError(f"no thread for a query: {error}") from None
        self._leftover = thread
        try:
            outcome = exchange.outcomes.get(timeout=max(0.0, ends - time.monotonic()))
        except queue.Empty:
            exchange.cut()
            raise exchange.failure(TimeoutError()) from None
        if isinstance(outcome, Reply):
            return outcome
        try:
            raise outcome
        finally:
            del outcome  # else the error and this frame would hold each other


class _Exchange(HTTPAdapter):
    """One request and its answer; another thread can shut its connections down.

    An adapter without a session takes nothing from the environment (no netrc, which would replace
    the token, no proxy or certificate variables), keeps no cookies and follows no redirects.
    """

    def __init__(self, endpoint: Endpoint, token: str, ends: float) -> None:
        super().__init__(max_retries=0)
        self._endpoint = endpoint
        self._token = token
        self._ends = ends
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._over = False
        self.outcomes: queue.SimpleQueue[Reply | PollError] = queue.SimpleQueue()
        self._where = urlsplit(endpoint.url).hostname or ""
        if endpoint.proxy:
            netloc = urlsplit(endpoint.proxy).netloc.rpartition("@")[2]  # without its password
            self._where += f" by the proxy {netloc}"

    def run(self, query: str) -> None:
        """Exchange, and put the outcome. No frame outlives that: one may hold a huge answer."""
        outcome: Reply | PollError
        try:
            with contextlib.closing(self):
                outcome = self._exchange(query)
        except PollError as error:
            outcome = error.without_frames()
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            outcome = self.failure(error)
        except Exception:
            log.exception("a defect, please report it")
            outcome = InternalError("a defect of the exporter; its log has the details")
        self.outcomes.put(outcome)

    def _exchange(self, query: str) -> Reply:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Authorization": f"Bearer {self._token}",
            "Content-Type": "application/json",
            "User-Agent": f"borgbase-exporter/{__version__}",
        }
        body = msgspec.json.encode({"query": query})
        request = requests.Request("POST", self._endpoint.url, headers, data=body).prepare()
        proxies = {"all": self._endpoint.proxy} if self._endpoint.proxy else {}
        timeout = (self._left() / ADDRESSES, self._left())
        with self.send(request, stream=True, timeout=timeout, proxies=proxies) as response:
            if response.status_code // 100 == 3:  # noqa: PLR2004  # the class of redirects
                raise RedirectError(
                    f"{self._where} answered with a redirect (HTTP {response.status_code}), "
                    "which is not followed"
                )
            return Reply(response.status_code, self._read(response), _retry_after(response))

    def _read(self, response: requests.Response) -> bytes:
        encoding = response.headers.get("Content-Encoding", "").lower()
        if encoding not in READABLE_ENCODINGS:
            # Not asked for; and five layers of gzip can keep a processor busy for ever.
            raise NotJSONError(f"{self._where} compressed its answer in a way we did not ask for")
        limit, parts, body = self._endpoint.max_response, 0, io.BytesIO()
        # Not `read`, which takes a chunk of size -1 for one without end.
        while chunk := response.raw.read1(CHUNK, decode_content=True):
            body.write(chunk)
            parts += chunk.count(b",") + chunk.count(b"\\")
            if max(body.tell(), parts * BYTES_A_PART) > limit:
                raise TooLargeError(
                    f"the answer takes more memory than {limit} bytes (--api.max-response)"
                )
        return body.getvalue()  # its own buffer, not a copy

    def failure(self, error: Exception) -> PollError:
        """Return what an error of the libraries means."""
        chain = _causes(error)
        for cause in chain:
            # The libraries' frames are in cycles with their exceptions, and keep sockets open.
            traceback.clear_frames(cause.__traceback__)
        # The libraries quote what came, and a server may send our own headers back.
        words = redacted(_words(chain[-1]), *secrets(self._endpoint, self._token))
        words = words or type(chain[-1]).__name__
        kind, text = next(
            (kind, text)
            for types, kind, text in _FAILURES
            if any(isinstance(cause, types) for cause in chain)
        )
        return kind(text.format(where=self._where, words=words))

    def _left(self) -> float:
        """Return the seconds left."""
        return max(SHORTEST, self._ends - time.monotonic())

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:
        """Add to what a connection is made by the context that all exchanges share."""
        host, _ = super().build_connection_pool_key_attributes(*args, **kwargs)
        https = host["scheme"] == "https"
        return host, {"ssl_context": _tls_context(self._endpoint.ca_file)} if https else {}

    def cert_verify(self, *_args: Any, **_kwargs: Any) -> None:
        """Leave the verification to the context, instead of loading the CAs each time."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool for a request; the sockets of its connections will be known."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        make = pool.ConnectionCls

        def watched(**options: Any) -> Any:
            connection = make(**options)
            connect = connection._new_conn  # noqa: SLF001  # nothing public shows the bare socket
            connection._new_conn = lambda: self._watch(connect())  # noqa: SLF001
            return connection

        pool.ConnectionCls = watched
        return pool

    def _watch(self, opened: socket.socket) -> socket.socket:
        with contextlib.ExitStack() as on_error, self._lock:
            on_error.callback(opened.close)
            opened.settimeout(self._left())
            # A duplicate stays valid when TLS takes the original over.
            self._sockets.append(opened.dup())
            if self._over:
                opened.shutdown(socket.SHUT_RDWR)
            on_error.pop_all()
        return opened

    def cut(self) -> None:
        """Shut down what is open, and what will be opened."""
        with self._lock:
            self._over = True
            for opened in self._sockets:
                with contextlib.suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close everything."""
        super().close()
        with self._lock:
            while self._sockets:
                self._sockets.pop().close()


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return the context for a CA file as it is now; building one takes long."""
    path = ca_file or DEFAULT_CA_BUNDLE_PATH
    try:
        return _loaded(path, Path(path).stat().st_mtime_ns)
    except OSError as error:
        raise TLSError(f"the CA file {path} cannot be read: {_words(error)}") from None


@functools.lru_cache(maxsize=1)
def _loaded(ca_file: str, _mtime: int) -> ssl.SSLContext:
    # This also verifies host names.
    context = urllib3.util.create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    context.load_verify_locations(ca_file)
    return context


def _retry_after(response: requests.Response) -> float | None:
    """Read Retry-After (RFC 9110, 10.2.3): seconds, or a date."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    with contextlib.suppress(ValueError, OverflowError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    return None


_FAILURES: tuple[tuple[tuple[type[Exception], ...], type[PollError], str], ...] = (
    (
        # Not urllib3's TimeoutError: refused connections and unknown hosts are of its kin.
        (TimeoutError, requests.exceptions.Timeout, urllib3.exceptions.ReadTimeoutError),
        DeadlineError,
        "no complete answer from {where} in time",
    ),
    (
        (requests.exceptions.SSLError, urllib3.exceptions.SSLError),
        TLSError,
        "no trusted connection to {where}: {words}",
    ),
    (
        (urllib3.exceptions.DecodeError,),
        NotJSONError,
        "the answer of {where} is not validly compressed: {words}",
    ),
    ((Exception,), ConnectError, "no answer from {where}: {words}"),
)
_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}
"""How OpenSSL's releases call an answer that is none to a handshake."""


def _words(error: BaseException) -> str:
    """Return an error's text without numbers of errors and of lines in C files."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message).rstrip(".")
    if isinstance(error, ssl.SSLError) and error.reason:
        words = str(error.reason).replace("_", " ").lower()
        return "it does not speak TLS" if error.reason in _NO_TLS else words
    return str((isinstance(error, OSError) and error.strerror) or error).strip()


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and what it wraps, outermost first: the libraries nest them in many ways."""
    found: list[BaseException] = []
    inner: BaseException | None = error
    while inner and inner not in found:
        found.append(inner)
        nested = (inner.__cause__, getattr(inner, "reason", None), *reversed(inner.args))
        inner = next((item for item in nested if isinstance(item, BaseException)), None)
    return found
