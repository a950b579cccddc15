from __future__ import annotations

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
from tests.web.serving import PATIENCE, Running, big_source, dropped, serving, tls, web

REFUSED = (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)
LIMIT = 32 * 1024
"""Bytes that a silent connection may cost."""


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


def client_certificate(certificates: Certificates, folder: Path, name: str) -> Path:
    path = folder / f"{name}.pem"
    certificates.authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(path)
    return path


def test_tls(certificates: Certificates) -> None:
    with serving(web(secured(certificates)), big_source()) as server:
        body, _ = handshake(server, certificates)
        assert body.count(b"x") > 12_000_000 - 1
        assert server.exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[:1] != b"H"


def test_new_certificates_are_served_without_a_restart(certificates: Certificates) -> None:
    with serving(web(secured(certificates))) as server:
        _, first = handshake(server, certificates)
        certificates.issue()
        _, second = handshake(server, certificates)
        assert second != first
        assert handshake(server, certificates)[1] == second


def test_unfit_certificates_leave_the_last_good_ones(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(web(secured(certificates))) as server:
        _, first = handshake(server, certificates)
        certificates.cert_file.write_text("half written")
        for _ in range(3):
            assert handshake(server, certificates)[1] == first
        assert caplog.text.count("cannot be used") == 1
        certificates.issue()
        assert handshake(server, certificates)[1] != first


def test_client_certificates(certificates: Certificates, tmp_path: Path) -> None:
    required = secured(
        certificates,
        client_ca_file=str(certificates.ca_file),
        client_auth_type="RequireAndVerifyClientCert",
    )
    with serving(web(required)) as server:
        handshake(server, certificates, client=client_certificate(certificates, tmp_path, "any"))
        with pytest.raises(REFUSED):
            handshake(server, certificates)


@pytest.mark.parametrize("kind", ["RequireAndVerifyClientCert", "VerifyClientCertIfGiven"])
def test_the_names_of_client_certificates(
    certificates: Certificates, tmp_path: Path, kind: str
) -> None:
    named = secured(
        certificates,
        client_ca_file=str(certificates.ca_file),
        client_auth_type=kind,
        client_allowed_sans=("prometheus.example.org",),
    )
    good, other = (
        client_certificate(certificates, tmp_path, name)
        for name in ("prometheus.example.org", "other.example.org")
    )
    with serving(web(named)) as server:
        handshake(server, certificates, client=good)
        for client in (other, None):
            with pytest.raises(REFUSED):
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


def test_silent_connections_cost_little(certificates: Certificates) -> None:
    with serving(web(secured(certificates))) as server, contextlib.ExitStack() as stack:
        handshake(server, certificates)
        before = resident()
        for _ in range(500):
            stack.enter_context(server.connected())
        handshake(server, certificates)  # which is accepted after all of them
        assert resident() - before < 500 * LIMIT


def test_500_stalled_handshakes_hinder_nobody(certificates: Certificates) -> None:
    with serving(web(secured(certificates))) as server, contextlib.ExitStack() as stack:
        threads = threading.active_count()
        for _ in range(500):
            stack.enter_context(server.connected()).sendall(b"\x16\x03\x01\x02\x00")
        handshake(server, certificates)
        assert threading.active_count() == threads


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00"])
def test_a_stalled_handshake_is_dropped(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.05)
    with serving(web(secured(certificates))) as server, server.connected() as stalled:
        stalled.sendall(sent)
        assert dropped(stalled)


def test_handshakes_count_as_connections(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 2)
    with serving(web(secured(certificates))) as server, contextlib.ExitStack() as stack:
        for sent in (b"", b"\x16\x03\x01\x02\x00"):
            stack.enter_context(server.connected()).sendall(sent)
        assert dropped(stack.enter_context(server.connected()))
