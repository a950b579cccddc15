from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from borgbase_exporter.api.client import Answer
from borgbase_exporter.errors import REASONS, PollError, Reason, TokenError
from borgbase_exporter.model import (
    AccountStatus,
    APIToken,
    APITokenList,
    CollectorStatus,
    Failure,
    Part,
    RepoList,
    SSHKeyList,
)
from borgbase_exporter.polling.poller import DRIFT_MEMORY, Poller
from borgbase_exporter.settings.options import Poll
from borgbase_exporter.tokens import GivenToken
from tests.canary import CANARY
from tests.facts import NOW
from tests.facts import REPOS as REPO_LIST
from tests.facts import SSH_KEYS as KEY_LIST

INTERVAL = 900.0
MAX_AGE = 6 * 3600.0
Outcome = CollectorStatus | PollError | Exception
DOWN = PollError(Reason.CONNECT, "no answer")
MANY_REPOS, NO_REPOS = (RepoList(n * REPO_LIST.repos[:1], complete=True) for n in (51, 0))
SOME_REPOS = replace(REPO_LIST, complete=False)


def good(part: Part, **changes: Any) -> CollectorStatus:
    return replace(CollectorStatus(part, success=True), **changes)


class Source:
    """A token that tests can remove."""

    origin = "a test"

    def __init__(self) -> None:
        self.error: TokenError | None = None

    def read(self) -> str:
        if self.error:
            raise self.error
        return CANARY


