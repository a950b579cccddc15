"""Paths and what they answer. Nothing here waits long, except for a password to be checked."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol, Self
from urllib.parse import parse_qsl, urlsplit

from borgbase_exporter.findings import report as reports
from borgbase_exporter.metrics.exposition import OPENMETRICS, TEXT, Format, Pages
from borgbase_exporter.model import AccountStatus
from borgbase_exporter.settings import Web
from borgbase_exporter.settings.webfile import RateLimit, WebConfig
from borgbase_exporter.threads import in_thread
from borgbase_exporter.web.auth import BasicAuth, BusyError
from borgbase_exporter.web.page import StatusPage

MAX_HEADERS = 16 * 1024
"""Characters of a request's header values."""
METHODS = ("GET", "HEAD")
PROBES = frozenset({"/-/healthy", "/-/ready"})
CHALLENGE = 'Basic realm="borgbase-exporter", charset="UTF-8"'
PLAIN = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"
JSON = "application/json"
FRESH = 5.0
"""Seconds for which a report is used again."""
REST = 10
"""A report is used again for at least that many times as long as it took to make."""


class View(Protocol):
    """What is known at a moment; values that are too old are left out."""

    @property
    def accounts(self) -> Mapping[str, AccountStatus]:
        """The accounts by their names."""

    @property
    def pages(self) -> Pages:
        """The exposition in all formats."""

    @property
    def revision(self) -> int:
        """Grows with each view."""


class Source(Protocol):
    """Where the content comes from."""

    @property
    def latest(self) -> View:
        """The newest view that was made."""

    def view(self) -> Awaitable[View]:
        """Return the newest view, in which nothing has expired."""

    def troubles(self) -> Sequence[str]:
        """Return in words what is wrong with the exporter itself."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request; header names are in lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    client: str = ""
    """The client's address."""
    gone: Callable[[], bool] = lambda: False
    """Whether the client is no longer there."""

    @classmethod
    def of(cls, scope: Mapping[str, Any], gone: Callable[[], bool]) -> Self:
        """Return the request of an ASGI scope."""
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        client = scope["client"][0] if scope["client"] else ""
        query = scope["query_string"].decode("latin-1")
        return cls(scope["method"], scope["path"], query, headers, client, gone)

    @property
    def has_body(self) -> bool:
        """Whether content follows the headers."""
        length = self.headers.get("content-length", "0")
        return "transfer-encoding" in self.headers or length.strip("0") != ""

    def accepts_gzip(self) -> bool:
        """Return whether the client takes gzip (RFC 9110, 12.5.3)."""
        return _quality(self.headers.get("accept-encoding", ""), "gzip", "*") > 0

    def format(self) -> Format:
        """Return the exposition format that the client likes best (RFC 9110, 12.5.1)."""
        accept = self.headers.get("accept", "")
        openmetrics = _quality(accept, "application/openmetrics-text")
        plain = _quality(accept, "text/plain", "text/*", "*/*")
        return OPENMETRICS if openmetrics > plain else TEXT


@functools.lru_cache(maxsize=64)
def _quality(header: str, *names: str) -> float:
    """Return the weight of the first of the names that a header mentions, 0 for none."""
    weights: dict[str, float] = {}
    for item in header.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            weight = float(quality)
        except ValueError:
            weight = 0.0
        weights[name] = max(weight, weights.get(name, 0.0))
    return next((weights[name] for name in names if name in weights), 0.0)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; the pieces of the body may be shared by many answers."""

    body: tuple[bytes, ...]
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = PLAIN
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Bytes in the body."""
        return sum(map(len, self.body))


def text(content: str, status: int = HTTPStatus.OK, headers: Mapping[str, str] = {}) -> Response:
    """Return a response in plain text."""
    return Response((f"{content}\n".encode(),), HTTPStatus(status), headers=headers)


def error(status: HTTPStatus, why: str = "", headers: Mapping[str, str] = {}) -> Response:
    """Return a response that says what went wrong."""
    return text(f"{status.value} {status.phrase}" + (f": {why}" if why else ""), status, headers)


