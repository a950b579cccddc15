"""One poll of one account: query each area of the API, record the outcome, set the next poll."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial

from borgbase_exporter.api.areas import Area
from borgbase_exporter.api.client import Client
from borgbase_exporter.api.history import BATCH, recent, usage
from borgbase_exporter.errors import DEFECT, REASONS, PollError, Reason, TokenError
from borgbase_exporter.model import AccountStatus, CollectorStatus, Failure
from borgbase_exporter.settings.options import Poll
from borgbase_exporter.text import DAY, count, span
from borgbase_exporter.tokens import TokenSource, expiration

log = logging.getLogger(__name__)

FIRST_BACKOFF = 30.0
JITTER = 0.1
DRIFT_MEMORY = 86_400.0  # seconds after which a missing field is requested again
RESERVE = 0.05  # the share of a poll's time that is kept for each collector still to come


Outcome = CollectorStatus | PollError


@dataclass(eq=False, repr=False)
class Poller:
    """Polls one account; `status` is what is known of it, `delay` the seconds to the next poll."""

    status: AccountStatus
    source: TokenSource
    client: Client
    areas: Sequence[Area]
    schedule: Poll
    daily: Client | None = None  # asks for daily usage alone: no other query waits for that
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = partial(random.uniform, 1 - JITTER, 1 + JITTER)
    delay: float = field(default=0.0, init=False)
    _token: str | None = field(default=None, init=False)
    _failures_in_a_row: int = field(default=0, init=False)
    _daily_due: float = field(default=float("-inf"), init=False)

    def __post_init__(self) -> None:
        unknown = CollectorStatus(failures=dict.fromkeys(REASONS, 0))
        collectors = dict.fromkeys((area.name for area in self.areas), unknown)
        self.status = replace(self.status, collectors=collectors)
        self._extra = {"account": self.status.name}

    def poll(self) -> AccountStatus:
        """Poll once, within the schedule's timeout, and return what is known then."""
        begun = self.monotonic()
        # An old part may have come from the future, before the clock was set back.
        self.status = self.status.as_of(self.clock(), self.schedule.max_age)
        before = self.status.collectors
        token_error = self._read_token()
        known = {name: _known_missing(c, self.clock()) for name, c in before.items()}
        outcomes = self._ask_all(known, begun + self.schedule.timeout, token_error)
        duration = self.monotonic() - begun
        now = self.clock()
        collectors = {n: _after(c, outcomes[n], known[n], now) for n, c in before.items()}
        if token_error and self._token:
            # The old token worked, but whoever rotates it should see that the new one does not.
            collectors = {n: _counted(c, token_error.reason) for n, c in collectors.items()}
        status = replace(
            self.status,
            collectors=collectors,
            polls=self.status.polls + 1,
            last_poll=now,
            duration=duration,
            token_problem=str(token_error or ""),
            token_expires=expiration(self._token) if self._token else None,
        )
        status = self._with_daily_usage(status, begun)
        self.delay = self._next_delay(outcomes.values(), self.monotonic() - begun, up=status.up)
        success = now if status.up else status.last_success
        status = replace(status, next_poll=self.clock() + self.delay, last_success=success)
        self._log_changes(self.status, status)
        self.status = status
        return status

    def _read_token(self) -> TokenError | None:
        """Read the token again; where that fails, log it once, and use the old one."""
        try:
            self._token = self.source.read()
        except TokenError as error:
            if self._token and str(error) != self.status.token_problem:
                log.warning("%s; the previous token remains in use", error, extra=self._extra)
            return error.without_frames()
        return None

    def _ask_all(
        self, known: Mapping[str, frozenset[str]], ends: float, token_error: TokenError | None
    ) -> dict[str, Outcome]:
        if self._token is None:
            return dict.fromkeys(known, token_error or TokenError("no token"))
        outcomes: dict[str, Outcome] = {}
        with closing(self.client):
            for to_come, area in zip(reversed(range(len(self.areas))), self.areas, strict=True):
                seconds = ends - self.monotonic() - RESERVE * self.schedule.timeout * to_come
                outcomes[area.name] = self._ask(area, self._token, known[area.name], seconds)
        return outcomes

    def _ask(self, area: Area, token: str, missing: frozenset[str], seconds: float) -> Outcome:
        try:
            return area.collect(self.client, token, missing, seconds=seconds)
        except PollError as error:
            return error.without_frames()
        except Exception:
            log.exception("a defect, please report it", extra=self._extra)
            return PollError(Reason.INTERNAL, DEFECT)

    def _with_daily_usage(self, status: AccountStatus, begun: float) -> AccountStatus:
        """Ask for it once a day at most, not at the start; a failure changes nothing."""
        repos = listed.repos if (listed := status.snapshot.repos) and listed.complete else ()
        due = status.polls > 1 and begun >= self._daily_due and 0 < len(repos) <= BATCH
        if not (due and status.up and self.daily and self._token):
            return status
        self._daily_due = begun + DAY
        seconds = begun + self.schedule.timeout - self.monotonic()
        try:
            with closing(self.daily):
                answer = self.daily.run(usage([r.id for r in repos]), self._token, seconds=seconds)
            return replace(status, daily=recent(answer, repos, self.clock()))
        except Exception as error:  # noqa: BLE001  # a defect costs no more than a refusal
            log.debug("no daily usage: %s", error, extra=self._extra)
            return status

    def _next_delay(self, outcomes: Iterable[Outcome], duration: float, *, up: bool) -> float:
        interval = self.schedule.interval
        errors = [outcome for outcome in outcomes if isinstance(outcome, PollError)]
        asked = max((error.retry_after or 0.0 for error in errors), default=0.0)
        if up:
            self._failures_in_a_row = 0
            # From the start of this poll to the start of the next, so that nothing drifts.
            delay = max(0.0, interval * self.jitter() - duration)
        else:
            backoff = FIRST_BACKOFF * 2.0 ** min(self._failures_in_a_row, 16)
            self._failures_in_a_row += 1
            delay = min(backoff, interval) * self.jitter()
        return max(delay, min(asked, interval))

    def _log_changes(self, before: AccountStatus, after: AccountStatus) -> None:
        """Log when failures begin and end, not each time; failures of one cause are one line."""
        begun: dict[Failure, list[str]] = {}
        recovered = []
        for name, now in after.collectors.items():
            earlier = before.collectors[name]
            if now.failure and now.failure != earlier.failure:
                begun.setdefault(now.failure, []).append(name)
            elif earlier.failure and not now.failure:
                recovered.append(name)
            for words in _news(earlier, now):
                log.warning("%s", words, extra=self._extra | {"collector": name})
        next_poll = {"next_poll": f"in {span(self.delay)}"} if after.interval else {}
        for failure, names in begun.items():
            extra = {"collector": ",".join(names), "reason": failure.reason}
            log.warning("%s", failure.message, extra=self._extra | extra | next_poll)
        if recovered:
            log.info("works again", extra=self._extra | {"collector": ",".join(recovered)})
        permission = after.token_permission
        if permission not in {None, "read_only", before.token_permission}:
            log.warning("the token is %s; a read-only one is enough", permission, extra=self._extra)
        repos = after.snapshot.repos
        found = count(len(repos.repos), "repo") if repos else "no repo list"
        if after.polls == 1 and not begun:
            log.info("the first poll succeeded: %s", found, extra=self._extra)
        seconds = {"up": after.up, "found": found, "seconds": f"{after.duration or 0:.3f}"}
        log.debug("polled", extra=self._extra | seconds | next_poll)


