"""HTTP exchanges with the API, bounded in time and size whatever the network does."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import socket
import ssl
import threading
import time
import traceback
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from requests.adapters import DEFAULT_CA_BUNDLE_PATH, HTTPAdapter

from borgbase_exporter import __version__
from borgbase_exporter.errors import DEFECT, PollError, Reason
from borgbase_exporter.settings import API
from borgbase_exporter.text import redacted

log = logging.getLogger(__name__)

CHUNK = 64 * 1024
BYTES_A_PART = 64  # the least that a decoded comma or escape takes; an answer may be full of them
READABLE_ENCODINGS = {"", "identity", "gzip", "x-gzip"}
CUT_SECONDS = 1.0  # how long a thread may take to notice that its connection was shut down
ADDRESSES = 3  # how many addresses of a host can be tried in time, if none of them answers
SHORTEST = 0.001  # seconds: sockets interpret a timeout of 0 as non-blocking

# It logs headers that it cannot parse, and a broken proxy may return the request's.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer: status, decoded body, and after how many seconds to retry."""

    status: int
    body: bytes = field(repr=False)
    retry_after: float | None = None


def secrets(endpoint: API, token: str) -> tuple[str, ...]:
    """Return the secrets of a request, which its answer may repeat."""
    proxy = urlsplit(endpoint.proxy or "")
    user, password = (unquote(part or "") for part in (proxy.username, proxy.password))
    return (token, password, f"{user}:{password}") if password else (token,)


