"""One exchange: what is sent, what is received, and how it ends without an answer."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import responses

from borgbase_exporter import __version__
from borgbase_exporter.api.transport import Transport
from borgbase_exporter.errors import PollError, Reason
from tests.canary import CANARY
from tests.lab.bench import HARD, PLENTY, Endpoint, within
from tests.lab.scripts import answers, full
from tests.lab.wire import ELSEWHERE, LOCALHOST, Lab

URL = "https://api.example/graphql"


@pytest.fixture
def api() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


def post(at: Endpoint | str, query: str = "{ a }", seconds: float = PLENTY) -> Any:
    """Return the reply or the error."""
    transport = Transport(Endpoint(at) if isinstance(at, str) else at)

    def work() -> Any:
        try:
            return transport.post(query, CANARY, seconds=seconds)
        except PollError as error:
            return error.without_frames()

    return within(HARD, work)


def test_what_is_sent(api: responses.RequestsMock) -> None:
    api.post(URL, body=b"secret")

    reply = post(URL, 'query { a(b: "ä\n") }')

    request = api.calls[0].request
    headers = dict(request.headers)
    assert (headers.pop("Authorization") == f"Bearer {CANARY}") is True
    assert headers == {
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "Content-Length": "41",
        "Content-Type": "application/json",
        "User-Agent": f"borgbase-exporter/{__version__}",
    }
    assert request.body == b'{"query": "query { a(b: \\"\\u00e4\\n\\") }"}'
    assert (reply.status, reply.body, reply.retry_after) == (200, b"secret", None)
    assert "secret" not in repr(reply)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *(("0", 0), ("120", 120), (" 120 ", 120), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)),
        *((text, None) for text in ("", "soon", "-5", "1.5", "²", "0 0 0 0 0", ",", "9" * 9999)),
        ("Wed, 21 Oct 99999999999 07:28:00 GMT", None),
    ],
)
def test_retry_after(value: str, seconds: float | None, api: responses.RequestsMock) -> None:
    api.post(URL, status=503, headers={"Retry-After": value})

    assert post(URL).retry_after == seconds


def test_a_defect_is_logged(api: responses.RequestsMock, caplog: pytest.LogCaptureFixture) -> None:
    api.post(URL, body=RuntimeError("surprise"))

    error = post(URL)

    assert error.reason == Reason.INTERNAL
    assert error.__context__ is None
    assert "surprise" in caplog.text


@pytest.mark.parametrize(
    ("limit", "body"), [(100, b"x" * 100), (640, b"," * 10), (640, b"\\" * 10)]
)
def test_limits_of_bytes_and_parts(limit: int, body: bytes, api: responses.RequestsMock) -> None:
    at = Endpoint(URL, max_response=limit)
    api.post(URL, body=body)
    assert post(at).body == body
    api.post(URL, body=body + body[:1])
    error = post(at)
    assert error.reason == Reason.TOO_LARGE
    assert f"{limit} bytes (--api.max-response)" in str(error)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_both_families_of_addresses(host: str) -> None:
    with Lab(answers(b"{}"), host=host) as lab:
        assert post(lab.url).body == b"{}"


def resolving_to(*ports: int) -> Any:
    real = socket.getaddrinfo

    def look_up(host: str, *args: Any, **kwargs: Any) -> Any:
        if host != "several.test":
            return real(host, *args, **kwargs)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", p)) for p in ports]

    return look_up


def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as deaf, full() as hole, Lab(answers(b"{}")) as lab:
        deaf.bind(("127.0.0.1", 0))
        for first in (deaf.getsockname()[1], int(urlsplit(hole).port or 0)):
            monkeypatch.setattr(socket, "getaddrinfo", resolving_to(first, lab.port))

            assert post("http://several.test/graphql", seconds=1.0).body == b"{}"


@pytest.mark.parametrize("host", ["several.test", "a" * 64 + ".test", "a..test"])
def test_a_name_without_addresses(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to())

    error = post(f"http://{host}/graphql")

    assert error.reason == Reason.CONNECT
    assert host in str(error)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_without_time_nothing_is_sent(seconds: float) -> None:
    with Lab(answers(b"{}")) as lab:
        error = post(lab.url, seconds=seconds)
    assert error.reason == Reason.TIMEOUT
    assert "before this query" in str(error)
    assert lab.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("ca_file", [LOCALHOST, ELSEWHERE, None, __file__, "/gone.pem"])
def test_only_the_named_authorities_are_trusted(ca_file: str | None, host: str) -> None:
    with Lab(answers(b"{}"), certificate=LOCALHOST) as lab:
        reply = post(Endpoint(lab.url.replace("127.0.0.1", host), ca_file))

    assert len(lab.requests) == (ca_file == LOCALHOST)
    assert (getattr(reply, "reason", None) == Reason.TLS) is (ca_file != LOCALHOST)
    assert ("CA file" in str(reply)) is (ca_file in {__file__, "/gone.pem"})


def test_authorities_are_read_again_when_their_file_changes(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    with Lab(answers(b"{}"), certificate=LOCALHOST) as lab:
        for mtime, trusted in enumerate((LOCALHOST, ELSEWHERE, LOCALHOST)):
            bundle.write_bytes(Path(trusted).read_bytes())
            os.utime(bundle, (mtime, mtime))
            reply = post(Endpoint(lab.url, str(bundle)))
            assert (getattr(reply, "reason", None) == Reason.TLS) is (trusted == ELSEWHERE)