def _news(before: CollectorStatus, now: CollectorStatus) -> Iterator[str]:
    """Yield in words what has changed for a collector, apart from failures."""
    if gone := now.gaps - before.gaps:
        yield f"the API no longer has {', '.join(sorted(gone))}"
    if now.skipped not in {0, before.skipped}:
        yield f"{now.skipped} of the entries cannot be read"
    if now.fields_skipped not in {0, before.fields_skipped}:
        yield f"{now.fields_skipped} fields cannot be read"


def _known_missing(status: CollectorStatus, now: float) -> frozenset[str]:
    """Return the fields to leave out: those that were missing less than a day ago."""
    since = status.missing_since
    return frozenset() if since is None or now - since >= DRIFT_MEMORY else status.missing


def _after(
    before: CollectorStatus, outcome: Outcome, known: frozenset[str], now: float
) -> CollectorStatus:
    """Return a collector's status after this outcome of a poll."""
    if isinstance(outcome, PollError):
        failure = Failure(outcome.reason, str(outcome))
        after = replace(before, success=False, failure=failure, skipped=0, fields_skipped=0)
    else:
        since = before.missing_since if outcome.missing == known else now
        after = replace(outcome, taken=now, failures=before.failures, missing_since=since)
    return _counted(after, after.failure.reason) if after.failure else after


def _counted(status: CollectorStatus, reason: str) -> CollectorStatus:
    so_far = status.failures.get(reason, 0)
    return replace(status, failures={**status.failures, reason: so_far + 1})
