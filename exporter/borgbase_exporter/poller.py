"""The loop of one account: poll, publish, wait. The only place that catches poll failures."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from borgbase_exporter.api.client import Client
from borgbase_exporter.collectors import Collected, Collector
from borgbase_exporter.credentials import TokenSource, expiration
from borgbase_exporter.errors import REASONS, InternalError, PollError, TokenError
from borgbase_exporter.model import AccountStatus, CollectorStatus, Failure

log = logging.getLogger(__name__)

FIRST_BACKOFF = 30.0
JITTER = 0.1
DRIFT_MEMORY = 86_400.0
"""Seconds after which a field that was missing is asked for again."""
RESERVE = 0.05
"""The share of a poll's time that is kept back for each collector still to come."""
GRACE = 30.0
"""Seconds that a loop may be late before it counts as stuck."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How often to poll, and how long a poll may take; seconds."""

    interval: float
    timeout: float


def _spread() -> float:
    return random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  # spreads load, guards nothing


class Poller:
    """Polls one account and publishes its status."""

    def __init__(
        self,
        account: str,
        token: TokenSource,
        collectors: Sequence[Collector],
        connect: Callable[[str], AbstractContextManager[Client]],
        publish: Callable[[AccountStatus], None],
        schedule: Schedule,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = _spread,
    ) -> None:
        self._source = token
        self._collectors = collectors
        self._connect = connect
        self._publish = publish
        self._schedule = schedule
        self._clock = clock
        self._monotonic = monotonic
        self._jitter = jitter
        self._token: str | None = None
        self._failures_in_a_row = 0
        self._due = monotonic() + GRACE
        self.status = AccountStatus(
            account,
            {c.name: CollectorStatus(failures=dict.fromkeys(REASONS, 0)) for c in collectors},
        )

    @property
    def late(self) -> float:
        """Seconds since the loop should have shown a sign of life; negative while in time."""
        return self._monotonic() - self._due

    def run(self, wait: Callable[[float], bool]) -> None:
        """Poll until `wait(seconds)` returns true."""
        while True:
            delay = self.poll()
            self._due = self._monotonic() + delay + GRACE
            if wait(delay):
                return

    def poll(self) -> float:
        """Poll once and publish the outcome; return the seconds until the next poll."""
        begun = self._monotonic()
        self._due = begun + self._schedule.timeout + GRACE
        token_error = self._read_token()
        known = {name: _known_missing(c, self._clock()) for name, c in self._before.items()}
        outcomes = self._ask_all(known, token_error)
        duration = self._monotonic() - begun
        now = self._clock()
        collectors = {
            name: _after(before, outcomes[name], known[name], now)
            for name, before in self._before.items()
        }
        if token_error and self._token:
            # The old token served, but whoever rotates it should see that the new one does not.
            collectors = {name: _counted(c, token_error) for name, c in collectors.items()}
        status = replace(
            self.status,
            collectors=collectors,
            token_expires=expiration(self._token) if self._token else None,
        )
        self._log_changes(status)
        delay = self._delay(outcomes.values(), duration, up=status.up)
        self.status = replace(
            status,
            polls=status.polls + 1,
            last_poll=now,
            next_poll=now + delay,
            last_success=now if status.up else status.last_success,
            duration=duration,
            token_problem=str(token_error or ""),
        )
        self._publish(self.status)
        return max(0.0, delay - (self._monotonic() - begun - duration))  # what publishing took

    def _read_token(self) -> TokenError | None:
        """Renew the token; where that fails, say so once, and let the old one serve on."""
        try:
            self._token = self._source.read()
        except TokenError as error:
            if self._token and str(error) != self.status.token_problem:
                log.warning("%s; the token read before serves on", error, extra=self._extra)
            return error
        return None

    def _ask_all(
        self, known: Mapping[str, frozenset[str]], token_error: TokenError | None
    ) -> dict[str, Collected | PollError]:
        if self._token is None:
            failure: PollError = token_error or TokenError("no token")
            return {collector.name: failure for collector in self._collectors}
        share = RESERVE * self._schedule.timeout
        with self._connect(self._token) as client:
            return {
                collector.name: self._ask(collector, client, known[collector.name], share * to_come)
                for to_come, collector in zip(
                    reversed(range(len(self._collectors))), self._collectors, strict=True
                )
            }

    def _ask(
        self, collector: Collector, client: Client, missing: frozenset[str], reserve: float
    ) -> Collected | PollError:
        try:
            return collector.collect(client, missing, reserve=reserve)
        except PollError as error:
            return error
        except Exception:
            log.exception("a defect, please report it", extra=self._extra)
            return InternalError("a defect of the exporter; its log has the details")

    def _delay(
        self, outcomes: Iterable[Collected | PollError], duration: float, *, up: bool
    ) -> float:
        interval = self._schedule.interval
        asked = max(
            (o.retry_after for o in outcomes if isinstance(o, PollError) and o.retry_after),
            default=0.0,
        )
        if up:
            self._failures_in_a_row = 0
            # From the start of this poll to the start of the next, so that nothing drifts.
            delay = max(0.0, interval * self._jitter() - duration)
        else:
            backoff = FIRST_BACKOFF * 2.0 ** min(self._failures_in_a_row, 16)
            self._failures_in_a_row += 1
            delay = min(backoff, interval) * self._jitter()
        return max(delay, min(asked, interval))

    def _log_changes(self, status: AccountStatus) -> None:
        """Log each failure when it begins and when it ends, not every time, a line per cause."""
        begun: dict[Failure, list[str]] = {}
        for name, now in status.collectors.items():
            before = self._before[name]
            extra = self._extra | {"collector": name}
            if now.failure and now.failure != before.failure:
                begun.setdefault(now.failure, []).append(name)
            elif before.failure and not now.failure:
                log.info("works again", extra=extra)
            if now.gaps - before.gaps:
                fields = ", ".join(sorted(now.gaps - before.gaps))
                log.warning("the API no longer has %s", fields, extra=extra)
            if now.skipped and now.skipped != before.skipped:
                log.warning("%d entries cannot be read", now.skipped, extra=extra)
        for failure, names in begun.items():
            extra = self._extra | {"collector": ",".join(names), "reason": failure.reason}
            log.warning("%s", failure.message, extra=extra)
        permission = status.token_permission
        if permission not in {None, "read_only", self.status.token_permission}:
            log.warning("the token is %s; a read-only one is enough", permission, extra=self._extra)
        if not self.status.polls and all(c.success for c in status.collectors.values()):
            log.info("the first poll succeeded", extra=self._extra)

    @property
    def _before(self) -> Mapping[str, CollectorStatus]:
        return self.status.collectors

    @property
    def _extra(self) -> dict[str, str]:
        return {"account": self.status.name}


