from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from borgbase_exporter.api.client import Client
from borgbase_exporter.api.documents import REPOS, SSH_KEYS, TOKENS
from borgbase_exporter.collectors import Collected, Collector
from borgbase_exporter.credentials import GivenToken
from borgbase_exporter.errors import (
    AuthError,
    ConnectError,
    GraphQLError,
    HTTPStatusError,
    PollError,
    TokenError,
)
from borgbase_exporter.model import (
    AccountStatus,
    APIToken,
    APITokenList,
    CollectorStatus,
    Part,
    RepoList,
    SSHKeyList,
)
from borgbase_exporter.poller import DRIFT_MEMORY, GRACE, Poller, Schedule
from tests.canary import CANARY
from tests.facts import NOW
from tests.facts import REPOS as REPO_LIST
from tests.facts import SSH_KEYS as KEY_LIST

INTERVAL = 900.0
Outcome = Collected | PollError | Exception
Asked = list[tuple[str, frozenset[str], float]]


def brought(part: Part, **changes: object) -> Collected:
    none: frozenset[str] = frozenset()
    whole = Collected(part, 0, error=None, whole=True, gaps=none, missing=none)
    return replace(whole, **changes)  # type: ignore[arg-type]  # the tests name real fields


class Source:
    """A token that tests can take away."""

    origin = "a test"

    def __init__(self) -> None:
        self.error: TokenError | None = None

    def read(self) -> str:
        if self.error:
            raise self.error
        return CANARY


class Rig:
    """A poller of two collectors whose answers and clocks a test decides."""

    def __init__(self) -> None:
        self.now = NOW
        self.ticks = 50.0
        self.poll_takes = 2.0
        self.publishing_takes = 0.0
        self.during_a_poll: Callable[[], None] = lambda: None
        self.answers: dict[str, Outcome] = {
            "repos": brought(REPO_LIST),
            "ssh_keys": brought(KEY_LIST),
        }
        self.asked: Asked = []
        self.tokens: list[str] = []
        self.published: list[AccountStatus] = []
        self.source = Source()
        self.poller = Poller(
            "default",
            self.source,
            [self.scripted("repos"), self.scripted("ssh_keys")],
            self._connect,
            self._publish,
            Schedule(INTERVAL, timeout=30.0),
            clock=lambda: self.now,
            monotonic=lambda: self.ticks,
            jitter=lambda: 1.0,
        )

    def scripted(self, name: str) -> Collector:
        rig = self

        class Scripted(Collector):
            def collect(
                self, client: Client, missing: frozenset[str], *, reserve: float
            ) -> Collected:
                rig.asked.append((name, missing, reserve))
                answer = rig.answers[name]
                if isinstance(answer, Exception):
                    raise answer
                return answer

        document = {"repos": REPOS, "ssh_keys": SSH_KEYS, "tokens": TOKENS}[name]
        return Scripted(name, "", document, lambda _: (REPO_LIST, 0))

    @contextlib.contextmanager
    def _connect(self, token: str) -> Iterator[Client]:
        self.tokens.append(token)
        self.during_a_poll()
        yield None  # type: ignore[misc]  # the scripted collectors do not look at it
        self.ticks += self.poll_takes
        self.now += self.poll_takes

    def _publish(self, status: AccountStatus) -> None:
        self.published.append(status)
        self.ticks += self.publishing_takes

    @property
    def status(self) -> AccountStatus:
        return self.published[-1]

    def failures(self, collector: str = "repos") -> dict[str, int]:
        counts = self.status.collectors[collector].failures
        return {reason: count for reason, count in counts.items() if count}


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_before_the_first_poll_nothing_is_known_and_nothing_is_up(rig: Rig) -> None:
    status = rig.poller.status
    assert not status.up
    assert status.polls == 0
    assert status.last_poll is None
    assert set(status.collectors) == {"repos", "ssh_keys"}
    assert all(len(c.failures) == 12 for c in status.collectors.values())


def test_a_good_poll_publishes_everything_at_once(rig: Rig) -> None:
    delay = rig.poller.poll()
    assert len(rig.published) == 1
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
    assert rig.tokens == [CANARY]


def test_time_is_kept_back_for_the_collectors_to_come(rig: Rig) -> None:
    rig.poller.poll()
    assert [(name, reserve) for name, _, reserve in rig.asked] == [("repos", 1.5), ("ssh_keys", 0)]


