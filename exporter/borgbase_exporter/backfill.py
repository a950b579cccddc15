"""`backfill`: fetches the accounts' history, then writes it as OpenMetrics.

What was fetched is kept in a file next to the output until that is written: an interrupted run goes
on where it stopped, and no more than one batch of repos is ever held in memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Self, TextIO

import msgspec
from rich.console import Console
from rich.filesize import decimal
from rich.progress import Progress

from borgbase_exporter import __version__
from borgbase_exporter.api import decode
from borgbase_exporter.api.client import Answer, connect
from borgbase_exporter.api.documents import REPOS, Document
from borgbase_exporter.api.usage import BILLED, Days, billed_days, usage, usage_days
from borgbase_exporter.config import MAX_QUOTED, PROGRAM, Backfill, Config, Moment
from borgbase_exporter.credentials import AccountTokens
from borgbase_exporter.diagnosis import ADVICE, RETRY
from borgbase_exporter.errors import AuthError, GraphQLError, PollError, RedirectError, TLSError
from borgbase_exporter.history import (
    DAY,
    UNITS,
    Grid,
    Series,
    Total,
    calibrate,
    header,
    held,
    lines,
)
from borgbase_exporter.model import Repo
from borgbase_exporter.text import redacted

BATCH = 50
"""Repos in a query; two years of theirs are about 2 MB."""
PAUSE = 1.0
"""Seconds between two queries."""
LONGEST_PAUSE = 60.0
TRIES = 5
"""How often a query may fail in a row; each next one waits longer and asks for half as much."""
HOPELESS = (AuthError, RedirectError, TLSError)
HEAD = 3 * 3600.0
"""Seconds that Prometheus may hold in memory alone, its head block. When it starts, it drops from
there whatever is older than the end of its newest block: none may reach into that time."""
INTERRUPTED = 130
LABELS = {"job": "borgbase", "instance": "localhost:10133"}
"""What Prometheus adds to the series by the configuration that ships with the exporter."""

Wait = Callable[[float], None]


class BackfillError(Exception):
    """Why nothing was written, in words."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account, and what to write of it."""

    name: str
    ask: Callable[[Document], Answer]
    repos: Mapping[str, Repo]
    """By id."""
    complete: bool
    """Whether these are all the repos that it has."""
    billed: Days


def backfill(
    config: Config,
    tokens: AccountTokens,
    wait: Wait = time.sleep,
    clock: Callable[[], float] = time.time,
) -> int:
    """Write the accounts' history to a file; return the exit status."""
    settings = config.backfill
    assert settings  # noqa: S101  # it comes with the command
    problems: list[str] = []
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _backfill(config, settings, tokens, clock(), wait, problems)
    except BackfillError as error:
        problems.append(str(error))
    except OSError as error:
        problems.append(f"{settings.output}: cannot be written: {error.strerror}")
    except KeyboardInterrupt:
        problems.append("interrupted; the same command goes on from here")
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
        for problem in problems:
            _say(f"{PROGRAM}: {problem}", sys.stderr)
    return 1 if problems else 0


def _say(text: str, file: TextIO | None = None) -> None:
    print(redacted(text, ""), file=file)


