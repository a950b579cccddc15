from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from borgbase_exporter.credentials import (
    GivenToken,
    OneToken,
    TokenFile,
    TokenFolder,
    expiration,
)
from borgbase_exporter.errors import TokenError
from tests.canary import CANARY


def jwt(payload: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    return f"aGVhZA.{body}.c2ln"


def test_a_token_file_is_read_anew_each_time_and_stripped(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"\n  {CANARY}\r\n")
    source = TokenFile(path)
    assert source.read() == CANARY
    path.write_text("another")
    assert source.read() == "another"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (b"two tokens", "holds a space; give the token alone"),
        (b"line\nbreak", "holds more than one line; give the token alone"),
        (b"line\r\nbreak", "holds more than one line; give the token alone"),
        (b'"a.b.c"', "holds quotes; give the token alone"),
        (b"'a.b.c'", "holds quotes; give the token alone"),
        (b"Bearer a.b.c", 'holds the word "Bearer"; give the token alone'),
        (b"Authorization: Bearer a.b.c", 'holds the word "Bearer"; give the token alone'),
        (b"BORGBASE_TOKEN=a.b.c", "holds an assignment; give the token alone"),
        (b"export TOKEN='a.b.c'", "holds an assignment; give the token alone"),
        (b"/run/secrets/token", "holds a path, which belongs into BORGBASE_TOKEN_FILE"),
        (b"./token", "holds a path"),
        (b"<your token>", "holds JSON, a placeholder or the like"),
        (b'{"token": "a.b.c"}', "holds JSON, a placeholder or the like"),
        (b"nul\0", "holds what no token does"),
        ("tök".encode(), "holds what no token does"),
        (b"\xff\xfe", "not a text file in UTF-8"),
    ],
)
def test_what_cannot_be_a_token_is_refused_by_place_not_by_content(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(TokenError) as caught:
        TokenFile(path).read()
    assert str(caught.value).startswith(f"{path}: {complaint}")


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="No such file"):
        TokenFile(tmp_path / "none").read()
    with pytest.raises(TokenError, match=r"is a folder; .* --token\.dir"):
        TokenFile(tmp_path).read()


@pytest.mark.parametrize(
    "token", [CANARY, "opaque", "c29tZQ==", "a+b/c=", "ab_-.cd.ef", "bearertoken", "tokens"]
)
def test_what_may_be_a_token_is_taken(tmp_path: Path, token: str) -> None:
    path = tmp_path / "token"
    path.write_text(f"\ufeff{token}\n", "utf-8")  # as editors of Windows begin a file
    assert TokenFile(path).read() == token


def test_files_that_others_may_read_are_exposed(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(CANARY)
    for mode, exposed in ((0o600, False), (0o400, False), (0o640, True), (0o604, True)):
        path.chmod(mode)
        assert TokenFile(path).exposed is exposed
    path.unlink()
    assert TokenFile(path).exposed is False


def test_a_group_may_read_what_it_owes_its_own_reading_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "token"
    path.write_text(CANARY)
    path.chmod(0o640)
    monkeypatch.setattr("os.geteuid", lambda: path.stat().st_uid + 1)
    assert TokenFile(path).exposed is False
    path.chmod(0o644)
    assert TokenFile(path).exposed is True


def test_a_folder_where_others_may_put_files_is_exposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = TokenFolder(tmp_path)
    for mode, exposed in ((0o755, False), (0o770, False), (0o1777, True)):
        tmp_path.chmod(mode)
        assert folder.exposed is exposed
    read_only = os.statvfs_result((*os.statvfs(tmp_path)[:8], os.ST_RDONLY, 255, 0))
    monkeypatch.setattr("os.statvfs", lambda _: read_only)
    assert folder.exposed is False
    assert TokenFolder(tmp_path / "none").exposed is False


@pytest.mark.parametrize(
    ("name", "stray"),
    [
        *((name, True) for name in ("home~", "#home#", "README", "readme.md", "home.bak")),
        *((name, True) for name in ("home.swp", "home.dpkg-old", "home.example")),
        *((name, False) for name in ("home", "borg.example.org", "home.token", "old", "~home")),
    ],
)
def test_files_that_editors_and_packages_leave_behind(name: str, *, stray: bool) -> None:
    assert TokenFile(Path("/run") / name).stray is stray


def test_a_folder_names_accounts_by_file_as_kubernetes_mounts_them(tmp_path: Path) -> None:
    data = tmp_path / "..2026_01_01"
    data.mkdir()
    (data / "home").write_text("a")
    (data / "work").write_text("b")
    (tmp_path / "..data").symlink_to(data.name)
    for name in ("home", "work"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    (tmp_path / ".hidden").write_text("c")
    (tmp_path / "subfolder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    sources = TokenFolder(tmp_path).sources()
    assert {name: source.read() for name, source in sources.items()} == {"home": "a", "work": "b"}


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="No such file"):
        TokenFolder(tmp_path / "none").sources()
    (tmp_path / "token").touch()
    with pytest.raises(TokenError, match=r"is no folder; .* --token\.file"):
        TokenFolder(tmp_path / "token").sources()


def test_an_odd_file_name_still_makes_a_label(tmp_path: Path) -> None:
    (Path(tmp_path) / "caf\udce9").write_text("a")
    (account,) = TokenFolder(tmp_path).sources()
    assert account == "caf\N{REPLACEMENT CHARACTER}"


def test_files_whose_names_are_shown_alike_are_refused(tmp_path: Path) -> None:
    for name in ("a\udcff", "a\udcfe"):
        (tmp_path / name).write_text("a")
    with pytest.raises(TokenError, match="two files are called a\N{REPLACEMENT CHARACTER}; rename"):
        TokenFolder(tmp_path).sources()


@pytest.mark.parametrize(
    ("name", "extended"),
    [
        *((name, True) for name in ("mum.txt", "mum.TXT", "home.token", "a.b.jwt", "x.secret")),
        *((name, False) for name in ("mum", "borg.example.org", "token", ".txt", "1.5")),
    ],
)
def test_names_that_are_a_files_more_than_an_accounts(name: str, *, extended: bool) -> None:
    assert TokenFile(Path("/run") / name).extended is extended


def test_the_secret_is_in_no_representation() -> None:
    source = OneToken("default", GivenToken("BORGBASE_TOKEN", CANARY))
    assert CANARY not in repr(source)
    assert source.sources()["default"].read() == CANARY


@pytest.mark.parametrize(
    ("token", "expires"),
    [
        (jwt({"exp": 1_700_000_000}), 1_700_000_000),
        (jwt({"exp": 1_700_000_000.5}), 1_700_000_000.5),
        (jwt({"iat": 1}), None),
        (jwt({"exp": None}), None),
        (jwt({"exp": "soon"}), None),
        (jwt([1]), None),
        ("a.b.c", None),
        ("a.!!!!.c", None),
        ("no-dots", None),
        ("a.b.c.d", None),
        ("", None),
    ],
)
def test_expiration_is_read_where_it_can_be(token: str, expires: float | None) -> None:
    assert expiration(token) == expires
