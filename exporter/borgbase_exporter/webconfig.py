"""The web configuration file, in the format of the Prometheus exporter toolkit.

Source: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md.
What this server cannot honour is refused by name: a security setting that is silently ignored
is worse than none.
"""

from __future__ import annotations

import difflib
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from borgbase_exporter.text import shown

T = TypeVar("T")

CLIENT_AUTH = {
    "": ssl.CERT_NONE,
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
HEADERS = (
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
)
_SECTIONS = {
    "tls_server_config": {
        "cert_file",
        "key_file",
        "client_auth_type",
        "client_ca_file",
        "min_version",
        "max_version",
    },
    "http_server_config": {"headers", "http2"},
    "basic_auth_users": None,
}
_NOT_HONOURED = {
    "cert",
    "key",
    "client_ca",
    "client_allowed_sans",
    "cipher_suites",
    "curve_preferences",
    "prefer_server_cipher_suites",
    "rate_limit",
}
"""What the toolkit knows beyond that."""
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|1[0-9])\$[./A-Za-z0-9]{53}")
"""Of a cost from 4 to 19: one check at the next would take a minute."""


class WebConfigError(Exception):
    """The file cannot be used; `faults` tells all that is wrong, each on its own."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class TLS:
    """How to serve by TLS."""

    cert_file: Path
    key_file: Path
    client_auth: ssl.VerifyMode = ssl.CERT_NONE
    client_ca_file: Path | None = None
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that may change on disk."""
        return tuple(filter(None, (self.cert_file, self.key_file, self.client_ca_file)))

    def context(self) -> ssl.SSLContext:
        """Return a context made from the files as they are now; raise OSError if they are unfit."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self.min_version
        context.maximum_version = self.max_version
        context.load_cert_chain(self.cert_file, self.key_file, password=_no_password)
        if self.client_ca_file:
            context.load_verify_locations(self.client_ca_file)
        context.verify_mode = self.client_auth
        return context


@dataclass(frozen=True, slots=True)
class WebConfig:
    """How to serve: by TLS or not, to whom, and with which headers."""

    tls: TLS | None = None
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """Users and the bcrypt hashes of their passwords."""
    headers: Mapping[str, str] = field(default_factory=dict)


def read(path: Path) -> WebConfig:
    """Read the file; raise WebConfigError with all faults."""
    try:
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise WebConfigError([f"{path}: {error.strerror}"]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # The error would quote the file, which holds password hashes.
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        tab = ": a tab, where YAML wants spaces" if r"'\t'" in str(error) else ""
        raise WebConfigError([f"{path}: not YAML{line}{tab}"]) from None
    faults: list[str] = []
    sections = _mapping(content, "the file", faults)
    faults += [_refusal(name, _SECTIONS) for name in sections if name not in _SECTIONS]
    tls = _tls(_section(sections, "tls_server_config", faults), path.parent, faults)
    http = _section(sections, "http_server_config", faults)
    if http.get("http2"):
        faults.append("http_server_config.http2: cannot be honoured: this server has no HTTP/2")
    web = WebConfig(
        tls,
        _users(_mapping(sections.get("basic_auth_users"), "basic_auth_users", faults), faults),
        _headers(_mapping(http.get("headers"), "http_server_config.headers", faults), faults),
    )
    if faults:
        raise WebConfigError([f"{path}: {fault}" for fault in faults])
    return web


def _no_password() -> str:
    # Without this, OpenSSL would ask on the terminal.
    raise OSError("the key is encrypted")


def _mapping(value: object, name: str, faults: list[str]) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        faults.append(f"{name}: not a mapping of names")
        return {}
    return value


def _section(sections: dict[str, Any], name: str, faults: list[str]) -> dict[str, Any]:
    section = _mapping(sections.get(name), name, faults)
    known = _SECTIONS[name] or set()
    faults += [_refusal(key, known, f"{name}.") for key in section if key not in known]
    return {key: value for key, value in section.items() if key in known}


def _refusal(key: str, known: Iterable[str], section: str = "") -> str:
    if key in _NOT_HONOURED:
        return f"{section}{key}: cannot be honoured by this server"
    near = difflib.get_close_matches(key, list(known), 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{section}{key}: no such setting{hint}"


def _tls(section: dict[str, Any], folder: Path, faults: list[str]) -> TLS | None:
    if not section:
        return None
    found: list[str] = []
    files = {
        key: _file(section, key, folder, found)
        for key in ("cert_file", "key_file", "client_ca_file")
    }
    client_auth = _choice(section, "client_auth_type", CLIENT_AUTH, ssl.CERT_NONE, found)
    minimum = _choice(section, "min_version", VERSIONS, ssl.TLSVersion.TLSv1_2, found)
    maximum = _choice(section, "max_version", VERSIONS, ssl.TLSVersion.MAXIMUM_SUPPORTED, found)
    if (client_auth == ssl.CERT_NONE) != (files["client_ca_file"] is None):
        found.append("client_auth_type and client_ca_file: of use together only")
    if 0 < maximum < minimum:
        found.append("max_version: below min_version")
    cert_file, key_file = files["cert_file"], files["key_file"]
    tls = None
    if cert_file and key_file and not found:
        tls = TLS(cert_file, key_file, client_auth, files["client_ca_file"], minimum, maximum)
        try:
            tls.context()
        except (OSError, ValueError) as error:
            found.append(f"cert_file and key_file: {', '.join(map(str, tls.files))}: {_why(error)}")
    elif not found:
        found.append("cert_file and key_file: both are needed")
    faults += [f"tls_server_config.{fault}" for fault in found]
    return tls


def _why(error: OSError | ValueError) -> str:
    """Return in words why certificates cannot be used."""
    if not isinstance(error, ssl.SSLError):
        return getattr(error, "strerror", None) or str(error)
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    return error.reason.replace("_", " ").lower() if error.reason else "not PEM"


def _file(section: dict[str, Any], key: str, folder: Path, faults: list[str]) -> Path | None:
    value = section.get(key) or None
    if value is None:
        return None
    if not isinstance(value, str):
        faults.append(f"{key}: not a path")
        return None
    path = folder / value
    try:
        path.open("rb").close()
    except (OSError, ValueError) as error:
        faults.append(f"{key}: {shown(str(path))}: {getattr(error, 'strerror', None) or error}")
    return path


def _choice(
    section: dict[str, Any], key: str, choices: Mapping[str, T], default: T, faults: list[str]
) -> T:
    value = section.get(key)
    if value is None:
        return default
    if not isinstance(value, str) or value not in choices:
        faults.append(f"{key}: cannot be honoured; there are {', '.join(filter(None, choices))}")
        return default
    return choices[value]


def _users(section: dict[str, Any], faults: list[str]) -> dict[str, bytes]:
    users = {}
    for name, hashed in section.items():
        if not isinstance(hashed, str) or not _BCRYPT.fullmatch(hashed):
            faults.append(
                f"basic_auth_users.{shown(name)}: not a bcrypt hash of a cost from 4 to 19, as "
                "`htpasswd -nBC 12 NAME` makes it"
            )
        elif ":" in name or name != shown(name):
            faults.append(f"basic_auth_users.{shown(name)}: cannot be a user's name")
        else:
            users[name] = hashed.encode()
    return users


def _headers(section: dict[str, Any], faults: list[str]) -> dict[str, str]:
    for name, value in section.items():
        if name not in HEADERS:
            faults.append(f"http_server_config.headers.{name}: there are {', '.join(HEADERS)}")
        elif not isinstance(value, str) or not value.isascii() or not value.isprintable():
            faults.append(f"http_server_config.headers.{name}: not a header's value")
    return section
