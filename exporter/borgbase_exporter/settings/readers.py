"""How the text of a setting is read. A ValueError says what is wrong with the text."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

from borgbase_exporter.text import encodable
from borgbase_exporter.tokens import GivenToken, TokenFolder

YEAR = 31_536_000
MAX_PORT = 65_535
Moment = datetime | timedelta  # a moment, or how long ago it was
_SECONDS = {"y": YEAR, "w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
_DURATION = re.compile("".join(rf"(?:(\d{{1,9}}){unit})?" for unit in _SECONDS), re.ASCII)
_NAME = r"(?:[\w-]{1,63}(?:\.[\w-]{1,63})*)?"
_ADDRESS = re.compile(rf"(?:(?:\[([\w:.%]+)\]|({_NAME})):)?(\d{{1,5}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; no host means all addresses of the machine, port 0 any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def duration(text: str, shortest: float = 0.001) -> float:
    """Read a Prometheus duration (`90s`, `15m`, `1h30m`) as seconds."""
    match = _DURATION.fullmatch(text)
    if not text or not match:
        raise ValueError("is not a duration such as 90s, 15m or 6h")
    amounts = zip(match.groups("0"), _SECONDS.values(), strict=True)
    seconds = float(sum(int(amount) * unit for amount, unit in amounts))
    if not shortest <= seconds <= 100 * YEAR:
        raise ValueError(f"is not between {shortest:g}s and 100y")
    return seconds


def moment(text: str) -> Moment:
    """Read how long ago (`90d`), or when: ISO 8601 (UTC by default) or Unix seconds."""
    try:
        if re.fullmatch(r"\d{9,11}(\.\d+)?", text, re.ASCII):
            return datetime.fromtimestamp(float(text), UTC)
        if _DURATION.fullmatch(text):
            return timedelta(seconds=duration(text))
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
    match = _ADDRESS.fullmatch(text)
    if not match or int(match[3]) > MAX_PORT:
        raise ValueError("is not an address such as :10133, 127.0.0.1:10133 or [::1]:10133")
    return Address(match[1] or match[2] or "", int(match[3]))


def boolean(text: str) -> bool:
    """Read a yes or no."""
    word = matching("1|true|yes|on|0|false|no|off", "true or false", text.lower())
    return word in {"1", "true", "yes", "on"}


def one_of(literal: Any) -> Callable[[str], str]:
    """Return a reader of the words of a Literal, in any case."""
    words = get_args(literal)
    return lambda text: matching("|".join(words), f"one of {', '.join(words)}", text.lower())


def matching(pattern: str, what: str, text: str) -> str:
    """Read a text that matches a pattern."""
    if not re.fullmatch(pattern, text, re.ASCII):
        raise ValueError(f"is not {what}")
    return encodable(text)


interval = partial(duration, shortest=1)
name = partial(matching, r"(?s).*\S.*", "a name")
url_path = partial(matching, r"/(?!-/)[\w.~/-]+", "a path such as /metrics")


def host(text: str) -> str:
    """Read the name or address of a host, in lower case."""
    what = "a host name such as exporter.example.org, without a port"
    return matching(r"[\w.-]+|\[[\da-f:.]+\]", what, text.lower())


def label(text: str) -> tuple[str, str]:
    """Read a label for series, `name=value`."""
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"(?!__)[a-zA-Z_]\w*", name, re.ASCII):
        raise ValueError("is not a label such as job=borgbase")
    if name in {"account", "repo_id", "repo"}:
        raise ValueError("is a label that the series already have")
    return name, encodable(value)


def pem(text: str) -> str:
    """Read the path of a file that contains certificates."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(text)
    except OSError as error:
        reason = "no PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise ValueError(f"is not a file of certificates: {reason}") from None
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


def textfile(text: str) -> Path:
    """Read the path of a file for node_exporter, in a folder that exists."""
    if not text.endswith(".prom"):
        raise ValueError("does not end in .prom, and node_exporter reads no other files")
    path = Path(os.path.realpath(text))  # a link stays, and its target is replaced
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


secret_url = partial(url, password=True)
proxy_url = partial(secret_url, what="the URL of an HTTP proxy such as http://proxy:3128")


def api_url(text: str) -> str:
    """Read the API's address: https, or http to this machine."""
    if url(text).startswith("http:") and not is_loopback(text):
        raise ValueError("must be https: http would send the token unencrypted")
    return text


def is_loopback(url: str) -> bool:
    """Return whether a URL leads to this machine."""
    return bool(re.fullmatch(r"localhost|127(\.\d+){3}|::1", urlsplit(url).hostname or ""))
