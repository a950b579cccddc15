from __future__ import annotations

import base64
import json
import os
import socket
from pathlib import Path

import pytest

from borgbase_exporter.errors import TokenError
from borgbase_exporter.tokens import GivenToken, OneToken, TokenFile, TokenFolder, expiration
from tests.canary import CANARY


def jwt(payload: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    return f"aGVhZA.{body}.c2ln"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "token"


def test_a_token_file_is_read_again_each_time_and_stripped(path: Path) -> None:
    path.write_text(f"\n  {CANARY}\r\n")
    source = TokenFile(path)
    assert source.read() == CANARY
    path.write_text("another")
    assert source.read() == "another"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b" \n\t", "is empty"),
        *(
            (content, "must be only a token")
            for content in (
                *(b"two tokens", b"line\r\nbreak", b"'a.b.c'", b"Authorization: Bearer a.b.c"),
                *(b"export TOKEN='a.b.c'", b"TOKEN=a.b.c", b"./token", b"/run/token", b"~/token"),
                *(b'{"token": "a.b.c"}', b"<token>", b"nul\0", "tök".encode()),
            )
        ),
    ],
)
def test_a_file_without_a_token_is_refused_by_place_not_by_content(
    path: Path, content: bytes, complaint: str
) -> None:
    path.write_bytes(content)
    with pytest.raises(TokenError) as caught:
        TokenFile(path).read()
    assert str(caught.value).startswith(f"{path}: {complaint}")


def test_a_huge_file_is_not_read_whole(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse; reading it would need a terabyte of memory
    with pytest.raises(TokenError, match="larger than 64 KiB"):
        TokenFile(path).read()


def test_pipes_sockets_and_devices_are_refused_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for path in (tmp_path / "pipe", tmp_path / "socket", Path("/dev/zero")):
            with pytest.raises(TokenError, match=rf"{path}: (not a regular file|No such device)"):
                TokenFile(path).read()


@pytest.mark.parametrize(
    "token", [CANARY, "opaque", "c29tZQ==", "a+b/c=", "ab_-.cd.ef", "bearertoken", "tokens"]
)
@pytest.mark.parametrize("form", ["{}\n", "{}\r\n", "  {}\t\n", "\ufeff{}\n"])
def test_what_may_be_a_token_is_accepted(path: Path, token: str, form: str) -> None:
    path.write_text(form.format(token), "utf-8", newline="")
    assert TokenFile(path).read() == token


def test_files_others_may_read_are_exposed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(CANARY)
    owner = path.stat().st_uid
    member = owner + 1  # of the file's group, perhaps
    for user, safe, exposed in (
        (owner, 0o600, 0o640),
        (owner, 0o400, 0o604),
        (member, 0o640, 0o644),
    ):
        monkeypatch.setattr("os.geteuid", lambda user=user: user)
        for mode in (safe, exposed):
            path.chmod(mode)
            assert TokenFile(path).exposed is (mode == exposed)
    path.unlink()
    assert TokenFile(path).exposed is False


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
    sources = TokenFolder(tmp_path).sources()
    assert {name: source.read() for name, source in sources.items()} == {"home": "a", "work": "b"}


def test_a_missing_folder_is_reported(path: Path) -> None:
    with pytest.raises(TokenError, match="No such file"):
        TokenFolder(path).sources()
    path.touch()
    with pytest.raises(TokenError, match="Not a directory"):
        TokenFolder(path).sources()


def test_a_bad_entry_costs_its_own_account_alone(tmp_path: Path) -> None:
    (tmp_path / "good").write_text("token")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "beyond").symlink_to("good/beyond")
    (tmp_path / "dangling").symlink_to("nowhere")
    sources = TokenFolder(tmp_path).sources()
    assert sources.pop("good").read() == "token"
    problems = {}
    for name, source in sources.items():
        with pytest.raises(TokenError) as caught:
            source.read()
        problems[name] = str(caught.value).removeprefix(f"{tmp_path}").lstrip("/")
    assert problems == {
        "pipe": "pipe: not a regular file; --token.dir takes a folder",
        "loop": "loop: Too many levels of symbolic links",
        "beyond": "beyond: Not a directory",
        "dangling": "dangling: No such file or directory",
    }


def test_a_file_name_that_is_not_utf8_still_makes_a_label(tmp_path: Path) -> None:
    (Path(tmp_path) / "caf\udce9").write_text("a")
    (account,) = TokenFolder(tmp_path).sources()
    assert account == r"caf\xe9"


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
        *((token, None) for token in ("a.b.c", "a.!!!!.c", "no-dots", "a.b.c.d", "")),
    ],
)
def test_expiration_is_read_where_possible(token: str, expires: float | None) -> None:
    assert expiration(token) == expires
