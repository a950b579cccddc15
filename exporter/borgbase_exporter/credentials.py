"""Tokens: where they live, what may be read off them, and how they stay secret."""

from __future__ import annotations

import base64
import binascii
import os
import re
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
            content = self.path.read_text("utf-8-sig")
        except IsADirectoryError:
            raise TokenError(
                f"{self.origin}: is a folder; one of token files is given by --token.dir"
            ) from None
        except OSError as error:
            raise TokenError(f"{self.origin}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise TokenError(f"{self.origin}: not a text file in UTF-8") from None
        return _checked(content, self.origin)

    @property
    def exposed(self) -> bool:
        """Whether others may read the file; its group may, if that is how we read it ourselves."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        needless = stat.S_IROTH | (stat.S_IRGRP if found.st_uid == os.geteuid() else 0)
        return stat.S_ISREG(found.st_mode) and bool(found.st_mode & needless)

    @property
    def stray(self) -> bool:
        """Whether the file's name is one that editors and packages leave behind."""
        return bool(_STRAY.fullmatch(self.path.name))

    @property
    def extended(self) -> bool:
        """Whether the file's name ends as files do, and accounts hardly."""
        return self.path.suffix.lower() in {".jwt", ".secret", ".token", ".txt"}


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
        """Return the files by account; raise TokenError when that cannot be told."""
        try:
            files = [
                TokenFile(path)
                for path in sorted(self.path.iterdir())
                if not path.name.startswith(".") and _is_file(path)
            ]
        except NotADirectoryError:
            raise TokenError(
                f"{self.origin}: is no folder; a single token file is given by --token.file"
            ) from None
        except OSError as error:
            raise TokenError(f"{self.origin}: {error.strerror}") from None
        sources: dict[str, TokenSource] = {}
        for file in files:
            account = shown(file.path.name)
            if account in sources:  # their names are not UTF-8, and differ in that alone
                raise TokenError(f"{self.origin}: two files are called {account}; rename one")
            sources[account] = file
        return sources

    @property
    def origin(self) -> str:
        """The folder's path."""
        return shown(str(self.path))

    @property
    def exposed(self) -> bool:
        """Whether others may put files here; a mounted Secret looks so, but is read-only."""
        try:
            read_only = os.statvfs(self.path).f_flag & os.ST_RDONLY
            return not read_only and bool(self.path.stat().st_mode & stat.S_IWOTH)
        except OSError:
            return False


_STRAY = re.compile(
    r".*~|#.*#|README.*|.*\.(?:bak|example|md|old|orig|rej|save|swp|tmp|dpkg-\w+|rpm\w+)",
    re.IGNORECASE,
)


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


_MISTAKES = {
    r"(export\s+)?[A-Z_]\w*\s*=\s*[^\s=].*": "an assignment",
    r"""["'].*|.*["']""": "quotes",
    r"(Authorization:\s*)?(Bearer|Token)[\s:].*": 'the word "Bearer"',
    r"(~?|\.{1,2})/.*": "a path, which belongs into BORGBASE_TOKEN_FILE",
    r"\{.*|<.*": "JSON, a placeholder or the like",
    r".*\n.*": "more than one line",
    r".*\s.*": "a space",
}
"""What people put where a token belongs."""


def _checked(content: str, origin: str) -> str:
    token = content.strip()
    if not token:
        raise TokenError(f"{origin}: is empty")
    for pattern, what in _MISTAKES.items():
        if re.fullmatch(pattern, token, re.DOTALL | re.IGNORECASE):
            raise TokenError(f"{origin}: holds {what}; give the token alone")
    if not token.isascii() or not token.isprintable():
        # Such a value cannot be sent in a header; say so before a library quotes it.
        raise TokenError(
            f"{origin}: holds what no token does: a letter with an accent, an unprintable character"
        )
    return token
