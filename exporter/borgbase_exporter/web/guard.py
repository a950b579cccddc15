"""Who may pass: HTTP basic authentication (RFC 7617) against bcrypt hashes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import hmac
import secrets
from collections.abc import Mapping

import bcrypt

from borgbase_exporter.web.aside import aside


class Guard:
    """Admits the users that give their password.

    A check of a hash is slow on purpose, so it runs beside the event loop, and the last good
    password of a user is remembered by a keyed digest of user, hash and password, each with its
    length: no two different triples give the same digest. An unknown user is checked against a
    decoy, so that the time does not tell which users there are.
    """

    def __init__(self, users: Mapping[str, bytes]) -> None:
        self._users = {name.encode(): hashed for name, hashed in users.items()}
        self._key = secrets.token_bytes(32)
        self._admitted: dict[bytes, bytes] = {}
        cost = max((int(hashed.split(b"$")[2]) for hashed in self._users.values()), default=4)
        self._decoy = b"$2b$%02d$" % cost + b"." * 53
        self._turn = asyncio.Lock()

    async def admits(self, authorization: str) -> bool:
        """Tell whether an Authorization header holds a user and that user's password."""
        given = _credentials(authorization)
        if given is None:
            return False
        user, password = given
        hashed = self._users.get(user, self._decoy)
        digest = self._digest(user, hashed, password)
        if hmac.compare_digest(self._admitted.get(user, b""), digest):
            return True
        async with self._turn:
            matches = await aside("bcrypt", functools.partial(_matches, password, hashed))
        if matches and user in self._users:
            self._admitted[user] = digest
            return True
        return False

    def _digest(self, *parts: bytes) -> bytes:
        message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self._key, message, "sha256")


def _credentials(authorization: str) -> tuple[bytes, bytes] | None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


def _matches(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password, hashed)
    except ValueError:  # longer than the 72 bytes that bcrypt looks at, or with a NUL
        return False
