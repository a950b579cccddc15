"""One exchange: what is sent, what comes back, and how it ends when it does not."""

from __future__ import annotations

import gzip
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import responses
from requests import exceptions

from borgbase_exporter import __version__
from borgbase_exporter.api.transport import Transport
from borgbase_exporter.errors import (
    ConnectError,
    DeadlineError,
    InternalError,
    PollError,
    TLSError,
    TooLargeError,
)
from tests.canary import CANARY, betrays
from tests.lab.bench import HARD, PLENTY, SHORT, Endpoint, endpoint, within
from tests.lab.scripts import OK, answers, close, drips, full, hold, says
from tests.lab.wire import ELSEWHERE, LOCALHOST, Lab, Script

URL = "https://api.example/graphql"


@pytest.fixture
def api() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


def post(at: Endpoint | str, query: str = "{ a }", seconds: float = PLENTY) -> Any:
    transport = Transport(endpoint(at) if isinstance(at, str) else at)

    def work() -> Any:
        try:
            return transport.post(query, CANARY, seconds=seconds)
        except PollError as error:
            return error.without_frames()

    return within(HARD, work)


def test_what_is_sent(api: responses.RequestsMock) -> None:
    api.post(URL, body=b"{}")

    reply = post(URL, 'query { a(b: "ä\n") }')

    request = api.calls[0].request
    headers = dict(request.headers)
    assert (headers.pop("Authorization") == f"Bearer {CANARY}") is True
    assert headers == {
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "Content-Length": "36",
        "Content-Type": "application/json",
        "User-Agent": f"borgbase-exporter/{__version__}",
    }
    assert request.body == '{"query":"query { a(b: \\"ä\\n\\") }"}'.encode()
    assert (reply.status, reply.body, reply.retry_after) == (200, b"{}", None)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        ("9" * 400, 999_999_999),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
        ("Wed, 21 Oct 99999999999 07:28:00 GMT", None),
        ("0 0 0 0 0", None),
        (",", None),
    ],
)
def test_retry_after(value: str, seconds: float | None, api: responses.RequestsMock) -> None:
    api.post(URL, status=503, headers={"Retry-After": value})

    assert post(URL).retry_after == seconds


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (exceptions.ConnectTimeout("x"), DeadlineError),
        (exceptions.ReadTimeout("x"), DeadlineError),
        (exceptions.SSLError("x"), TLSError),
        (exceptions.ProxyError("x"), ConnectError),
        (exceptions.ConnectionError(OSError("x")), ConnectError),
        (exceptions.InvalidHeader("x"), ConnectError),
        (exceptions.ConnectionError(TimeoutError("x")), DeadlineError),
        (OSError("x"), ConnectError),
        (TimeoutError("x"), DeadlineError),
    ],
)
def test_the_librarys_failures(
    failure: Exception, kind: type[PollError], api: responses.RequestsMock
) -> None:
    api.post(URL, body=failure)

    error = post(URL)

    assert type(error) is kind
    assert "api.example" in str(error)


@pytest.mark.parametrize("size", [99, 100, 101])
def test_the_limit_is_the_largest_answer(size: int, api: responses.RequestsMock) -> None:
    api.post(URL, body=b"x" * size)

    reply = post(endpoint(URL, max_response=100))

    if size > 100:
        assert isinstance(reply, TooLargeError)
        assert "100 bytes (--api.max-response)" in str(reply)
    else:
        assert reply.body == b"x" * size


@pytest.mark.parametrize("part", [b",", b"\\"])
def test_an_answer_of_tiny_parts_is_larger_than_it_looks(
    part: bytes, api: responses.RequestsMock
) -> None:
    few, many = part * 10, part * 11
    api.post(URL, body=few)
    assert post(endpoint(URL, max_response=640)).body == few
    api.post(URL, body=many)
    assert isinstance(post(endpoint(URL, max_response=640)), TooLargeError)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
def test_the_limit_is_of_the_decoded_answer(encoding: str) -> None:
    script = answers(gzip.compress(bytes(101)), "200 OK", f"Content-Encoding: {encoding}")
    with Lab(script) as lab:
        assert isinstance(post(endpoint(lab.url, max_response=100)), TooLargeError)
        assert post(endpoint(lab.url, max_response=101)).body == bytes(101)


def test_a_reply_keeps_its_body_out_of_logs(api: responses.RequestsMock) -> None:
    api.post(URL, body=b"secret")

    assert "secret" not in repr(post(URL))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_both_families_of_addresses(host: str) -> None:
    with Lab(answers(b"{}"), host=host) as lab:
        assert post(lab.url).body == b"{}"


def resolving_to(*addresses: tuple[str, int]) -> Any:
    real = socket.getaddrinfo

    def look_up(host: str, *args: Any, **kwargs: Any) -> Any:
        if host != "several.test":
            return real(host, *args, **kwargs)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    return look_up


def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as deaf, Lab(answers(b"{}")) as lab:
        deaf.bind(("127.0.0.1", 0))
        found = resolving_to(deaf.getsockname(), ("127.0.0.1", lab.port))
        monkeypatch.setattr(socket, "getaddrinfo", found)

        assert post("http://several.test/graphql").body == b"{}"


def test_a_black_hole_leaves_time_for_the_next_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with full() as hole, Lab(answers(b"{}")) as lab:
        port = int(hole.url.split(":")[2].split("/")[0])
        found = resolving_to(("127.0.0.1", port), ("127.0.0.1", lab.port))
        monkeypatch.setattr(socket, "getaddrinfo", found)

        assert post("http://several.test/graphql", seconds=1.0).body == b"{}"


