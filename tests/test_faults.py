"""Whatever breaks upstream, the exporter says so, keeps the last good values, and recovers.

A table of faults: each is done to the real poller, client and transport by a server on loopback,
in between two polls that go well.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from pathlib import Path
from time import time
from typing import Any, Protocol

import msgspec
import pytest

from borgbase_exporter.api.client import MAX_DRIFT_ROUNDS
from borgbase_exporter.collectors import COLLECTORS
from borgbase_exporter.config import API
from tests.canary import CANARY, betrays
from tests.lab.account import MEGABYTE, REPO, Reply, api, bodies, http
from tests.lab.bench import (
    INTERVAL,
    LIMIT,
    PLENTY,
    SHORT,
    Bench,
    descriptors,
    endpoint,
    lingering,
)
from tests.lab.scripts import (
    CHUNKED,
    OK,
    PAUSE,
    answers,
    blurts,
    close,
    drips,
    echoes,
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
ZIPPED = OK + GZIP.encode() + b"\r\n\r\n"
HTML = b"<!DOCTYPE html><html><body>Down for maintenance</body></html>"
NAMES = [collector.name for collector in COLLECTORS]


class Somewhere(Protocol):
    """What a poll can be pointed at."""

    url: str


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, the reason it is counted by, and how long the poll may take."""

    name: str
    reason: str
    place: Callable[[], AbstractContextManager[Somewhere]]
    seconds: float = PLENTY
    ca_file: str | None = None
    script: Script | None = None
    """What happens to a plain connection, where that is the fault."""


def fault(name: str, reason: str, script: Script, **lab: Any) -> Fault:
    """Describe a fault of a server; one that ends by the clock gets a short time for it."""
    ca_file = lab.pop("ca_file", None)
    seconds = SHORT if reason == "timeout" else PLENTY
    plain = None if lab else script
    return Fault(name, reason, partial(Lab, script, **lab), seconds, ca_file, plain)


def content(name: str, reason: str, body: bytes, status: str = "200 OK", *headers: str) -> Fault:
    """Describe an answer that is of no use."""
    return fault(name, reason, answers(body, status, *headers))


def continues(wire: Wire) -> None:
    """Ask for patience, again and again."""
    if wire.request():
        while True:
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")


def errors(*messages: str, data: str = "null") -> bytes:
    listed = ",".join(f'{{"message":"{message}"}}' for message in messages)
    return f'{{"data":{data},"errors":[{listed}]}}'.encode()


ECHO = (OK + b"\r\n" + errors("Invalid token %")).split(b"%")


def data(text: str) -> bytes:
    return f'{{"data":{text}}}'.encode()