def _backfill(
    config: Config,
    settings: Backfill,
    tokens: AccountTokens,
    now: float,
    wait: Wait,
    problems: list[str],
) -> None:
    since, until = _timestamp(settings.since, now), _timestamp(settings.until, now)
    if until > now - HEAD:
        raise BackfillError("--until: must be 3h ago or more, for Prometheus' own newest samples")
    if since >= until:
        raise BackfillError("--since: is not before --until, so there is nothing to write")
    output = settings.output.resolve()
    if output.exists() and not output.is_file():
        raise BackfillError(f"{settings.output}: is not a file")
    # What was fetched on another day lacks the end of that day.
    mark = msgspec.json.encode([__version__, config.api.url, now // DAY])
    with Kept(_beside(output, "partial"), mark) as kept:
        accounts = _accounts(config, settings.repos, tokens, wait, problems)
        _fetch(accounts, kept, wait, problems)
        units = {account.name: _unit(account, kept, settings.unit) for account in accounts}
        grid = Grid(since, until, settings.dense)
        with _replacing(output) as file:
            writer = Writer(file, grid, LABELS | dict(settings.labels))
            _write(accounts, kept, units, writer)
        kept.path.unlink()
    size = decimal(output.stat().st_size)
    _say(f"{settings.output}: {writer.samples:,} samples of {writer.series:,} series, {size}")


def _timestamp(moment: Moment, now: float) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else now - moment.total_seconds()


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


# Fetching.


def _accounts(
    config: Config, wanted: Sequence[str], tokens: AccountTokens, wait: Wait, problems: list[str]
) -> list[Account]:
    """Ask which repos there are and what was billed; complain when a wanted repo is not there."""
    accounts: list[Account] = []
    with _blamed("tokens"):
        sources = tokens.sources()
    if not sources:
        raise BackfillError("no token files, so there is nothing to ask for")
    for name, source in sources.items():
        if accounts:
            wait(PAUSE)
        with _blamed(f"account {name}"):
            ask = partial(_ask, config, source.read())
            listed, _ = decode.repos(ask(REPOS))
        chosen = {r.id: r for r in listed.repos if not wanted or {r.id, r.name} & set(wanted)}
        try:
            billed = billed_days(ask(BILLED))
        except PollError as error:
            problems.append(f"account {name}: without the billed usage: {error}")
            billed = {}
        accounts.append(Account(name, ask, chosen, listed.complete and not wanted, billed))
    found = {word for a in accounts for repo in a.repos.values() for word in (repo.id, repo.name)}
    if unknown := [word for word in wanted if word not in found]:
        # What is too long for a name may be a token that went astray.
        quoted = (w if len(w) <= MAX_QUOTED else f"word of {len(w)} characters" for w in unknown)
        raise BackfillError(f"--repo: there is no {', no '.join(quoted)}")
    return accounts


def _ask(config: Config, token: str, document: Document) -> Answer:
    """Ask in the time of a whole poll."""
    with connect(config.api, config.timeout, token) as client:
        return client.run(document)


@contextlib.contextmanager
def _blamed(where: str) -> Iterator[None]:
    """Say of a PollError where it comes from and what to do."""
    try:
        yield
    except PollError as error:
        raise BackfillError(f"{where}: {error}: {ADVICE.get(error.reason, RETRY)}") from None


def _fetch(accounts: Sequence[Account], kept: Kept, wait: Wait, problems: list[str]) -> None:
    """Ask for the daily usage of the repos whose is not kept yet."""
    todo = {a.name: [i for i in a.repos if (a.name, i) not in kept.values] for a in accounts}
    with _progress("Asking BorgBase", sum(map(len, todo.values()))) as advance:
        for account in accounts:
            with _blamed(f"account {account.name}"):
                for repo_ids, answer in _answers(account.ask, todo[account.name], wait):
                    for number, repo_id in enumerate(repo_ids):
                        try:
                            kept.add(account.name, repo_id, usage_days(answer, number))
                        except GraphQLError as error:
                            name = account.repos[repo_id].name
                            problems.append(f"account {account.name}: without repo {name}: {error}")
                    kept.flush()
                    advance(len(repo_ids))


def _answers(
    ask: Callable[[Document], Answer], repo_ids: Sequence[str], wait: Wait
) -> Iterator[tuple[Sequence[str], Answer]]:
    """Ask for a batch of repos at a time; give it with the answer."""
    size, failures = BATCH, 0
    while repo_ids:
        batch = repo_ids[:size]
        try:
            answer = ask(usage(batch))
        except HOPELESS:
            raise
        except PollError as error:
            failures += 1
            if failures == TRIES:
                raise
            size = max(1, size // 2)
            wait(min(LONGEST_PAUSE, max(PAUSE * 2**failures, error.retry_after or 0)))
            continue
        yield batch, answer
        repo_ids = repo_ids[len(batch) :]
        size, failures = min(BATCH, size + 1), 0
        if repo_ids:
            wait(PAUSE)


class _Record(msgspec.Struct, array_like=True):
    account: str
    repo_id: str
    days: Days


class Kept:
    """A file of what was fetched, a line per repo, after a `mark` that tells what it is good for.

    What it holds under another mark is thrown away, and so is a last line that was cut off.
    """

    def __init__(self, path: Path, mark: bytes) -> None:
        self.path = path
        self.values: dict[tuple[str, str], tuple[float, float] | None] = {}
        """By account and repo: the newest daily value, and the greatest; None without any."""
        self._mark = mark + b"\n"
        self._file = path.open("a+b")

    def __enter__(self) -> Self:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise BackfillError(f"{self.path}: another backfill is at work on it") from None
        self._file.seek(0)
        good = 0
        for line in self._file:
            if not line.endswith(b"\n") or (not good and line != self._mark):
                break
            if good:
                self._note(msgspec.json.decode(line, type=_Record))
            good += len(line)
        self._file.truncate(good)
        if not good:
            self._file.write(self._mark)
        return self

    def __exit__(self, *_: object) -> None:
        if not self.values:
            self.path.unlink(missing_ok=True)
        self._file.close()

    def add(self, account: str, repo_id: str, days: Days) -> None:
        """Keep the daily usage of a repo, in the API's unit."""
        record = _Record(account, repo_id, days)
        self._file.write(msgspec.json.encode(record) + b"\n")
        self._note(record)

    def _note(self, record: _Record) -> None:
        days = record.days
        values = (days[max(days)], max(days.values())) if days else None
        self.values[record.account, record.repo_id] = values

    def flush(self) -> None:
        """Have what was added outlive this process."""
        self._file.flush()

    def __iter__(self) -> Iterator[_Record]:
        self._file.seek(len(self._mark))
        for line in self._file:
            yield msgspec.json.decode(line, type=_Record)


# Writing.


def _unit(account: Account, kept: Kept, given: int | None) -> int:
    """Return how many bytes the daily values count; raise BackfillError when that is unclear."""
    if given:
        return given
    known = [
        (values, repo.usage)
        for repo in account.repos.values()
        if (values := kept.values.get((account.name, repo.id)))
    ]
    if not any(greatest for (_, greatest), _ in known):
        return 1  # of nothing but zeros
    found = calibrate((newest, now) for (newest, _), now in known if now is not None)
    fit = f"{found.unit}, which fits {found.fits} of {found.compared} repos"
    if not found.convincing:
        raise BackfillError(
            f"account {account.name}: the unit of the daily values is unclear: by the current "
            f"usage it is at best {fit}; give it with --unit, such as 1MB"
        )
    _say(f"Account {account.name}: the daily values are in {fit}")
    return UNITS[found.unit]


class Writer:
    """Writes series to a file, metric by metric, and counts them."""

    def __init__(self, file: BinaryIO, grid: Grid, labels: Mapping[str, str]) -> None:
        self._file = file
        self._grid = grid
        self._labels = labels
        self._metric = ""
        self.series = 0
        self.samples = 0

    def metric(self, name: str) -> None:
        """Begin a metric: all of its series follow."""
        self._metric = name
        self._file.write(header(name))

    def end(self) -> None:
        """End the file."""
        self._file.write(b"# EOF\n")

    def write(self, labels: Mapping[str, str], series: Series, unit: int = 1) -> None:
        """Write a series, if it has samples."""
        before = self.samples
        for chunk in lines(self._metric, {**labels, **self._labels}, series, unit, self._grid):
            self._file.write(chunk)
            self.samples += chunk.count(b"\n")
        self.series += self.samples > before


def _write(
    accounts: Sequence[Account], kept: Kept, units: Mapping[str, int], writer: Writer
) -> None:
    by_name = {account.name: account for account in accounts}
    totals = {account.name: Total() for account in accounts}
    writer.metric("borgbase_repo_usage_bytes")
    with _progress("Writing", sum(len(account.repos) for account in accounts)) as advance:
        for record in kept:
            account = by_name.get(record.account)
            repo = account and account.repos.get(record.repo_id)
            if account and repo:
                labels = {"account": account.name, "repo_id": repo.id, "repo": repo.name}
                writer.write(labels, held(record.days), units[account.name])
                totals[account.name].add(record.days)
                advance(1)
    writer.metric("borgbase_account_usage_bytes")
    for account in accounts:
        if account.complete:
            series = _total(account, kept, totals[account.name])
            writer.write({"account": account.name}, series, units[account.name])
    writer.metric("borgbase_account_billed_usage_bytes")
    for account in accounts:
        writer.write({"account": account.name}, held(account.billed))
    if not writer.samples:
        raise BackfillError("there is nothing to write: no daily values in that time")
    writer.end()


def _total(account: Account, kept: Kept, total: Total) -> Series:
    """Give the account's usage, until a repo whose history is unknown came to it."""
    for repo in account.repos.values():
        if repo.usage and not kept.values.get((account.name, repo.id)):
            total.begin(int((repo.created or 0) // DAY))
    return total.series()


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file that takes the place of another once it is whole."""
    draft = _beside(path, "draft")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[float], None]]:
    """Show a bar on a terminal; give a function that moves it on."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        yield partial(progress.advance, progress.add_task(what, total=total))