@pytest.mark.parametrize("failure", [ConnectionResetError, BrokenPipeError, ConnectionRefusedError])
def test_a_connection_lost_while_it_is_made(
    failure: type[OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken for one that breaks once the request is out, it would be asked for an answer."""

    def connect(*_args: Any, **_kwargs: Any) -> Any:
        raise failure("lost")

    monkeypatch.setattr(socket.socket, "connect", connect)

    error = post("http://127.0.0.1/graphql")

    assert isinstance(error, ConnectError)
    assert str(error) == "no answer from 127.0.0.1: lost"


def test_a_name_without_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to())

    error = post("http://several.test/graphql")

    assert isinstance(error, ConnectError)
    assert "several.test" in str(error)


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "a..test"])
def test_a_name_that_cannot_be_one(host: str) -> None:
    assert isinstance(post(f"http://{host}/graphql"), ConnectError)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_without_time_nothing_is_sent(seconds: float) -> None:
    with Lab(answers(b"{}")) as lab:
        error = post(lab.url, seconds=seconds)
    assert isinstance(error, DeadlineError)
    assert "before this query" in str(error)
    assert lab.connections == 0


def test_what_was_cut_off_is_no_answer() -> None:
    """The library takes the cut for the end of an answer whose length is not given."""
    with Lab(says(OK + b'\r\n{"data":{}}', then=hold)) as lab:
        assert isinstance(post(lab.url, seconds=SHORT), DeadlineError)


def test_a_defect_is_logged_and_raises_nothing(
    api: responses.RequestsMock, caplog: pytest.LogCaptureFixture
) -> None:
    api.post(URL, body=RuntimeError("surprise"))

    error = post(URL)

    assert isinstance(error, InternalError)
    assert error.__context__ is None
    assert "surprise" in caplog.text


@pytest.mark.parametrize(
    ("ca_file", "readable"), [(LOCALHOST, True), (None, False), (__file__, False)]
)
def test_only_the_named_authorities_are_trusted(ca_file: str | None, *, readable: bool) -> None:
    with Lab(answers(b"{}"), certificate=LOCALHOST) as lab:
        reply = post(endpoint(lab.url, ca_file))
        host = post(endpoint(lab.url.replace("127.0.0.1", "localhost"), ca_file))
    assert (getattr(reply, "body", None) == b"{}") is readable
    assert (getattr(host, "body", None) == b"{}") is readable
    assert isinstance(reply, TLSError) is not readable
    assert lab.requests == [] or readable


def test_authorities_that_are_gone(tmp_path: Any) -> None:
    error = post(endpoint(URL, str(tmp_path / "gone.pem")))

    assert isinstance(error, PollError)
    assert "gone.pem" in str(error)


def test_authorities_are_read_again_when_their_file_changes(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    with Lab(answers(b"{}"), certificate=LOCALHOST) as lab:
        for mtime, trusted in enumerate((LOCALHOST, ELSEWHERE, LOCALHOST)):
            bundle.write_bytes(Path(trusted).read_bytes())
            os.utime(bundle, (mtime, mtime))
            reply = post(endpoint(lab.url, str(bundle)))
            assert isinstance(reply, TLSError) is (trusted == ELSEWHERE)


LEAKY: dict[str, Script] = {
    "status line": says(f"HTTP/9 {CANARY}\r\n\r\n".encode(), then=close),
    "reason": says(f"HTTP/1.1 2000 {CANARY}\r\n\r\n".encode(), then=close),
    "chunk size": says(OK + f"Transfer-Encoding: chunked\r\n\r\n{CANARY}\r\n".encode(), then=close),
    "length": says(OK + f"Content-Length: 1,{CANARY}\r\n\r\n".encode(), then=close),
    "lengths": says(OK + f"Content-Length: 1\r\nContent-Length: {CANARY}\r\n\r\n".encode()),
    "encoding": answers(b"{}", "200 OK", f"Content-Encoding: {CANARY}"),
    "location": answers(b"{}", "302 Found", f"Location: https://{CANARY}/"),
    "cookie": answers(b"{}", "200 OK", f"Set-Cookie: a={CANARY}; Expires={CANARY}"),
    "retry": answers(b"{}", "503 No", f"Retry-After: {CANARY}"),
    "no header": says(OK + f"X\r\n{CANARY}\r\n{CANARY}: x\r\n\r\n".encode(), then=close),
    "drip": drips(b"", f"HTTP/1.1 200 {CANARY}\r\n".encode()),
}


@pytest.mark.parametrize("script", LEAKY.values(), ids=LEAKY.keys())
def test_what_a_server_sends_back_does_not_show(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Lab(script) as lab:
        reply = post(lab.url, seconds=SHORT)

    assert not betrays(f"{reply!r} {reply} {caplog.text}")
    if isinstance(reply, PollError):
        assert str(reply).isprintable()
        assert len(str(reply)) < 400


def test_a_long_echo_is_cut() -> None:
    with Lab(says(b"HTTP/9 " + b"\x1b\xff" * 9999 + b"\r\n\r\n", then=close)) as lab:
        error = post(lab.url)
    assert isinstance(error, ConnectError)
    assert str(error).isprintable()
    assert len(str(error)) < 400
