"""Whatever fails upstream, each query ends in time with the right reason, and the next works.

A table of faults: a server on loopback causes each for the real areas, client and transport.
"""

from __future__ import annotations

import gc
import gzip
import logging
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import urllib3

from borgbase_exporter.api.areas import AREAS
from borgbase_exporter.api.client import MAX_DRIFT_ROUNDS, Client
from borgbase_exporter.errors import PollError
from tests.canary import CANARY, betrays
from tests.lab.account import MEGABYTE, REPO, Reply, api, bodies, http
from tests.lab.bench import (
    HARD,
    LIMIT,
    PLENTY,
    SHORT,
    Endpoint,
    descriptors,
    lingering,
    poll,
    reasons,
    usage,
)
from tests.lab.scripts import (
    CHUNKED,
    OK,
    PAUSE,
    answers,
    blurts,
    close,
    drips,
    endless,
    full,
    hold,
    refused,
    reset,
    says,
    streams,
    unresolved,
    zeros,
)
from tests.lab.wire import ELSEWHERE, EXPIRED, LOCALHOST, Lab, Script, Wire

GOOD = bodies(usage=7.0)
REPOS = GOOD["Repos"]
GZIP = "Content-Encoding: gzip"
LENGTH = OK + b"Content-Length: "
TOKEN = CANARY.encode()
SPACES = b" " * 9999
ZIPPED = OK + GZIP.encode() + b"\r\n\r\n"
HTML = b"<!DOCTYPE html><html><body>Down for maintenance</body></html>"
NAMES = [area.name for area in AREAS]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, the reason that counts it, and how long a query may take."""

    name: str
    reason: str
    place: Callable[[], AbstractContextManager[Lab | str]]
    ca_file: str | None = None

    @property
    def seconds(self) -> float:
        return SHORT if self.reason == "timeout" else PLENTY


def fault(name: str, reason: str, script: Script, ca_file: str | None = None, **lab: Any) -> Fault:
    """Describe a fault of a server; one with a `ca_file` has its certificate from there."""
    return Fault(name, reason, partial(Lab, script, certificate=ca_file or "", **lab), ca_file)


def content(name: str, reason: str, body: bytes, status: str = "200 OK", *headers: str) -> Fault:
    """Describe an unusable answer."""
    return fault(name, reason, answers(body, status, *headers))


def continues(wire: Wire) -> None:
    """Send HTTP 100 again and again."""
    if wire.request():
        while True:
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")


def errors(*messages: str, data: str = "null") -> bytes:
    listed = ",".join(f'{{"message":"{message}"}}' for message in messages)
    return f'{{"data":{data},"errors":[{listed}]}}'.encode()


def data(text: str) -> bytes:
    return f'{{"data":{text}}}'.encode()


def known(fields: str) -> bytes:
    return data(f'{{"isAuthenticated":true,{fields}}}')


CONNECTION = (
    Fault("refused", "connect", refused),
    Fault("no such host", "connect", partial(unresolved, slowly=False)),
    Fault("slow DNS", "timeout", partial(unresolved, slowly=True)),
    Fault("full backlog", "timeout", full),
    fault("black hole", "timeout", hold),
    fault("reset at once", "connect", reset),
    fault("closed after the request", "connect", says(then=close)),
    fault("silent after the request", "timeout", says(then=hold)),
    fault("reset amid the body", "connect", says(http(REPOS)[:-9], then=reset)),
    fault("cut short", "connect", says(http(REPOS)[:-9], then=close)),
    fault("head drips", "timeout", drips(b"", http(REPOS))),
    fault("body drips", "timeout", drips(http(REPOS)[: -len(REPOS)], REPOS)),
    fault("gzip drips", "timeout", drips(ZIPPED, b"".join(zeros(9)))),
    # The library takes the cut for the regular end of the answer.
    fault("no end", "timeout", says(OK + b"\r\n" + REPOS, then=hold)),
)
FRAMING = (
    fault("not HTTP", "connect", says(b"SSH-2.0-OpenSSH_9.9\r\n", then=close)),
    fault("body without a head", "connect", says(REPOS, then=close)),
    fault("endless patience", "timeout", continues),
    fault("endless headers", "connect", endless(OK, b"X-Header: value\r\n")),
    fault("endless body", "too_large", endless(OK + b"\r\n", SPACES)),
    fault("endless chunks", "too_large", endless(CHUNKED, b"64\r\n%100b\r\n" % b"" * 99)),
    fault("endless trailers", "timeout", endless(CHUNKED + b"0\r\n", b"X: x\r\n")),
    fault("chunk of size -1", "too_large", endless(CHUNKED + b"-1\r\n", SPACES)),
    fault("chunk cut short", "connect", says(CHUNKED + b"ff\r\n{", then=close)),
    fault("length too short", "not_json", says(LENGTH + b"9\r\n\r\n" + REPOS, then=close)),
    fault("no length, cut short", "not_json", says(OK + b"\r\n" + REPOS[:-9], then=close)),
)
ECHOES = (
    fault("for a header", "not_json", says(OK + b"X\r\nBearer %b\r\n\r\n" % TOKEN, then=close)),
    fault("status line", "connect", says(b"HTTP/9 %b\r\n\r\n" % TOKEN, then=close)),
    fault("reason", "connect", says(b"HTTP/1.1 2000 %b\r\n\r\n" % TOKEN, then=close)),
    fault("chunk size", "connect", says(CHUNKED + TOKEN + b"\r\n", then=close)),
    fault("length", "not_json", says(LENGTH + b"1,%b\r\n\r\n" % TOKEN, then=close)),
    content("encoding", "not_json", b"{}", "200 OK", f"Content-Encoding: {CANARY}"),
    content("location", "redirect", b"{}", "302 Found", f"Location: https://{CANARY}/"),
    content("cookie", "graphql", b"{}", "200 OK", f"Set-Cookie: a={CANARY}; Expires={CANARY}"),
    content("retry", "http_status", b"{}", "503 No", f"Retry-After: {CANARY}"),
    fault("long status line", "connect", says(b"HTTP/9 " + b"\x1b\xff" * 9999, then=close)),
)
ENCODING = (
    fault("gzip bomb", "too_large", streams([ZIPPED], zeros(1024))),
    fault("gzip of a bomb", "not_json", streams([ZIPPED[:-4], b", gzip\r\n\r\n"], zeros(9))),
    content("not gzip", "not_json", REPOS, "200 OK", GZIP),
    content("gzip cut short", "not_json", gzip.compress(REPOS)[:-30], "200 OK", GZIP),
    content("wrong checksum", "not_json", gzip.compress(REPOS)[:-8] + bytes(8), "200 OK", GZIP),
    content("unknown", "not_json", REPOS, "200 OK", "Content-Encoding: rot13"),
)
STATUS = (
    content("page with status 200", "not_json", HTML),
    content("page with status 502", "http_status", HTML, "502 Bad Gateway"),
    content("429", "http_status", b"slow down", "429 Too Many Requests"),
    content("500 in GraphQL", "graphql", errors("boom"), "500 Internal Server Error"),
    content("204", "not_json", b"", "204 No Content"),
    content("401", "auth", b"", "401 Unauthorized"),
    content("401 in GraphQL", "auth", errors("no"), "401 Unauthorized"),
    content("403 in JSON", "auth", b"{}", "403 Forbidden"),
    content("403 of a firewall", "http_status", HTML, "403 Forbidden"),
    *(
        content(str(code), "redirect", b"", f"{code} Elsewhere", "Location: http://127.0.0.1:9/")
        for code in (300, 301, 304, 308)
    ),
    fault("endless redirect", "redirect", endless(b"HTTP/1.1 302 F\r\nLocation: /\r\n\r\n", HTML)),
    content("redirect to nonsense", "redirect", b"", "302 Found", "Location: http://\xff\xfe["),
)
JSON = (
    content("nothing", "not_json", b""),
    content("half", "not_json", REPOS[: len(REPOS) // 2]),
    content("byte order mark", "not_json", b"\xef\xbb\xbf" + REPOS),
    content("NaN", "not_json", known('"x":NaN')),
    content("deep", "graphql", b"[" * 9999),
    content("deep inside", "not_json", data('{"x":' + "[" * 9999 + "]" * 9999 + "}")),
    content("many parts", "too_large", b"[" + b"," * (LIMIT // 50)),
    content("null", "graphql", b"null"),
    content("no data", "graphql", data("null")),
    content("data in a list", "graphql", data("[]")),
    content("a thousand errors", "graphql", errors(*["boom"] * 1000)),
    content("no isAuthenticated", "auth", data("{}")),
    content("nulls", "graphql", known('"repoList":null')),
    content("other shapes", "graphql", known('"repoList":{},"sshList":1,"me":[]')),
)
HANDSHAKE = b"\x16\x03\x03\x40\x00" + bytes(9999)
TLS = (
    Fault("self-signed", "tls", partial(Lab, api(GOOD), certificate=LOCALHOST)),
    fault("of another host", "tls", api(GOOD), ELSEWHERE),
    fault("expired certificate", "tls", api(GOOD), EXPIRED),
    fault("stalled handshake", "timeout", hold, scheme="https"),
    fault("handshake drips", "timeout", blurts(HANDSHAKE, PAUSE), scheme="https"),
    fault("reset in the handshake", "connect", reset, scheme="https"),
    fault("HTTP on the TLS port", "tls", blurts(http(HTML)), scheme="https"),
    fault("TLS on the HTTP port", "connect", api(GOOD), LOCALHOST, scheme="http"),
    fault("drips in TLS", "timeout", drips(b"", http(REPOS)), ca_file=LOCALHOST),
)

# Python's ssl leaves a socket to its collector when the peer is gone before the handshake.
FORGETFUL = pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")
FAULTS = CONNECTION + FRAMING + ECHOES + ENCODING + STATUS + JSON + TLS


@pytest.fixture(autouse=True)
def _nothing_stays_behind() -> Iterator[None]:
    files, threads = descriptors(), set(threading.enumerate())
    yield
    assert lingering(threads) == []
    assert descriptors() - files == set()


@pytest.fixture
def lab() -> Iterator[Lab]:
    """The API without a fault."""
    with Lab(api(GOOD)) as lab:
        yield lab


@pytest.fixture
def client(lab: Lab) -> Client:
    return Client(Endpoint(lab.url))


def all_fail(reason: str) -> dict[str, str]:
    return dict.fromkeys(NAMES, reason)


@pytest.mark.parametrize(
    "fault", [pytest.param(f, id=f.name, marks=[FORGETFUL] if f in TLS else []) for f in FAULTS]
)
def test_a_fault_has_its_reason_and_passes(fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    areas = AREAS[:1] if fault.reason == "timeout" else AREAS
    with fault.place() as place:
        url = place if isinstance(place, str) else place.url
        client = Client(Endpoint(url, fault.ca_file))
        outcomes = poll(client, fault.seconds, areas)
        if isinstance(place, Lab) and fault not in TLS:
            place.script = api(bodies(usage=8.0))
            assert usage(poll(client, areas=AREAS[:1])) == 8 * MEGABYTE

    assert reasons(outcomes) == {area.name: fault.reason for area in areas}
    messages = [str(outcome) for outcome in outcomes.values()]
    assert all(m.isprintable() and len(m) < 1200 for m in messages)
    assert ("HTML page" in messages[0]) is (fault.name == "page with status 200")
    assert ("does not speak TLS" in messages[0]) is (fault.name == "HTTP on the TLS port")
    assert not betrays(f"{outcomes} {messages} {caplog.text}")


def until_closed(wire: Wire, body: bytes) -> None:
    wire.send(b"HTTP/1.0 200 OK\r\n\r\n" + body)
    wire.close()


def chunked(wire: Wire, body: bytes) -> None:
    wire.send(CHUNKED, *(b"1\r\n%c\r\n" % byte for byte in body), b"0\r\n\r\n")


def headed(status: str, *headers: str) -> Reply:
    return lambda wire, body: wire.send(http(body, status, *headers))


ODD: dict[str, Reply] = {
    "gzip": lambda wire, body: wire.send(http(gzip.compress(body), "200 OK", GZIP)),
    "GZIP": lambda wire, body: wire.send(http(gzip.compress(body), "200 OK", GZIP.upper())),
    "chunks of a byte": chunked,
    "slices of a byte": lambda wire, body: wire.drip(http(body), 0),
    "until closed": until_closed,
    "one answer a connection": headed("200 OK", "Connection: close"),
    "please continue": lambda wire, body: wire.send(b"HTTP/1.1 100 Continue\r\n\r\n", http(body)),
    "as HTML": headed("200 OK", "Content-Type: text/html"),
    "white space": lambda wire, body: wire.send(http(b"\r\n\t " + body + b"\n")),
    "as an error": headed("500 Internal Server Error"),
    "as a refusal": headed("401 Unauthorized"),
}


@pytest.mark.parametrize("reply", ODD.values(), ids=ODD.keys())
def test_odd_but_whole_answers_count(reply: Reply, client: Client, lab: Lab) -> None:
    lab.script = api(bodies(usage=8.0), reply)

    outcomes = poll(client)

    assert reasons(outcomes) == {}
    assert usage(outcomes) == 8 * MEGABYTE


def test_the_queries_of_a_poll_share_a_connection_but_no_cookies(client: Client, lab: Lab) -> None:
    lab.script = api(GOOD, headed("200 OK", "Set-Cookie: a=b; Path=/"))

    poll(client)

    assert [request.name for request in lab.requests] == list(GOOD)
    assert lab.connections == 1
    assert not any("cookie" in request.headers for request in lab.requests)


def test_a_connection_that_the_server_closes_meanwhile_is_replaced(
    client: Client, lab: Lab
) -> None:
    def reply(wire: Wire, body: bytes) -> None:
        wire.send(http(body))
        wire.request()
        wire.reset()

    lab.script = api(bodies(usage=8.0), reply)

    assert usage(poll(client)) == 8 * MEGABYTE
    assert lab.connections == len(NAMES)


def test_a_failure_has_the_time_to_retry(client: Client, lab: Lab) -> None:
    lab.script = answers(HTML, "429 Too Many Requests", "Retry-After: 200")

    failure = poll(client, areas=AREAS[:1])["repos"]

    assert isinstance(failure, PollError)
    assert failure.retry_after == 200


def test_the_rounds_of_drift_share_the_querys_time(client: Client, lab: Lab) -> None:
    fields = iter(REPO)

    def script(wire: Wire) -> None:
        while wire.request():
            wire.wait(0.2)
            name = next(field for field in fields if field not in {"id", "name", "currentUsage"})
            wire.send(http(errors(f"Cannot query field '{name}' on type 'RepoType'.")))

    lab.script = script

    assert reasons(poll(client, 0.5, AREAS[:1])) == {"repos": "timeout"}
    assert len(lab.requests) < MAX_DRIFT_ROUNDS


@pytest.fixture
def misleading(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Lab]:
    """An environment from which requests would use a proxy, other CAs, another password."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password something\n")
    with Lab(api(GOOD)) as decoy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, decoy.url)
            monkeypatch.setenv(name.lower(), decoy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, LOCALHOST)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NETRC", str(netrc))
        yield decoy


