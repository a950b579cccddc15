from __future__ import annotations

import contextlib
import http.client
import logging
import re
import select
import socket
import threading
from collections.abc import Iterator

import pytest

from borgbase_exporter.settings.readers import Address
from borgbase_exporter.web import server as server_module
from tests.web.casts import Stage
from tests.web.serving import BIG, HALF_A_REQUEST, Running, big_stage, dropped, serving, web

SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
NO_REQUESTS = [
    b"\x16\x03\x01\x02\x00garbage\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nonsense\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"0\r\n\r\nGET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.fixture
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


@pytest.fixture
def big() -> Iterator[Running]:
    with serving(source=big_stage()) as running:
        yield running


def test_a_large_answer_is_complete(big: Running) -> None:
    _, body = big.get()
    assert body.startswith(BIG)
    assert b"python_info" in body[len(BIG) :]


def test_a_head_request_gets_the_headers_alone(big: Running) -> None:
    answer = big.exchange(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length
    assert int(length[1]) > len(BIG)
    assert body == b""


def test_requests_share_a_connection_also_when_they_come_at_once(server: Running) -> None:
    one = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /-/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert server.exchange(one * 3 + last).count(b"HTTP/1.1 200 OK") == 4


@pytest.mark.parametrize("request_", NO_REQUESTS)
def test_invalid_requests_get_a_4xx(server: Running, request_: bytes) -> None:
    answer = server.exchange(request_)
    assert answer[:10] == b"HTTP/1.1 4"
    assert answer.count(b"HTTP/1.1 ") == 1
    assert server.get()[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT"])
def test_other_methods_with_a_body(server: Running, method: str) -> None:
    head = f"{method} /metrics HTTP/1.1\r\nHost: x\r\n"
    request = f"{head}Content-Length: 4\r\n\r\nbody"
    assert server.exchange(request.encode()).startswith(b"HTTP/1.1 405")


def test_an_endless_body_is_not_read(server: Running) -> None:
    head = b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"
    with server.connected() as connection, contextlib.suppress(ConnectionError):
        connection.sendall(head + BIG)
        while connection.recv(65536):
            pass
    assert server.get()[0] == 200


def test_odd_headers_do_not_break_a_scrape(server: Running) -> None:
    request = (
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n"
        b"Accept: \xff\xfe;q=\xff,,;;\r\nAccept: */*\r\nAccept-Encoding: ;q=,\x80\r\n\r\n"
    )
    with server.connected() as connection:
        connection.sendall(request)
        assert connection.recv(16).startswith(b"HTTP/1.1 200")


def test_what_clients_send_is_not_logged(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    for request in NO_REQUESTS * 3:
        server.exchange(request)
    for _ in range(20):
        with server.connected() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(SCRAPE + b"GARBAGE\r\n\r\n")
    assert server.get()[0] == 200
    assert caplog.text == ""


def test_a_defect_is_an_answer_and_one_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Stage):
        def troubles(self) -> list[str]:
            raise ZeroDivisionError

    with serving(source=Broken()) as server:
        for _ in range(3):
            assert server.get("/-/healthy")[0] == 500
    assert caplog.text.count("a defect") == 1
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", HALF_A_REQUEST])
def test_500_stalled_connections_hinder_nobody(server: Running, sent: bytes) -> None:
    threads = threading.active_count()
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(server.connected()).sendall(sent)
        assert server.get()[0] == 200
        assert threading.active_count() == threads


def test_a_stalled_request_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.05)
    with serving() as server, server.connected() as silent, server.connected() as halting:
        halting.sendall(HALF_A_REQUEST)
        assert dropped(silent)
        assert dropped(halting)


def test_a_connection_that_falls_silent_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "KEEP_ALIVE_SECONDS", 0.05)
    with serving() as server, server.connected() as connection:
        connection.sendall(b"GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n" + HALF_A_REQUEST)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.read() == b"OK\n"
        assert dropped(connection)


def hung_up(*connections: socket.socket, count: int) -> set[int]:
    """Wait until the server has reset this many connections of clients that do not read."""
    poll = select.poll()
    gone: set[int] = set()
    for connection in connections:
        poll.register(connection, select.POLLERR | select.POLLHUP)
    while len(gone) < count:
        found = {number for number, _ in poll.poll(20_000)}
        assert found, "no connection was dropped"
        for number in found:
            poll.unregister(number)
        gone |= found
    return gone


def stalled_reader(server: Running) -> socket.socket:
    connection = server.connected(receive_buffer=4096)
    connection.sendall(SCRAPE)
    assert connection.recv(16).startswith(b"HTTP/1.1 200")
    return connection


def test_a_reader_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "ANSWER_SECONDS", 0.05)
    with serving(source=big_stage()) as server, stalled_reader(server) as connection:
        assert hung_up(connection, count=1)


@pytest.mark.slow
def test_stalled_readers_hold_little(monkeypatch: pytest.MonkeyPatch, big: Running) -> None:
    monkeypatch.setattr(server_module, "MAX_HELD", 1 << 20)
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(stalled_reader(big)) for _ in range(8)]
        assert len(hung_up(*readers, count=4)) < 8
        assert len(big.get()[1]) > len(BIG)


def test_the_longest_stall_is_dropped_first(monkeypatch: pytest.MonkeyPatch, big: Running) -> None:
    monkeypatch.setattr(server_module, "MAX_HELD", 600_000)  # less than what two of them hold
    with stalled_reader(big) as first, stalled_reader(big) as second:
        assert hung_up(first, second, count=1) == {first.fileno()}


def test_connections_beyond_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)
    with serving() as server, contextlib.ExitStack() as stack:
        silent, halting, idle = (stack.enter_context(server.connected()) for _ in range(3))
        halting.sendall(HALF_A_REQUEST)
        idle.sendall(SCRAPE)
        assert idle.recv(16).startswith(b"HTTP/1.1 200")
        with server.connected() as refused:
            assert refused.recv(65536).startswith(b"HTTP/1.1 503 ")
            assert dropped(refused)
        silent.shutdown(socket.SHUT_WR)
        assert dropped(silent)
        assert server.get()[0] == 200
        halting.sendall(b" y\r\n\r\n")
        assert halting.recv(16).startswith(b"HTTP/1.1 200")


def test_it_stops_with_clients_connected(big: Running) -> None:
    with big.connected() as idle, big.connected() as stalled, stalled_reader(big):
        stalled.sendall(HALF_A_REQUEST)
        big.stop()
        assert dropped(idle)
        assert dropped(stalled)
        with pytest.raises(ConnectionRefusedError):
            big.connected()


def test_a_taken_port_is_an_error_at_once(server: Running) -> None:
    taken = web(listen_addresses=(Address(*server.address),))
    with pytest.raises(OSError, match="in use"):
        server_module.Server(server.app, taken)


def test_several_addresses() -> None:
    several = tuple(Address(host, 0) for host in ("127.0.0.1", "localhost", ""))
    with serving(web(listen_addresses=several)) as server:
        assert server.server.addresses[0].startswith("127.0.0.1:")
        assert len(server.server.addresses) >= 3
        assert server.get()[0] == 200


@pytest.mark.usefixtures("server")
def test_a_line_of_a_library_logs_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    record = logging.LogRecord("asyncio", logging.ERROR, "a.py", 1, "accept failed", None, None)
    for record.created in (1.0, 2.0, 60.9, 61.0, 62.0):
        logging.getLogger("asyncio").handle(record)
    assert caplog.messages == ["accept failed"] * 2
