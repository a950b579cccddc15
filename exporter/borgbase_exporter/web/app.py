"""Paths and what they answer. Nothing here waits long, except for a password to be checked."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qsl, urlsplit

from borgbase_exporter.findings import report as reports
from borgbase_exporter.metrics.exposition import OPENMETRICS, TEXT, Format, Pages
from borgbase_exporter.polling.board import View
from borgbase_exporter.settings import Web
from borgbase_exporter.settings.webfile import WebConfig
from borgbase_exporter.web.auth import BasicAuth
from borgbase_exporter.web.kept import Kept, Source
from borgbase_exporter.web.page import StatusPage

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope

METHODS = ("GET", "HEAD")
PROBES = frozenset({"/-/healthy", "/-/ready"})
CHALLENGE = 'Basic realm="borgbase-exporter", charset="UTF-8"'
NO_STORE = {"Cache-Control": "no-store"}
QUALITY = re.compile(r"[01](\.[0-9]*)?")  # a weight as RFC 9110 defines it; others count as 0


@dataclass(frozen=True, slots=True)
class Request:
    """A request; header names are in lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    client: str = "::"  # the client's address; `::` if it is unknown
    gone: Callable[[], bool] = lambda: False  # whether the client is no longer there

    @classmethod
    def of(cls, scope: HTTPScope, gone: Callable[[], bool]) -> Self:
        """Return the request of an ASGI scope."""
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        client, _ = scope["client"] or ("::", None)
        query = scope["query_string"].decode("latin-1")
        return cls(scope["method"], scope["path"], query, headers, client, gone)

    @property
    def has_body(self) -> bool:
        """Whether content follows the headers."""
        length = self.headers.get("content-length", "0")
        return "transfer-encoding" in self.headers or length.strip("0") != ""

    def encoding(self) -> Mapping[str, str]:
        """Return the header for gzip, if the client takes that (RFC 9110, 12.5.3)."""
        gzip = self._weight("accept-encoding", "gzip", "*") > 0
        return {"Content-Encoding": "gzip"} if gzip else {}

    def format(self) -> Format:
        """Return the exposition format that the client prefers (RFC 9110, 12.5.1)."""
        openmetrics = self._weight("accept", "application/openmetrics-text")
        plain = self._weight("accept", "text/plain", "text/*", "*/*")
        return OPENMETRICS if openmetrics > plain else TEXT

    def _weight(self, header: str, *names: str) -> float:
        """Return the weight of the first of the names that a header mentions, 0 for none."""
        weights: dict[str, float] = {}
        for item in self.headers.get(header, "").lower().split(","):
            name, *parameters = map(str.strip, item.split(";"))
            quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
            weights.setdefault(name, float(quality) if QUALITY.fullmatch(quality) else 0.0)
        return next((weights[name] for name in names if name in weights), 0.0)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; the pieces of the body may be shared by many answers."""

    body: tuple[bytes, ...]
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    def all_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers, also those that follow from the body."""
        own = {"content-type": self.content_type, "content-length": f"{sum(map(len, self.body))}"}
        return [(n.lower().encode(), v.encode()) for n, v in {**own, **self.headers}.items()]


def text(content: str, status: int = HTTPStatus.OK, headers: Mapping[str, str] = {}) -> Response:
    """Return a response in plain text."""
    return Response((f"{content}\n".encode(),), HTTPStatus(status), headers=headers)


def error(status: HTTPStatus, why: str = "", **headers: str) -> Response:
    """Return a response that says what went wrong; header names with `_` for `-`."""
    words = f"{status.value} {status.phrase}" + (f": {why}" if why else "")
    return text(words, status, {name.replace("_", "-"): headers[name] for name in headers})


def _reported(view: View[Pages], troubles: Sequence[str]) -> tuple[reports.Report, bytes]:
    report = reports.report(view.accounts.values(), time.time(), troubles=troubles)
    return report, reports.encode(report)


