from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable

import bcrypt
import pytest

from borgbase_exporter.web.auth import MAX_CHECKS, MAX_CHECKS_PER_CLIENT, BasicAuth

COST = 4
PATIENCE = 20.0


def hashed(password: str) -> bytes:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(COST))


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Checks:
    """What is really checked, and how costly; can be held up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.costs: list[int] = []
        self.passwords: list[bytes] = []
        self.begun = threading.Event()
        self.go = threading.Event()
        self.go.set()
        real = bcrypt.checkpw

        def check(password: bytes, hash_: bytes) -> bool:
            self.costs.append(int(hash_.split(b"$")[2]))
            self.passwords.append(password)
            self.begun.set()
            assert self.go.wait(PATIENCE)
            return real(password, hash_)

        monkeypatch.setattr(bcrypt, "checkpw", check)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    return Checks(monkeypatch)


@pytest.fixture
def auth() -> BasicAuth:
    return BasicAuth(
        {"anna": hashed("apple"), "bob": hashed("pear:with:colons"), "zoë": hashed("é")}
    )


async def asked(
    auth: BasicAuth,
    header: str,
    client: str = "192.0.2.1",
    gone: Callable[[], bool] = lambda: False,
) -> bool | None:
    return await auth.admits(header, client, gone)


def admits(auth: BasicAuth, *headers: str) -> list[bool | None]:
    async def ask() -> list[bool | None]:
        return [await asked(auth, header) for header in headers]

    return asyncio.run(ask())


def test_the_right_password_is_admitted(auth: BasicAuth) -> None:
    headers = (basic("anna", "apple"), basic("bob", "pear:with:colons"), basic("zoë", "é"))
    assert admits(auth, *headers) == [True, True, True]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic !!!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Bearer " + base64.b64encode(b"anna:apple").decode(),
        basic("anna", ""),
        basic("anna", "Apple"),
        basic("bob", "apple"),
        basic("mallory", "apple"),
        basic("anna", "apple\0"),
        basic("anna", "a" * 73),
    ],
)
def test_anything_else_is_not(auth: BasicAuth, header: str) -> None:
    assert admits(auth, header) == [False]


def test_a_good_password_is_checked_once_and_bad_ones_each_time(
    auth: BasicAuth, checks: Checks
) -> None:
    assert admits(auth, *[basic("anna", "apple")] * 5) == [True] * 5
    assert admits(auth, *[basic("anna", "wrong")] * 3) == [False] * 3
    assert len(checks.costs) == 1 + 3


def test_an_unknown_user_costs_as_much_as_a_known_one(auth: BasicAuth, checks: Checks) -> None:
    admits(auth, basic("anna", "wrong"), basic("mallory", "wrong"))
    assert checks.costs == [COST, COST]


def test_what_was_remembered_of_one_user_does_not_help_another() -> None:
    # With digests of plain concatenations, "a" + hash + "b" could be had in two ways.
    shared = hashed("secret")
    auth = BasicAuth({"user": shared, "user2": shared})
    assert admits(auth, basic("user", "secret")) == [True]
    assert admits(auth, basic("use", "rsecret"), basic("mallory", "secret")) == [False, False]


def test_an_unchanged_hash_keeps_its_admission(checks: Checks) -> None:
    kept, changed = hashed("apple"), hashed("pear")
    auth = BasicAuth({"anna": kept, "bob": changed, "eve": kept})
    headers = [basic("anna", "apple"), basic("bob", "pear"), basic("eve", "apple")]
    assert admits(auth, *headers) == [True] * 3
    auth.configure({"anna": kept, "bob": hashed("plum")})
    checks.passwords.clear()
    assert admits(auth, *headers) == [True, False, False]
    assert b"apple" not in checks.passwords[:-1]


def flooded(
    auth: BasicAuth,
    checks: Checks,
    after: Callable[[], list[asyncio.Task[bool | None]]],
    gone: Callable[[], bool] = lambda: False,
) -> tuple[list[bool | None], list[bool | None]]:
    """Hold up the checks while a client guesses; return the verdicts on it and on the others."""

    async def ask() -> tuple[list[bool | None], list[bool | None]]:
        checks.go.clear()
        checks.begun.clear()
        guesses = [
            asyncio.create_task(asked(auth, basic("anna", f"guess {number}"), gone=gone))
            for number in range(500)
        ]
        await asyncio.to_thread(checks.begun.wait, PATIENCE)
        others = after()
        await asyncio.sleep(0)
        checks.go.set()
        return await asyncio.gather(*guesses), await asyncio.gather(*others)

    return asyncio.run(ask())


def test_a_flood_of_guesses_is_bounded(auth: BasicAuth, checks: Checks) -> None:
    guesses, _ = flooded(auth, checks, list)
    assert guesses.count(None) >= 500 - 1 - MAX_CHECKS_PER_CLIENT
    assert guesses.count(True) == 0
    assert len(checks.passwords) <= 1 + MAX_CHECKS_PER_CLIENT


def test_a_flood_does_not_delay_who_is_admitted(auth: BasicAuth, checks: Checks) -> None:
    good = basic("anna", "apple")
    assert admits(auth, good) == [True]
    checks.passwords.clear()
    flooded(auth, checks, lambda: [asyncio.create_task(asked(auth, good))])
    assert b"apple" not in checks.passwords


def test_another_client_is_next_in_turn(auth: BasicAuth, checks: Checks) -> None:
    good = basic("anna", "apple")
    _, others = flooded(auth, checks, lambda: [asyncio.create_task(asked(auth, good, "192.0.2.9"))])
    assert others == [True]
    assert checks.passwords.index(b"apple") <= 2


def test_all_addresses_of_an_ipv6_network_are_one_client(auth: BasicAuth, checks: Checks) -> None:
    def many() -> list[asyncio.Task[bool | None]]:
        clients = [f"2001:db8::{number:x}" for number in range(1, 100)]
        return [asyncio.create_task(asked(auth, basic("anna", "?"), c)) for c in clients]

    _, others = flooded(auth, checks, many)
    assert others.count(False) == MAX_CHECKS_PER_CLIENT


def test_many_clients_together_are_bounded_but_keep_nobody_out(
    auth: BasicAuth, checks: Checks
) -> None:
    def many() -> list[asyncio.Task[bool | None]]:
        crowd = [f"198.51.100.{number % 5}" for number in range(100)]
        made = [asyncio.create_task(asked(auth, basic("anna", "?"), c)) for c in crowd]
        return [*made, asyncio.create_task(asked(auth, basic("anna", "apple"), "203.0.113.1"))]

    _, others = flooded(auth, checks, many)
    assert others[-1] is True
    assert len(checks.passwords) <= 1 + MAX_CHECKS


def test_who_has_gone_is_not_checked(auth: BasicAuth, checks: Checks) -> None:
    gone = threading.Event()

    def leave() -> list[asyncio.Task[bool | None]]:
        gone.set()
        return [asyncio.create_task(asked(auth, basic("anna", "apple")))]

    assert flooded(auth, checks, leave, gone.is_set)[1] == [True]
    assert len(checks.passwords) == 2


def test_without_threads_there_is_no_room(auth: BasicAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        assert admits(auth, basic("anna", "apple")) == [None]
    assert admits(auth, basic("anna", "apple")) == [True]
