from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from borgbase_exporter.exposition import Renderer
from borgbase_exporter.web import server as server_module
from borgbase_exporter.web.app import SLICE, App, Health, Response
from borgbase_exporter.web.server import Server
from borgbase_exporter.webconfig import TLS, WebConfig
from tests.facts import NOW, status
from tests.web.conftest import Certificates

PATIENCE = 20.0
"""Seconds after which an answer that should have come counts as missing."""
HALF_A_REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow:"
BIG = 12_000_000


class BigApp(App):
    """The pages, and one that is as large as those of ten thousand repos."""

    def __init__(self, *, open_probes: bool = False) -> None:
        pages = Renderer(3600).render({"default": status()}, NOW + 1)
        well = Health(ok=True, words="OK")
        super().__init__(
            lambda: pages, lambda: well, lambda: well, "/metrics", open_probes=open_probes
        )
        self._routes = {**self._routes, "/big": lambda _: Response((b"x" * BIG,))}


@contextlib.contextmanager
def serving(tls: TLS | None = None, app: App | None = None) -> Iterator[Server]:
    server = Server(app or BigApp(), [("127.0.0.1", 0)], tls)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        server._thread.join(PATIENCE)
        assert not server.alive


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def connected(server: Server) -> socket.socket:
    return socket.create_connection(server.addresses[0], timeout=PATIENCE)


