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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import yaml
from msgspec import Meta

from borgbase_exporter.text import encodable, printable

SHARED_MEMORY = "/dev/shm"  # noqa: S108  # the temporary file in it is private
CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
GO_UNITS = {"ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "h": 3600.0, "m": 60.0, "s": 1.0}
GO_TERM = rf"(\d+\.?\d*|\.\d+)({'|'.join(GO_UNITS)})"

# What the file may contain; a setting whose type is None is the toolkit's, and not supported.
Hash = Annotated[
    str,
    Meta(
        pattern=r"\A\$2[aby]\$(0[4-9]|1[0-9])\$[./A-Za-z0-9]{53}\Z",  # the next takes a minute
        description="a bcrypt hash of a cost from 4 to 19, as `htpasswd -nBC 12 NAME` makes it",
    ),
]
UserName = Annotated[str, Meta(pattern=r"\A[^:\ud800-\udfff]*\Z", description="a user's name")]
HeaderValue = Annotated[str, Meta(pattern=r"\A[ -~]*\Z", description="a header's value")]
Interval = Annotated[
    str, Meta(pattern=rf"\A(0|({GO_TERM})+)\Z", description="a duration such as 1s or 100ms")
]
Burst = Annotated[int, Meta(ge=1, description="a number of requests, at least 1")]
ClientAuth = Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"]
Version = Literal["TLS12", "TLS13"]
Header = Literal[
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
]


class TLS(msgspec.Struct, frozen=True):
    """How to serve by TLS; of each pair, one is PEM and the other the path of its file."""

    cert: str = ""
    cert_file: str = ""
    key: str = ""
    key_file: str = ""
    client_ca: str = ""
    client_ca_file: str = ""
    client_auth_type: ClientAuth = "NoClientCert"
    client_allowed_sans: tuple[str, ...] = ()
    """Names of which a client's certificate must have one, unless there are none."""
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: None = None
    curve_preferences: None = None
    prefer_server_cipher_suites: None = None

    def __repr__(self) -> str:
        return f"TLS({', '.join(map(str, self.files))})"  # without the key

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


class HTTP(msgspec.Struct, frozen=True):
    """Headers to add; HTTP/2 can only be turned off."""

    http2: bool = False
    headers: dict[Header, HeaderValue] = {}


class RateLimit(msgspec.Struct, frozen=True):
    """A token bucket: `burst` requests at once, and one more after each interval."""

    interval: Interval | Literal[0] = 0
    burst: Burst = 1

    @property
    def seconds(self) -> float:
        """The interval in seconds; 0 means that there is no limit."""
        terms = re.findall(GO_TERM, str(self.interval))
        return sum(float(amount) * GO_UNITS[unit] for amount, unit in terms)


class WebFile(msgspec.Struct, frozen=True):
    """The whole file."""

    tls_server_config: TLS = TLS()
    http_server_config: HTTP = HTTP()
    basic_auth_users: dict[UserName, Hash] = {}
    rate_limit: RateLimit = RateLimit()


class WebConfigError(ValueError):
    """The file cannot be used; `faults` lists everything that is wrong."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class WebConfig:
    """How to serve: by TLS or not, to whom, how often, and with which headers."""

    tls: TLS | None = None
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """Users and the bcrypt hashes of their passwords."""
    headers: Mapping[str, str] = field(default_factory=dict)
    rate_limit: RateLimit | None = None
    path: Path | None = None
    """The file that it was read from."""


def read(path: Path) -> WebConfig:
    """Read the file; raise WebConfigError with all faults."""
    try:
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise WebConfigError([f"{path}: {error.strerror}"]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # The error would quote the file, which contains password hashes.
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        tab = ": a tab, but YAML needs spaces" if r"'\t'" in str(error) else ""
        raise WebConfigError([f"{path}: not YAML{line}{tab}"]) from None
    faults: list[str] = []
    file = _convert(content, WebFile, "", faults) or WebFile()
    if file.http_server_config.http2:
        faults.append("http_server_config.http2: not supported by this server")
    tls = _tls(file.tls_server_config, path.parent, faults)
    if faults:
        raise WebConfigError([f"{path}: {fault}" for fault in faults])
    return WebConfig(
        tls,
        {name: hashed.encode() for name, hashed in file.basic_auth_users.items()},
        {str(name): value for name, value in file.http_server_config.headers.items()},
        file.rate_limit if file.rate_limit.seconds else None,
        path,
    )


def _convert(value: object, kind: Any, where: str, faults: list[str]) -> Any:
    """Convert as msgspec does, but collect all faults; None is for what cannot be used."""
    section = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    if not section and get_origin(kind) is not dict:
        return _convert_leaf(value, kind, where, faults)
    if not isinstance(value, dict | None) or not all(isinstance(key, str) for key in value or ()):
        faults.append(f"{where or 'the file'}: not a mapping of names")
        return None
    kinds = {f.name: f.type for f in msgspec.structs.fields(kind)} if section else {}
    content = {}
    for key, item in (value or {}).items():
        place = f"{where}.{printable(key)}".removeprefix(".")
        if section and key not in kinds:
            near = difflib.get_close_matches(key, kinds, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            faults.append(f"{place}: no such setting{hint}")
        elif section and item not in (None, ""):
            content[key] = _convert(item, kinds[key], place, faults)
        elif not section and _convert_leaf(key, get_args(kind)[0], place, faults) is not None:
            content[key] = _convert_leaf(item, get_args(kind)[1], place, faults)
    good = {key: item for key, item in content.items() if item is not None}
    return kind(**good) if section else good


def _convert_leaf(value: object, kind: Any, where: str, faults: list[str]) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        parts = (kind, *get_args(kind))
        metas = [meta for part in parts for meta in getattr(part, "__metadata__", ())]
        fault = str(error).partition(" - ")[0].lower()
        if kind is type(None):
            fault = "not supported by this server"
        elif get_origin(kind) is Literal:
            fault = f"not supported; possible are {', '.join(get_args(kind))}"
        elif metas:
            fault = f"not {metas[0].description}"
        faults.append(f"{where}: {fault}")
        return None


def _tls(section: TLS, folder: Path, faults: list[str]) -> TLS | None:
    """Return the section with the whole paths of its files; None if it is empty."""
    if section == TLS():
        return None
    paths = {
        name: str(folder / getattr(section, name))
        for name in ("cert_file", "key_file", "client_ca_file")
        if getattr(section, name)
    }
    section = msgspec.structs.replace(section, **paths)
    found = [fault for name, path in paths.items() for fault in _unreadable(name, Path(path))]
    found += _contradictions(section)
    if not found:
        try:
            section.context()
        except (OSError, ValueError) as error:
            files = ", ".join(map(str, section.files)) or "inline"
            found.append(f"cert_file and key_file: {files}: {_reason(error)}")
    faults += [f"tls_server_config.{fault}" for fault in found]
    return section


def _contradictions(tls: TLS) -> Iterator[str]:
    for name in ("cert", "key", "client_ca"):
        if getattr(tls, name) and getattr(tls, f"{name}_file"):
            yield f"{name} and {name}_file: give only one of them"
    if not (tls.cert or tls.cert_file) or not (tls.key or tls.key_file):
        yield "cert_file and key_file: both are needed"
    if (tls.client_auth_type == "NoClientCert") == bool(tls.client_ca or tls.client_ca_file):
        yield "client_auth_type and client_ca_file: each needs the other"
    if tls.client_allowed_sans and tls.client_auth_type != "RequireAndVerifyClientCert":
        yield "client_allowed_sans: needs client_auth_type RequireAndVerifyClientCert"
    if tls.min_version > tls.max_version:
        yield "max_version: below min_version"


def _unreadable(name: str, path: Path) -> Iterator[str]:
    try:
        path.open("rb").close()
    except (OSError, ValueError) as error:
        yield f"{name}: {encodable(str(path))}: {getattr(error, 'strerror', None) or error}"


@contextmanager
def _file(pem: str, path: str) -> Iterator[str]:
    """Give the path of a file that OpenSSL can read; for PEM, one that exists only meanwhile."""
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


def _reason(error: OSError | ValueError) -> str:
    """Return in words why certificates cannot be used."""
    if not isinstance(error, ssl.SSLError):
        return getattr(error, "strerror", None) or str(error)
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    return error.reason.replace("_", " ").lower() if error.reason else "not PEM"