class Transport(HTTPAdapter):
    """Exchanges with one endpoint, one at a time, over one connection until `close`.

    The timeouts of requests do not bound an exchange as a whole: a server may send one byte at a
    time, and name resolution may never return. So each exchange runs in a thread, which is
    abandoned at the deadline and its connection shut down. At most one such thread exists.

    An adapter without a session uses nothing from the environment (no netrc, which would replace
    the token, no proxy or certificate variables), keeps no cookies and follows no redirects.
    """

    def __init__(self, endpoint: API) -> None:
        super().__init__(pool_maxsize=1, max_retries=0)
        self._endpoint = endpoint
        self._token = ""
        self._ends = 0.0  # when the exchange under way has to end; 0 after `close`
        self._leftover: threading.Thread | None = None
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._pool: Any = None
        self._where = urlsplit(endpoint.url).hostname or ""
        if endpoint.proxy:
            netloc = urlsplit(endpoint.proxy).netloc.rpartition("@")[2]  # without its password
            self._where += f" through the proxy {netloc}"

    def post(self, query: str, token: str, *, seconds: float) -> Reply:
        """Send a query and return the answer, of any status, within `seconds`; raise PollError."""
        ends = time.monotonic() + seconds
        if seconds <= 0:
            raise PollError(Reason.TIMEOUT, "the poll's time was used up before this query")
        if self._leftover:
            self._leftover.join(min(seconds, CUT_SECONDS))
            if self._leftover.is_alive():
                raise PollError(Reason.TIMEOUT, "an earlier query to the API has still not ended")
        self._token, self._ends, outcome = token, ends, Future[Reply]()
        thread = threading.Thread(None, self._run, "exchange", (query, outcome), daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise PollError(Reason.INTERNAL, f"no thread for a query: {error}") from None
        self._leftover = thread
        try:
            return outcome.result(max(0.0, ends - time.monotonic()))
        except TimeoutError:
            self.close()
            raise self._failure(TimeoutError()) from None

    def _run(self, query: str, outcome: Future[Reply]) -> None:
        """Run an exchange and set the outcome; keep no frame, which may hold a huge answer."""
        try:
            with contextlib.ExitStack() as failing:
                failing.callback(self.close)
                reply = self._exchange(query)
                failing.pop_all()
            outcome.set_result(reply)
        except PollError as error:
            outcome.set_exception(error.without_frames())
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            outcome.set_exception(self._failure(error))
        except Exception:
            log.exception("a defect, please report it")
            outcome.set_exception(PollError(Reason.INTERNAL, DEFECT))

    def _exchange(self, query: str) -> Reply:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Authorization": f"Bearer {self._token}",
            "User-Agent": f"borgbase-exporter/{__version__}",
        }
        request = requests.PreparedRequest()
        request.prepare("POST", self._endpoint.url, headers, json={"query": query})
        proxies = {"all": self._endpoint.proxy} if self._endpoint.proxy else {}

        def send() -> requests.Response:
            timeout = (self._left() / ADDRESSES, self._left())
            return self.send(request, stream=True, timeout=timeout, proxies=proxies)

        before = self._sockets[:]
        try:
            response = send()
        except requests.ConnectionError:
            if not before or before != self._sockets:
                raise
            response = send()  # the server had closed the connection of the previous query
        with response:
            status = response.status_code
            if status // 100 == 3:  # noqa: PLR2004  # the class of redirects
                what = f"a redirect (HTTP {status}), which is not followed"
                raise PollError(Reason.REDIRECT, f"{self._where} answered with {what}")
            return Reply(status, self._read(response), _retry_after(response))

    def _read(self, response: requests.Response) -> bytes:
        encoding = response.headers.get("Content-Encoding", "").lower()
        if encoding not in READABLE_ENCODINGS:
            # Not requested; nested gzip layers could also keep a processor busy for ever.
            what = "compressed its answer in a way we did not ask for"
            raise PollError(Reason.NOT_JSON, f"{self._where} {what}")
        limit, parts, body = self._endpoint.max_response, 0, io.BytesIO()
        # Not `read`: it treats a chunk of size -1 as endless.
        while chunk := response.raw.read1(CHUNK, decode_content=True):
            body.write(chunk)
            parts += chunk.count(b",") + chunk.count(b"\\")
            if max(body.tell(), parts * BYTES_A_PART) > limit:
                most = f"{limit} bytes (--api.max-response)"
                raise PollError(Reason.TOO_LARGE, f"the answer takes more memory than {most}")
        return body.getvalue()  # its own buffer, not a copy

    def _failure(self, error: Exception) -> PollError:
        """Return the PollError for an exception of the libraries."""
        chain = _causes(error)
        for cause in chain:
            # Frames and exceptions of the libraries form cycles that keep sockets open.
            traceback.clear_frames(cause.__traceback__)
        # The libraries quote what they received, and a server may return the request's headers.
        words = redacted(_words(chain[-1]), *secrets(self._endpoint, self._token))
        words = words or type(chain[-1]).__name__

        def has(*kinds: type[Exception]) -> bool:
            return any(isinstance(cause, kinds) for cause in chain)

        # Not urllib3's TimeoutError: refused connections and unknown hosts are subclasses.
        if has(TimeoutError, requests.Timeout, urllib3.exceptions.ReadTimeoutError):
            return PollError(Reason.TIMEOUT, f"no complete answer from {self._where} in time")
        if has(requests.exceptions.SSLError, urllib3.exceptions.SSLError):
            return PollError(Reason.TLS, f"no trusted connection to {self._where}: {words}")
        if has(urllib3.exceptions.DecodeError):
            what = f"the answer of {self._where} is not validly compressed"
            return PollError(Reason.NOT_JSON, f"{what}: {words}")
        return PollError(Reason.CONNECT, f"no answer from {self._where}: {words}")

    def _left(self) -> float:
        return max(SHORTEST, self._ends - time.monotonic())

    def cert_verify(self, *_args: Any, **_kwargs: Any) -> None:
        """Leave the verification to the context, instead of loading the CAs each time."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool for a request; `close` can reach the sockets of its connections."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if pool is self._pool:
            return pool
        self._pool = pool
        if pool.scheme == "https":
            path = self._endpoint.ca_file or DEFAULT_CA_BUNDLE_PATH
            mtime = Path(path).stat().st_mtime_ns if Path(path).exists() else 0
            pool.conn_kw["ssl_context"] = _tls_context(path, mtime)
        make = pool.ConnectionCls

        def watched(**options: Any) -> Any:
            connection = make(**options)
            connect = connection._new_conn  # noqa: SLF001  # nothing public shows the bare socket
            connection._new_conn = lambda: self._watch(connect())  # noqa: SLF001
            return connection

        pool.ConnectionCls = watched
        return pool

    def _watch(self, opened: socket.socket) -> socket.socket:
        try:
            with self._lock:
                # A duplicate stays valid when TLS takes the original over.
                self._sockets.append(opened.dup())
                opened.settimeout(self._left())
                if not self._ends:
                    opened.shutdown(socket.SHUT_RDWR)
        except OSError:
            opened.close()
            raise
        return opened

    def close(self) -> None:
        """Shut down and close what is open, and what another thread opens until the next `post`."""
        with self._lock:
            super().close()
            self._ends = 0.0
            if self._pool:
                self._pool.close()
                self._pool = None
            while self._sockets:
                with self._sockets.pop() as opened, contextlib.suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)


@functools.lru_cache(maxsize=1)
def _tls_context(ca_file: str, _mtime: int) -> ssl.SSLContext:
    """Return the context for a CA file as it was then; building one takes long."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        text = f"the CA file {ca_file} cannot be read: {_words(error)}"
        raise PollError(Reason.TLS, text) from None


def _retry_after(response: requests.Response) -> float | None:
    """Return Retry-After (RFC 9110, 10.2.3) in seconds; None if it is invalid."""
    with contextlib.suppress(ValueError, OverflowError, urllib3.exceptions.InvalidHeader):
        return urllib3.Retry().parse_retry_after(response.headers.get("Retry-After", ""))
    return None


_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}  # by release of OpenSSL


def _words(error: BaseException) -> str:
    """Return an error's text without error numbers and line numbers of C files."""
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