def _known_missing(status: CollectorStatus, now: float) -> frozenset[str]:
    """Return the fields not to ask for: those that were missing less than a day ago."""
    since = status.missing_since
    return frozenset() if since is None or now - since >= DRIFT_MEMORY else status.missing


def _after(
    before: CollectorStatus, outcome: Collected | PollError, known: frozenset[str], now: float
) -> CollectorStatus:
    """Return what a collector's status becomes by the outcome of a poll."""
    if isinstance(outcome, PollError):
        failed = replace(before, success=False, skipped=0, failure=_failure(outcome))
        return _counted(failed, outcome)
    status = CollectorStatus(
        part=outcome.part,
        taken=now,
        success=outcome.whole,
        failure=_failure(outcome.error) if outcome.error else None,
        failures=before.failures,
        skipped=outcome.skipped,
        gaps=outcome.gaps,
        missing=outcome.missing,
        missing_since=before.missing_since if outcome.missing == known else now,
    )
    return _counted(status, outcome.error) if outcome.error else status


def _failure(error: PollError) -> Failure:
    return Failure(error.reason, str(error))


def _counted(status: CollectorStatus, error: PollError) -> CollectorStatus:
    count = status.failures.get(error.reason, 0) + 1
    return replace(status, failures={**status.failures, error.reason: count})