@dataclass
class Rig:
    """A poller whose answers and clocks a test controls."""

    names: Sequence[str] = ("repos", "ssh_keys")
    source: Any = field(default_factory=Source)
    now: float = NOW
    ticks: float = 50.0
    poll_takes: float = 2.0
    jitter: Callable[[], float] | None = lambda: 1.0
    daily: bool = False
    asked: list[tuple[str, frozenset[str], float]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.answers: dict[str, Any] = {"repos": good(REPO_LIST), "ssh_keys": good(KEY_LIST)}
        areas: Any = [SimpleNamespace(name=n, collect=partial(self.collect, n)) for n in self.names]
        run = partial(self.collect, "Usage", missing=frozenset())
        client: Any = SimpleNamespace(close=partial(self.closed.append, "client"))
        daily: Any = SimpleNamespace(run=run, close=partial(self.closed.append, "daily"))
        self.poller = Poller(
            AccountStatus("default", {}, interval=INTERVAL),
            self.source,
            client,
            areas,
            Poll(interval=INTERVAL, timeout=30.0, max_age=MAX_AGE),
            daily if self.daily else None,
            clock=lambda: self.now,
            monotonic=lambda: self.ticks,
            **({"jitter": self.jitter} if self.jitter else {}),
        )

    def collect(
        self, area: str, _client: object, token: str, missing: frozenset[str], *, seconds: float
    ) -> Any:
        self.asked.append((area, missing, seconds))
        self.tokens.append(token)
        if area in {self.names[0], "Usage"}:
            self.ticks += self.poll_takes
            self.now += self.poll_takes
        answer = self.answers[area]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def poll(self, **answers: Outcome | Answer) -> float:
        """Poll, with these answers from now on; return the seconds until the next poll."""
        self.answers |= answers
        self.poller.poll()
        return self.poller.delay

    @property
    def status(self) -> AccountStatus:
        return self.poller.status

    def failures(self, collector: str = "repos") -> dict[str, int]:
        counts = self.status.collectors[collector].failures
        return {reason: count for reason, count in counts.items() if count}


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_before_the_first_poll_nothing_is_known_and_nothing_is_up(rig: Rig) -> None:
    assert (rig.status.up, rig.status.polls, rig.status.last_poll) == (False, 0, None)
    counts = {name: len(c.failures) for name, c in rig.status.collectors.items()}
    assert counts == {"repos": len(REASONS), "ssh_keys": len(REASONS)}


def test_a_good_poll_reads_everything(rig: Rig) -> None:
    delay = rig.poll()
    status = rig.status
    assert status.up
    assert status.polls == 1
    assert (status.last_poll, status.last_success) == (NOW + 2, NOW + 2)
    assert status.duration == 2.0
    assert status.collectors["repos"].part is REPO_LIST
    assert status.collectors["ssh_keys"].part is KEY_LIST
    # From start to start, so that the polls do not drift.
    assert delay == INTERVAL - 2.0
    assert status.next_poll == NOW + INTERVAL
    assert rig.tokens == [CANARY, CANARY]
    assert rig.closed == ["client"]
    # Time is reserved for the collectors still to come.
    assert [(n, seconds) for n, _, seconds in rig.asked] == [("repos", 28.5), ("ssh_keys", 28.0)]
    rig.poll_takes = INTERVAL + 1
    assert [rig.poll(), rig.poll(ssh_keys=DOWN)] == [0, 0]


def test_collectors_fail_apart(rig: Rig) -> None:
    delay = rig.poll(ssh_keys=PollError(Reason.AUTH, "not allowed"))
    assert rig.status.up
    assert not rig.status.collectors["ssh_keys"].success
    assert rig.failures() == {}
    assert rig.failures("ssh_keys") == {"auth": 1}
    assert delay == INTERVAL - 2.0


def test_a_failed_poll_keeps_the_last_good_part_and_its_age(rig: Rig) -> None:
    rig.poll()
    rig.answers["repos"] = DOWN
    rig.now += 1000
    rig.poll()
    repos = rig.status.collectors["repos"]
    assert not rig.status.up
    assert repos.part is REPO_LIST
    assert repos.taken == NOW + 2
    assert repos.failure is not None
    assert (repos.failure.reason, repos.failure.message) == ("connect", "no answer")
    assert rig.status.last_success == NOW + 2
    assert rig.status.last_poll == NOW + 1004
    fewer = RepoList(REPO_LIST.repos[:1], complete=True)
    rig.poll(repos=good(fewer))
    assert rig.status.collectors["repos"].part is fewer


def test_failures_back_off_to_the_interval_and_a_success_ends_that(rig: Rig) -> None:
    rig.poll_takes = 0
    rig.answers["repos"] = DOWN
    assert [rig.poll() for _ in range(7)] == [30, 60, 120, 240, 480, 900, 900]
    assert rig.poll(repos=good(REPO_LIST)) == INTERVAL
    assert rig.poll(repos=DOWN) == 30
    assert {rig.poll() for _ in range(2000)} == {60, 120, 240, 480, INTERVAL}


@pytest.mark.parametrize(
    ("collector", "asked", "delay"),
    [
        *(("repos", 10.0, 30.0), ("repos", 100.0, 100.0), ("repos", 86_400.0, INTERVAL)),
        *(("repos", None, 30.0), ("ssh_keys", 5.0, INTERVAL - 2.0)),
    ],
)
def test_bounds_of_retry_after(rig: Rig, collector: str, asked: float | None, delay: float) -> None:
    rig.answers[collector] = PollError(Reason.HTTP_STATUS, "HTTP 503", retry_after=asked)
    assert rig.poll() == delay


def test_errors_beside_data_are_counted_and_the_data_is_used(rig: Rig) -> None:
    rig.answers["repos"] = good(
        RepoList(REPO_LIST.repos, complete=False),
        failure=Failure("graphql", "one resolver"),
        skipped=1,
    )
    rig.poll()
    assert rig.status.up
    assert rig.failures() == {"graphql": 1}
    assert rig.status.collectors["repos"].skipped == 1
    rig.poll(repos=DOWN)
    assert rig.status.collectors["repos"].skipped == 0  # of the last poll


def test_a_lost_root_field_is_a_failure_with_data(rig: Rig) -> None:
    rig.answers["ssh_keys"] = good(
        SSHKeyList((), length=0), failure=Failure("graphql", "lost"), success=False
    )
    rig.poll()
    assert not rig.status.collectors["ssh_keys"].success
    assert rig.status.collectors["ssh_keys"].part == SSHKeyList((), length=0)


def test_without_a_token_every_collector_fails_and_nothing_is_sent(rig: Rig) -> None:
    rig.source.error = TokenError("/run/token: No such file or directory")
    assert rig.poll() == 30
    assert rig.tokens == []
    assert rig.failures("repos") == rig.failures("ssh_keys") == {"token": 1}
    assert "No such file" in rig.status.token_problem


def test_an_unreadable_token_leaves_the_old_one(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.poll()
    rig.source.error = TokenError("/run/token: is empty")
    for _ in range(2):
        rig.poll()
        assert caplog.text.count("is empty") == 1
    assert rig.tokens == [CANARY] * 6
    assert rig.status.up
    assert rig.failures("repos") == rig.failures("ssh_keys") == {"token": 2}
    rig.source.error = None
    rig.poll()
    assert rig.failures() == {"token": 2}
    assert rig.status.token_problem == ""


def test_a_defect_is_logged_and_counted(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.poll(repos=ZeroDivisionError("surprise"))
    assert rig.failures() == {"internal": 1}
    assert "surprise" in caplog.text
    assert rig.status.collectors["ssh_keys"].success


def test_a_missing_field_is_not_asked_for_again_until_the_next_day(rig: Rig) -> None:
    gone = frozenset({"RepoType.sftpEnabled"})
    rig.poll(repos=good(REPO_LIST, gaps=gone, missing=gone))
    learned = rig.now
    rig.now = learned + DRIFT_MEMORY - 10
    rig.poll()
    rig.now = learned + DRIFT_MEMORY
    rig.poll()
    rig.poll()
    asked = [missing for name, missing, _ in rig.asked if name == "repos"]
    assert asked == [frozenset(), gone, frozenset(), gone]
    rig.poll(repos=DOWN)
    assert rig.status.collectors["repos"].gaps == gone
    rig.now += DRIFT_MEMORY
    rig.poll(repos=good(REPO_LIST))
    assert rig.status.collectors["repos"].gaps == frozenset()


def test_what_cannot_be_read_is_logged_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    gone = frozenset({"RepoType.format"})
    rig.answers["repos"] = good(REPO_LIST, skipped=2, fields_skipped=3, gaps=gone, missing=gone)
    for _ in range(3):
        rig.poll()
    rig.poll(repos=good(REPO_LIST))
    assert [record.getMessage() for record in caplog.records] == [
        "the API no longer has RepoType.format",
        "2 of the entries cannot be read",
        "3 fields cannot be read",
    ]


def test_polls_are_spread_by_a_tenth_of_the_interval() -> None:
    rig = Rig(jitter=None)
    delays = {rig.poll() + 2.0 for _ in range(200)}
    assert len(delays) > 100
    assert 0.9 * INTERVAL <= min(delays) < max(delays) <= 1.1 * INTERVAL


def test_a_failure_logs_its_beginning_and_end(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    well = rig.answers
    rig.answers = dict.fromkeys(rig.names, DOWN)
    rig.poll()
    rig.poll()
    assert "works again" not in caplog.text
    rig.answers = well
    rig.poll()
    rig.poll()
    assert [record.getMessage() for record in caplog.records] == ["no answer", "works again"]
    assert vars(caplog.records[0])["next_poll"] == "in 30 s"
    assert {vars(record)["collector"] for record in caplog.records} == {"repos,ssh_keys"}


def test_the_first_good_poll_counts_repos(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rig.poll()
    rig.poll()
    assert [r.getMessage() for r in caplog.records] == ["the first poll succeeded: 2 repos"]


def test_a_part_read_by_a_clock_that_was_ahead_grows_old_all_the_same(rig: Rig) -> None:
    rig.now = NOW + 10 * MAX_AGE
    rig.poll()
    rig.now = NOW
    rig.poll(repos=DOWN)
    rig.now += MAX_AGE
    assert rig.poller.poll().snapshot.repos is None


def test_the_expiration_of_the_exporters_own_token_is_read() -> None:
    # Its payload says that `exp` is 1700000500.
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOiAxNzAwMDAwNTAwfQ.c2lnbmF0dXJl"
    rig = Rig(source=GivenToken("a test", jwt))
    rig.poll()
    assert rig.status.token_expires == 1_700_000_500


def test_a_token_that_may_do_more_than_read_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(names=("repos", "tokens"))
    tokens = APITokenList((APIToken("1", "mine", "full_access"),), complete=True)
    rig.poll(tokens=good(tokens))
    rig.poll()
    assert caplog.text.count("the token is full_access") == 1


@pytest.mark.parametrize(
    ("expires", "tokens", "permission"),
    [
        (None, [("read_only", None), ("read_only", 5.0)], "read_only"),
        (None, [("read_only", None), ("full_access", None)], None),
        (5.0, [("read_only", 7.0), ("full_access", 5.4)], "full_access"),
        (5.0, [("read_only", 5.0), ("full_access", 5.0)], None),
        (5.0, [("read_only", 7.0), ("full_access", None)], None),
        (5.0, [], None),
    ],
)
def test_the_own_tokens_permission_is_known_when_it_can_be_no_other(
    expires: float | None, tokens: list[tuple[str, float | None]], permission: str | None
) -> None:
    listed = tuple(APIToken("1", "t", kind, expires=end) for kind, end in tokens)
    assert APITokenList(listed, complete=True).permission(expires) == permission
    assert APITokenList(listed, complete=False).permission(expires) is None


def test_daily_usage_is_asked_for_once_a_day_in_the_time_that_a_poll_leaves() -> None:
    one = good(replace(REPO_LIST, repos=REPO_LIST.repos[:1]))
    rig, rows = Rig(daily=True), msgspec.Raw(b'[{"date": "2023-11-14", "diskUsage": 123456}]')
    delays = [rig.poll(repos=one), rig.poll(Usage=Answer({"u0": rows})), rig.poll()]
    assert delays == [INTERVAL - 2, INTERVAL - 4, INTERVAL - 2]
    assert [*rig.status.daily[REPO_LIST.repos[0].id]] == [NOW + 6, 123_456e6]
    rig.ticks += DRIFT_MEMORY
    assert [rig.poll(repos=DOWN), rig.poll(repos=good(REPO_LIST))] == [30.0, INTERVAL - 4]
    assert [seconds for name, _, seconds in rig.asked if name == "Usage"] == [28.0, 28.0]
    assert rig.closed.count("daily") == 2


@pytest.mark.parametrize("repos", [REPO_LIST, SOME_REPOS, MANY_REPOS, NO_REPOS])
def test_no_daily_usage_changes_nothing(repos: RepoList, caplog: pytest.LogCaptureFixture) -> None:
    rig, other = Rig(), Rig(daily=True)
    for _ in range(2):
        rig.poll(repos=good(repos))
        other.poll(repos=good(repos), Usage=ValueError("a defect"))
    assert (other.status, caplog.records) == (rig.status, [])
    other.poll()
    assert [name for name, *_ in other.asked].count("Usage") == (repos is REPO_LIST)
