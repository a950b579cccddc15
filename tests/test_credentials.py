from __future__ import annotations

import base64
import json
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
        (b"two tokens", "holds what no token does"),
        (b"line\nbreak", "holds what no token does"),
        (b"nul\0", "holds what no token does"),
        ("tök".encode(), "holds what no token does"),
        (b"\xff\xfe", "not a text file"),
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
    with pytest.raises(TokenError, match="Is a directory"):
        TokenFile(tmp_path).read()


def test_files_that_others_may_read_are_exposed(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(CANARY)
    for mode, exposed in ((0o600, False), (0o400, False), (0o640, True), (0o604, True)):
        path.chmod(mode)
        assert TokenFile(path).exposed is exposed
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
    (tmp_path / "dangling").symlink_to("nowhere")
    sources = TokenFolder(tmp_path).sources()
    assert {name: source.read() for name, source in sources.items()} == {"home": "a", "work": "b"}


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="No such file"):
        TokenFolder(tmp_path / "none").sources()


def test_an_odd_file_name_still_makes_a_label(tmp_path: Path) -> None:
    (Path(tmp_path) / "caf\udce9").write_text("a")
    (account,) = TokenFolder(tmp_path).sources()
    assert account == "caf\N{REPLACEMENT CHARACTER}"


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
