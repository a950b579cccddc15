"""The file of `textfile`: what it stores for the next run, and which files it never replaces."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from borgbase_exporter import settings
from borgbase_exporter.commands import textfile
from borgbase_exporter.commands.oneshot import CommandError
from borgbase_exporter.commands.textfile import MARK, read, resumed, write
from borgbase_exporter.errors import REASONS
from borgbase_exporter.model import AccountStatus, CollectorStatus, Failure, Part, Repo, RepoList
from tests.canary import CANARY
from tests.facts import ACCOUNT, NOW, SSH_KEYS, TOKENS
from tests.lab.wire import Lab, Wire, interrupted

HOUR = 3600.0
API = "https://api.example/graphql"
ODD = RepoList((Repo("a1", 'Zoë "📱"\\\n', usage=5e9, append_only=False),), complete=True)
PARTS: dict[str, Part] = {"repos": ODD, "account": ACCOUNT, "ssh_keys": SSH_KEYS, "tokens": TOKENS}
ZERO = dict.fromkeys(REASONS, 0)
FRESH = AccountStatus("home", {name: CollectorStatus(failures=ZERO) for name in PARTS})
"""As in a new process."""


def polled(taken: float = NOW, **changes: Any) -> AccountStatus:
    """Return the status after a poll of which every query succeeded."""
    collectors = {
        name: CollectorStatus(
            part=part,
            taken=taken,
            success=True,
            failures=ZERO | {"timeout": 3},
            gaps=frozenset({"Repo.quota"}),
            missing=frozenset({"quota"}),
            missing_since=taken - 60,
        )
        for name, part in PARTS.items()
    }
    return replace(FRESH, collectors=collectors, polls=7, last_success=taken, **changes)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "borgbase.prom"


def put(file: Path, status: AccountStatus, now: float = NOW) -> None:
    write(file, API, {status.name: status.as_of(now, 6 * HOUR)})


def again(file: Path, status: AccountStatus, now: float = NOW) -> AccountStatus:
    """Return an account's status in a new process after another one wrote this."""
    put(file, status, now)
    return resumed(FRESH, read(file, API).get(status.name), now)


def test_the_next_run_knows_what_this_one_knew(file: Path) -> None:
    before = polled(last_poll=NOW, duration=2.0, token_expires=NOW)
    after = again(file, before)

    assert after.snapshot == before.snapshot
    assert (after.polls, after.last_success) == (7, NOW)
    for name, collector in after.collectors.items():
        assert replace(collector, success=True) == before.collectors[name]


def test_the_outcome_of_the_last_poll_is_not_remembered(file: Path) -> None:
    failed = {
        name: replace(collector, success=False, failure=Failure("tls", "no"), skipped=1)
        for name, collector in polled().collectors.items()
    }
    after = again(file, polled(last_poll=NOW, duration=2.0, token_problem="gone"))
    assert (after.last_poll, after.duration, after.token_problem) == (None, None, "")
    after = again(file, replace(polled(), collectors=failed))
    for collector in after.collectors.values():
        assert (collector.success, collector.failure, collector.skipped) == (False, None, 0)


def test_each_part_is_remembered_until_it_is_too_old(file: Path) -> None:
    status = polled()
    collectors = dict(status.collectors)
    collectors["repos"] = replace(collectors["repos"], taken=NOW - 6 * HOUR)
    collectors["tokens"] = replace(collectors["tokens"], taken=NOW - 6 * HOUR + 1)
    after = again(file, replace(status, collectors=collectors)).snapshot

    assert after.repos is None
    assert after.tokens == PARTS["tokens"]
    text = file.read_text("utf-8")
    assert "borgbase_repo_usage_bytes{" not in text
    assert "borgbase_api_token_expiration_timestamp_seconds{" in text


