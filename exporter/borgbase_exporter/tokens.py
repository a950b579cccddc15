"""Tokens: where they live, what can be read from them, and how they stay secret."""

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
from borgbase_exporter.text import encodable

MAX_FILE = 64 * 1024
"""Bytes of a token file; a token has about 300."""


class TokenSource(Protocol):
    """Where an account's token comes from."""

    @property
    def origin(self) -> str:
        """The place in words, for people."""

    @property
    def exposed(self) -> bool:
        """Whether other users can read it without need."""

    def read(self) -> str:
        """Return the token; raise TokenError when there is none."""


@dataclass(frozen=True, slots=True)
class GivenToken:
    """A token by its value."""

    origin: str
    secret: str = field(repr=False)
    exposed: bool = False

    def read(self) -> str:
        """Return the token; raise TokenError when it cannot be one."""
        return _checked(self.secret, self.origin)


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A token in a file, read again each time, so that rotation needs no restart."""

    path: Path

    @property
    def origin(self) -> str:
        """The file's path."""
        return encodable(str(self.path))

    def read(self) -> str:
        """Return the file's token; raise TokenError when there is none. Never blocks."""
        try:
            content = self._content().decode("utf-8-sig")
        except OSError as error:
            raise TokenError(f"{self.origin}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise TokenError(f"{self.origin}: not a text file in UTF-8") from None
        return _checked(content, self.origin)

    def _content(self) -> bytes:
        # Without O_NONBLOCK, opening a named pipe waits for its writer.
        file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            mode = os.fstat(file).st_mode
            if stat.S_ISDIR(mode):
                raise TokenError(f"{self.origin}: is a folder; use --token.dir for token folders")
            if not stat.S_ISREG(mode):
                raise TokenError(f"{self.origin}: not a regular file")
            content = os.read(file, MAX_FILE + 1)
        finally:
            os.close(file)
        if len(content) > MAX_FILE:
            raise TokenError(f"{self.origin}: larger than {MAX_FILE // 1024} KiB, so no token file")
        return content

    @property
    def exposed(self) -> bool:
        """Whether others may read the file; a group may when the exporter reads it as a member."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        needless = stat.S_IROTH | (stat.S_IRGRP if found.st_uid == os.geteuid() else 0)
        return stat.S_ISREG(found.st_mode) and bool(found.st_mode & needless)

    @property
    def extended(self) -> bool:
        """Whether the file's name has an extension, which is unlikely in an account's name."""
        return self.path.suffix.lower() in {".jwt", ".secret", ".token", ".txt"}


@dataclass(frozen=True, slots=True)
class UnusableToken:
    """An account whose token cannot be read, whatever the files contain."""

    origin: str
    problem: str
    exposed: bool = False

    def read(self) -> str:
        """Raise TokenError."""
        raise TokenError(f"{self.origin}: {self.problem}")


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
    """A folder with a token file per account; the name of the file is that of the account.

    A mounted Kubernetes Secret has this form: links into a folder `..data`, so names that start
    with a dot are left out. Files may come and go.
    """

    path: Path

    def sources(self) -> dict[str, TokenSource]:
        """Return the files by account; raise TokenError when the folder cannot be read."""
        try:
            files = sorted(self.path.iterdir())
        except NotADirectoryError:
            raise TokenError(
                f"{self.origin}: not a folder; use --token.file for a single token file"
            ) from None
        except OSError as error:
            raise TokenError(f"{self.origin}: {error.strerror}") from None
        sources: dict[str, TokenSource] = {}
        for file in files:
            account = encodable(file.name)
            if account.startswith(".") or not _may_be_account(file):
                continue
            if account in sources:  # their names are not UTF-8, and differ in that alone
                problem = f"two files are called {account}; rename one"
                sources[account] = UnusableToken(self.origin, problem)
            else:
                sources[account] = TokenFile(file)
        return sources

    @property
    def origin(self) -> str:
        """The folder's path."""
        return encodable(str(self.path))

    @property
    def exposed(self) -> bool:
        """Whether others may put files here; a mounted Secret allows it, but is read-only."""
        try:
            read_only = os.statvfs(self.path).f_flag & os.ST_RDONLY
            return not read_only and bool(self.path.stat().st_mode & stat.S_IWOTH)
        except OSError:
            return False


AccountTokens = OneToken | TokenFolder
"""Which accounts there are, and where the token of each is."""


def _may_be_account(path: Path) -> bool:
    """Return whether an entry is anything but a folder or a link to nothing."""
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # reading it raises the same error, for this account alone


def expiration(token: str) -> float | None:
    """Return the `exp` claim of a token that is a JWT (RFC 7519), as a Unix timestamp.

    The signature is not verified: that BorgBase's tokens are JWTs is not documented.
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
"""Made once, by one thread: building a decoder is not thread-safe in msgspec."""


_MISTAKES = {
    r"(export\s+)?[A-Z_]\w*\s*=\s*[^\s=].*": "an assignment",
    r"""["'].*|.*["']""": "quotes",
    r"(Authorization:\s*)?(Bearer|Token)[\s:].*": 'the word "Bearer"',
    r"(~?|\.{1,2})/.*": "a path, which BORGBASE_TOKEN_FILE is for",
    r"\{.*|<.*": "JSON or a placeholder",
    r".*\n.*": "more than one line",
    r".*\s.*": "a space",
}
"""What is often given in place of a token."""


def _checked(content: str, origin: str) -> str:
    token = content.strip()
    if not token:
        raise TokenError(f"{origin}: is empty")
    for pattern, what in _MISTAKES.items():
        if re.fullmatch(pattern, token, re.DOTALL | re.IGNORECASE):
            raise TokenError(f"{origin}: contains {what}; give the token alone")
    if not token.isascii() or not token.isprintable():
        # Such a value cannot be sent in a header; say so before a library quotes it.
        raise TokenError(f"{origin}: contains a character that no token has")
    return token
