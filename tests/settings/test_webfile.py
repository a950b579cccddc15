from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from borgbase_exporter.settings.webfile import RateLimit, WebConfig, WebConfigError, read
from tests.web.conftest import Certificates

EMPTY = 'tls_server_config: {cert_file: "", key_file: "", client_auth_type: ""}'
PAIR_OF_FILES = "cert_file: server.pem, key_file: server.key"
# Of the password "test", at the lowest cost.
HASH = "$2b$04$PLTzPO9cZNLzWy1pC0B6xOl6v37VJBO1kSKVkvnEYaQGWIQC3Y3dm"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    Certificates(folder)
    (folder / "garbage.pem").write_text("not a certificate")
    return folder


def parse(folder: Path, text: str) -> WebConfig:
    path = folder / "web.yml"
    path.write_text(text)
    return read(path)


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(WebConfigError) as caught:
        parse(folder, text)
    prefix = f"{folder / 'web.yml'}: "
    faults = str(caught.value).splitlines()
    assert all(fault.startswith(prefix) for fault in faults)
    return [fault.removeprefix(prefix).replace(f"{folder}/", "") for fault in faults]


def inline(folder: Path, **names: str) -> str:
    """Return the section with the contents of files in place of their paths."""
    lines = ["tls_server_config:"]
    for name, file in names.items():
        content = (folder / file).read_text().replace("\n", "\n      ")
        lines.append(f"  {name}: |\n      {content}")
    return "\n".join(lines) + "\n"


def test_everything_that_is_supported(folder: Path) -> None:
    web = parse(
        folder,
        f"""
        tls_server_config:
          cert_file: server.pem
          key_file: {folder}/server.key
          client_auth_type: RequireAndVerifyClientCert
          client_ca_file: ca.pem
          client_allowed_sans: [prometheus.example]
          min_version: TLS13
        http_server_config:
          http2: false
          headers:
            Strict-Transport-Security: max-age=31536000
        basic_auth_users:
          prometheus: {HASH}
        rate_limit:
          interval: 500ms
          burst: 20
        """,
    )
    assert web.users == {"prometheus": HASH.encode()}
    assert web.headers == {"Strict-Transport-Security": "max-age=31536000"}
    assert web.rate_limit == RateLimit(0.5, 20)
    assert web.path == folder / "web.yml"
    assert HASH not in repr(web)
    assert web.tls is not None
    assert web.tls.files == tuple(folder / name for name in ("server.pem", "server.key", "ca.pem"))
    context = web.tls.context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(
    "text", ["", "{}", "tls_server_config:", "# nothing\n", "rate_limit: {}", EMPTY]
)
def test_an_empty_file_changes_nothing(folder: Path, text: str) -> None:
    assert parse(folder, text) == WebConfig(path=folder / "web.yml")


def test_inline_certificates_serve_and_verify_and_leave_no_file(folder: Path) -> None:
    text = inline(folder, cert="server.pem", key="server.key", client_ca="ca.pem")
    tls = parse(folder, f"{text}  client_auth_type: RequireAndVerifyClientCert\n").tls
    assert tls is not None
    assert tls.files == ()
    assert "PRIVATE" not in repr(tls)
    context = tls.context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1
    mixed = parse(folder, f"{inline(folder, key='server.key')}  cert_file: server.pem\n").tls
    assert mixed is not None
    assert mixed.files == (folder / "server.pem",)


@pytest.mark.parametrize(
    ("sans", "allowed"),
    [
        ("[]", True),
        ("[client.example]", True),
        ("[other.example, 10.0.0.1]", True),
        ("['FD00::0:1']", True),
        ("[example]", False),
        ("['*.example', 10.0.0.2]", False),
    ],
)
def test_clients_need_one_of_the_allowed_names(folder: Path, sans: str, *, allowed: bool) -> None:
    tls = parse(
        folder,
        f"tls_server_config: {{{PAIR_OF_FILES}, client_auth_type: RequireAndVerifyClientCert, "
        f"client_ca_file: ca.pem, client_allowed_sans: {sans}}}",
    ).tls
    assert tls is not None
    addresses = (("IP Address", "10.0.0.1"), ("IP Address", "FD00:0:0:0:0:0:0:1\n"))
    assert tls.allows({"subjectAltName": (("DNS", "client.example"), *addresses)}) is allowed
    assert tls.allows({"subjectAltName": (("IP Address", "<invalid>"),)}) is (sans == "[]")


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [("1s", 1), ("1m30s", 90), ("1.5h", 5400), ("250ms", 0.25), ("10us", 1e-5), ("1h", 3600)],
)
def test_intervals_of_the_rate_limit(folder: Path, interval: str, seconds: float) -> None:
    limit = parse(folder, f"rate_limit: {{interval: {interval}, burst: 2}}").rate_limit
    assert limit is not None
    assert limit.seconds == pytest.approx(seconds)
    assert limit.burst == 2


@pytest.mark.parametrize("interval", ["0", "'0'", "0s", "0ms"])
def test_an_interval_of_0_turns_the_rate_limit_off(folder: Path, interval: str) -> None:
    assert parse(folder, f"rate_limit: {{interval: {interval}, burst: 2}}").rate_limit is None


