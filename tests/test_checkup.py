"""What `check` looks at beyond a poll."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from borgbase_exporter.api.client import connect
from borgbase_exporter.checkup import SAMPLE, look, sources_of
from borgbase_exporter.collectors import COLLECTORS
from borgbase_exporter.credentials import GivenToken, OneToken, TokenFile, TokenFolder, TokenSource
from borgbase_exporter.diagnosis import UNKNOWN, Daily, Finding
from borgbase_exporter.poller import Poller, Schedule
from borgbase_exporter.simulator import SimulatedAccount, SimulatedApi
from tests.lab.bench import PLENTY, endpoint


def found(
    account: SimulatedAccount, source: TokenSource | None = None, **drift: str
) -> tuple[Finding, list[str]]:
    """Return what is found of a simulated account, and the queries that it took."""
    source = source or GivenToken("a test", account.token)
    with SimulatedApi([account], without=drift.values()) as api:
        ask = partial(connect, endpoint(api.url), PLENTY)
        poller = Poller("x", source, COLLECTORS, ask, lambda _: None, Schedule(900, PLENTY))
        finding = look(poller, source, ask, time.time)
        return finding, [request.query for request in api.requests]


def test_the_daily_values_of_the_largest_repos_tell_their_unit() -> None:
    finding, queries = found(SimulatedAccount(repos=SAMPLE + 2, troubles=()))
    assert finding.daily == Daily("MB", SAMPLE, SAMPLE)
    assert len(queries) == len(COLLECTORS) + 1
    assert queries[-1].count("repoUsageList") == SAMPLE


def test_an_account_without_repos_has_no_daily_values() -> None:
    finding, _ = found(SimulatedAccount(repos=0, troubles=()))
    assert finding.daily == UNKNOWN
    assert finding.well


def test_without_daily_values_all_else_is_told() -> None:
    finding, _ = found(SimulatedAccount(troubles=()), gone="Query.repoUsageList")
    assert finding.daily == UNKNOWN
    assert finding.well


def test_an_account_that_cannot_be_polled_is_asked_no_more() -> None:
    finding, queries = found(SimulatedAccount(), GivenToken("a test", "x.y.z"))
    assert finding.daily == UNKNOWN
    assert len(queries) == len(COLLECTORS)
    assert [problem.where for problem in finding.problems] == ["token"]


@pytest.mark.parametrize(("mode", "count"), [(0o600, 0), (0o644, 1)])
def test_a_token_file_that_others_may_read(tmp_path: Path, mode: int, count: int) -> None:
    account = SimulatedAccount(troubles=())
    path = tmp_path / "token"
    path.write_text(account.token)
    path.chmod(mode)
    finding, _ = found(account, TokenFile(path))
    assert [p.what for p in finding.problems] == [f"{path} can be read by other users"] * count


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "home").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (Path.exists, []),
        (lambda folder: (folder / "home").unlink(), ["{} holds no token files"]),
        (lambda folder: folder.chmod(0o777), ["other users may put files into {}"]),
        (
            lambda folder: (folder / "home.bak").touch(),
            ["{}/home.bak has not the name of an account, but is taken for one"],
        ),
        (
            lambda folder: (folder / "mum.txt").touch(),
            ['{}/mum.txt: the account is then called "mum.txt"'],
        ),
        (
            lambda folder: (folder / "README.txt").touch(),
            ["{}/README.txt has not the name of an account, but is taken for one"],
        ),
    ],
    ids=["well", "empty", "open", "backup", "extension", "readme"],
)
def test_a_token_folder(folder: Path, change: Callable[[Path], object], told: list[str]) -> None:
    change(folder)
    _, problems = sources_of(TokenFolder(folder))
    assert [problem.what for problem in problems] == [text.format(folder) for text in told]
    assert all(problem.advice for problem in problems)


def test_a_token_folder_that_has_gone(tmp_path: Path) -> None:
    sources, (problem,) = sources_of(TokenFolder(tmp_path / "none"))
    assert not sources
    assert problem.what == f"{tmp_path / 'none'}: No such file or directory"


def test_a_single_token_is_in_no_folder() -> None:
    token = GivenToken("BORGBASE_TOKEN", "x.y.z")
    assert sources_of(OneToken("home", token)) == ({"home": token}, [])