class App:
    """The exporter's pages; without a status page there is nothing at `/`."""

    def __init__(self, source: Source, web: Web, page: StatusPage | None = None) -> None:
        self._source, self._web, self._page = source, web, page
        self._hosts = {"localhost", *(name.lower() for name in web.allowed_hosts)}
        self._auth = BasicAuth({})
        self._report = Kept("report", source, _reported)
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
        self._limit, self._replenished = config.rate_limit, 0.0
        self._headers = {"X-Content-Type-Options": "nosniff", **config.headers}

    async def respond(self, request: Request) -> Response:
        """Return the response to a request."""
        refused = self._refusal(request) or await self._challenge(request)
        response = refused or await self._routed(request)
        # The body is not read to its end, so the connection cannot be used again.
        close = {"Connection": "close"} if request.has_body else {}
        return replace(response, headers={**response.headers, **self._headers, **close})

    def _refusal(self, request: Request) -> Response | None:
        """Return the refusal of a request, if it is due whatever the path and the user are."""
        if not self._within_limit():
            return error(HTTPStatus.TOO_MANY_REQUESTS, Retry_After="1")
        if request.has_body and request.method in METHODS:
            return error(HTTPStatus.BAD_REQUEST, "a request with a body")
        if self._web.allowed_hosts and not self._knows(request.headers.get("host", "localhost")):
            return error(HTTPStatus.MISDIRECTED_REQUEST, "not one of --web.allowed-host")
        return None

    def _within_limit(self) -> bool:
        """Return whether the token bucket has room for one more request; count it if so."""
        now, limit = time.monotonic(), self._limit
        if limit is None or self._replenished - now > (limit.burst - 1) * limit.seconds:
            return limit is None
        self._replenished = max(now, self._replenished) + limit.seconds
        return True

    def _knows(self, host: str) -> bool:
        """Return whether a Host header names this server; DNS rebinding cannot use addresses."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
            return name in self._hosts or bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    async def _challenge(self, request: Request) -> Response | None:
        if self._web.open_probes and request.path in PROBES:
            return None
        authorization = request.headers.get("authorization", "")
        admitted = await self._auth.admits(authorization, request.client, request.gone)
        if admitted is None:
            return error(HTTPStatus.SERVICE_UNAVAILABLE, Retry_After="5")
        return None if admitted else error(HTTPStatus.UNAUTHORIZED, WWW_Authenticate=CHALLENGE)

    async def _routed(self, request: Request) -> Response:
        if (route := self._routes.get(request.path)) is None:
            return error(HTTPStatus.NOT_FOUND)
        if request.method not in METHODS:
            return error(HTTPStatus.METHOD_NOT_ALLOWED, Allow=", ".join(METHODS))
        return await route(request)

    async def _metrics(self, request: Request) -> Response:
        format_, encoding = request.format(), request.encoding()
        page = (await self._source.view()).pages[format_]
        body = page.gzipped() if encoding else page.body()
        headers = {"Vary": "Accept, Accept-Encoding", **encoding}
        return Response(body, content_type=format_.content_type, headers=headers)

    async def _status(self, request: Request) -> Response:
        if self._page is None:
            return text(f"the metrics are at {self._web.telemetry_path}", HTTPStatus.NOT_FOUND)
        page, encoding = await self._page.kept.current(), request.encoding()
        headers = {**NO_STORE, "Vary": "Accept-Encoding", "Referrer-Policy": "no-referrer"}
        headers |= {"Content-Security-Policy": page.policy, **encoding}
        body = page.gzipped if encoding else page.plain
        return Response(body, content_type="text/html; charset=utf-8", headers=headers)

    async def _status_json(self, _request: Request) -> Response:
        _, document = await self._report.current()
        return Response((document,), content_type="application/json", headers=NO_STORE)

    async def _well(self, request: Request) -> Response:
        asked = parse_qsl(request.query, keep_blank_values=True)
        query = dict(asked)
        if len(query) < len(asked) or not query.keys() <= {"account", "severity"}:
            return error(HTTPStatus.BAD_REQUEST, "parameters: account, severity")
        report, _ = await self._report.current()
        status, words = reports.well(report, query.get("account"), query.get("severity", "warning"))
        return text(words, status, NO_STORE)

    async def _healthy(self, _request: Request) -> Response:
        troubles = self._source.troubles()
        return text("\n".join(troubles) or "OK", 503 if troubles else 200)

    async def _ready(self, _request: Request) -> Response:
        accounts = (await self._source.view()).accounts.values()
        waiting = sum(not status.polls for status in accounts)
        if accounts and not waiting:
            return text("OK")
        return text(f"waiting for the first poll of {waiting} of {len(accounts)} accounts", 503)
