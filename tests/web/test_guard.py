from __future__ import annotations

import asyncio
import base64

import bcrypt
import pytest

from borgbase_exporter.web.guard import Guard

COST = 4


def hashed(password: str) -> bytes:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(COST))


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Counted:
    """Counts what is really checked, and how costly."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.costs: list[int] = []
        real = bcrypt.checkpw

        def check(password: bytes, hash_: bytes) -> bool:
            self.costs.append(int(hash_.split(b"$")[2]))
            return real(password, hash_)

        monkeypatch.setattr(bcrypt, "checkpw", check)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@pytest.fixture
def guard() -> Guard:
    return Guard({"anna": hashed("apple"), "bob": hashed("pear:with:colons"), "zoë": hashed("é")})


def admits(guard: Guard, *headers: str) -> list[bool]:
    async def ask() -> list[bool]:
        return [await guard.admits(header) for header in headers]

    return asyncio.run(ask())


def test_the_right_password_is_admitted(guard: Guard) -> None:
    headers = (basic("anna", "apple"), basic("bob", "pear:with:colons"), basic("zoë", "é"))
    assert admits(guard, *headers) == [True, True, True]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Bearer " + base64.b64encode(b"anna:apple").decode(),
        basic("anna", ""),
        basic("anna", "Apple"),
        basic("", "apple"),
        basic("bob", "apple"),
        basic("mallory", "apple"),
        basic("anna", "apple\0"),
        basic("anna", "a" * 73),
        basic("anna", "a" * 5000),
    ],
)
def test_anything_else_is_not(guard: Guard, header: str) -> None:
    assert admits(guard, header) == [False]


def test_a_good_password_is_checked_once(guard: Guard, checks: Counted) -> None:
    assert admits(guard, *[basic("anna", "apple")] * 5) == [True] * 5
    assert len(checks.costs) == 1


def test_bad_ones_are_checked_each_time(guard: Guard, checks: Counted) -> None:
    assert admits(guard, *[basic("anna", "wrong")] * 3) == [False] * 3
    assert len(checks.costs) == 3


def test_an_unknown_user_costs_as_much_as_a_known_one(guard: Guard, checks: Counted) -> None:
    admits(guard, basic("anna", "wrong"), basic("mallory", "wrong"))
    assert checks.costs == [COST, COST]


def test_what_was_remembered_of_one_user_does_not_help_another() -> None:
    # With digests of plain concatenations, "a" + hash + "b" could be had in two ways.
    shared = hashed("secret")
    guard = Guard({"user": shared, "user2": shared})
    assert admits(guard, basic("user", "secret")) == [True]
    assert admits(guard, basic("use", "rsecret"), basic("mallory", "secret")) == [False, False]


def test_nothing_of_the_password_is_kept(guard: Guard) -> None:
    admits(guard, basic("anna", "apple"))
    assert all(b"apple" not in kept for kept in guard._admitted.values())
    assert len(guard._admitted) == 1
