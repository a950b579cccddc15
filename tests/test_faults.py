"""Whatever breaks upstream, each query ends in time with the right reason, and the next one works.

A table of faults: a server on loopback does each of them to the real areas, client and transport.
"""

from __future__ import annotations

import gc
import gzip
import os
import socket
import subprocess
import sys
import threading
import tracemalloc
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
import urllib3

from borgbase_exporter.api.areas import AREAS, Collected
from borgbase_exporter.api.client import MAX_DRIFT_ROUNDS, Client
from borgbase_exporter.errors import PollError
from borgbase_exporter.model import RepoList
from tests.canary import CANARY, betrays
from tests.lab.account import MEGABYTE, REPO, Reply, api, bodies, http
from tests.lab.bench import (
    HARD,
    LIMIT,
    PLENTY,
    SHORT,
    Endpoint,
    descriptors,
    endpoint,
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
NAMES = [area.name for area in AREAS]


class Somewhere(Protocol):
    """Where a client can look for the API."""

    url: str


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, the reason it is counted by, and how long a query may take."""

    name: str
    reason: str
    place: Callable[[], AbstractContextManager[Somewhere]]
    seconds: float = PLENTY
    ca_file: str | None = None


def fault(name: str, reason: str, script: Script, **lab: Any) -> Fault:
    """Describe a fault of a server; one that ends by the clock gets a short time for it."""
    ca_file = lab.pop("ca_file", None)
    seconds = SHORT if reason == "timeout" else PLENTY
    return Fault(name, reason, partial(Lab, script, **lab), seconds, ca_file)


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
    content("errors in bytes", "not_json", b'{"errors":["\xff"]}'),
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
def client(lab: Lab) -> Client:
    return Client(endpoint(lab.url))


def all_fail(reason: str) -> dict[str, str]:
    return dict.fromkeys(NAMES, reason)


@pytest.mark.parametrize(
    "fault",
    [pytest.param(f, id=f.name, marks=[FORGETFUL] if f in TLS else []) for f in FAULTS],
)
def test_a_fault_has_its_reason_and_passes(fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
    areas = AREAS[:1] if fault.reason == "timeout" else AREAS
    with fault.place() as place:
        client = Client(endpoint(place.url, fault.ca_file))
        outcomes = poll(client, fault.seconds, areas)
        if isinstance(place, Lab) and place.url.startswith("http:") and fault not in TLS:
            place.script = api(bodies(usage=8.0))
            assert usage(poll(client, areas=AREAS[:1])) == 8 * MEGABYTE

    assert reasons(outcomes) == {area.name: fault.reason for area in areas}
    messages = [str(outcome) for outcome in outcomes.values()]
    assert all(m.isprintable() and len(m) < 1200 for m in messages)
    assert not betrays(f"{outcomes} {messages} {caplog.text}")


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
def test_odd_but_whole_answers_count(reply: Reply, client: Client, lab: Lab) -> None:
    lab.script = api(bodies(usage=8.0), reply)

    outcomes = poll(client)

    assert reasons(outcomes) == {}
    assert usage(outcomes) == 8 * MEGABYTE


def test_each_query_has_its_own_connection(client: Client, lab: Lab) -> None:
    """So an answer of another query cannot be taken for its own, whatever a proxy mixes up."""
    poll(client)

    assert [request.name for request in lab.requests] == list(GOOD)
    assert lab.connections == len(NAMES)


def test_an_answer_too_many_is_not_taken_for_the_next(client: Client, lab: Lab) -> None:
    lab.script = says(http(GOOD["Repos"]) + http(bodies(usage=9.0)["Repos"]))

    assert usage(poll(client, areas=AREAS[:1])) == 7 * MEGABYTE
    lab.script = api(GOOD)
    assert usage(poll(client)) == 7 * MEGABYTE


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int, client: Client, lab: Lab) -> None:
    with Lab(api(GOOD)) as elsewhere:
        lab.script = answers(b"", f"{status} Elsewhere", f"Location: {elsewhere.url}")
        outcomes = poll(client)

        assert elsewhere.connections == 0
    assert reasons(outcomes) == all_fail("redirect")


@pytest.mark.parametrize("dated", [False, True])
@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
def test_a_failure_holds_when_to_come_back(
    status: str, client: Client, lab: Lab, *, dated: bool
) -> None:
    value = formatdate(time() + 200, usegmt=True) if dated else "200"
    lab.script = answers(HTML, status, f"Retry-After: {value}")

    failure = poll(client, areas=AREAS[:1])["repos"]

    assert isinstance(failure, PollError)
    assert 150 < (failure.retry_after or 0) <= 200


def test_cookies_do_not_come_back(client: Client, lab: Lab) -> None:
    lab.script = api(
        GOOD, lambda wire, body: wire.send(http(body, "200 OK", "Set-Cookie: a=b; Path=/"))
    )

    poll(client)

    assert len(lab.requests) == len(NAMES)
    assert not any("cookie" in request.headers for request in lab.requests)


PARTIAL = {
    "a null entry": (b'{"isAuthenticated":true,"repoList":[null,%b]}', ()),
    "a garbled entry": (b'{"isAuthenticated":true,"repoList":[%b,{"id":"","name":"\xff"}]}', ()),
    "the same twice": (b'{"isAuthenticated":true,"repoList":[%b,{"id":"a1b2c3d4","name":""}]}', ()),
    "a failed resolver": (b'{"isAuthenticated":true,"repoList":[null,%b]}', ("boom",)),
}  # fmt: skip


@pytest.mark.parametrize(("template", "messages"), PARTIAL.values(), ids=PARTIAL.keys())
def test_part_of_a_list_is_known_as_a_part(
    template: bytes, messages: tuple[str, ...], client: Client, lab: Lab
) -> None:
    repo = msgspec.json.encode({**REPO, "currentUsage": 9.0})
    listed = b",".join(b'{"message":"%b"}' % message.encode() for message in messages)
    partial_answer = b'{"data":%b,"errors":[%b]}' % (template % repo, listed)
    lab.script = api(GOOD | {"Repos": partial_answer})

    outcomes = poll(client)

    assert usage(outcomes) == 9 * MEGABYTE
    found = outcomes["repos"]
    assert isinstance(found, Collected)
    assert isinstance(found.part, RepoList)
    assert not found.part.complete
    assert (found.skipped, found.whole) == (1, True)
    assert (found.failure.message if found.failure else "") == "".join(messages)


def test_areas_fail_apart(client: Client, lab: Lab) -> None:
    denied = errors(
        "You do not have permission to perform this action",
        data='{"isAuthenticated":true,"me":null,"overageList":null,"accruedOverage":null}',
    )
    lab.script = api(bodies(usage=8.0) | {"Account": denied, "Tokens": denied})

    outcomes = poll(client)

    assert reasons(outcomes) == {"account": "auth", "tokens": "auth"}
    assert usage(outcomes) == 8 * MEGABYTE


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


def test_a_drifted_answer_is_what_is_left(client: Client, lab: Lab) -> None:
    def script(wire: Wire) -> None:
        while request := wire.request():
            if "hostname" in request.query:
                message = "Cannot query field 'hostname' on type 'ServerType'."
                wire.send(http(errors(message), "400 Bad Request"))
            else:
                wire.send(http(GOOD[request.name]))

    lab.script = script

    found = poll(client)["repos"]

    assert isinstance(found, Collected)
    assert found.gaps == found.missing == {"ServerType.hostname"}
    assert found.failure is None


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
def test_the_environment_changes_nothing(certificate: str, misleading: Lab) -> None:
    with Lab(api(GOOD), certificate=certificate) as lab:
        outcomes = poll(Client(endpoint(lab.url, ca_file=certificate or None)))
        authorizations = {request.headers["authorization"] for request in lab.requests}

    assert usage(outcomes) == 7 * MEGABYTE
    assert (authorizations == {f"Bearer {CANARY}"}) is True  # the token is not for a report
    assert misleading.connections == 0


def test_the_environment_vouches_for_nobody(misleading: Lab) -> None:
    with Lab(api(GOOD), certificate=LOCALHOST) as lab:
        assert reasons(poll(Client(endpoint(lab.url)))) == all_fail("tls")


def test_a_proxy_is_used_where_one_is_named(lab: Lab) -> None:
    with Lab(api(bodies(usage=8.0))) as proxy:
        credentials = proxy.url.replace("://", "://user:password@")
        outcomes = poll(Client(Endpoint(lab.url, proxy=credentials)))

        request = proxy.requests[0]
    assert usage(outcomes) == 8 * MEGABYTE
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
def test_a_bad_proxy_learns_no_token(script: Script, reason: str, seconds: float) -> None:
    with Lab(script) as proxy:
        at = Endpoint("https://api.example/graphql", proxy=proxy.url)
        outcomes = poll(Client(at), seconds, AREAS[:1])

        heads = [request.head for request in proxy.requests]
    assert reasons(outcomes) == {"repos": reason}
    assert all(head.startswith("CONNECT api.example:443 ") for head in heads)
    assert not betrays("".join(heads))


@pytest.mark.parametrize("url", ["http://api.example/graphql", "https://api.example/graphql"])
def test_a_proxys_password_is_not_shown(url: str) -> None:
    secret = "p@ss word/of-the-proxy"
    echo = f"{secret} dXNlcjpwQHNzIHdvcmQvb2YtdGhlLXByb3h5 p%40ss%20word%2Fof-the-proxy"
    for script in (
        answers(errors(f"denied: {echo}"), "403 No"),
        says(f"HTTP/1.1 407 {echo}\r\n\r\n".encode(), then=close),
        says(f"HTTP/9 {echo}\r\n\r\n".encode(), then=close),
    ):
        with Lab(script) as proxy:
            address = proxy.url.replace("://", "://user:p%40ss%20word%2Fof-the-proxy@")
            failure = poll(Client(Endpoint(url, proxy=address)), areas=AREAS[:1])["repos"]
        shown = f"{failure} {failure!r}"
        assert isinstance(failure, PollError)
        assert not any(part in shown for part in ("word/of", "word%2Fof", "dXNlcjpwQHNz", "@"))


# ---- What is left behind


def exchanges() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "exchange"]


@pytest.mark.parametrize("script", [drips(OK + b"X: ", b"x" * 99_999), continues, hold])
def test_a_server_that_never_ends_keeps_no_thread_and_no_socket(
    script: Script, client: Client, lab: Lab
) -> None:
    lab.script = script

    for _ in range(3):
        assert reasons(poll(client, 0.1, AREAS[:1])) == {"repos": "timeout"}
        assert len(exchanges()) <= 1

    lab.script = api(GOOD)
    assert usage(poll(client)) == 7 * MEGABYTE


def test_while_a_query_has_not_ended_the_next_ones_fail_at_once(lab: Lab) -> None:
    with unresolved(slowly=True) as nowhere:
        client = Client(endpoint(nowhere.url))
        assert reasons(poll(client, SHORT)) == all_fail("timeout")
        (leftover,) = exchanges()
        assert leftover.daemon

        failure = poll(client, SHORT, AREAS[:1])["repos"]
        assert "has still not ended" in str(failure)
        assert exchanges() == [leftover]
        assert usage(poll(Client(endpoint(lab.url)))) == 7 * MEGABYTE  # others are not concerned
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


def test_without_threads_a_query_fails_and_the_next_one_works(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "exchange":
            raise RuntimeError("can't start new thread")
        real(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        outcomes = poll(client)

    assert reasons(outcomes) == all_fail("internal")
    assert "no thread for a query: can't start new thread" in str(outcomes["repos"])
    assert usage(poll(client)) == 7 * MEGABYTE


def test_without_file_descriptors_a_query_fails_and_leaves_none(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dup(_socket: socket.socket) -> socket.socket:
        raise OSError("Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "dup", dup)
        assert reasons(poll(client, areas=AREAS[:1])) == {"repos": "connect"}
    assert usage(poll(client)) == 7 * MEGABYTE


@pytest.mark.parametrize(
    "script",
    [
        endless(OK + b"\r\n", b"x" * 9999),
        answers(b"[" + b"," * (LIMIT // 50)),
        answers(b"{" * (LIMIT // 2)),
        answers(b'{"errors":["' + b"x" * (LIMIT // 2) + b'"]}'),
        answers(data('{"isAuthenticated":true,"repoList":"' + "x" * (LIMIT // 2) + '"}')),
        says(OK + b"Content-Length: 999999\r\n\r\n" + b"x" * (LIMIT // 2), then=close),
    ],
    ids=["too large", "many parts", "no JSON", "errors", "another shape", "cut short"],
)
def test_an_error_keeps_no_answer_alive(script: Script, client: Client, lab: Lab) -> None:
    lab.script = script
    areas = AREAS[:1]
    poll(client, areas=areas)
    gc.collect()
    gc.disable()  # what only the collector would find counts as kept
    tracemalloc.start()
    try:
        failures = [poll(client, areas=areas)["repos"] for _ in range(3)]
        for exchange in exchanges():
            exchange.join(HARD)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert kept < LIMIT // 4
    assert all(isinstance(failure, PollError) for failure in failures)


RESIDENT = """
from pathlib import Path
from borgbase_exporter.api.areas import AREAS
from borgbase_exporter.api.client import Client
from borgbase_exporter.errors import PollError
from tests.lab.bench import Endpoint
from tests.lab.scripts import OK, answers, streams, zeros
from tests.lab.wire import Lab

def kibibytes(what):
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0])

