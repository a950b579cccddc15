"""The web configuration file, in the format of the Prometheus exporter toolkit.

Source: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md.
What this server cannot honour is refused by name: a security setting that is silently ignored is
worse than none.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import ssl
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from borgbase_exporter.text import printable

SHARED_MEMORY = "/dev/shm"  # noqa: S108  # the temporary file in it is private
CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
GO_UNITS = {"ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "h": 3600.0, "m": 60.0, "s": 1.0}
GO_TERM = rf"(\d+\.?\d*|\.\d+)({'|'.join(GO_UNITS)})"

Rule = tuple[str, str]  # the pattern of a value, and what such a value is called
Rules = Mapping[str, "Rule | Rules"]
ANY = ""  # the name of the rule for all other names


def _one_of(names: Iterable[str]) -> Rule:
    return "|".join(names), f"one of {', '.join(names)}"


TEXT = (r"[^\0\ud800-\udfff]*", "text")
NAMES = ("[!-~]+", "a list of names")
UNSUPPORTED = (r"(?!)", "supported by this server")
HASH = (
    r"\$2[aby]\$(0[4-9]|1[0-9])\$[./A-Za-z0-9]{53}",  # a check at the next cost takes a minute
    "a bcrypt hash of a cost from 4 to 19, as `htpasswd -nBC 12 NAME` makes it",
)
HEADERS = (
    *("Content-Security-Policy", "Strict-Transport-Security", "X-Content-Type-Options"),
    *("X-Frame-Options", "X-XSS-Protection"),
)
PEMS = ("cert", "key", "client_ca")
RULES: Rules = {
    "tls_server_config": {
        **dict.fromkeys((*PEMS, *(f"{name}_file" for name in PEMS)), TEXT),
        "client_auth_type": _one_of(CLIENT_AUTH),
        "client_allowed_sans": NAMES,
        **dict.fromkeys(("min_version", "max_version"), _one_of(VERSIONS)),
        **dict.fromkeys(("cipher_suites", "curve_preferences"), UNSUPPORTED),
        "prefer_server_cipher_suites": UNSUPPORTED,
    },
    "http_server_config": {
        "http2": ("(?i)false", "supported by this server"),
        "headers": dict.fromkeys(HEADERS, (r"[ -~]*", "a header's value")),
    },
    "basic_auth_users": {ANY: HASH},
    "rate_limit": {
        "interval": (rf"0|({GO_TERM})+", "a duration such as 1s or 100ms"),
        "burst": (r"0*[1-9]\d{0,8}", "a number of requests, at least 1"),
    },
}


@dataclass(frozen=True, slots=True)
class TLS:
    """How to serve by TLS; `cert` is PEM, `cert_file` the path of a PEM file, and so on."""

    cert: str = field(default="", repr=False)
    cert_file: str = ""
    key: str = field(default="", repr=False)
    key_file: str = ""
    client_ca: str = field(default="", repr=False)
    client_ca_file: str = ""
    client_auth_type: str = "NoClientCert"
    client_allowed_sans: tuple[str, ...] = ()  # a client's certificate needs one of these
    min_version: str = "TLS12"
    max_version: str = "TLS13"

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that may change on disk."""
        return tuple(map(Path, filter(None, (self.cert_file, self.key_file, self.client_ca_file))))

    def context(self) -> ssl.SSLContext:
        """Return a context of the files as they are now; raise OSError if they are unusable."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = VERSIONS[self.min_version]
        context.maximum_version = VERSIONS[self.max_version]
        with _file(self.cert, self.cert_file) as cert, _file(self.key, self.key_file) as key:
            context.load_cert_chain(cert, key, password=_no_password)
        if self.client_ca or self.client_ca_file:
            context.load_verify_locations(self.client_ca_file or None, None, self.client_ca or None)
        context.verify_mode = CLIENT_AUTH[self.client_auth_type]
        return context

    def allows(self, certificate: Mapping[str, Any]) -> bool:
        """Return whether a verified client may connect, by what `getpeercert()` returns."""
        names = {_canonical(name) for _kind, name in certificate.get("subjectAltName", ())}
        allowed = map(_canonical, self.client_allowed_sans)
        return not self.client_allowed_sans or not names.isdisjoint(allowed)


def _canonical(name: str) -> str:
    """Return an IP address in its usual spelling, and other names as they are."""
    try:
        return str(ipaddress.ip_address(name.strip()))
    except ValueError:
        return name


@contextmanager
def _file(pem: str, path: str) -> Iterator[str]:
    """Yield the path of a file that OpenSSL can read; for PEM, a temporary one."""
    if not pem:
        yield path
        return
    # In memory where possible: the file system of a container may be read-only.
    folder = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.NamedTemporaryFile(dir=folder) as file:  # which only this user can read
        file.write(pem.encode())
        file.flush()
        yield file.name


def _no_password() -> str:
    # Without this, OpenSSL would ask on the terminal.
    raise OSError("the key is encrypted")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket: `burst` requests at once, and one more every so many seconds."""

    seconds: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebConfig:
    """How to serve: by TLS or not, to whom, how often, and with which headers."""

    tls: TLS | None = None
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # bcrypt hashes
    headers: Mapping[str, str] = field(default_factory=dict)
    rate_limit: RateLimit | None = None
    path: Path | None = None


