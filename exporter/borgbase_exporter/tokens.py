"""Tokens: where they are stored, what can be read from them, and how they stay secret."""

from __future__ import annotations

import base64
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from borgbase_exporter.errors import TokenError
from borgbase_exporter.text import encodable

MAX_FILE = 64 * 1024  # bytes of a token file; a token has about 300
TOKEN = re.compile(r"(?![.~]*/)[\w.~+/-]+=*", re.ASCII)  # what RFC 6750 allows, but no path


@dataclass(frozen=True, slots=True)
class GivenToken:
    """A token by its value."""

    origin: str  # the place in words, for people
    secret: str = field(repr=False)
    exposed: bool = False

    def read(self) -> str:
        """Return the token; raise TokenError when it cannot be one."""
        token = self.secret.strip()
        if not token:
            raise TokenError(f"{self.origin}: is empty")
        if not TOKEN.fullmatch(token):
            raise TokenError(
                f"{self.origin}: must be only a token: remove quotes, spaces, line breaks, "
                'variable names and "Bearer"; a path belongs in BORGBASE_TOKEN_FILE'
            )
        return token


@dataclass(frozen=True)
class _OnDisk:
    path: Path

    @property
    def origin(self) -> str:
        """The path, as messages show it."""
        return encodable(str(self.path))


class TokenFile(_OnDisk):
    """A token in a file, read again each time, so that rotation needs no restart."""

    def read(self) -> str:
        """Return the file's token; raise TokenError when there is none. Never blocks."""
        try:
            # Without O_NONBLOCK, opening a named pipe waits for its writer.
            file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            try:
                regular = stat.S_ISREG(os.fstat(file).st_mode)
                content = os.read(file, MAX_FILE + 1) if regular else b""
            finally:
                os.close(file)
        except OSError as error:
            raise TokenError(f"{self.origin}: {error.strerror}") from None
        if not regular:
            raise TokenError(f"{self.origin}: not a regular file; --token.dir takes a folder")
        if len(content) > MAX_FILE:
            raise TokenError(f"{self.origin}: larger than {MAX_FILE // 1024} KiB: not a token file")
        try:
            return GivenToken(self.origin, content.decode("utf-8-sig")).read()
        except UnicodeDecodeError:
            raise TokenError(f"{self.origin}: not a text file in UTF-8") from None

    @property
    def exposed(self) -> bool:
        """Whether others may read the file; a group may when the exporter reads it as a member."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        needless = stat.S_IROTH | (stat.S_IRGRP if found.st_uid == os.geteuid() else 0)
        return stat.S_ISREG(found.st_mode) and bool(found.st_mode & needless)


TokenSource = GivenToken | TokenFile  # where an account's token comes from


@dataclass(frozen=True, slots=True)
class OneToken:
    """The one account of a token."""

    account: str
    source: TokenSource

    def sources(self) -> dict[str, TokenSource]:
        """Return the one source."""
        return {self.account: self.source}


class TokenFolder(_OnDisk):
    """A folder with a token file per account; the name of the file is that of the account.

    A mounted Kubernetes Secret has this form: links into a folder `..data`, so names that start
    with a dot are left out. Files may come and go; an unreadable one affects only its own account.
    """

    def sources(self) -> dict[str, TokenSource]:
        """Return the files by account; raise TokenError when the folder cannot be read."""
        try:
            files = sorted(self.path.iterdir())
        except OSError as error:
            raise TokenError(f"{self.origin}: {error.strerror}") from None
        return {
            os.fsencode(file.name).decode(errors="backslashreplace"): TokenFile(file)
            for file in files
            if not file.name.startswith(".") and not os.path.isdir(file)  # noqa: PTH112  # never raises
        }


AccountTokens = OneToken | TokenFolder  # which accounts there are, and their tokens


class _Claims(msgspec.Struct):
    exp: float | None = None


_CLAIMS = msgspec.json.Decoder(_Claims)  # made once: building one is not thread-safe


def expiration(token: str) -> float | None:
    """Return the `exp` claim of a token that is a JWT (RFC 7519), as a Unix timestamp."""
    # The signature is not verified: that BorgBase's tokens are JWTs is not documented.
    try:
        _header, payload, _signature = token.split(".")
        return _CLAIMS.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))).exp
    except (ValueError, RecursionError):  # msgspec's and base64's errors are ValueErrors
        return None
