"""The types of settings: how each reads a text. A ValueError says what is wrong with it."""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from borgbase_exporter.settings import webfile
from borgbase_exporter.settings.webfile import WebConfig
from borgbase_exporter.text import encodable
from borgbase_exporter.tokens import GivenToken, TokenFile, TokenFolder

YEAR = 31_536_000
MAX_PORT = 65_535
OWN_LABELS = {"account", "repo_id", "repo"}
_SECONDS = {"y": YEAR, "w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
_DURATION = re.compile("".join(rf"(?:(\d{{1,9}}){unit})?" for unit in _SECONDS), re.ASCII)


class Reader(NamedTuple):
    """How a type reads a text, and what the help calls the text."""

    read: Callable[[str], Any]
    metavar: str


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; no host means all addresses of the machine, port 0 any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def duration(text: str, shortest: float = 0.001, longest: float = YEAR) -> float:
    """Read a Prometheus duration (`90s`, `15m`, `1h30m`) as seconds."""
    match = _DURATION.fullmatch(text)
    if not text or not match:
        raise ValueError("is not a duration such as 90s, 15m or 6h")
    amounts = zip(match.groups("0"), _SECONDS.values(), strict=True)
    seconds = float(sum(int(amount) * unit for amount, unit in amounts))
    if not shortest <= seconds <= longest:
        raise ValueError(f"is not between {'1s' if shortest == 1 else '1ms'} and 1y")
    return seconds


def moment(text: str) -> datetime | timedelta:
    """Read how long ago (`90d`), or when: ISO 8601 (UTC by default) or Unix seconds."""
    try:
        if re.fullmatch(r"\d{9,11}(\.\d+)?", text, re.ASCII):
            return datetime.fromtimestamp(float(text), UTC)
        if _DURATION.fullmatch(text):
            return timedelta(seconds=duration(text, longest=float("inf")))
        when = datetime.fromisoformat(text)
        return when if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError("is neither a moment (2026-01-31T12:00Z) nor how long ago (90d)") from None


def size(text: str) -> int:
    """Read a size (`64MiB`, `10MB`, `4096`) as bytes."""
    match = re.fullmatch(r"(\d{1,18})\s*(?:([kMGT])(i?))?B?", text, re.IGNORECASE | re.ASCII)
    if not match or not int(match[1]):
        raise ValueError("is not a size such as 64MiB")
    base = 1024 if match[3] else 1000
    return int(match[1]) * int(base ** "_kmgt".index((match[2] or "_").lower()))


def address(text: str) -> Address:
    """Read `host:port`, `[ipv6]:port`, `:port` or `port`."""
    host, _, port = text.rpartition(":")
    bare_ipv6 = ":" in host and not text.startswith("[")
    host = host.removeprefix("[").removesuffix("]") if text.startswith("[") else host
    try:
        host.encode("idna")
        usable = not bare_ipv6 and port.isdecimal() and int(port) <= MAX_PORT
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("is not an address such as :10133, 127.0.0.1:10133 or [::1]:10133")
    return Address(host, int(port))


def switch(text: str) -> bool:
    """Read a yes or no."""
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off"}:
        return False
    raise ValueError("is neither true nor false")


def one_of(choices: tuple[str, ...], text: str) -> str:
    """Read one of some words."""
    if text.lower() not in choices:
        raise ValueError(f"is none of {', '.join(choices)}")
    return text.lower()


def matching(pattern: str, what: str, text: str) -> str:
    """Read a text that matches a pattern."""
    if not re.fullmatch(pattern, text, re.ASCII):
        raise ValueError(f"is not a {what}")
    return encodable(text)


def label(text: str) -> tuple[str, str]:
    """Read a label for series, `name=value`."""
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"(?!__)[a-zA-Z_]\w*", name, re.ASCII):
        raise ValueError("is not a label such as job=borgbase")
    if name in OWN_LABELS:
        raise ValueError("is one of the series' own labels")
    return name, encodable(value)


def ca_file(text: str) -> str:
    """Read the path of a file that contains certificates."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(text)
    except ssl.SSLError:
        raise ValueError("contains no PEM certificate") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    return text


def given_token(text: str) -> GivenToken:
    """Read a token; unlike that of a file, it cannot become valid later."""
    token = GivenToken("BORGBASE_TOKEN", text)
    token.read()
    return token


def token_folder(text: str) -> TokenFolder:
    """Read the path of a token folder, which must exist; its files may appear later."""
    folder = TokenFolder(Path(text))
    folder.sources()
    return folder


def textfile_path(text: str) -> Path:
    """Read the path of a file for node_exporter, in a folder that exists."""
    if not text.endswith(".prom"):
        raise ValueError("does not end in .prom, and node_exporter reads no other files")
    try:
        path = Path(text).resolve()  # a link stays, and its target is replaced
    except (OSError, RuntimeError):
        raise ValueError("is a link to nothing") from None
    if not path.parent.is_dir():
        raise ValueError("is in a folder that does not exist")
    return path


def url(text: str, what: str = "a URL such as https://host/path", *, password: bool = False) -> str:
    """Read the address of a page."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not re.fullmatch(r"[!-~]+", text):
        raise ValueError(f"is not {what}")
    if parts.username is not None and not password:
        raise ValueError("must not contain a user or password")
    return text


def api_url(text: str) -> str:
    """Read the API's address: https, or http to this machine."""
    if url(text).startswith("http:") and not is_loopback(text):
        raise ValueError("must be https: http would send the token unencrypted")
    return text


def is_loopback(url: str) -> bool:
    """Return whether a URL leads to this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_HOST = r"[\w.-]+|\[[\da-f:.]+\]", "host name such as exporter.example.org, without a port"
_PROXY = "the URL of an HTTP proxy such as http://proxy:3128"

Duration = Annotated[float, Reader(duration, "DURATION")]
Interval = Annotated[float, Reader(partial(duration, shortest=1), "DURATION")]
AnyDuration = Annotated[float, Reader(partial(duration, longest=float("inf")), "DURATION")]
Moment = Annotated[datetime | timedelta, Reader(moment, "MOMENT")]
Size = Annotated[int, Reader(size, "SIZE")]
ListenAddress = Annotated[Address, Reader(address, "HOST:PORT")]
HostName = Annotated[str, Reader(lambda text: matching(*_HOST, text.lower()), "HOST")]
Label = Annotated[tuple[str, str], Reader(label, "NAME=VALUE")]
Name = Annotated[str, Reader(partial(matching, r"(?s).*\S.*", "name"), "NAME")]
URLPath = Annotated[
    str, Reader(partial(matching, r"/(?!-/)[\w.~/-]+", "path such as /metrics"), "PATH")
]
CAFile = Annotated[str, Reader(ca_file, "FILE")]
Textfile = Annotated[Path, Reader(textfile_path, "PATH")]
Token = Annotated[GivenToken, Reader(given_token, "")]
File = Annotated[TokenFile, Reader(lambda text: TokenFile(Path(text)), "FILE")]
Folder = Annotated[TokenFolder, Reader(token_folder, "FOLDER")]
WebConfigFile = Annotated[WebConfig, Reader(lambda text: webfile.read(Path(text)), "FILE")]
URL = Annotated[str, Reader(url, "URL")]
APIURL = Annotated[str, Reader(api_url, "URL")]
ProxyURL = Annotated[str, Reader(partial(url, what=_PROXY, password=True), "URL")]
SecretURL = Annotated[str, Reader(partial(url, password=True), "URL")]
