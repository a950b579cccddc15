from __future__ import annotations

import asyncio
import contextlib
import http.client
import re
import ssl
import threading
from pathlib import Path

import pytest

from borgbase_exporter.settings.webfile import WebConfig
from borgbase_exporter.web import server as server_module
from tests.web.conftest import Certificates
from tests.web.serving import PATIENCE, Running, big_stage, dropped, serving, tls, web

REFUSED = (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)
HELLO = b"\x16\x03\x01\x02\x00"  # the beginning of a handshake


def secured(certificates: Certificates, **fields: object) -> WebConfig:
    return WebConfig(tls(certificates, **fields))


def handshake(
    server: Running, certificates: Certificates, *, client: Path | None = None
) -> tuple[bytes, bytes]:
    """Scrape by TLS; return the body and the server's certificate."""
    context = ssl.create_default_context(cafile=str(certificates.ca_file))
    if client:
        context.load_cert_chain(client)
    connection = http.client.HTTPSConnection(*server.address, timeout=PATIENCE, context=context)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        assert connection.sock is not None
        certificate = connection.sock.getpeercert(binary_form=True)
        assert isinstance(certificate, bytes)
        response = connection.getresponse()
        assert response.status == 200
        return response.read(), certificate


def client_certificate(certificates: Certificates, name: str) -> Path:
    path = certificates.folder / f"{name}.pem"
    certificates.authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(path)
    return path


def test_tls(certificates: Certificates) -> None:
    with serving(web(secured(certificates)), big_stage()) as server:
        body, _ = handshake(server, certificates)
        assert body.count(b"x") > 12_000_000 - 1
        assert server.exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[:1] != b"H"


def test_new_certificates_are_served_without_a_restart_unless_they_are_unfit(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(web(secured(certificates))) as server:
        _, first = handshake(server, certificates)
        certificates.issue()
        _, second = handshake(server, certificates)
        assert second != first
        certificates.cert_file.write_text("half written")
        for _ in range(3):
            assert handshake(server, certificates)[1] == second
        assert caplog.text.count("cannot be used") == 1
        certificates.issue()
        assert handshake(server, certificates)[1] not in {first, second}


@pytest.mark.parametrize(
    ("kind", "names", "admitted"),
    [
        ("RequireAndVerifyClientCert", (), {"prometheus.example.org", "other.example.org"}),
        ("RequireAndVerifyClientCert", ("prometheus.example.org",), {"prometheus.example.org"}),
        ("VerifyClientCertIfGiven", ("prometheus.example.org",), {"prometheus.example.org"}),
    ],
)
def test_client_certificates(
    certificates: Certificates, kind: str, names: tuple[str, ...], admitted: set[str]
) -> None:
    authority = {"client_ca_file": str(certificates.ca_file), "client_auth_type": kind}
    config = secured(certificates, client_allowed_sans=names, **authority)
    with serving(web(config)) as server:
        for name in ("prometheus.example.org", "other.example.org", None):
            client = client_certificate(certificates, name) if name else None
            expected = contextlib.nullcontext() if name in admitted else pytest.raises(REFUSED)
            with expected:
                handshake(server, certificates, client=client)


def test_tls_settings_change_for_new_connections(certificates: Certificates) -> None:
    client = {"client_ca_file": str(certificates.ca_file)}
    required = tls(certificates, client_auth_type="RequireAndVerifyClientCert", **client)
    with serving(web(secured(certificates))) as server:
        handshake(server, certificates)
        assert server.server.configure(required)
        with pytest.raises(REFUSED):
            handshake(server, certificates)
        assert not server.server.configure(None), "takes a restart"


def resident() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.parametrize(("sent", "limit"), [(b"", 32 * 1024), (HELLO, 128 * 1024)])
def test_500_stalled_handshakes_cost_little_and_hinder_nobody(
    certificates: Certificates, sent: bytes, limit: int
) -> None:
    with serving(web(secured(certificates))) as server, contextlib.ExitStack() as stack:
        handshake(server, certificates)
        before, threads = resident(), threading.active_count()
        for _ in range(500):
            stack.enter_context(server.connected()).sendall(sent)
        handshake(server, certificates)  # accepted after all the others
        assert threading.active_count() == threads
        assert resident() - before < 500 * limit


@pytest.mark.parametrize("sent", [b"", HELLO])
def test_a_stalled_handshake_is_dropped(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.05)
    with serving(web(secured(certificates))) as server, server.connected() as stalled:
        stalled.sendall(sent)
        assert dropped(stalled)


@pytest.mark.parametrize("patience", [75.0, -1.0])
def test_a_client_that_leaves_amid_a_sweep_ends_nothing(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    """TLS forgets its transport one step of the event loop before the connection is lost."""
    monkeypatch.setattr(server_module, "KEEP_ALIVE_SECONDS", patience)
    with serving(web(secured(certificates))) as server:

        async def sweep() -> None:
            while True:
                server.server._sweep()
                await asyncio.sleep(0)

        sweeping = asyncio.run_coroutine_threadsafe(sweep(), server.loop)
        for _ in range(2):
            with contextlib.suppress(*REFUSED):  # it may be dropped before it has read
                handshake(server, certificates)
        assert not sweeping.done()
        sweeping.cancel()


def test_handshakes_count(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 2)
    with serving(web(secured(certificates))) as server, contextlib.ExitStack() as stack:
        for sent in (b"", HELLO):
            stack.enter_context(server.connected()).sendall(sent)
        assert dropped(stack.enter_context(server.connected()))