def query(client):
    try:
        AREAS[0].collect(client, "token", seconds=30)
    except PollError as error:
        reasons.append(error.reason)

reasons = []
{script}
with Lab(script) as lab:
    client = Client(Endpoint(lab.url, max_response=32 << 20))
    idle = kibibytes("VmRSS")
    query(client)
    first, peak = kibibytes("VmRSS"), kibibytes("VmHWM")
    for _ in range({more}):
        query(client)
    print((peak - idle) // 1024, (kibibytes("VmRSS") - first) // 1024, reasons[0])
"""


def resident(script: str, more: int) -> tuple[int, int, str]:
    """Return the peak of a first query and what more of them add, in MiB, and the reason."""
    run = subprocess.run(
        [sys.executable, "-c", RESIDENT.replace("{script}", script).replace("{more}", str(more))],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    peak, added, reason = run.stdout.split()
    return int(peak), int(added), reason


def test_ten_bombs_of_a_gibibyte_cost_little_more_than_the_limit_once() -> None:
    bomb = 'script = streams([OK, b"Content-Encoding: gzip\\r\\n\\r\\n"], zeros(1024))'
    peak, added, reason = resident(bomb, more=9)

    assert reason == "too_large"
    assert 0 < peak < 64  # MiB, of 1,024
    assert added < 32


def test_an_error_message_of_21_megabytes_costs_little() -> None:
    huge = "script = answers(b'{\"errors\":[{\"message\":\"boom ' + b'x' * 21_000_000 + b'\"}]}')"
    peak, added, reason = resident(huge, more=2)

    assert reason == "graphql"
    assert peak < 96  # MiB: the answer itself, and what is decoded of it
    assert added < 32
