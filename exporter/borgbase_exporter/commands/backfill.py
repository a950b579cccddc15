"""`backfill`: fetch the accounts' history, then write it as OpenMetrics.

No more than one batch of repos is held in memory: the unit of the daily values is known only when
all have been fetched, so they wait in an unnamed file.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, TextIO

import click
import msgspec

from borgbase_exporter import settings
from borgbase_exporter.api.areas import AREAS
from borgbase_exporter.api.client import Answer, Client
from borgbase_exporter.api.history import BILLED, Days, billed_days, usage, usage_days
from borgbase_exporter.api.query import Query
from borgbase_exporter.commands.oneshot import INTERRUPTED, interruptible, replacing
from borgbase_exporter.errors import AuthError, GraphQLError, PollError, RedirectError, TLSError
from borgbase_exporter.findings.problems import ADVICE, RETRY
from borgbase_exporter.metrics.samples import (
    UNITS,
    Grid,
    Series,
    Total,
    calibrate,
    header,
    held,
    lines,
)
from borgbase_exporter.model import Repo, RepoList
from borgbase_exporter.settings.readers import Moment
from borgbase_exporter.text import DAY, printable, size

BATCH = 50
"""Repos in a query; two years of theirs are about 2 MB."""
PAUSE = 1.0
"""Seconds between two queries."""
LONGEST_PAUSE = 60.0
TRIES = 5
"""How often a query may fail in a row; each next one waits longer and asks for half as much."""
PERMANENT = (AuthError, RedirectError, TLSError)
HEAD = 3 * 3600.0
"""Seconds that Prometheus may hold in memory alone, its head block. When it starts, it drops from
there whatever is older than the end of its newest block: none may reach into that time."""
LABELS = {"job": "borgbase", "instance": "localhost:10133"}
"""What Prometheus adds to the series by the configuration that ships with the exporter."""
LONGEST_NAME = 60

Wait = Callable[[float], None]
Ask = Callable[[Query], Answer]


class BackfillError(Exception):
    """Why nothing was written, in words."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account, and what to write of it."""

    name: str
    ask: Ask
    repos: Mapping[str, Repo]
    """By id."""
    complete: bool
    """Whether these are all the repos that it has."""
    billed: Days


def run(
    given: settings.Backfill, wait: Wait = time.sleep, clock: Callable[[], float] = time.time
) -> int:
    """Write the accounts' history to a file; return the exit status."""
    problems: list[str] = []
    try:
        with interruptible():
            _run(given, clock(), wait, problems)
    except BackfillError as error:
        problems.append(str(error))
    except OSError as error:
        problems.append(f"{given.output}: cannot be written: {error.strerror}")
    except KeyboardInterrupt:
        problems.append("interrupted; nothing was written")
        return INTERRUPTED
    finally:
        for problem in problems:
            _print(f"{settings.PROGRAM}: {problem}", sys.stderr)
    return 1 if problems else 0


def _print(text: str, file: TextIO | None = None) -> None:
    print(printable(text), file=file)


def _run(given: settings.Backfill, now: float, wait: Wait, problems: list[str]) -> None:
    since, until = _timestamp(given.since, now), _timestamp(given.until, now)
    if until > now - HEAD:
        raise BackfillError("--until: must be 3h ago or more, for Prometheus' own newest samples")
    if since >= until:
        raise BackfillError("--since: is not before --until, so there is nothing to write")
    output = given.output.resolve()
    if output.exists() and not output.is_file():
        raise BackfillError(f"{given.output}: is not a file")
    with tempfile.TemporaryFile(dir=output.parent) as file, replacing(output) as draft:
        accounts = _accounts(given, wait, problems)
        fetched = Fetched(file)
        _fetch(accounts, fetched, wait, problems)
        units = {account.name: _unit(account, fetched, given.unit) for account in accounts}
        grid = Grid(since, until, given.dense)
        writer = Writer(draft, grid, LABELS | dict(given.labels))
        _write(accounts, fetched, units, writer)
        draft.write(b"# EOF\n")
    written = f"{writer.samples:,} samples of {writer.series:,} series"
    _print(f"{given.output}: {written}, {size(output.stat().st_size)}")


