from __future__ import annotations

import asyncio
import base64
import threading

import bcrypt
import pytest

from borgbase_exporter.web.auth import MAX_CHECKS, MAX_CHECKS_PER_CLIENT, BasicAuth

COST = 4
PATIENCE = 20.0


def hashed(password: str) -> bytes:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(COST))


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


GOOD, CLIENT = basic("anna", "apple"), "192.0.2.1"


class Checks:
    """Records the passwords that bcrypt checks and their cost; can hold up the checks."""

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


def admits(auth: BasicAuth, *headers: str) -> list[bool | None]:
    async def ask() -> list[bool | None]:
        return [await auth.admits(header, CLIENT, lambda: False) for header in headers]

    return asyncio.run(ask())


def test_the_right_password_is_admitted(auth: BasicAuth) -> None:
    headers = (GOOD, basic("bob", "pear:with:colons"), basic("zoë", "é"))
    assert admits(auth, *headers) == [True, True, True]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic !!!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        GOOD.replace("Basic", "Bearer"),
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


def test_good_passwords_are_checked_once_bad_ones_always(auth: BasicAuth, checks: Checks) -> None:
    assert admits(auth, *[GOOD] * 5) == [True] * 5
    assert admits(auth, *[basic("anna", "wrong")] * 3) == [False] * 3
    assert len(checks.costs) == 1 + 3


def test_an_unknown_user_costs_as_much_as_a_known_one(auth: BasicAuth, checks: Checks) -> None:
    admits(auth, basic("anna", "wrong"), basic("mallory", "wrong"))
    assert checks.costs == [COST, COST]


def test_what_was_remembered_of_one_user_does_not_help_another() -> None:
    # With digests of plain concatenations, "a" + hash + "b" could arise in two ways.
    shared = hashed("secret")
    auth = BasicAuth({"user": shared, "user2": shared})
    assert admits(auth, basic("user", "secret")) == [True]
    assert admits(auth, basic("use", "rsecret"), basic("mallory", "secret")) == [False, False]


def test_an_unchanged_hash_keeps_its_admission(checks: Checks) -> None:
    kept, changed = hashed("apple"), hashed("pear")
    auth = BasicAuth({"anna": kept, "bob": changed, "eve": kept})
    headers = [GOOD, basic("bob", "pear"), basic("eve", "apple")]
    assert admits(auth, *headers) == [True] * 3
    auth.configure({"anna": kept, "bob": hashed("plum")})
    checks.passwords.clear()
    assert admits(auth, *headers) == [True, False, False]
    assert b"apple" not in checks.passwords[:-1]


def flooded(
    auth: BasicAuth, checks: Checks, *others: tuple[str, str], leaves: bool = False
) -> tuple[list[bool | None], list[bool | None]]:
    """Hold up the checks while a client guesses; return the verdicts on it and on the others."""
    gone = threading.Event()

    async def ask() -> tuple[list[bool | None], list[bool | None]]:
        checks.passwords.clear()
        checks.go.clear()
        checks.begun.clear()
        guesses = [
            asyncio.create_task(auth.admits(basic("anna", f"guess {number}"), CLIENT, gone.is_set))
            for number in range(500)
        ]
        await asyncio.to_thread(checks.begun.wait, PATIENCE)
        if leaves:
            gone.set()
        later = [asyncio.create_task(auth.admits(*other, lambda: False)) for other in others]
        await asyncio.sleep(0)
        checks.go.set()
        return await asyncio.gather(*guesses), await asyncio.gather(*later)

    return asyncio.run(ask())


def test_a_flood_of_guesses_is_bounded(auth: BasicAuth, checks: Checks) -> None:
    guesses, _ = flooded(auth, checks)
    assert guesses.count(None) >= 500 - 1 - MAX_CHECKS_PER_CLIENT
    assert guesses.count(True) == 0
    assert len(checks.passwords) <= 1 + MAX_CHECKS_PER_CLIENT


def test_a_flood_does_not_delay_admitted_users(auth: BasicAuth, checks: Checks) -> None:
    assert admits(auth, GOOD) == [True]
    assert flooded(auth, checks, (GOOD, CLIENT))[1] == [True]
    assert b"apple" not in checks.passwords


def test_another_client_is_next_in_turn(auth: BasicAuth, checks: Checks) -> None:
    assert flooded(auth, checks, (GOOD, "192.0.2.9"))[1] == [True]
    assert checks.passwords.index(b"apple") <= 2


def test_all_addresses_of_an_ipv6_network_are_one_client(auth: BasicAuth, checks: Checks) -> None:
    network = [(basic("anna", "?"), f"2001:db8::{number:x}") for number in range(1, 100)]
    _, others = flooded(auth, checks, *network)
    assert others.count(False) == MAX_CHECKS_PER_CLIENT


def test_clients_are_bounded_and_keep_nobody_out(auth: BasicAuth, checks: Checks) -> None:
    crowd = [(basic("anna", "?"), f"198.51.100.{number % 5}") for number in range(100)]
    _, others = flooded(auth, checks, *crowd, (GOOD, "203.0.113.1"))
    assert others[-1] is True
    assert len(checks.passwords) <= 1 + MAX_CHECKS


def test_a_client_that_has_gone_is_not_checked(auth: BasicAuth, checks: Checks) -> None:
    assert flooded(auth, checks, (GOOD, CLIENT), leaves=True)[1] == [True]
    assert len(checks.passwords) == 2


def test_without_threads_there_is_no_room(auth: BasicAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        assert admits(auth, GOOD) == [None]
    assert admits(auth, GOOD) == [True]
