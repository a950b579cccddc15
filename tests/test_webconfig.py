from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from borgbase_exporter.webconfig import TLS, WebConfig, WebConfigError, read

# Of the password "test", at the lowest cost.
HASH = "$2b$04$PLTzPO9cZNLzWy1pC0B6xOl6v37VJBO1kSKVkvnEYaQGWIQC3Y3dm"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost")
    leaf.private_key_pem.write_to_path(tmp_path / "server.key")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().issue_cert("other").private_key_pem.write_to_path(tmp_path / "other.key")
    (tmp_path / "garbage.pem").write_text("not a certificate")
    return tmp_path


def parse(folder: Path, text: str) -> WebConfig:
    path = folder / "web.yml"
    path.write_text(text)
    return read(path)


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(WebConfigError) as caught:
        parse(folder, text)
    prefix = f"{folder / 'web.yml'}: "
    assert all(fault.startswith(prefix) for fault in caught.value.faults)
    return [fault.removeprefix(prefix).replace(f"{folder}/", "") for fault in caught.value.faults]


def test_all_that_can_be_honoured(folder: Path) -> None:
    web = parse(
        folder,
        f"""
        tls_server_config:
          cert_file: server.pem
          key_file: {folder}/server.key
          client_auth_type: RequireAndVerifyClientCert
          client_ca_file: ca.pem
          min_version: TLS13
        http_server_config:
          http2: false
          headers:
            Strict-Transport-Security: max-age=31536000
        basic_auth_users:
          prometheus: {HASH}
        """,
    )
    assert web == WebConfig(
        TLS(
            folder / "server.pem",
            folder / "server.key",
            ssl.CERT_REQUIRED,
            folder / "ca.pem",
            ssl.TLSVersion.TLSv1_3,
        ),
        {"prometheus": HASH.encode()},
        {"Strict-Transport-Security": "max-age=31536000"},
    )
    assert HASH not in repr(web)
    assert web.tls is not None
    context = web.tls.context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize("text", ["", "{}", "tls_server_config:", "# nothing\n"])
def test_an_empty_file_changes_nothing(folder: Path, text: str) -> None:
    assert parse(folder, text) == WebConfig()


TLS_LINES = "cert_file: server.pem, key_file: server.key"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("- a\n- b", "the file: not a mapping of names"),
        ("tls_server_config: yes", "tls_server_config: not a mapping of names"),
        ("{a: [", "not YAML in line 1"),
        ("basic_auth_users:\n\tbob: x", "not YAML in line 2: a tab, where YAML wants spaces"),
        ("colour: red", "colour: no such setting"),
        ("basic_auth_user: {}", "basic_auth_user: no such setting; did you mean basic_auth_users?"),
        ("rate_limit: {}", "rate_limit: cannot be honoured by this server"),
        (
            f"tls_server_config: {{{TLS_LINES}, cipher_suites: [x]}}",
            "tls_server_config.cipher_suites: cannot be honoured by this server",
        ),
        (
            f"tls_server_config: {{{TLS_LINES}, client_allowed_sans: [x]}}",
            "tls_server_config.client_allowed_sans: cannot be honoured by this server",
        ),
        (
            f"tls_server_config: {{{TLS_LINES}, min_versoin: TLS13}}",
            "tls_server_config.min_versoin: no such setting",
        ),
        (
            f"tls_server_config: {{{TLS_LINES}, min_version: TLS10}}",
            "tls_server_config.min_version: cannot be honoured; there are TLS12, TLS13",
        ),
        (
            f"tls_server_config: {{{TLS_LINES}, min_version: TLS13, max_version: TLS12}}",
            "tls_server_config.max_version: below min_version",
        ),
        (
            f"tls_server_config: {{{TLS_LINES}, client_auth_type: RequireAnyClientCert}}",
            "tls_server_config.client_auth_type: cannot be honoured; there are NoClientCert, "
            "VerifyClientCertIfGiven, RequireAndVerifyClientCert",
        ),
        (
            f"tls_server_config: {{{TLS_LINES}, client_auth_type: RequireAndVerifyClientCert}}",
            "tls_server_config.client_auth_type and client_ca_file: of use together only",
        ),
        (
            "tls_server_config: {cert_file: server.pem}",
            "tls_server_config.cert_file and key_file: both are needed",
        ),
        (
            "tls_server_config: {cert_file: [a], key_file: server.key}",
            "tls_server_config.cert_file: not a path",
        ),
        (
            "tls_server_config: {cert_file: none.pem, key_file: server.key}",
            "tls_server_config.cert_file: none.pem: No such file",
        ),
        (
            "tls_server_config: {cert_file: server.pem, key_file: other.key}",
            "tls_server_config.cert_file and key_file: server.pem, other.key: "
            "the key is not that of the certificate",
        ),
        (
            "tls_server_config: {cert_file: garbage.pem, key_file: server.key}",
            "tls_server_config.cert_file and key_file: garbage.pem, server.key: not PEM",
        ),
        (
            "http_server_config: {http2: true}",
            "http_server_config.http2: cannot be honoured: this server has no HTTP/2",
        ),
        (
            "http_server_config: {headers: {Server: x}}",
            "http_server_config.headers.Server: there are Content-Security-Policy, "
            "Strict-Transport-Security, X-Content-Type-Options, X-Frame-Options, X-XSS-Protection",
        ),
        (
            'http_server_config: {headers: {X-Frame-Options: "deny\\r\\nX: y"}}',
            "http_server_config.headers.X-Frame-Options: not a header's value",
        ),
        ("x: 2001-99-99", "not YAML"),
        ("x: 0x_", "not YAML"),
        (
            f'basic_auth_users: {{"\\ud800": "{HASH}"}}',
            "basic_auth_users.\N{REPLACEMENT CHARACTER}: cannot be a user's name",
        ),
        (
            f"basic_auth_users: {{bob: {HASH.replace('$04$', '$99$')}}}",
            "basic_auth_users.bob: not a bcrypt hash of a cost from 4 to 19",
        ),
        (
            f"basic_auth_users: {{bob: {HASH.replace('$04$', '$03$')}}}",
            "basic_auth_users.bob: not a bcrypt hash of a cost from 4 to 19",
        ),
        ("basic_auth_users: {bob: secret}", "basic_auth_users.bob: not a bcrypt hash"),
        (
            f'basic_auth_users: {{"a:b": "{HASH}"}}',
            "basic_auth_users.a:b: cannot be a user's name",
        ),
    ],
)
def test_each_fault_is_told_by_name(folder: Path, text: str, fault: str) -> None:
    (found,) = faults(folder, text)
    assert found.startswith(fault)


def test_all_faults_are_told_at_once(folder: Path) -> None:
    text = "{colour: red, http_server_config: {http2: true}, basic_auth_users: {bob: x, eve: y}}"
    assert len(faults(folder, text)) == 4


def test_an_encrypted_key_is_a_fault_and_no_question(folder: Path) -> None:
    encrypted = (
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
        "MIH0MF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBBX8t5vZ0bVv0dVt9Jt\n"
        "-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    (folder / "encrypted.key").write_text(encrypted)
    found = faults(folder, "tls_server_config: {cert_file: server.pem, key_file: encrypted.key}")
    assert len(found) == 1


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(WebConfigError, match="No such file"):
        read(tmp_path / "none.yml")


def test_a_broken_file_is_not_quoted(folder: Path) -> None:
    (fault,) = faults(folder, f"basic_auth_users:\n  bob: {HASH}\n bad")
    assert HASH not in fault