def test_collectors_fail_apart(rig: Rig) -> None:
    rig.answers["ssh_keys"] = AuthError("not allowed")
    delay = rig.poller.poll()
    assert rig.status.up
    assert not rig.status.collectors["ssh_keys"].success
    assert rig.failures() == {}
    assert rig.failures("ssh_keys") == {"auth": 1}
    assert delay == INTERVAL - 2.0


def test_a_failed_poll_keeps_the_last_good_part_and_its_age(rig: Rig) -> None:
    rig.poller.poll()
    rig.answers["repos"] = ConnectError("no answer")
    rig.now += 1000
    rig.poller.poll()
    repos = rig.status.collectors["repos"]
    assert not rig.status.up
    assert repos.part is REPO_LIST
    assert repos.taken == NOW + 2
    assert repos.failure is not None
    assert (repos.failure.reason, repos.failure.message) == ("connect", "no answer")
    assert rig.status.last_success == NOW + 2
    assert rig.status.last_poll == NOW + 1004


def test_a_good_poll_replaces_the_part_whole(rig: Rig) -> None:
    rig.poller.poll()
    fewer = RepoList(REPO_LIST.repos[:1], complete=True)
    rig.answers["repos"] = brought(fewer)
    rig.poller.poll()
    assert rig.status.collectors["repos"].part is fewer


def test_failures_back_off_to_the_interval_and_a_success_ends_that(rig: Rig) -> None:
    rig.poll_takes = 0
    rig.answers["repos"] = ConnectError("no answer")
    assert [rig.poller.poll() for _ in range(7)] == [30, 60, 120, 240, 480, 900, 900]
    rig.answers["repos"] = brought(REPO_LIST)
    assert rig.poller.poll() == INTERVAL
    rig.answers["repos"] = ConnectError("no answer")
    assert rig.poller.poll() == 30


def test_what_publishing_takes_is_no_drift(rig: Rig) -> None:
    rig.publishing_takes = 5.0
    assert rig.poller.poll() == INTERVAL - 2.0 - 5.0
    rig.publishing_takes = 2 * INTERVAL
    assert rig.poller.poll() == 0


def test_backing_off_for_ever_does_not_overflow(rig: Rig) -> None:
    rig.answers["repos"] = ConnectError("no answer")
    assert {rig.poller.poll() for _ in range(2000)} <= {30, 60, 120, 240, 480, INTERVAL}


@pytest.mark.parametrize(
    ("asked", "delay"), [(10.0, 30.0), (100.0, 100.0), (86_400.0, INTERVAL), (None, 30.0)]
)
def test_retry_after_is_honoured_within_bounds(rig: Rig, asked: float | None, delay: float) -> None:
    rig.answers["repos"] = HTTPStatusError("HTTP 503", retry_after=asked)
    assert rig.poller.poll() == delay


def test_retry_after_of_a_lesser_collector_never_shortens_the_interval(rig: Rig) -> None:
    rig.answers["ssh_keys"] = HTTPStatusError("HTTP 429", retry_after=5)
    assert rig.poller.poll() == INTERVAL - 2.0


def test_errors_beside_data_are_counted_and_the_data_is_used(rig: Rig) -> None:
    rig.answers["repos"] = brought(
        RepoList(REPO_LIST.repos, complete=False), error=GraphQLError("one resolver"), skipped=1
    )
    rig.poller.poll()
    assert rig.status.up
    assert rig.failures() == {"graphql": 1}
    assert rig.status.collectors["repos"].skipped == 1


def test_a_lost_root_field_is_a_failure_with_data(rig: Rig) -> None:
    rig.answers["ssh_keys"] = brought(
        SSHKeyList((), length=0), error=GraphQLError("lost"), whole=False
    )
    rig.poller.poll()
    assert not rig.status.collectors["ssh_keys"].success
    assert rig.status.collectors["ssh_keys"].part == SSHKeyList((), length=0)


def test_skipped_entries_are_those_of_the_last_poll(rig: Rig) -> None:
    rig.answers["repos"] = brought(REPO_LIST, skipped=2)
    rig.poller.poll()
    assert rig.status.collectors["repos"].skipped == 2
    rig.answers["repos"] = ConnectError("no answer")
    rig.poller.poll()
    assert rig.status.collectors["repos"].skipped == 0


def test_without_a_token_every_collector_fails_and_nothing_is_sent(rig: Rig) -> None:
    rig.source.error = TokenError("/run/token: No such file or directory")
    assert rig.poller.poll() == 30
    assert rig.tokens == []
    assert rig.failures("repos") == rig.failures("ssh_keys") == {"token": 1}
    assert "No such file" in rig.status.token_problem