NEEDS_CLIENTS = "client_allowed_sans: needs client_auth_type RequireAndVerifyClientCert"
PAIR = "client_auth_type and client_ca_file: each needs the other"
NO_HASH = (
    "basic_auth_users.bob: not a bcrypt hash of a cost from 4 to 19, as `htpasswd -nBC 12 NAME` "
    "makes it"
)
NO_DURATION = "rate_limit.interval: not a duration such as 1s or 100ms"
NO_HEADER = "http_server_config.headers.X-Frame-Options: not a header's value"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("- a\n- b", "the file: not a mapping of names"),
        ("tls_server_config: yes", "tls_server_config: not a mapping of names"),
        ("{a: [", "not YAML in line 1"),
        ("x: 2001-99-99", "not YAML"),
        ("x: 0x_", "not YAML"),
        ("colour: red", "colour: no such setting"),
        ("rate_limit: {interval: 5}", NO_DURATION),
        ("rate_limit: {interval: 1d}", NO_DURATION),
        ("rate_limit: {burst: 0}", "rate_limit.burst: not a number of requests, at least 1"),
        ("http_server_config: {http2: true}", "http_server_config.http2: not supported by this"),
        (
            "http_server_config: {headers: {X-Frame-Option: x}}",
            "http_server_config.headers.X-Frame-Option: no such setting; did you mean "
            "X-Frame-Options?",
        ),
        ('http_server_config: {headers: {X-Frame-Options: "deny\\r\\nX: y"}}', NO_HEADER),
        ('http_server_config: {headers: {X-Frame-Options: "deny\\n"}}', NO_HEADER),
        (
            f'basic_auth_users: {{"\\ud800": "{HASH}"}}',
            "basic_auth_users.\N{REPLACEMENT CHARACTER}: not a user's name",
        ),
        (f'basic_auth_users: {{"a:b": "{HASH}"}}', "basic_auth_users.a:b: not a user's name"),
        ("basic_auth_users: {1: x}", "basic_auth_users.1: not a bcrypt hash"),
        (f"basic_auth_users: {{bob: {HASH.replace('$04$', '$99$')}}}", NO_HASH),
        (f"basic_auth_users: {{bob: {HASH.replace('$04$', '$03$')}}}", NO_HASH),
        (f'basic_auth_users: {{bob: "{HASH}\\n"}}', NO_HASH),
        ("basic_auth_users: {bob: 1}", NO_HASH),
    ],
)
def test_each_fault_is_reported_by_name(folder: Path, text: str, fault: str) -> None:
    (found,) = faults(folder, text)
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("curve_preferences: [x]", "curve_preferences: not supported by this server"),
        ("prefer_server_cipher_suites: [x]", "prefer_server_cipher_suites: not supported by this"),
        ("client_allowed_sans: [x]", NEEDS_CLIENTS),
        (
            "client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.pem, "
            "client_allowed_sans: [x]",
            NEEDS_CLIENTS,
        ),
        ("client_auth_type: RequireAndVerifyClientCert", PAIR),
        ("client_ca_file: ca.pem", PAIR),
        ("client_ca_file: [a]", "client_ca_file: not text"),
        (
            "client_auth_type: RequireAnyClientCert",
            "client_auth_type: not one of NoClientCert, VerifyClientCertIfGiven, "
            "RequireAndVerifyClientCert",
        ),
        ("cert: x", "cert and cert_file: give only one of them"),
        ("key_file: null", "cert_file and key_file: both are needed"),
        ('cert_file: "a\\0"', "cert_file: not text"),
        ("cert_file: garbage.pem", "cert_file and key_file: garbage.pem, server.key: not PEM"),
        (
            "cert_file: null, key_file: null, cert: x, key: y",
            "cert_file and key_file: inline: not PEM",
        ),
        ("min_versoin: TLS13", "min_versoin: no such setting; did you mean min_version?"),
        ("min_version: TLS10", "min_version: not one of TLS12, TLS13"),
        ("min_version: TLS13, max_version: TLS12", "max_version: below min_version"),
    ],
)
def test_each_fault_of_tls_is_reported_by_name(folder: Path, text: str, fault: str) -> None:
    (found,) = faults(
        folder, f"tls_server_config: {{{PAIR_OF_FILES}, {text}}}"
    )  # a later one counts
    assert found.startswith(f"tls_server_config.{fault}")


def test_all_faults_are_reported_at_once(folder: Path) -> None:
    text = (
        "{colour: red, http_server_config: {http2: true, headers: {A: b}}, rate_limit: {burst: x}, "
        "basic_auth_users: {bob: x, eve: y}, tls_server_config: {cipher_suites: [], key: [1]}}"
    )
    assert [fault.partition(": ")[0] for fault in faults(folder, text)] == [
        "colour",
        "http_server_config.http2",
        "http_server_config.headers.A",
        "rate_limit.burst",
        "basic_auth_users.bob",
        "basic_auth_users.eve",
        "tls_server_config.cipher_suites",
        "tls_server_config.key",
    ]


def test_an_encrypted_key_is_a_fault_and_no_question(folder: Path) -> None:
    encrypted = (
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
        "MIH0MF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBBX8t5vZ0bVv0dVt9Jt\n"
        "-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    (folder / "encrypted.key").write_text(encrypted)
    found = faults(folder, "tls_server_config: {cert_file: server.pem, key_file: encrypted.key}")
    assert len(found) == 1


def test_a_broken_file_is_not_quoted(folder: Path) -> None:
    (fault,) = faults(folder, f"basic_auth_users:\n  bob: {HASH}\n bad")
    assert HASH not in fault