@pytest.mark.parametrize("ca_file", [None, LOCALHOST])
def test_the_environment_changes_nothing(ca_file: str | None, misleading: Lab) -> None:
    with Lab(api(GOOD), certificate=ca_file or "") as lab:
        outcomes = poll(Client(Endpoint(lab.url, ca_file)))
        authorizations = {request.headers["authorization"] for request in lab.requests}
        if ca_file:  # without it, the CAs of the environment are not trusted
            assert reasons(poll(Client(Endpoint(lab.url)))) == all_fail("tls")

    assert usage(outcomes) == 7 * MEGABYTE
    assert (authorizations == {f"Bearer {CANARY}"}) is True  # a report must not show it
    assert misleading.connections == 0


def test_a_proxy_is_used_where_one_is_named(lab: Lab) -> None:
    with Lab(api(bodies(usage=8.0))) as proxy:
        credentials = proxy.url.replace("://", "://user:password@")
        outcomes = poll(Client(Endpoint(lab.url, proxy=credentials)))

        request = proxy.requests[0]
    assert usage(outcomes) == 8 * MEGABYTE
    assert request.head.startswith(f"POST {lab.url} ")
    assert request.headers["proxy-authorization"] == "Basic dXNlcjpwYXNzd29yZA=="


PASSWORD = "p%40ss%20word%2Fof-the-proxy"
ECHO = f"p@ss word/of-the-proxy dXNlcjpwQHNzIHdvcmQvb2YtdGhlLXByb3h5 {PASSWORD}"
PROXIES = {
    "leads nowhere": (says(b"HTTP/1.1 200 OK\r\n\r\n", then=blurts(http(HTML))), "tls"),
    "refuses": (answers(b"", "407 Proxy Authentication Required"), "connect"),
    "says nothing": (hold, "timeout"),
    "drips": (drips(b"", b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 999), "timeout"),
    "repeats it as reason": (says(f"HTTP/1.1 407 {ECHO}\r\n\r\n".encode(), then=close), "connect"),
}