def test_an_unreadable_token_leaves_the_old_one_in_use_and_is_counted(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.poller.poll()
    rig.source.error = TokenError("/run/token: is empty")
    rig.poller.poll()
    rig.poller.poll()
    assert rig.tokens == [CANARY] * 3
    assert rig.status.up
    assert rig.failures("repos") == rig.failures("ssh_keys") == {"token": 2}
    assert caplog.text.count("is empty") == 1
    rig.source.error = None
    rig.poller.poll()
    assert rig.failures() == {"token": 2}
    assert rig.status.token_problem == ""


def test_a_defect_is_logged_counted_and_survived(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.answers["repos"] = ZeroDivisionError("surprise")
    rig.poller.poll()
    assert rig.failures() == {"internal": 1}
    assert "surprise" in caplog.text
    assert rig.status.collectors["ssh_keys"].success


def test_a_missing_field_is_not_asked_for_again_until_the_next_day(rig: Rig) -> None:
    gone = frozenset({"RepoType.sftpEnabled"})
    rig.answers["repos"] = brought(REPO_LIST, gaps=gone, missing=gone)
    rig.poller.poll()
    learned = rig.now
    rig.now = learned + DRIFT_MEMORY - 10
    rig.poller.poll()
    rig.now = learned + DRIFT_MEMORY
    rig.poller.poll()
    rig.poller.poll()
    asked = [missing for name, missing, _ in rig.asked if name == "repos"]
    assert asked == [frozenset(), gone, frozenset(), gone]
    assert rig.status.collectors["repos"].gaps == gone
    rig.now += DRIFT_MEMORY
    rig.answers["repos"] = brought(REPO_LIST)
    rig.poller.poll()
    assert rig.status.collectors["repos"].gaps == frozenset()


def test_gaps_outlast_a_failed_poll(rig: Rig) -> None:
    gone = frozenset({"RepoType.sftpEnabled"})
    rig.answers["repos"] = brought(REPO_LIST, gaps=gone, missing=gone)
    rig.poller.poll()
    rig.answers["repos"] = ConnectError("no answer")
    rig.poller.poll()
    assert rig.status.collectors["repos"].gaps == gone


def test_a_failure_is_logged_when_it_begins_and_when_it_ends(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rig.answers["repos"] = ConnectError("no answer")
    for _ in range(3):
        rig.poller.poll()
    assert caplog.text.count("no answer") == 1
    rig.answers["repos"] = brought(REPO_LIST)
    for _ in range(3):
        rig.poller.poll()
    assert caplog.text.count("works again") == 1


def test_the_own_tokens_expiration_is_read(rig: Rig) -> None:
    # Its payload says that `exp` is 1700000500.
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOiAxNzAwMDAwNTAwfQ.c2lnbmF0dXJl"
    rig.poller._source = GivenToken("a test", jwt)
    rig.poller.poll()
    assert rig.status.token_expires == 1_700_000_500


def test_a_token_that_may_do_more_than_read_is_told_once(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = APITokenList((APIToken("1", "mine", "full_access"),), complete=True)
    rig.answers["tokens"] = brought(tokens)
    rig.poller._collectors = [*rig.poller._collectors, rig.scripted("tokens")]
    rig.poller.status = replace(
        rig.poller.status, collectors={**rig.poller.status.collectors, "tokens": CollectorStatus()}
    )
    rig.poller.poll()
    rig.poller.poll()
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


def test_run_polls_until_told_to_stop(rig: Rig) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) == 3

    rig.poller.run(wait)
    assert waits == [INTERVAL - 2.0] * 3
    assert rig.status.polls == 3


def test_a_loop_is_late_when_it_misses_its_next_sign_of_life(rig: Rig) -> None:
    late: list[bool] = []

    def wait(seconds: float) -> bool:
        rig.ticks += seconds + GRACE
        late.append(rig.poller.late > 0)
        rig.ticks += 1
        late.append(rig.poller.late > 0)
        return True

    rig.poller.run(wait)
    assert late == [False, True]


def test_a_poll_that_hangs_makes_the_loop_late(rig: Rig) -> None:
    late: list[bool] = []

    def hang() -> None:
        for seconds in (30.0 + GRACE, 1.0):
            rig.ticks += seconds
            late.append(rig.poller.late > 0)

    rig.during_a_poll = hang
    rig.poller.poll()
    assert late == [False, True]