def _timestamp(moment: Moment, now: float) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else now - moment.total_seconds()


# ---- Fetching


def _accounts(given: settings.Backfill, wait: Wait, problems: list[str]) -> list[Account]:
    """Ask for each account's repos and bill; raise BackfillError if a wanted repo is missing."""
    assert given.tokens  # noqa: S101  # missing with --demo only, and then filled in
    accounts: list[Account] = []
    with _explained("tokens"):
        sources = given.tokens.sources()
    if not sources:
        raise BackfillError("no token files, so there is nothing to ask for")
    for name, source in sources.items():
        if accounts:
            wait(PAUSE)
        with _explained(f"account {name}"):
            accounts.append(_account(given, name, source.read(), problems))
    found = {word for a in accounts for repo in a.repos.values() for word in (repo.id, repo.name)}
    if unknown := [word for word in given.repos if word not in found]:
        # A word that is too long for a name may be a token given by mistake.
        quoted = (w if len(w) <= LONGEST_NAME else f"word of {len(w)} characters" for w in unknown)
        raise BackfillError(f"--repo: there is no {', no '.join(quoted)}")
    return accounts


def _account(given: settings.Backfill, name: str, token: str, problems: list[str]) -> Account:
    client, seconds, wanted = Client(given.api), given.poll.timeout, set(given.repos)

    def ask(query: Query) -> Answer:
        return client.run(query, token, seconds=seconds)

    area = next(area for area in AREAS if area.name == "repos")
    listed = area.collect(client, token, seconds=seconds).part
    assert isinstance(listed, RepoList)  # noqa: S101  # the area's part
    chosen = {r.id: r for r in listed.repos if not wanted or {r.id, r.name} & wanted}
    try:
        billed = billed_days(ask(BILLED))
    except PollError as error:
        problems.append(f"account {name}: without the billed usage: {error}")
        billed = {}
    return Account(name, ask, chosen, listed.complete and not wanted, billed)


@contextlib.contextmanager
def _explained(where: str) -> Iterator[None]:
    """Add to a PollError where it comes from and what to do."""
    try:
        yield
    except PollError as error:
        raise BackfillError(f"{where}: {error}: {ADVICE.get(error.reason, RETRY)}") from None


def _fetch(accounts: Sequence[Account], fetched: Fetched, wait: Wait, problems: list[str]) -> None:
    """Ask for the daily usage of all repos."""
    with _progress("Asking BorgBase", sum(len(a.repos) for a in accounts)) as advance:
        for account in accounts:
            with _explained(f"account {account.name}"):
                for repo_ids, answer in _answers(account.ask, [*account.repos], wait):
                    for number, repo_id in enumerate(repo_ids):
                        try:
                            fetched.add(account.name, repo_id, usage_days(answer, number))
                        except GraphQLError as error:
                            name = account.repos[repo_id].name
                            problems.append(f"account {account.name}: without repo {name}: {error}")
                    advance(len(repo_ids))


