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
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import msgspec
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection

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


Outcome = Reply | PollError


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
        self._host = self._way = urlsplit(endpoint.url).hostname or ""
        if endpoint.proxy:
            netloc = urlsplit(endpoint.proxy).netloc.rpartition("@")[2]  # without its password
            self._way += f" by the proxy {netloc}"

    def post(self, query: str, token: str, *, seconds: float) -> Outcome:
        """Send a query; return the answer, or why there is none, within so many seconds.

        An error status is for the caller to judge: GraphQL servers explain themselves in the body.
        """
        ends = time.monotonic() + seconds
        if seconds <= 0:
            return DeadlineError("the poll's time was used up before this query")
        if self._leftover:
            self._leftover.join(min(seconds, CUT_SECONDS))
            if self._leftover.is_alive():
                return DeadlineError("an earlier query to the API has still not ended")
        outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        adapter = _Adapter(ends)
        work = (query, token, adapter, outcomes.put)
        thread = threading.Thread(target=self._work, args=work, name="exchange", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            return InternalError(f"no thread for a query: {error}")
        self._leftover = thread
        try:
            return outcomes.get(timeout=max(0.0, ends - time.monotonic()))
        except queue.Empty:
            adapter.cut()
            return self._late()

    def _work(
        self, query: str, token: str, adapter: _Adapter, put: Callable[[Outcome], None]
    ) -> None:
        """Exchange, and put the outcome. No frame outlives that: one may hold a huge answer."""
        outcome: Outcome
        try:
            outcome = self._exchange(query, token, adapter)
        except PollError as error:
            outcome = error.without_frames()
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            outcome = self._failure(error, token)
        except Exception:
            log.exception("a defect, please report it")
            outcome = InternalError("a defect of the exporter; its log has the details")
        put(outcome)

    def _exchange(self, query: str, token: str, adapter: _Adapter) -> Reply:
        with (
            self._session(token, adapter) as session,
            session.post(
                self._endpoint.url,
                data=msgspec.json.encode({"query": query}),
                timeout=(adapter.left() / ADDRESSES, adapter.left()),
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            if response.status_code // 100 == 3:  # noqa: PLR2004  # the class of redirects
                raise RedirectError(
                    f"{self._host} answered with a redirect (HTTP {response.status_code}), "
                    "which is not followed"
                )
            return Reply(response.status_code, self._read(response), _retry_after(response))

    def _session(self, token: str, adapter: _Adapter) -> requests.Session:
        """Return a session that takes nothing from the environment.

        No netrc (it would replace the token), no proxy or certificate variables, no cookies.
        """
        session = _Session()
        session.trust_env = False
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session.verify = self._endpoint.ca_file or True
        session.headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "User-Agent": f"borgbase-exporter/{__version__}",
        }
        if self._endpoint.proxy:
            session.proxies = {"http": self._endpoint.proxy, "https": self._endpoint.proxy}
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        return session

    def _read(self, response: requests.Response) -> bytes:
        encoding = response.headers.get("Content-Encoding", "").lower()
        if encoding not in READABLE_ENCODINGS:
            # Not asked for; and five layers of gzip can keep a processor busy for ever.
            raise NotJSONError(f"{self._host} compressed its answer in a way we did not ask for")
        limit = self._endpoint.max_response
        body = io.BytesIO()
        # Not `read`, which takes a chunk of size -1 for one without end.
        while chunk := response.raw.read1(CHUNK, decode_content=True):
            body.write(chunk)
            if body.tell() > limit:
                raise TooLargeError(f"the answer is larger than {limit} bytes (--api.max-response)")
        answer = body.getvalue()  # its own buffer, not a copy
        if sum(map(answer.count, (b",", b"\\"))) * BYTES_A_PART > limit:
            raise TooLargeError(
                "the answer has more parts than fit into the memory of "
                f"{limit} bytes (--api.max-response)"
            )
        return answer

    def _late(self) -> PollError:
        return DeadlineError(f"no complete answer from {self._way} in time")

    def _failure(self, error: Exception, token: str) -> PollError:
        chain = list(_causes(error))
        for cause in chain:
            # The libraries' frames are in cycles with their exceptions, and keep sockets open.
            traceback.clear_frames(cause.__traceback__)
        if any(isinstance(cause, _TIMEOUTS) for cause in chain):
            return self._late()
        # The libraries quote what came, and a server may send our own headers back.
        words = redacted(_words(chain[-1]), *secrets(self._endpoint, token))
        words = words or type(chain[-1]).__name__
        if any(isinstance(cause, _SSL_ERRORS) for cause in chain):
            return TLSError(f"no trusted connection to {self._way}: {words}")
        if any(isinstance(cause, urllib3.exceptions.DecodeError) for cause in chain):
            return NotJSONError(f"the answer of {self._host} is not validly compressed: {words}")
        return ConnectError(f"no answer from {self._way}: {words}")


def _retry_after(response: requests.Response) -> float | None:
    """Read Retry-After (RFC 9110, 10.2.3): seconds, or a date."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    with contextlib.suppress(ValueError, OverflowError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    return None


_SSL_ERRORS = (requests.exceptions.SSLError, urllib3.exceptions.SSLError)
# Not urllib3's TimeoutError: refused connections and unknown hosts are of its kin.
_TIMEOUTS = (TimeoutError, requests.exceptions.Timeout, urllib3.exceptions.ReadTimeoutError)
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


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it wraps, outermost first: the libraries nest them in many ways."""
    seen: set[int] = set()
    inner: object = error
    while isinstance(inner, BaseException) and id(inner) not in seen:
        seen.add(id(inner))
        yield inner
        nested = [inner.__cause__, getattr(inner, "reason", None), *reversed(inner.args)]
        inner = next((item for item in nested if isinstance(item, BaseException)), None)


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return nothing: else requests reads the body of a redirect, however large."""


class _Adapter(HTTPAdapter):
    """Opens the connections of one exchange, and can shut them down from another thread."""

    def __init__(self, ends: float) -> None:
        self._ends = ends
        self._lock = threading.Lock()
        self._connections: list[HTTPConnection] = []
        self._sockets: list[socket.socket] = []
        self._over = False
        super().__init__(max_retries=0)

    def left(self) -> float:
        """Return the seconds left."""
        return max(SHORTEST, self._ends - time.monotonic())

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool for a request; its connections will be watched."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        make = pool.ConnectionCls
        pool.ConnectionCls = lambda **options: self._watched(make(**options))
        return pool

    def _watched(self, connection: Any) -> Any:
        connect = connection._new_conn  # noqa: SLF001  # nothing public shows the bare socket

        def new_conn() -> socket.socket:
            opened: socket.socket = connect()
            with contextlib.ExitStack() as on_error, self._lock:
                on_error.callback(opened.close)
                opened.settimeout(self.left())
                # A duplicate stays valid when TLS takes the original over.
                self._sockets.append(opened.dup())
                if self._over:
                    opened.shutdown(socket.SHUT_RDWR)
                on_error.pop_all()
            return opened

        self._connections.append(connection)
        connection._new_conn = new_conn  # noqa: SLF001
        return connection

    def cut(self) -> None:
        """Shut down what is open, and what will be opened."""
        with self._lock:
            self._over = True
            for opened in self._sockets:
                with contextlib.suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close everything now; urllib3 leaves that to the garbage collector."""
        super().close()
        with self._lock:
            for connection in self._connections:
                connection.close()
            while self._sockets:
                self._sockets.pop().close()