CONNECTION = (
    Fault("refused", "connect", refused),
    Fault("no such host", "connect", partial(unresolved, slowly=False)),
    Fault("slow DNS", "timeout", partial(unresolved, slowly=True), SHORT),
    Fault("full backlog", "timeout", full, SHORT),
    fault("black hole", "timeout", hold),
    fault("reset at once", "connect", reset),
    fault("closed at once", "connect", close),
    fault("reset after the request", "connect", says(then=reset)),
    fault("closed after the request", "connect", says(then=close)),
    fault("silent after the request", "timeout", says(then=hold)),
    fault("reset amid the head", "connect", says(OK, then=reset)),
    fault("silent amid the head", "timeout", says(OK, then=hold)),
    fault("reset amid the body", "connect", says(http(REPOS)[:-9], then=reset)),
    fault("silent amid the body", "timeout", says(http(REPOS)[:-9], then=hold)),
    fault("cut short", "connect", says(http(REPOS)[:-9], then=close)),
    fault("head drips", "timeout", drips(b"", http(REPOS))),
    fault("header drips", "timeout", drips(OK + b"X: ", b"x" * 9999)),
    fault("body drips", "timeout", drips(http(REPOS)[: -len(REPOS)], REPOS)),
    fault("chunks drip", "timeout", drips(CHUNKED, b"1\r\n \r\n" * 9999)),
    fault("gzip drips", "timeout", drips(ZIPPED, b"".join(zeros(9)))),
    # The library takes the cut for the end of an answer that is complete to the last byte.
    fault("no end", "timeout", says(OK + b"\r\n" + REPOS, then=hold)),
)
FRAMING = (
    fault("not HTTP", "connect", says(b"SSH-2.0-OpenSSH_9.9\r\n", then=close)),
    fault("body without a head", "connect", says(REPOS, then=close)),
    fault("the token in the status line", "connect", echoes(b"HTTP/0 ", b"\r\n\r\n")),
    fault("the token for a header", "not_json", echoes(OK + b"X\r\n", b"\r\n\r\n")),
    fault("endless patience", "timeout", continues),
    fault("endless headers", "connect", endless(OK, b"X-Header: value\r\n")),
    fault("endless header", "connect", endless(OK + b"X: ", b"x" * 9999)),
    fault("endless body", "too_large", endless(OK + b"\r\n", b" " * 9999)),
    fault("endless chunks", "too_large", endless(CHUNKED, b"64\r\n%100b\r\n" % b"" * 99)),
    fault("endless trailers", "timeout", endless(CHUNKED + b"0\r\n", b"X: x\r\n")),
    fault("endless chunk size", "connect", endless(CHUNKED, b"0" * 9999)),
    fault("chunk of size -1", "too_large", endless(CHUNKED + b"-1\r\n", b" " * 9999)),
    fault("chunk of size -5", "connect", says(CHUNKED + b"-5\r\nabcdefghi", then=close)),
    fault("chunk of no size", "connect", says(CHUNKED + b"five\r\nhello\r\n", then=close)),
    fault("chunks without an end", "connect", says(CHUNKED + b"1\r\n{\r\n", then=close)),
    fault("chunk cut short", "connect", says(CHUNKED + b"ff\r\n{", then=close)),
    fault(
        "length too short",
        "not_json",
        says(OK + b"Connection: close\r\nContent-Length: 9\r\n\r\n" + REPOS, then=close),
    ),
    fault(
        "two lengths", "connect", says(OK + b"Content-Length: 9, 10\r\n\r\n" + REPOS, then=close)
    ),
    fault("no length, cut short", "not_json", says(OK + b"\r\n" + REPOS[:-9], then=close)),
)
ENCODING = (
    fault("gzip bomb", "too_large", streams([ZIPPED], zeros(1024))),
    fault(
        "gzip of a gzip bomb",
        "not_json",
        streams([OK + b"Content-Encoding: gzip, gzip\r\n\r\n"], zeros(9)),
    ),
    content("not gzip", "not_json", REPOS, "200 OK", GZIP),
    content("gzip cut short", "not_json", gzip.compress(REPOS)[:-30], "200 OK", GZIP),
    content(
        "gzip with a wrong checksum",
        "not_json",
        gzip.compress(REPOS)[:-8] + bytes(8),
        "200 OK",
        GZIP,
    ),
    content("deflate", "not_json", zlib.compress(REPOS), "200 OK", "Content-Encoding: deflate"),
    content("brotli", "not_json", REPOS, "200 OK", "Content-Encoding: br"),
    content("zstd", "not_json", REPOS, "200 OK", "Content-Encoding: zstd"),
    content("unknown", "not_json", REPOS, "200 OK", "Content-Encoding: rot13"),
)
STATUS = (
    content("page with status 200", "not_json", HTML),
    content("page with status 502", "http_status", HTML, "502 Bad Gateway"),
    content("404", "http_status", b"", "404 Not Found"),
    content("429", "http_status", b"slow down", "429 Too Many Requests"),
    content("503 in JSON", "http_status", b'{"detail":"maintenance"}', "503 Service Unavailable"),
    content("500 in GraphQL", "graphql", errors("boom"), "500 Internal Server Error"),
    content("204", "not_json", b"", "204 No Content"),
    content("401", "auth", b"", "401 Unauthorized"),
    content("401 in JSON", "auth", b'{"detail":"Invalid token."}', "401 Unauthorized"),
    content("401 in GraphQL", "auth", errors("no"), "401 Unauthorized"),
    content("403 in JSON", "auth", b"{}", "403 Forbidden"),
    content("403 of a firewall", "http_status", HTML, "403 Forbidden"),
    content("304", "redirect", b"", "304 Not Modified"),
    fault("endless redirect", "redirect", endless(b"HTTP/1.1 302 F\r\nLocation: /\r\n\r\n", HTML)),
    content("redirect to nonsense", "redirect", b"", "302 Found", "Location: http://\xff\xfe["),
)
JSON = (
    content("nothing", "not_json", b""),
    content("half", "not_json", REPOS[: len(REPOS) // 2]),
    content("byte order mark", "not_json", b"\xef\xbb\xbf" + REPOS),
    content("UTF-16", "not_json", REPOS.decode().encode("utf-16")),
    content("NaN", "not_json", data('{"isAuthenticated":true,"x":NaN}')),
    content("deep", "graphql", b"[" * 9999),
    content("deep inside", "not_json", data('{"x":' + "[" * 9999 + "]" * 9999 + "}")),
    content("many parts", "too_large", b"[" + b"," * (LIMIT // 50)),
    content("null", "graphql", b"null"),
    content("list", "graphql", b"[]"),
    content("string", "graphql", b'"x"'),
    content("number", "graphql", b"1" * 5000),
    content("empty object", "graphql", b"{}"),
    content("no data", "graphql", data("null")),
    content("data in a list", "graphql", data("[]")),
    content("data in a string", "graphql", data('"x"')),
    content("only errors", "graphql", errors("boom")),
    content("a thousand errors", "graphql", errors(*["boom"] * 1000)),
    content("errors in a string", "graphql", b'{"errors":"boom"}'),
    content("errors in bytes", "graphql", b'{"errors":["\xff"]}'),
    content("errors within errors", "graphql", b'{"errors":{"a":[{"b":null}]}}'),
    content("who asks is not told", "auth", data("{}")),
    content("nobody asks", "auth", data('{"isAuthenticated":false,"repoList":[],"sshList":[]}')),
    content("maybe somebody asks", "auth", data('{"isAuthenticated":null,"repoList":[]}')),
    content("expired", "auth", errors("Signature has expired")),
    fault("the token in an error", "auth", echoes(*ECHO)),
    content("nulls", "graphql", data('{"isAuthenticated":true,"repoList":null}')),
    content(
        "other shapes",
        "graphql",
        data('{"isAuthenticated":true,"repoList":{},"sshList":1,"me":[]}'),
    ),
    content(
        "no permission",
        "auth",
        errors(
            "You do not have permission to perform this action",
            data='{"isAuthenticated":true,"repoList":null,"sshList":null,"me":null}',
        ),
    ),
)
TLS = (
    fault("self-signed", "tls", api(GOOD), certificate=LOCALHOST),
    fault("of another host", "tls", api(GOOD), certificate=ELSEWHERE, ca_file=ELSEWHERE),
    fault("expired certificate", "tls", api(GOOD), certificate=EXPIRED, ca_file=EXPIRED),
    fault("stalled handshake", "timeout", hold, scheme="https"),
    fault(
        "handshake drips",
        "timeout",
        blurts(b"\x16\x03\x03\x40\x00" + bytes(9999), pause=PAUSE),
        scheme="https",
    ),
    fault("reset in the handshake", "connect", reset, scheme="https"),
    fault("HTTP on the TLS port", "tls", blurts(http(HTML)), scheme="https"),
    fault("TLS on the HTTP port", "connect", api(GOOD), certificate=LOCALHOST, scheme="http"),
    fault("silent in TLS", "timeout", hold, certificate=LOCALHOST, ca_file=LOCALHOST),
    fault(
        "drips in TLS", "timeout", drips(b"", http(REPOS)), certificate=LOCALHOST, ca_file=LOCALHOST
    ),
    fault(
        "bomb in TLS",
        "too_large",
        endless(OK + b"\r\n", b" " * 9999),
        certificate=LOCALHOST,
        ca_file=LOCALHOST,
    ),
)

# Python's ssl leaves a socket to its collector when the peer is gone before the handshake.
FORGETFUL = pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")
FAULTS = CONNECTION + FRAMING + ENCODING + STATUS + JSON + TLS


@pytest.fixture(autouse=True)
def _nothing_stays_behind() -> Iterator[None]:
    files, threads = descriptors(), set(threading.enumerate())
    yield
    assert lingering(threads) == []
    assert descriptors() - files == set()


@pytest.fixture
def lab() -> Iterator[Lab]:
    """The API as it should be."""
    with Lab(api(GOOD)) as lab:
        yield lab


@pytest.fixture
def bench(lab: Lab) -> Bench:
    """An exporter that has seen one good poll."""
    bench = Bench(endpoint(lab.url))
    bench.poll()
    assert bench.scrape().get("borgbase_up") == 1
    return bench


def fails(bench: Bench, reason: str) -> None:
    """Assert what holds after one poll that failed, the good one before it having shown 7 MB."""
    seen = bench.scrape()
    assert seen.failures == {(name, reason): 1 for name in NAMES}
    assert seen.get("borgbase_up") == 0
    assert list(seen.all("borgbase_collector_success").values()) == [0] * len(NAMES)
    assert seen.usage == 7 * MEGABYTE
    assert seen.get("borgbase_account_repos") == 1
    assert seen.get("borgbase_account_ssh_keys") == 1


def recovers(bench: Bench, lab: Lab) -> None:
    lab.script = api(bodies(usage=8.0))
    bench.poll()
    seen = bench.scrape()
    assert seen.get("borgbase_up") == 1
    assert seen.usage == 8 * MEGABYTE
    assert sum(seen.failures.values()) == len(NAMES)


@pytest.mark.parametrize(
    "fault",
    [pytest.param(f, id=f.name, marks=[FORGETFUL] if f in TLS else []) for f in FAULTS],
)
def test_a_fault_is_told_and_passes(
    fault: Fault, bench: Bench, lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    with fault.place() as place, bench.pointed(endpoint(place.url, fault.ca_file), fault.seconds):
        bench.poll()

    fails(bench, fault.reason)
    said = [status.failure for status in bench.poller.status.collectors.values()]
    assert all(f and f.message.isprintable() and len(f.message) < 1200 for f in said)
    assert not betrays(f"{said} {caplog.text}")
    recovers(bench, lab)


def test_a_failed_first_poll_shows_no_account(lab: Lab) -> None:
    lab.script = reset
    bench = Bench(endpoint(lab.url))

    bench.poll()

    seen = bench.scrape()
    assert seen.get("borgbase_up") == 0
    assert seen.get("borgbase_last_success_timestamp_seconds") is None
    assert {
        name for name, _ in seen.samples if name.startswith(("borgbase_repo", "borgbase_acc"))
    } == set()


def gzipped(wire: Wire, body: bytes) -> None:
    wire.send(http(gzip.compress(body), "200 OK", GZIP))


def chunked(wire: Wire, body: bytes) -> None:
    wire.send(CHUNKED, *(b"1\r\n%c\r\n" % byte for byte in body), b"0\r\n\r\n")


def until_closed(wire: Wire, body: bytes) -> None:
    wire.send(b"HTTP/1.0 200 OK\r\n\r\n" + body)
    wire.close()


ODD: dict[str, Reply] = {
    "gzip": gzipped,
    "chunks of a byte": chunked,
    "slices of a byte": lambda wire, body: wire.drip(http(body), 0),
    "until closed": until_closed,
    "one answer a connection": lambda wire, body: wire.send(
        http(body, "200 OK", "Connection: close")
    ),
    "please continue": lambda wire, body: wire.send(b"HTTP/1.1 100 Continue\r\n\r\n", http(body)),
    "as HTML": lambda wire, body: wire.send(http(body, "200 OK", "Content-Type: text/html")),
    "white space": lambda wire, body: wire.send(http(b"\r\n\t " + body + b"\n")),
    "as an error": lambda wire, body: wire.send(http(body, "500 Internal Server Error")),
    "as a refusal": lambda wire, body: wire.send(http(body, "401 Unauthorized")),
}


@pytest.mark.parametrize("reply", ODD.values(), ids=ODD.keys())
def test_odd_but_whole_answers_count(reply: Reply, bench: Bench, lab: Lab) -> None:
    lab.script = api(bodies(usage=8.0), reply)

    bench.poll()

    seen = bench.scrape()
    assert seen.failures == {}
    assert seen.usage == 8 * MEGABYTE


@pytest.mark.parametrize("reply", [gzipped, chunked, ODD["slices of a byte"]])
def test_a_poll_uses_one_connection(reply: Reply, bench: Bench, lab: Lab) -> None:
    lab.script = api(GOOD, reply)
    before = lab.connections

    bench.poll()

    assert [request.name for request in lab.requests[-4:]] == list(GOOD)
    assert lab.connections - before == 1


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int, bench: Bench, lab: Lab) -> None:
    with Lab(api(GOOD)) as elsewhere:
        lab.script = answers(b"", f"{status} Elsewhere", f"Location: {elsewhere.url}")
        bench.poll()

        assert elsewhere.connections == 0
    fails(bench, "redirect")
    recovers(bench, lab)


@pytest.mark.parametrize("ahead", [200.0, 10 * INTERVAL])
@pytest.mark.parametrize("dated", [False, True])
@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
def test_retry_after_is_honoured_up_to_the_interval(
    status: str, ahead: float, bench: Bench, lab: Lab, *, dated: bool
) -> None:
    value = formatdate(time() + ahead, usegmt=True) if dated else f"{ahead:.0f}"
    lab.script = answers(HTML, status, f"Retry-After: {value}")

    delay = bench.poll()

    fails(bench, "http_status")
    expected = min(ahead, INTERVAL)
    assert expected - 15 < delay <= expected  # a date has whole seconds, and the poll takes time


def test_cookies_do_not_come_back(bench: Bench, lab: Lab) -> None:
    lab.script = api(
        GOOD, lambda wire, body: wire.send(http(body, "200 OK", "Set-Cookie: a=b; Path=/"))
    )

    bench.poll()

    assert len(lab.requests) == 2 * len(NAMES)
    assert not any("cookie" in request.headers for request in lab.requests)


PARTIAL = {
    "a null entry": (b'{"isAuthenticated":true,"repoList":[null,%b]}', ()),
    "a garbled entry": (b'{"isAuthenticated":true,"repoList":[%b,{"id":"","name":"\xff"}]}', ()),
    "the same twice": (b'{"isAuthenticated":true,"repoList":[%b,{"id":"a1b2c3d4","name":""}]}', ()),
    "a failed resolver": (b'{"isAuthenticated":true,"repoList":[null,%b]}', ("boom",)),
}  # fmt: skip


@pytest.mark.parametrize(("template", "messages"), PARTIAL.values(), ids=PARTIAL.keys())
def test_part_of_a_list_is_shown_as_a_part(
    template: bytes, messages: tuple[str, ...], bench: Bench, lab: Lab
) -> None:
    repo = msgspec.json.encode({**REPO, "currentUsage": 9.0})
    listed = b",".join(b'{"message":"%b"}' % message.encode() for message in messages)
    partial_answer = b'{"data":%b,"errors":[%b]}' % (template % repo, listed)
    lab.script = api(GOOD | {"Repos": partial_answer})

    bench.poll()

    seen = bench.scrape()
    assert seen.get("borgbase_up") == 1
    assert seen.get("borgbase_entries_skipped", collector="repos") == 1
    assert seen.usage == 9 * MEGABYTE
    assert seen.get("borgbase_account_repos") is None
    assert seen.get("borgbase_account_usage_bytes") is None
    assert seen.failures == ({("repos", "graphql"): 1} if messages else {})


def test_collectors_fail_apart(bench: Bench, lab: Lab) -> None:
    denied = errors(
        "You do not have permission to perform this action",
        data='{"isAuthenticated":true,"me":null,"overageList":null,"accruedOverage":null}',
    )
    lab.script = api(bodies(usage=8.0) | {"Account": denied, "Tokens": denied})

    bench.poll()

    seen = bench.scrape()
    assert seen.failures == {("account", "auth"): 1, ("tokens", "auth"): 1}
    assert seen.get("borgbase_up") == 1
    assert seen.usage == 8 * MEGABYTE


def test_all_queries_of_a_poll_share_its_time(bench: Bench, lab: Lab) -> None:
    def slowly(wire: Wire, body: bytes) -> None:
        wire.wait(0.4)
        wire.send(http(body))

    lab.script = api(GOOD, slowly)
    with bench.pointed(bench.api, seconds=1.0):
        bench.poll()

    seen = bench.scrape()
    assert seen.get("borgbase_collector_success", collector="repos") == 1
    assert seen.failures["tokens", "timeout"] == 1


def test_the_rounds_of_drift_share_the_polls_time(bench: Bench, lab: Lab) -> None:
    fields = iter(REPO)

    def script(wire: Wire) -> None:
        while wire.request():
            wire.wait(0.2)
            name = next(field for field in fields if field not in {"id", "name", "currentUsage"})
            wire.send(http(errors(f"Cannot query field '{name}' on type 'RepoType'.")))

    lab.script = script
    asked = len(lab.requests)
    with bench.pointed(bench.api, seconds=0.5):
        bench.poll()

    fails(bench, "timeout")
    assert len(lab.requests) - asked < MAX_DRIFT_ROUNDS


def test_a_drifted_poll_shows_what_is_left(bench: Bench, lab: Lab) -> None:
    def script(wire: Wire) -> None:
        while request := wire.request():
            if "hostname" in request.query:
                message = "Cannot query field 'hostname' on type 'ServerType'."
                wire.send(http(errors(message), "400 Bad Request"))
            else:
                wire.send(http(GOOD[request.name]))

    lab.script = script
    bench.poll()

    seen = bench.scrape()
    assert seen.failures == {}
    assert seen.get("borgbase_schema_field_missing", field="ServerType.hostname") == 1


@pytest.fixture
def misleading(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Lab]:
    """An environment in which requests would take a proxy, other authorities, another password."""
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


@pytest.mark.parametrize("certificate", ["", LOCALHOST])
def test_the_environment_has_no_say(certificate: str, misleading: Lab) -> None:
    with Lab(api(GOOD), certificate=certificate) as lab:
        bench = Bench(endpoint(lab.url, ca_file=certificate or None))
        bench.poll()

        seen = bench.scrape()
        authorizations = {request.headers["authorization"] for request in lab.requests}
    assert seen.usage == 7 * MEGABYTE
    assert (authorizations == {f"Bearer {CANARY}"}) is True  # the token is not for a report
    assert misleading.connections == 0


def test_the_environment_vouches_for_nobody(misleading: Lab) -> None:
    with Lab(api(GOOD), certificate=LOCALHOST) as lab:
        bench = Bench(endpoint(lab.url))
        bench.poll()

    assert bench.scrape().failures == {(name, "tls"): 1 for name in NAMES}


def test_a_proxy_is_used_where_one_is_named(bench: Bench, lab: Lab) -> None:
    with Lab(api(bodies(usage=8.0))) as proxy:
        credentials = proxy.url.replace("://", "://user:password@")
        with bench.pointed(API(lab.url, None, credentials, LIMIT)):
            bench.poll()

        request = proxy.requests[0]
    assert bench.scrape().usage == 8 * MEGABYTE
    assert request.head.startswith(f"POST {lab.url} ")
    assert request.headers["proxy-authorization"] == "Basic dXNlcjpwYXNzd29yZA=="


@pytest.mark.parametrize(
    ("script", "reason", "seconds"),
    [
        (says(b"HTTP/1.1 200 OK\r\n\r\n", then=close), "tls", PLENTY),
        (answers(b"", "407 Proxy Authentication Required"), "connect", PLENTY),
        (hold, "timeout", SHORT),
        (drips(b"", b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 999), "timeout", SHORT),
    ],
    ids=["leads nowhere", "refuses", "says nothing", "drips"],
)
def test_a_bad_proxy_learns_no_token(
    script: Script, reason: str, seconds: float, bench: Bench
) -> None:
    with Lab(script) as proxy:
        at = API("https://api.example/graphql", None, proxy.url, LIMIT)
        with bench.pointed(at, seconds):
            bench.poll()

        heads = [request.head for request in proxy.requests]
    fails(bench, reason)
    assert all(head.startswith("CONNECT api.example:443 ") for head in heads)
    assert not betrays("".join(heads))


BOMB = """
from pathlib import Path
from borgbase_exporter.api.transport import Transport
from borgbase_exporter.config import API
from borgbase_exporter.errors import TooLargeError
from tests.lab.scripts import OK, streams, zeros
from tests.lab.wire import Lab

def kibibytes(what):
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0])

bomb = streams([OK, b"Content-Encoding: gzip\\r\\n\\r\\n"], zeros(1024))
with Lab(bomb) as lab, Transport(API(lab.url, None, None, 64 << 20), "token", 30) as transport:
    idle = kibibytes("VmRSS")
    try:
        transport.post("{ bomb }")
    except TooLargeError:
        print((kibibytes("VmHWM") - idle) // 1024)
"""


def test_a_bomb_of_a_gibibyte_costs_little_more_than_the_limit() -> None:
    run = subprocess.run(
        [sys.executable, "-c", BOMB],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert 0 < int(run.stdout) < 100  # MiB, of 1,024
