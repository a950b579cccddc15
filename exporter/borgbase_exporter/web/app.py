"""Paths and what they answer, as an ASGI application; nothing here waits but for the reader."""

from __future__ import annotations

import functools
import html
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from borgbase_exporter import __version__
from borgbase_exporter.exposition import OPENMETRICS, TEXT, Format, Pages
from borgbase_exporter.web.guard import Guard
from borgbase_exporter.web.page import StatusPage
from borgbase_exporter.webconfig import WebConfig

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

SLICE = 128 * 1024
"""Bytes handed over at a time: a reader that does not read costs no more than that."""
MAX_HEADERS = 16 * 1024
"""Characters of a request's header values; the server refuses only what comes in bits."""
METHODS = ("GET", "HEAD")
PROBES = frozenset({"/-/healthy", "/-/ready"})
CHALLENGE = 'Basic realm="borgbase-exporter", charset="UTF-8"'
PLAIN = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; the body in pieces that may be shared by many answers."""

    body: tuple[bytes, ...]
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = PLAIN
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Health:
    """Whether something is well, and in words what is not."""

    ok: bool
    words: str

    @property
    def response(self) -> Response:
        """The answer to a probe."""
        status = HTTPStatus.OK if self.ok else HTTPStatus.SERVICE_UNAVAILABLE
        return Response((f"{self.words}\n".encode(),), status)


class App:
    """The exporter's pages; without a status page, `/` only links to the others."""

    def __init__(
        self,
        pages: Callable[[], Pages],
        healthy: Callable[[], Health],
        ready: Callable[[], Health],
        telemetry_path: str,
        *,
        open_probes: bool = False,
        status_page: StatusPage | None = None,
    ) -> None:
        self._open_paths = PROBES if open_probes else frozenset()
        self.configure(WebConfig())
        self._pages = pages
        self._routes: Mapping[
            str, Callable[[Mapping[str, str]], Response | Awaitable[Response]]
        ] = {
            telemetry_path: self._metrics,
            "/": functools.partial(_status, status_page)
            if status_page
            else lambda _: _landing(telemetry_path),
            "/-/healthy": lambda _: healthy().response,
            "/-/ready": lambda _: ready().response,
        }

    def configure(self, web: WebConfig) -> None:
        """Serve to these users and with these headers from now on."""
        self._guard = Guard(web.users) if web.users else None
        self._headers = dict(web.headers)

    async def admits(self, path: str, headers: Mapping[str, str]) -> bool:
        """Tell whether a request may have what it asks for."""
        if not self._guard or path in self._open_paths:
            return True
        return await self._guard.admits(headers.get("authorization", ""))

    def respond(
        self, method: str, path: str, headers: Mapping[str, str]
    ) -> Response | Awaitable[Response]:
        """Answer a request, at once or, where that takes long, later.

        Header names are in lower case.
        """
        route = self._routes.get(path)
        if route is None:
            return _error(HTTPStatus.NOT_FOUND)
        if method not in METHODS:
            return _error(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": ", ".join(METHODS)})
        return route(headers)

    def _metrics(self, headers: Mapping[str, str]) -> Response:
        format_ = negotiated(headers.get("accept", ""))
        page = self._pages()[format_]
        vary = {"Vary": "Accept, Accept-Encoding"}
        if accepts_gzip(headers.get("accept-encoding", "")):
            vary["Content-Encoding"] = "gzip"
            return Response(page.gzipped(), content_type=format_.content_type, headers=vary)
        return Response(page.body(), content_type=format_.content_type, headers=vary)

    async def __call__(
        self, scope: Scope, _receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Serve a request as an ASGI application; the connection's limits are the server's."""
        assert scope["type"] == "http"  # noqa: S101  # neither websockets nor lifespan are on
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        if sum(map(len, headers.values())) > MAX_HEADERS:
            response = _error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif await self.admits(scope["path"], headers):
            answer = self.respond(scope["method"], scope["path"], headers)
            response = answer if isinstance(answer, Response) else await answer
        else:
            response = _error(HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": CHALLENGE})
        length = sum(map(len, response.body))
        await send(
            {
                "type": "http.response.start",
                "status": response.status,
                "headers": [
                    (name.lower().encode(), value.encode())
                    for name, value in {
                        "Content-Type": response.content_type,
                        "Content-Length": str(length),
                        "X-Content-Type-Options": "nosniff",
                        **response.headers,
                        **self._headers,
                    }.items()
                ],
                "trailers": False,
            }
        )
        if scope["method"] != "HEAD":
            for piece in _slices(response.body):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def negotiated(accept: str) -> Format:
    """Return the exposition format that an Accept header (RFC 9110, 12.5.1) likes best."""
    openmetrics = _quality(accept, "application/openmetrics-text")
    return OPENMETRICS if openmetrics > _quality(accept, "text/plain", "text/*", "*/*") else TEXT


def accepts_gzip(accept_encoding: str) -> bool:
    """Tell whether an Accept-Encoding header (RFC 9110, 12.5.3) allows gzip."""
    return _quality(accept_encoding, "gzip", "*") > 0


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


def _slices(body: Iterable[bytes]) -> Iterator[bytes]:
    """Cut what is large, and put together what is small: each slice is a write."""
    held: list[bytes] = []
    size = 0
    for piece in body:
        for start in range(0, len(piece), SLICE):
            part = piece[start : start + SLICE]
            if size + len(part) > SLICE:
                yield b"".join(held)
                held, size = [], 0
            held.append(part)
            size += len(part)
    yield b"".join(held)


def _error(status: HTTPStatus, headers: Mapping[str, str] | None = None) -> Response:
    return Response((f"{status.value} {status.phrase}\n".encode(),), status, headers=headers or {})


async def _status(status_page: StatusPage, headers: Mapping[str, str]) -> Response:
    page = await status_page.current()
    gzip = accepts_gzip(headers.get("accept-encoding", ""))
    return Response(
        page.gzipped if gzip else page.plain,
        content_type=HTML,
        headers={
            "Cache-Control": "no-store",
            "Content-Security-Policy": page.policy,
            "Referrer-Policy": "no-referrer",
            "Vary": "Accept-Encoding",
            **({"Content-Encoding": "gzip"} if gzip else {}),
        },
    )


def _landing(telemetry_path: str) -> Response:
    links = "".join(
        f'<li><a href="{html.escape(path)}">{html.escape(text)}</a></li>'
        for path, text in (
            (telemetry_path, "Metrics"),
            ("/-/healthy", "Healthy"),
            ("/-/ready", "Ready"),
        )
    )
    page = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><title>borgbase-exporter</title></head>'
        f"<body><main><h1>borgbase-exporter</h1><p>Version {html.escape(__version__)}: repo usage, "
        f"quotas and freshness of BorgBase accounts for Prometheus.</p><ul>{links}</ul></main>"
        "</body></html>"
    )
    return Response(
        (page.encode(),),
        content_type=HTML,
        headers={
            "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'",
            "Referrer-Policy": "no-referrer",
        },
    )