class _Bucket:
    """Counts requests against a limit; None is no limit."""

    def __init__(self, limit: RateLimit | None) -> None:
        self._limit = limit
        self._tokens = float(limit.burst) if limit else 0.0
        self._filled = time.monotonic()

    def take(self) -> bool:
        """Return whether one more request may be answered now."""
        if self._limit is None:
            return True
        now = time.monotonic()
        self._tokens += (now - self._filled) / self._limit.seconds
        self._tokens = min(self._tokens, float(self._limit.burst))
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class _Reports:
    """Makes the report on all accounts in a thread, one at a time, and keeps it for a while."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._turn = asyncio.Lock()
        self._kept: tuple[reports.Report, bytes] | None = None
        self._expires = 0.0

    async def current(self) -> tuple[reports.Report, bytes]:
        """Return the report and its JSON."""
        async with self._turn:
            if self._kept is None or time.monotonic() >= self._expires:
                view, troubles = await self._source.view(), self._source.troubles()
                begun = time.monotonic()
                self._kept = await in_thread("report", functools.partial(_report, view, troubles))
                ended = time.monotonic()
                self._expires = ended + max(FRESH, REST * (ended - begun))
            return self._kept


def _report(view: View, troubles: Sequence[str]) -> tuple[reports.Report, bytes]:
    found = reports.report(view.accounts.values(), time.time(), troubles=troubles)
    return found, reports.encode(found)


class App:
    """The exporter's pages; without a status page there is nothing at `/`."""

    def __init__(self, source: Source, web: Web, page: StatusPage | None = None) -> None:
        self._source = source
        self._web = web
        self._page = page
        self._auth = BasicAuth({})
        self._reports = _Reports(source)
        self.configure(web.config)
        self._routes: Mapping[str, Callable[[Request], Awaitable[Response]]] = {
            "/": self._status,
            "/status.json": self._status_json,
            "/-/well": self._well,
            "/-/healthy": self._healthy,
            "/-/ready": self._ready,
            web.telemetry_path: self._metrics,
        }

    def configure(self, config: WebConfig) -> None:
        """Serve with these users, headers and limits from now on."""
        self._auth.configure(config.users)
        self._bucket = _Bucket(config.rate_limit)
        self._headers = {"X-Content-Type-Options": "nosniff", **config.headers}

    async def respond(self, request: Request) -> Response:
        """Return the response to a request."""
        response = (
            self._refusal(request) or await self._challenge(request) or await self._routed(request)
        )
        headers = {**response.headers, **self._headers}
        return Response(response.body, response.status, response.content_type, headers)

    def _refusal(self, request: Request) -> Response | None:
        """Return why a request is not answered, whatever it asks for and whoever asks."""
        if not self._bucket.take():
            return error(HTTPStatus.TOO_MANY_REQUESTS, headers={"Retry-After": "1"})
        if sum(map(len, request.headers.values())) > MAX_HEADERS:
            return error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if not self._knows(request.headers.get("host")):
            return error(HTTPStatus.MISDIRECTED_REQUEST, "not one of --web.allowed-host")
        return None

    async def _challenge(self, request: Request) -> Response | None:
        """Return what is answered to a request without a user's password."""
        if self._web.open_probes and request.path in PROBES:
            return None
        authorization = request.headers.get("authorization", "")
        try:
            if await self._auth.admits(authorization, request.client, request.gone):
                return None
        except BusyError:
            return error(HTTPStatus.SERVICE_UNAVAILABLE, headers={"Retry-After": "5"})
        return error(HTTPStatus.UNAUTHORIZED, headers={"WWW-Authenticate": CHALLENGE})

    async def _routed(self, request: Request) -> Response:
        route = self._routes.get(request.path)
        if route is None:
            return error(HTTPStatus.NOT_FOUND)
        if request.method not in METHODS:
            allow = {"Allow": ", ".join(METHODS)}
            return error(HTTPStatus.METHOD_NOT_ALLOWED, headers=allow)
        return await route(request)

    def _knows(self, host: str | None) -> bool:
        """Return whether a Host header names this server; browsers always send one."""
        if not self._web.allowed_hosts or host is None:
            return True
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name in {"localhost", *(each.lower() for each in self._web.allowed_hosts)}:
            return True
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    async def _metrics(self, request: Request) -> Response:
        format_ = request.format()
        page = (await self._source.view()).pages[format_]
        headers = {"Vary": "Accept, Accept-Encoding"}
        if request.accepts_gzip():
            headers["Content-Encoding"] = "gzip"
            return Response(page.gzipped(), content_type=format_.content_type, headers=headers)
        return Response(page.body(), content_type=format_.content_type, headers=headers)

    async def _status(self, request: Request) -> Response:
        if self._page is None:
            return text(f"the metrics are at {self._web.telemetry_path}", HTTPStatus.NOT_FOUND)
        page = await self._page.current()
        gzip = request.accepts_gzip()
        headers = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": page.policy,
            "Referrer-Policy": "no-referrer",
            "Vary": "Accept-Encoding",
        }
        if gzip:
            headers["Content-Encoding"] = "gzip"
        body = page.gzipped if gzip else page.plain
        return Response(body, content_type=HTML, headers=headers)

    async def _status_json(self, _request: Request) -> Response:
        _, document = await self._reports.current()
        return Response((document,), content_type=JSON, headers={"Cache-Control": "no-store"})

    async def _well(self, request: Request) -> Response:
        asked = parse_qsl(request.query, keep_blank_values=True)
        query = dict(asked)
        if len(query) < len(asked) or not query.keys() <= {"account", "severity"}:
            return error(HTTPStatus.BAD_REQUEST, "parameters: account, severity")
        found, _ = await self._reports.current()
        status, words = reports.well(found, query.get("account"), query.get("severity", "warning"))
        return text(words, status, {"Cache-Control": "no-store"})

    async def _healthy(self, _request: Request) -> Response:
        if troubles := self._source.troubles():
            return text("\n".join(troubles), HTTPStatus.SERVICE_UNAVAILABLE)
        return text("OK")

    async def _ready(self, _request: Request) -> Response:
        accounts = self._source.latest.accounts.values()
        waiting = sum(not status.polls for status in accounts)
        if waiting or not accounts:
            words = f"waiting for the first poll of {waiting} of {len(accounts)} accounts"
            return text(words, HTTPStatus.SERVICE_UNAVAILABLE)
        return text("OK")