def _answers(
    ask: Ask, repo_ids: Sequence[str], wait: Wait
) -> Iterator[tuple[Sequence[str], Answer]]:
    """Ask for a batch of repos at a time; yield it with the answer."""
    batch_size, failures = BATCH, 0
    while repo_ids:
        batch = repo_ids[:batch_size]
        try:
            answer = ask(usage(batch))
        except PERMANENT:
            raise
        except PollError as error:
            failures += 1
            if failures == TRIES:
                raise
            batch_size = max(1, batch_size // 2)
            wait(min(LONGEST_PAUSE, max(PAUSE * 2**failures, error.retry_after or 0)))
            continue
        yield batch, answer
        repo_ids = repo_ids[len(batch) :]
        batch_size, failures = min(BATCH, batch_size + 1), 0
        if repo_ids:
            wait(PAUSE)


class Fetched:
    """The daily usage of repos in a file, a line each."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.values: dict[tuple[str, str], tuple[float, float] | None] = {}
        """By account and repo: the newest daily value, and the greatest; None without any."""

    def add(self, account: str, repo_id: str, days: Days) -> None:
        """Add the daily usage of a repo, in the API's unit."""
        self._file.write(msgspec.json.encode((account, repo_id, days)) + b"\n")
        self.values[account, repo_id] = (days[max(days)], max(days.values())) if days else None

    def __iter__(self) -> Iterator[tuple[str, str, Days]]:
        self._file.seek(0)
        for line in self._file:
            yield msgspec.json.decode(line, type=tuple[str, str, Days])


# ---- Writing


def _unit(account: Account, fetched: Fetched, given: int | None) -> int:
    """Return how many bytes the daily values count; raise BackfillError when that is unclear."""
    if given:
        return given
    known = [
        (values, repo.usage)
        for repo in account.repos.values()
        if (values := fetched.values.get((account.name, repo.id)))
    ]
    if not any(greatest for (_, greatest), _ in known):
        return 1  # nothing but zeros
    found = calibrate((newest, now) for (newest, _), now in known if now is not None)
    fit = f"{found.unit}, which fits {found.fits} of {found.compared} repos"
    if not found.convincing:
        raise BackfillError(
            f"account {account.name}: the unit of the daily values is unclear: by the current "
            f"usage it is at best {fit}; give it with --unit, such as 1MB"
        )
    _print(f"Account {account.name}: the daily values are in {fit}")
    return UNITS[found.unit]


class Writer:
    """Writes metrics to a file, and counts their series and samples."""

    def __init__(self, file: BinaryIO, grid: Grid, labels: Mapping[str, str]) -> None:
        self._file = file
        self._grid = grid
        self._labels = labels
        self.series = 0
        self.samples = 0

    def write(self, metric: str, found: Iterable[tuple[Mapping[str, str], Series, int]]) -> None:
        """Write the series of a metric that have samples: labels, values and their unit."""
        self._file.write(header(metric))
        for labels, series, unit in found:
            before = self.samples
            for chunk in lines(metric, {**labels, **self._labels}, series, unit, self._grid):
                self._file.write(chunk)
                self.samples += chunk.count(b"\n")
            self.series += self.samples > before


def _write(
    accounts: Sequence[Account], fetched: Fetched, units: Mapping[str, int], writer: Writer
) -> None:
    repos = {account.name: account.repos for account in accounts}
    totals = {account.name: Total() for account in accounts}

    def usage_of_repos() -> Iterator[tuple[Mapping[str, str], Series, int]]:
        with _progress("Writing", len(fetched.values)) as advance:
            for account, repo_id, days in fetched:
                labels = {"repo_id": repo_id, "repo": repos[account][repo_id].name}
                yield {"account": account, **labels}, held(days), units[account]
                totals[account].add(days)
                advance(1)

    writer.write("borgbase_repo_usage_bytes", usage_of_repos())
    writer.write(
        "borgbase_account_usage_bytes",
        (
            ({"account": a.name}, _total(a, fetched, totals[a.name]), units[a.name])
            for a in accounts
            if a.complete
        ),
    )
    writer.write(
        "borgbase_account_billed_usage_bytes",
        (({"account": a.name}, held(a.billed), 1) for a in accounts),
    )
    if not writer.samples:
        raise BackfillError("there is nothing to write: no daily values in that time")


def _total(account: Account, fetched: Fetched, total: Total) -> Series:
    """Return the account's usage until the first repo whose history is unknown began."""
    for repo in account.repos.values():
        if repo.usage and not fetched.values.get((account.name, repo.id)):
            total.begin(int((repo.created or 0) // DAY))
    return total.series()


@contextlib.contextmanager
def _progress(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal; yield what advances it."""
    if not sys.stderr.isatty():
        yield lambda _steps: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update
