from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import bcrypt
import pytest

from borgbase_exporter.metrics.exposition import OPENMETRICS, TEXT
from borgbase_exporter.model import AccountStatus
from borgbase_exporter.settings.webfile import RateLimit, WebConfig
from borgbase_exporter.web.app import App, Request, Response
from tests.facts import status
from tests.web.casts import Stage
from tests.web.serving import web

PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;"
    "escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
OM = "application/openmetrics-text"
BROWSER_ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
GZIP = {"Content-Encoding": "gzip"}
PATHS = ["/metrics", "/status.json", "/-/well", "/-/healthy", "/-/ready"]


def get(
    path: str, method: str = "GET", *, app: App | None = None, query: str = "", **headers: str
) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    asked = Request(method, path, query, named)
    return asyncio.run((app or App(Stage(), web())).respond(asked))


def statuses(app: App, requests: Sequence[Request]) -> list[int]:
    async def ask() -> list[int]:
        return [(await app.respond(request)).status for request in requests]

    return asyncio.run(ask())


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


def test_metrics_are_those_of_a_view_without_expired_values() -> None:
    class Expiring(Stage):
        async def view(self) -> Any:
            self.accounts = {}
            return self.latest

    response = get("/metrics", app=App(Expiring(), web()))
    assert b'account="default"' not in b"".join(response.body)


@pytest.mark.parametrize(
    "accept",
    [PROMETHEUS_ACCEPT, OM, "APPLICATION/OpenMetrics-Text; version=1.0.0", f"{OM}, */*;q=0.9"],
)
def test_openmetrics_for_clients_that_prefer_it(accept: str) -> None:
    assert Request("GET", "/", headers={"accept": accept}).format() is OPENMETRICS


@pytest.mark.parametrize(
    "accept",
    [
        *("", BROWSER_ACCEPT, ",;,=;q=,", f"{OM};q=0.2, text/plain;q=0.9"),
        *(f"{OM};q={weight}" for weight in ("0", "oops", "nan")),
    ],
)
def test_text_for_all_others(accept: str) -> None:
    assert Request("GET", "/", headers={"accept": accept}).format() is TEXT


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        *((accept, GZIP) for accept in ("gzip", "deflate, gzip;q=1.0, *;q=0.5", "*")),
        *((accept, {}) for accept in ("", "gzip;q=0", "gzip; q=0.000, *")),
    ],
)
def test_compression_is_negotiated(accept: str, expected: dict[str, str]) -> None:
    assert Request("GET", "/", headers={"accept-encoding": accept}).encoding() == expected


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/-/", "//", "/../etc/passwd", ""])
def test_other_paths_are_not_found(path: str) -> None:
    assert get(path).status == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize("path", ["/", *PATHS])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "FOO"])
def test_other_methods_are_not_allowed(path: str, method: str) -> None:
    response = get(path, method)
    assert response.status == HTTPStatus.METHOD_NOT_ALLOWED
    assert response.headers["Allow"] == "GET, HEAD"


def test_without_a_status_page_the_root_names_the_metrics_path() -> None:
    response = get("/", app=App(Stage(), web(telemetry_path="/here")))
    assert response.status == HTTPStatus.NOT_FOUND
    assert response.body == (b"the metrics are at /here\n",)


def test_health_reports_the_exporters_own_troubles() -> None:
    assert get("/-/healthy").status == HTTPStatus.OK
    response = get("/-/healthy", app=App(Stage(problems=["stuck", "broken"]), web()))
    assert response.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert response.body == (b"stuck\nbroken\n",)


@pytest.mark.parametrize(
    ("accounts", "expected"),
    [
        ([], HTTPStatus.SERVICE_UNAVAILABLE),
        ([status("a")], HTTPStatus.OK),
        ([status("a"), AccountStatus("b", {})], HTTPStatus.SERVICE_UNAVAILABLE),
        ([status("a"), replace(AccountStatus("b", {}), polls=1)], HTTPStatus.OK),
    ],
)
def test_ready_once_all_are_polled(accounts: list[AccountStatus], expected: HTTPStatus) -> None:
    source = Stage({account.name: account for account in accounts})
    assert get("/-/ready", app=App(source, web())).status == expected


def test_the_report_as_json() -> None:
    response = get("/status.json", app=App(Stage(problems=["stuck"]), web()))
    assert response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    report = json.loads(b"".join(response.body))
    assert [account["name"] for account in report["accounts"]] == ["default"]
    assert [problem["what"] for problem in report["problems"]] == ["stuck"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("account=default&severity=warning", 503),
        ("account=nobody", 404),
        ("severity=grave", 400),
        ("acount=default", 400),
        ("account=default&account=other", 400),
    ],
)
def test_monitors_ask_whether_an_account_is_well(query: str, expected: int) -> None:
    troubled = Stage({"default": replace(status(), token_problem="missing")}, ["stuck"])
    assert get("/-/well", app=App(troubled, web()), query=query).status == expected


LOGIN = "Basic " + base64.b64encode(b"anna:apple").decode()
USERS = {"anna": bcrypt.hashpw(b"apple", bcrypt.gensalt(4))}


@pytest.mark.parametrize("path", ["/", "/nothing", *PATHS])
@pytest.mark.parametrize("open_probes", [True, False])
def test_pages_need_passwords_and_probes_if_configured(path: str, *, open_probes: bool) -> None:
    config = WebConfig(None, USERS, {"X-Frame-Options": "deny"})
    app = App(Stage(), web(config, open_probes=open_probes))
    admitted, refused = get(path, app=app, authorization=LOGIN), get(path, app=app)
    assert admitted.status != HTTPStatus.UNAUTHORIZED
    assert admitted.headers["X-Frame-Options"] == refused.headers["X-Frame-Options"] == "deny"
    if open_probes and path in {"/-/healthy", "/-/ready"}:
        assert refused.status == HTTPStatus.OK
    else:
        assert refused.status == HTTPStatus.UNAUTHORIZED
        assert refused.headers["WWW-Authenticate"].startswith('Basic realm="borgbase-exporter"')


KNOWN = ("exporter.example.org", "EXPORTER.example.org.:10133", "localhost:10133", "[::1]:10133")
ODD = ("evil.example.com", "exporter.example.org.evil.example.com", "127.0.0.1.evil.com", "[x", "")


@pytest.mark.parametrize("host", [*KNOWN, *ODD])
def test_host_names_can_be_limited_against_rebinding(host: str) -> None:
    app = App(Stage(), web(allowed_hosts=("exporter.example.org",)))
    assert get("/metrics", app=app, host=host).status == (200 if host in KNOWN else 421)
    assert get("/metrics", host=host).status == HTTPStatus.OK


def test_requests_beyond_the_rate_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: moment[0])
    app = App(Stage(), web(WebConfig(rate_limit=RateLimit(10, 2))))
    request = Request("GET", "/-/ready")
    assert statuses(app, [request] * 3) == [200, 200, 429]
    moment[0] += 10
    assert statuses(app, [request] * 2) == [200, 429]
    app.configure(WebConfig())
    assert statuses(app, [request] * 3) == [200] * 3