class WebConfigError(ValueError):
    """The file cannot be used; the text has a line for each thing that is wrong."""


def read(path: Path) -> WebConfig:
    """Read the file; raise WebConfigError with all faults."""
    try:
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise WebConfigError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # The error would quote the file, which contains password hashes.
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise WebConfigError(f"{path}: not YAML{line}") from None
    faults: list[str] = []
    file = _checked(content, RULES, "", faults)
    tls, users = file.get("tls_server_config"), file.get("basic_auth_users", {})
    odd = [name for name in users if ":" in name or not name.isprintable()]
    faults += [f"basic_auth_users.{printable(name)}: not a user's name" for name in odd]
    if tls and not any(fault.startswith("tls_server_config") for fault in faults):
        files = {name: str(path.parent / tls[name]) for name in tls if name.endswith("_file")}
        tls = TLS(**{**tls, **files})
        found = list(_tls_faults(tls)) or list(_unusable(tls))
        faults += [f"tls_server_config.{fault}" for fault in found]
    if faults:
        raise WebConfigError("\n".join(f"{path}: {fault}" for fault in faults))
    rate = file.get("rate_limit", {})
    terms = re.findall(GO_TERM, rate.get("interval", ""))
    seconds = sum(float(amount) * GO_UNITS[unit] for amount, unit in terms)
    return WebConfig(
        tls or None,
        {name: hashed.encode() for name, hashed in users.items()},
        file.get("http_server_config", {}).get("headers", {}),
        RateLimit(seconds, int(rate.get("burst", 1))) if seconds else None,
        path,
    )


def _checked(value: object, rules: Rules, where: str, faults: list[str]) -> dict[str, Any]:
    """Return a section's values without empty ones; report unknown names and wrong values."""
    if not isinstance(value, dict | None):
        faults.append(f"{where or 'the file'}: not a mapping of names")
        return {}
    content: dict[str, Any] = {}
    for name, item in (value or {}).items():
        place = f"{where}.{printable(str(name))}".removeprefix(".")
        rule = rules.get(name, rules.get(ANY))
        if rule is None:
            near = difflib.get_close_matches(str(name), rules, 1)
            faults.append(f"{place}: no such setting{f'; did you mean {near[0]}?' if near else ''}")
        elif not isinstance(rule, tuple):
            content[str(name)] = _checked(item, rule, place, faults)
        elif item not in (None, "") or ANY in rules:
            texts = item if rule is NAMES and isinstance(item, list) else [item]
            words = tuple("\0" if isinstance(text, list | dict) else str(text) for text in texts)
            if not all(re.fullmatch(rule[0], word) for word in words):
                faults.append(f"{place}: not {rule[1]}")
            content[str(name)] = words if rule is NAMES else words[0]
    return content


def _tls_faults(tls: TLS) -> Iterator[str]:
    """Yield what is wrong with a section whose values are valid by themselves."""
    for name in PEMS:
        pem, path = getattr(tls, name), getattr(tls, f"{name}_file")
        if pem and path:
            yield f"{name} and {name}_file: give only one of them"
        if path and not os.access(path, os.R_OK):
            yield f"{name}_file: {path}: cannot be read"
    if not (tls.cert or tls.cert_file) or not (tls.key or tls.key_file):
        yield "cert_file and key_file: both are needed"
    if (tls.client_auth_type == "NoClientCert") == bool(tls.client_ca or tls.client_ca_file):
        yield "client_auth_type and client_ca_file: each needs the other"
    if tls.client_allowed_sans and tls.client_auth_type != "RequireAndVerifyClientCert":
        yield "client_allowed_sans: needs client_auth_type RequireAndVerifyClientCert"
    if tls.min_version > tls.max_version:
        yield "max_version: below min_version"


def _unusable(tls: TLS) -> Iterator[str]:
    try:
        tls.context()
    except OSError as error:
        files = ", ".join(map(str, tls.files)) or "inline"
        reason = error.strerror or str(error)
        if isinstance(error, ssl.SSLError):
            reason = error.reason or "not PEM"
        reason = reason.replace("KEY_VALUES_MISMATCH", "the key is not that of the certificate")
        yield f"cert_file and key_file: {files}: {reason.replace('_', ' ')}"
