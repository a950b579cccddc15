from __future__ import annotations

import gzip
from collections.abc import Mapping
from http import HTTPStatus

import pytest

from borgbase_exporter.exposition import OPENMETRICS, TEXT, Format, Renderer
from borgbase_exporter.web.app import App, Health, Response, accepts_gzip, negotiated
from tests.facts import NOW, status

PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;"
    "escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
BROWSER_ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def app(*, healthy: bool = True, ready: bool = True) -> App:
    pages = Renderer(3600).render({"default": status()}, NOW + 1)
    return App(
        lambda: pages,
        lambda: Health(healthy, "OK" if healthy else "stuck"),
        lambda: Health(ready, "OK" if ready else "not yet"),
        "/metrics",
    )


def get(path: str, method: str = "GET", **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return at_once(app(), method, path, named)


def at_once(app: App, method: str, path: str, headers: Mapping[str, str]) -> Response:
    response = app.respond(method, path, headers)
    assert isinstance(response, Response)
    return response


def test_metrics_as_text() -> None:
    response = get("/metrics")
    assert response.status == HTTPStatus.OK
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b'borgbase_up{account="default"} 1\n' in b"".join(response.body)
    assert "Content-Encoding" not in response.headers
    assert response.headers["Vary"] == "Accept, Accept-Encoding"


def test_metrics_as_openmetrics_and_compressed_for_prometheus() -> None:
    response = get("/metrics", accept=PROMETHEUS_ACCEPT, accept_encoding="gzip")
    assert response.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(b"".join(response.body)).endswith(b"# EOF\n")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        (BROWSER_ACCEPT, TEXT),
        (PROMETHEUS_ACCEPT, OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ("APPLICATION/OpenMetrics-Text; version=1.0.0", OPENMETRICS),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.9", TEXT),
        ("application/openmetrics-text;q=oops", TEXT),
        ("image/png", TEXT),
        (",;,=;q=,", TEXT),
        ("application/openmetrics-text;q=nan", TEXT),
    ],
)
def test_content_negotiation(accept: str, expected: Format) -> None:
    assert negotiated(accept) is expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("gzip", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("*", True),
        ("GZip", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("br", False),
    ],
)
def test_compression_is_negotiated(accept: str, *, expected: bool) -> None:
    assert accepts_gzip(accept) is expected


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/-/", "//", "/../etc/passwd", ""])
def test_other_paths_are_not_found(path: str) -> None:
    assert get(path).status == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "FOO"])
def test_other_methods_are_not_allowed(path: str, method: str) -> None:
    response = get(path, method)
    assert response.status == HTTPStatus.METHOD_NOT_ALLOWED
    assert response.headers["Allow"] == "GET, HEAD"


def test_the_landing_page_links_to_the_rest_and_fetches_nothing() -> None:
    response = get("/")
    page = b"".join(response.body).decode()
    assert response.content_type.startswith("text/html")
    for path in ("/metrics", "/-/healthy", "/-/ready"):
        assert f'href="{path}"' in page
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


def test_probes_tell_in_words_what_is_wrong() -> None:
    well, unwell = app(), app(healthy=False, ready=False)
    for path, words in (("/-/healthy", b"stuck\n"), ("/-/ready", b"not yet\n")):
        assert at_once(well, "GET", path, {}).status == HTTPStatus.OK
        response = at_once(unwell, "GET", path, {})
        assert (response.status, response.body) == (HTTPStatus.SERVICE_UNAVAILABLE, (words,))