def test_moments_from_the_future_count_as_now(file: Path) -> None:
    put(file, polled(taken=NOW + 400 * 24 * HOUR), NOW + 400 * 24 * HOUR)
    after = resumed(FRESH, read(file, API)["home"], NOW)

    assert after.last_success == NOW
    assert all((c.missing_since or 0) <= NOW for c in after.collectors.values())
    assert {c.taken for c in after.as_of(NOW, HOUR).collectors.values()} == {NOW}


def test_collectors_that_are_off_now_are_dropped_and_new_ones_added(file: Path) -> None:
    old = CollectorStatus(failures=ZERO | {"timeout": 3})
    after = again(file, replace(polled(), collectors={"repos": old}))

    assert after.collectors.keys() == PARTS.keys()
    assert after.collectors["repos"].failures == ZERO | {"timeout": 3}
    assert after.collectors["tokens"].failures == ZERO
    fewer = replace(FRESH, collectors={"tokens": FRESH.collectors["tokens"]})
    assert resumed(fewer, read(file, API)["home"], NOW).collectors == fewer.collectors


DAMAGED = "{}: is damaged; the values of the last run are lost"


@pytest.mark.parametrize(
    ("content", "logged"),
    [
        (b"", []),
        (MARK + b'{"version":"0","api":"%s","accounts":{}}' % API.encode(), []),
        (MARK + b'{"version":"0"', [DAMAGED]),
        (MARK + b'{"version":"\xff\xfe"}', [DAMAGED]),
        (MARK + b'{"version":"\\ud800"}', [DAMAGED]),
        (MARK + b"[" * 100_000, [DAMAGED]),
        (MARK + b'{"version":' + b"[" * 100_000, [DAMAGED]),
        (MARK + b'{"version":"0","api":"x","accounts":{"home":{"polls":"many"}}}', [DAMAGED]),
    ],
)
def test_only_a_whole_memory_of_this_version_is_used(
    file: Path, caplog: pytest.LogCaptureFixture, content: bytes, logged: list[str]
) -> None:
    file.write_bytes(content)
    assert read(file, API) == {}
    assert caplog.messages == [message.format(file) for message in logged]


def test_the_memory_of_another_api_is_not_used(file: Path) -> None:
    put(file, polled())
    assert read(file, "http://127.0.0.1:1/graphql") == {}
    assert read(file, API)


@hypothesis_settings(deadline=None)  # a disk may be slow
@given(at=st.floats(0, 1, exclude_max=True), noise=st.binary(min_size=1, max_size=8))
def test_damaged_files(tmp_path_factory: pytest.TempPathFactory, at: float, noise: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "noise.prom"
    put(file, polled())
    content = file.read_bytes()
    place = len(MARK) + int(at * (content.index(b"\n") - len(MARK)))
    file.write_bytes(content[:place] + noise + content[place + len(noise) :])
    memory = read(file, API).get("home")
    put(file, resumed(FRESH, memory, NOW))


def test_an_endless_line_is_not_read_whole(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(file, polled())
    monkeypatch.setattr(textfile, "LONGEST", 100)
    assert read(file, API) == {}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"my_metric 1\n", "is not a file of this program; delete it, or write elsewhere"),
        (None, "is not a file"),
    ],
)
def test_files_of_others_are_not_replaced(file: Path, content: bytes | None, problem: str) -> None:
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(CommandError) as caught:
        read(file, API)
    assert str(caught.value) == f"{file}: {problem}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_poll_ends_the_run_and_the_old_file_stays(file: Path, number: int) -> None:
    def interrupt(wire: Wire) -> None:
        os.kill(os.getpid(), number)
        wire.hold()

    put(file, polled())
    before = file.read_bytes()
    with interrupted(), Lab(interrupt) as lab:
        words = ["textfile", str(file), "--api.url", lab.url]
        options = settings.load(words, {"BORGBASE_TOKEN": CANARY})
        assert isinstance(options, settings.Textfile)
        assert textfile.run(options) == 130

    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]