@pytest.mark.parametrize(("script", "reason"), PROXIES.values(), ids=PROXIES.keys())
def test_a_bad_proxy_gets_no_token_and_shows_no_password(script: Script, reason: str) -> None:
    with Lab(script) as proxy:
        address = proxy.url.replace("://", f"://user:{PASSWORD}@")
        client = Client(Endpoint("https://api.example/graphql", proxy=address))
        failure = poll(client, SHORT if reason == "timeout" else PLENTY, AREAS[:1])["repos"]

        heads = [request.head for request in proxy.requests]
    assert isinstance(failure, PollError)
    assert failure.reason == reason
    shown = f"{failure} {failure!r}"
    assert not any(part in shown for part in ("word/of", "word%2Fof", "dXNlcjpwQHNz", "@"))
    assert all(head.startswith("CONNECT api.example:443 ") for head in heads)
    assert not betrays("".join(heads))


def exchanges() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "exchange"]


def test_while_a_query_has_not_ended_the_next_ones_fail_at_once(lab: Lab) -> None:
    with unresolved(slowly=True) as nowhere:
        client = Client(Endpoint(nowhere))
        assert reasons(poll(client, SHORT)) == all_fail("timeout")
        (leftover,) = exchanges()
        assert leftover.daemon

        failure = poll(client, SHORT, AREAS[:1])["repos"]
        assert "has still not ended" in str(failure)
        assert exchanges() == [leftover]
        assert usage(poll(Client(Endpoint(lab.url)))) == 7 * MEGABYTE  # others are not affected
    assert lingering(set(threading.enumerate()) - {leftover}) == []
    assert reasons(poll(client, areas=AREAS[:1])) == {"repos": "connect"}


