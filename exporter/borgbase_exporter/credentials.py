"""Tokens: where they live, what may be read off them, and how they stay secret."""

from __future__ import annotations

import base64
import binascii
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from borgbase_exporter.errors import TokenError
from borgbase_exporter.text import shown


class TokenSource(Protocol):
    """Where an account's token comes from."""

    @property
    def origin(self) -> str:
        """The place in words, for people."""

    def read(self) -> str:
        """Return the token; raise TokenError when there is none to be had."""


@dataclass(frozen=True, slots=True)
class GivenToken:
    """A token that was handed over as such."""

    origin: str
    secret: str = field(repr=False)

    def read(self) -> str:
        """Return the token; raise TokenError when it cannot be one."""
        return _checked(self.secret, self.origin)


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A token in a file, read anew each time, so that rotation needs no restart."""

    path: Path

    @property
    def origin(self) -> str:
        """The file's path."""
        return shown(str(self.path))

    def read(self) -> str:
        """Return the file's token; raise TokenError when there is none."""
        try:
            content = self.path.read_text("utf-8")
        except OSError as error:
            raise TokenError(f"{self.origin}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise TokenError(f"{self.origin}: not a text file") from None
        return _checked(content, self.origin)

    @property
    def exposed(self) -> bool:
        """Whether others than the owner may read the file."""
        try:
            mode = self.path.stat().st_mode
        except OSError:
            return False
        return bool(mode & (stat.S_IRGRP | stat.S_IROTH))


class AccountTokens(Protocol):
    """Which accounts there are, and where the token of each is."""

    def sources(self) -> dict[str, TokenSource]:
        """Return the token source of each account; raise TokenError when that cannot be told."""


@dataclass(frozen=True, slots=True)
class OneToken:
    """The one account of a token."""

    account: str
    source: TokenSource

    def sources(self) -> dict[str, TokenSource]:
        """Return the one source."""
        return {self.account: self.source}


@dataclass(frozen=True, slots=True)
class TokenFolder:
    """A folder with a token file per account, the file's name being the account.

    This is what a mounted Kubernetes Secret looks like: links into a folder `..data`, so names
    that start with a dot are left out. Files may come and go.
    """

    path: Path

    def sources(self) -> dict[str, TokenSource]:
        """Return the files by account; raise TokenError when the folder cannot be read."""
        try:
            return {
                shown(path.name): TokenFile(path)
                for path in sorted(self.path.iterdir())
                if not path.name.startswith(".") and _is_file(path)
            }
        except OSError as error:
            raise TokenError(f"{shown(str(self.path))}: {error.strerror}") from None


def _is_file(path: Path) -> bool:
    """Tell whether a link's end is a file; unlike Path.is_file, raise where that is unknown."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False


def expiration(token: str) -> float | None:
    """Return the `exp` claim of a token that is a JWT (RFC 7519), as a Unix timestamp.

    Nothing is verified and nothing proven: BorgBase's tokens look like JWTs, and that is all.
    """
    try:
        _header, payload, _signature = token.split(".")
        padded = payload + "=" * (-len(payload) % 4)
        claims = _CLAIMS.decode(base64.urlsafe_b64decode(padded))
    except (binascii.Error, ValueError, RecursionError, msgspec.DecodeError):
        return None
    return claims.exp


class _Claims(msgspec.Struct):
    exp: float | None = None


_CLAIMS = msgspec.json.Decoder(_Claims)
"""Made once, by one thread: msgspec is not safe while it works a new type out."""


def _checked(content: str, origin: str) -> str:
    token = content.strip()
    if not token:
        raise TokenError(f"{origin}: is empty")
    if not token.isascii() or not token.isprintable() or " " in token:
        # Such a value cannot be sent in a header; say so before a library quotes it.
        raise TokenError(
            f"{origin}: holds what no token does: a space, a line break, a letter with an accent"
        )
    return token
