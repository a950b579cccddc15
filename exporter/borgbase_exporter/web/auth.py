"""HTTP basic authentication (RFC 7617) against bcrypt hashes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import hmac
import ipaddress
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import bcrypt

from borgbase_exporter.threads import in_thread

MAX_CHECKS = 24
"""Passwords that wait to be checked: a check takes up to a quarter of a second."""
MAX_CHECKS_PER_CLIENT = 8
IPV6_NETWORK = 64
"""Bits of an IPv6 address that tell clients apart: a client has all of the addresses beyond."""


class BusyError(Exception):
    """Too many passwords wait to be checked already."""


@dataclass(eq=False, slots=True)
class _Check:
    password: bytes
    hashed: bytes
    gone: Callable[[], bool]
    result: asyncio.Future[bool]

    def end(self, error: BusyError | None = None, *, matches: bool = False) -> None:
        if self.result.done():
            return  # cancelled
        if error:
            self.result.set_exception(error)
        else:
            self.result.set_result(matches)


class BasicAuth:
    """Admits users by their passwords.

    bcrypt is slow on purpose, so checks run in a thread, one at a time and in turns by client. A
    user's last good password is remembered by a keyed digest of user, hash and password, each with
    its length: no two different triples give the same digest. An unknown user is checked against
    a decoy, so that the time does not tell which users there are.
    """

    def __init__(self, users: Mapping[str, bytes]) -> None:
        self._key = secrets.token_bytes(32)
        self._admitted: dict[bytes, bytes] = {}
        self._waiting: dict[str, deque[_Check]] = {}
        self._worker: asyncio.Task[None] | None = None
        self.configure(users)

    def configure(self, users: Mapping[str, bytes]) -> None:
        """Admit these users from now on; without any, everybody."""
        # Who was admitted remains so while the hash, which is part of the digest, is the same.
        self._users = {name.encode(): hashed for name, hashed in users.items()}
        cost = max((int(hashed.split(b"$")[2]) for hashed in self._users.values()), default=4)
        self._decoy = b"$2b$%02d$" % cost + b"." * 53

    async def admits(self, authorization: str, client: str, gone: Callable[[], bool]) -> bool:
        """Return whether an Authorization header holds a user and that user's password.

        `gone` says whether the client is no longer there. Raises BusyError.
        """
        if not self._users:
            return True
        given = _credentials(authorization)
        if given is None:
            return False
        user, password = given
        hashed = self._users.get(user, self._decoy)
        digest = self._digest(user, hashed, password)
        if hmac.compare_digest(self._admitted.get(user, b""), digest):
            return True
        matches = await self._checked(_network(client), password, hashed, gone)
        if matches and self._users.get(user) == hashed:
            self._admitted[user] = digest
            return True
        return False

    def _digest(self, *parts: bytes) -> bytes:
        message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self._key, message, "sha256")

    async def _checked(
        self, client: str, password: bytes, hashed: bytes, gone: Callable[[], bool]
    ) -> bool:
        self._make_room(client)
        check = _Check(password, hashed, gone, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(client, deque()).append(check)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await check.result

    def _make_room(self, client: str) -> None:
        """Drop clients that have gone, then the last one of the address with the most."""
        for address, checks in list(self._waiting.items()):
            for check in [c for c in checks if c.gone()]:
                checks.remove(check)
                check.end(matches=False)
            if not checks:
                del self._waiting[address]
        own = len(self._waiting.get(client, ()))
        if own >= MAX_CHECKS_PER_CLIENT:
            raise BusyError
        if sum(map(len, self._waiting.values())) >= MAX_CHECKS:
            longest = max(self._waiting.values(), key=len)
            if len(longest) <= own + 1:
                raise BusyError
            longest.pop().end(BusyError())

    async def _work(self) -> None:
        """Check what waits, a client's turn after the other."""
        while self._waiting:
            client, checks = next(iter(self._waiting.items()))
            del self._waiting[client]
            check = checks.popleft()
            if checks:
                self._waiting[client] = checks
            if check.gone():
                check.end(matches=False)
                continue
            work = functools.partial(_matches, check.password, check.hashed)
            try:
                check.end(matches=await in_thread("bcrypt", work))
            except RuntimeError:  # the system has no thread left
                check.end(BusyError())


def _credentials(authorization: str) -> tuple[bytes, bytes] | None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


def _network(client: str) -> str:
    """Return what stands for all addresses that a client can have."""
    if ":" not in client or "." in client:
        return client
    network = ipaddress.IPv6Network((client.partition("%")[0], IPV6_NETWORK), strict=False)
    return str(network.network_address)


def _matches(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password, hashed)
    except ValueError:  # longer than the 72 bytes that bcrypt looks at, or with a NUL
        return False