def test_a_connection_that_comes_too_late_is_not_used(
    client: Client, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, over = urllib3.util.connection.create_connection, threading.Event()

    def connect(*args: Any, **kwargs: Any) -> socket.socket:
        over.wait(HARD)
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(urllib3.util.connection, "create_connection", connect)
        assert reasons(poll(client, 0.1, AREAS[:1])) == {"repos": "timeout"}
        (leftover,) = exchanges()
        over.set()
        leftover.join(HARD)

    assert lab.requests == []
    assert usage(poll(client)) == 7 * MEGABYTE


@pytest.mark.parametrize(
    ("owner", "method", "error", "reason"),
    [
        (threading.Thread, "start", RuntimeError("can't start new thread"), "internal"),
        (socket.socket, "dup", OSError("Too many open files"), "connect"),
    ],
)
def test_without_threads_or_files_a_query_fails_and_the_next_one_works(
    owner: Any, method: str, error: Exception, reason: str, client: Client
) -> None:
    real = getattr(owner, method)

    def fail(one: Any) -> None:
        if getattr(one, "name", "exchange") == "exchange":
            raise error
        real(one)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, fail)
        outcomes = poll(client, areas=AREAS[:1])

    assert reasons(outcomes) == {"repos": reason}
    assert str(error) in str(outcomes["repos"])
    assert usage(poll(client)) == 7 * MEGABYTE


HUGE = {
    "too large": endless(OK + b"\r\n", b"x" * 9999),
    "bomb": streams([ZIPPED], zeros(1024)),
    "errors": answers(b'{"errors":["' + b"x" * (LIMIT // 2) + b'"]}'),
    "another shape": answers(known('"repoList":"%s"' % ("x" * (LIMIT // 2)))),
    "cut short": says(OK + b"Content-Length: 999999\r\n\r\n" + b"x" * (LIMIT // 2), then=close),
}


@pytest.mark.parametrize("script", HUGE.values(), ids=HUGE.keys())
def test_a_huge_answer_costs_little_and_is_freed(script: Script, client: Client, lab: Lab) -> None:
    lab.script = script
    areas = AREAS[:1]
    poll(client, areas=areas)
    gc.collect()
    gc.disable()  # what only garbage collection would free counts as kept
    tracemalloc.start()
    try:
        failures = [poll(client, areas=areas)["repos"] for _ in range(3)]
        for exchange in exchanges():
            exchange.join(HARD)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert kept < LIMIT // 4
    assert peak < 4 * LIMIT
    assert all(isinstance(failure, PollError) for failure in failures)
