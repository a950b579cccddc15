"""HTTP basic authentication (RFC 7617) against bcrypt hashes."""

from __future__ import annotations

import asyncio
import base64
import bisect
import contextlib
import functools
import hmac
import ipaddress
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import bcrypt

from borgbase_exporter.threads import in_thread

Test = Callable[[], bool]
MAX_CHECKS = 24  # passwords waiting for a check, which takes up to a quarter of a second
MAX_CHECKS_PER_CLIENT = 8
NETWORK = 8  # bytes of an address that identify a client, who has a whole /64 network of IPv6


@dataclass(frozen=True, slots=True)
class _Check:
    """A password check that waits; `turn` is the number of the client's checks before it."""

    turn: int
    client: bytes
    gone: Test
    matches: Test
    result: asyncio.Future[bool | None]

    def end(self, result: bool | None) -> None:  # noqa: FBT001  # the value, not an option
        if not self.result.done():  # unless the request was cancelled
            self.result.set_result(result)


class BasicAuth:
    """Admits users by their passwords.

    bcrypt is slow on purpose, so checks run in a thread, one at a time and in turns by client. A
    user's last good password is remembered by a keyed digest of user, hash and password. An unknown
    user is checked against a decoy, so that the time does not reveal which users there are.
    """

    def __init__(self, users: Mapping[str, bytes]) -> None:
        self._key = secrets.token_bytes(32)
        self._admitted, self._waiting = dict[bytes, bytes](), list[_Check]()
        self._worker: asyncio.Task[None] | None = None
        self.configure(users)

    def configure(self, users: Mapping[str, bytes]) -> None:
        """Admit these users from now on; without any, everybody."""
        # Admitted users stay admitted while their hash, a part of the digest, is the same.
        self._users = {name.encode(): hashed for name, hashed in users.items()}
        cost = max((int(hashed.split(b"$")[2]) for hashed in self._users.values()), default=4)
        self._decoy = b"$2b$%02d$" % cost + b"." * 53

    async def admits(self, authorization: str, client: str, gone: Test) -> bool | None:
        """Return whether an Authorization header holds a user's password; None if too many wait."""
        if not self._users:
            return True
        if (given := _credentials(authorization)) is None:
            return False
        user, password = given
        hashed = self._users.get(user, self._decoy)
        digest = hmac.digest(self._key, repr((user, hashed, password)).encode(), "sha256")
        if hmac.compare_digest(self._admitted.get(user, b""), digest):
            return True
        matches = functools.partial(bcrypt.checkpw, password, hashed)
        if good := await self._checked(_network(client), gone, matches):
            self._admitted[user] = digest
        return good

    async def _checked(self, client: bytes, gone: Test, matches: Test) -> bool | None:
        for check in [check for check in self._waiting if check.gone()]:
            self._waiting.remove(check)
            check.end(False)
        turn = sum(check.client == client for check in self._waiting)
        if turn >= MAX_CHECKS_PER_CLIENT:
            return None
        check = _Check(turn, client, gone, matches, asyncio.get_running_loop().create_future())
        bisect.insort(self._waiting, check, key=lambda check: check.turn)
        if len(self._waiting) > MAX_CHECKS:
            self._waiting.pop().end(None)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await check.result

    async def _work(self) -> None:
        while self._waiting:
            check = self._waiting.pop(0)
            try:
                check.end(not check.gone() and await in_thread("bcrypt", check.matches))
            except RuntimeError:  # the system has no thread left
                check.end(None)
            except ValueError:  # longer than the 72 bytes that bcrypt looks at, or with a NUL
                check.end(False)


def _credentials(authorization: str) -> tuple[bytes, bytes] | None:
    scheme, _, encoded = authorization.partition(" ")
    with contextlib.suppress(ValueError):  # not base64
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        if colon and scheme.lower() == "basic":
            return user, password
    return None


def _network(client: str) -> bytes:
    """Return the common prefix of all addresses that a client can have."""
    address = ipaddress.ip_address(client.partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).packed[:NETWORK]