def get(server: Server, path: str = "/metrics", method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*server.addresses[0], timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()


def exchange(server: Server, request: bytes) -> bytes:
    """Send bytes, and return all that comes back until the server closes."""
    with connected(server) as connection:
        connection.sendall(request)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(65536):
                received += chunk
        return received


def dropped(connection: socket.socket) -> bool:
    """Wait until the server ends a connection without an answer."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_scrape(server: Server) -> None:
    code, body = get(server)
    assert code == 200
    assert b"borgbase_up" in body


def test_a_head_request_gets_the_headers_alone(server: Server) -> None:
    answer = exchange(server, b"HEAD /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"content-length: {BIG}".encode() in head
    assert body == b""


def test_requests_share_a_connection_also_when_they_come_at_once(server: Server) -> None:
    one = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /-/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert exchange(server, one * 3 + last).count(b"HTTP/1.1 200 OK") == 4


def test_the_end_of_an_answer_does_not_wait_until_its_beginning_is_acknowledged(
    server: Server,
) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(16).startswith(b"HTTP/1.1 200")
        (opened,) = server._server.config.http.opened  # type: ignore[union-attr]
        end = opened.transport.get_extra_info("socket")
        assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00garbage\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nonsense\r\n\r\n",
    ],
)
def test_what_is_no_request_gets_its_4xx(server: Server, request_: bytes) -> None:
    answer = exchange(server, request_)
    assert answer[:10] == b"HTTP/1.1 4"
    assert get(server)[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT"])
def test_other_methods_with_a_body(server: Server, method: str) -> None:
    head = f"{method} /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    request = f"{head}Content-Length: 4\r\n\r\nbody"
    assert exchange(server, request.encode()).startswith(b"HTTP/1.1 405")


def test_odd_headers_do_not_break_a_scrape(server: Server) -> None:
    request = (
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: \xff\xfe;q=\xff,,;;\r\n"
        b"Accept: */*\r\nAccept-Encoding: ;q=,\x80\r\nUpgrade: websocket\r\n\r\n"
    )
    assert exchange(server, request).startswith(b"HTTP/1.1 200")


def test_500_stalled_requests_hinder_nobody(server: Server) -> None:
    threads = threading.active_count()
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            connection = stack.enter_context(connected(server))
            connection.sendall(HALF_A_REQUEST)
        assert get(server)[0] == 200
        assert threading.active_count() == threads


def test_a_stalled_request_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.05)
    with serving() as server, connected(server) as silent, connected(server) as halting:
        halting.sendall(HALF_A_REQUEST)
        assert dropped(silent)
        assert dropped(halting)


def test_an_answered_connection_that_falls_silent_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "KEEP_ALIVE_SECONDS", 0.05)
    with serving() as server, connected(server) as connection:
        connection.sendall(b"GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n" + HALF_A_REQUEST)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.read() == b"OK\n"
        assert dropped(connection)


def test_a_reader_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "ANSWER_SECONDS", 0.05)
    with serving() as server, connected(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        ended = threading.Event()
        monkeypatch.setattr(
            server_module.Connection, "connection_lost", _telling(ended), raising=True
        )
        assert ended.wait(PATIENCE)


def _telling(ended: threading.Event) -> object:
    original = server_module.Connection.connection_lost

    def connection_lost(self: server_module.Connection, exc: Exception | None) -> None:
        original(self, exc)
        ended.set()

    return connection_lost


def test_readers_that_do_not_read_hold_a_slice_each(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(connected(server))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(16).startswith(b"HTTP/1.1 200")
        assert get(server)[0] == 200
        opened = server._server.config.http.opened  # type: ignore[union-attr]
        held = [each.transport.get_write_buffer_size() for each in list(opened)]
        assert len(held) >= 20
        assert max(held) <= 3 * SLICE


def test_too_many_connections_cost_the_most_stalled_one_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)
    with serving() as server, contextlib.ExitStack() as stack:
        waiting = []
        for _ in range(3):
            connection = stack.enter_context(connected(server))
            # An answer shows that the connection has been taken, and in this order.
            connection.sendall(b"GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n" + HALF_A_REQUEST)
            assert connection.recv(16).startswith(b"HTTP/1.1 200")
            waiting.append(connection)
        assert get(server)[0] == 200
        while waiting[0].recv(65536):
            pass
        for survivor in waiting[1:]:
            survivor.sendall(b" y\r\n\r\n")
            answers = b""
            while b"borgbase_up" not in answers:
                answers += survivor.recv(65536)


def _tell_when_dropped(connection: socket.socket, ended: threading.Semaphore) -> None:
    with contextlib.suppress(OSError):
        dropped(connection)
    ended.release()


def test_the_limit_holds_when_many_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)
    ended = threading.Semaphore(0)
    with contextlib.ExitStack() as stack:
        server = Server(BigApp(), [("127.0.0.1", 0)])
        # They wait in the kernel's queue until the server begins, and are then taken in one go.
        for _ in range(20):
            connection = stack.enter_context(connected(server))
            threading.Thread(target=_tell_when_dropped, args=(connection, ended)).start()
        server.start()
        for _ in range(17):
            assert ended.acquire(timeout=PATIENCE)
        assert get(server)[0] == 200
        server.stop()


def test_it_stops_with_clients_connected(server: Server) -> None:
    with connected(server) as idle, connected(server) as stalled, connected(server) as busy:
        stalled.sendall(HALF_A_REQUEST)
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        busy.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        assert busy.recv(16).startswith(b"HTTP/1.1 200")
        server.stop()
        assert dropped(idle)
        assert dropped(stalled)
        with pytest.raises(ConnectionRefusedError):
            connected(server)


def test_a_taken_port_is_an_error_at_once(server: Server) -> None:
    with pytest.raises(OSError, match="in use"):
        Server(BigApp(), [server.addresses[0]])


def test_several_addresses() -> None:
    server = Server(BigApp(), [("127.0.0.1", 0), ("localhost", 0), ("", 0)])
    hosts = [host for host, _ in server.addresses]
    assert hosts[0] == "127.0.0.1"
    assert len(hosts) >= 3
    for bound in server._sockets:
        bound.close()


def handshake(
    server: Server, certificates: Certificates, *, client: Path | None = None
) -> tuple[int, bytes]:
    """Get a page by TLS; return its status and the fingerprint-bearing certificate."""
    context = ssl.create_default_context(cafile=str(certificates.ca_file))
    if client:
        context.load_cert_chain(client)
    connection = http.client.HTTPSConnection(
        *server.addresses[0], timeout=PATIENCE, context=context
    )
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        assert connection.sock is not None
        certificate = connection.sock.getpeercert(binary_form=True)
        assert isinstance(certificate, bytes)
        return connection.getresponse().status, certificate


def test_tls(certificates: Certificates) -> None:
    with serving(TLS(certificates.cert_file, certificates.key_file)) as server:
        assert handshake(server, certificates)[0] == 200
        assert exchange(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[:1] != b"H"


def test_new_certificates_are_served_without_a_restart(certificates: Certificates) -> None:
    with serving(TLS(certificates.cert_file, certificates.key_file)) as server:
        _, first = handshake(server, certificates)
        certificates.issue()
        _, second = handshake(server, certificates)
        assert second != first
        assert handshake(server, certificates)[1] == second


def test_unfit_certificates_leave_the_last_good_ones(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(TLS(certificates.cert_file, certificates.key_file)) as server:
        _, first = handshake(server, certificates)
        certificates.cert_file.write_text("half written")
        for _ in range(3):
            assert handshake(server, certificates)[1] == first
        assert caplog.text.count("cannot be used") == 1
        certificates.issue()
        assert handshake(server, certificates)[1] != first


def test_client_certificates(certificates: Certificates, tmp_path: Path) -> None:
    client = tmp_path / "client.pem"
    certificates.authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(client)
    tls = TLS(
        certificates.cert_file,
        certificates.key_file,
        ssl.CERT_REQUIRED,
        certificates.ca_file,
    )
    with serving(tls) as server:
        assert handshake(server, certificates, client=client)[0] == 200
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            handshake(server, certificates)


def test_500_stalled_handshakes_hinder_nobody(certificates: Certificates) -> None:
    with (
        serving(TLS(certificates.cert_file, certificates.key_file)) as server,
        contextlib.ExitStack() as stack,
    ):
        threads = threading.active_count()
        for _ in range(500):
            connection = stack.enter_context(connected(server))
            connection.sendall(b"\x16\x03\x01\x02\x00")
        assert handshake(server, certificates)[0] == 200
        assert threading.active_count() == threads


def test_a_stalled_handshake_is_dropped(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.05)
    tls = TLS(certificates.cert_file, certificates.key_file)
    with serving(tls) as server, connected(server) as silent:
        assert dropped(silent)


def test_being_out_of_files_is_logged_once_a_minute() -> None:
    sparing = server_module._Sparing()

    def passes(created: float, message: str) -> bool:
        return sparing.filter(logging.makeLogRecord({"msg": message, "created": created}))

    full = "socket.accept() out of system resource"
    assert [passes(now, full) for now in (1.0, 2.0, 60.9, 61.0, 62.0)] == [1, 0, 0, 1, 0]
    assert passes(62.0, "anything else")


def test_turning_tls_on_takes_a_restart(server: Server, certificates: Certificates) -> None:
    assert server.configure(None)
    assert not server.configure(TLS(certificates.cert_file, certificates.key_file))


def test_tls_settings_change_for_new_connections(certificates: Certificates) -> None:
    tls = TLS(certificates.cert_file, certificates.key_file)
    with serving(tls) as server:
        assert handshake(server, certificates)[0] == 200
        assert server.configure(
            TLS(tls.cert_file, tls.key_file, ssl.CERT_REQUIRED, certificates.ca_file)
        )
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            handshake(server, certificates)


def test_users_and_headers() -> None:
    app = BigApp()
    hashed = bcrypt.hashpw(b"apple", bcrypt.gensalt(4))
    app.configure(WebConfig(None, {"anna": hashed}, {"X-Frame-Options": "deny"}))
    with serving(app=app) as server:
        refused = exchange(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert refused.startswith(b"HTTP/1.1 401 ")
        assert b'www-authenticate: Basic realm="borgbase-exporter"' in refused
        assert b"borgbase_up" not in refused
        assert get(server, "/-/healthy")[0] == 401
        assert get(server, "/nothing")[0] == 401
        admitted = exchange(
            server,
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Authorization: Basic YW5uYTphcHBsZQ==\r\n\r\n",
        )
        assert admitted.startswith(b"HTTP/1.1 200 ")
        assert b"x-frame-options: deny" in admitted


def test_probes_need_no_password_where_that_is_configured() -> None:
    app = BigApp(open_probes=True)
    app.configure(WebConfig(None, {"anna": bcrypt.hashpw(b"apple", bcrypt.gensalt(4))}))
    with serving(app=app) as server:
        assert get(server, "/-/healthy")[0] == 200
        assert get(server, "/-/ready")[0] == 200
        assert get(server, "/metrics")[0] == 401
        assert get(server, "/")[0] == 401
