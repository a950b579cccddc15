"""`backfill`: fetch the accounts' history, then write it as OpenMetrics.

At most one batch of repos is in memory. The unit of an account's daily values is known only after
all have been fetched; until then an unnamed file holds them.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import BinaryIO

import click
import msgspec

from borgbase_exporter import settings
from borgbase_exporter.api.areas import AREAS
from borgbase_exporter.api.client import Answer, Client
from borgbase_exporter.api.history import BATCH, BILLED, Days, billed_days, usage, usage_days
from borgbase_exporter.api.query import Query
from borgbase_exporter.commands import oneshot
from borgbase_exporter.commands.oneshot import CommandError
from borgbase_exporter.errors import PollError, Reason
from borgbase_exporter.findings.problems import ADVICE, RETRY
from borgbase_exporter.metrics.samples import UNITS, Grid, Total, Writer, calibrate, held
from borgbase_exporter.model import Repo, RepoList
from borgbase_exporter.settings.readers import Moment
from borgbase_exporter.text import DAY, printable, size

PAUSE = 1.0  # seconds between two queries
LONGEST_PAUSE = 60.0
TRIES = 5  # failures in a row; each next try waits longer and asks for half as much
PERMANENT = {Reason.AUTH, Reason.REDIRECT, Reason.TLS}
HEAD = 3 * 3600.0
"""Seconds that Prometheus's head block, which is only in memory, may span. At its start, Prometheus
drops head samples older than the end of its newest block: no imported block may reach there."""
LABELS = {"job": "borgbase", "instance": "localhost:10133"}  # what the shipped configuration adds
LONGEST_NAME = 60

Wait = Callable[[float], None]


@dataclass(slots=True)
class Account:
    """An account, and what to write of it."""

    name: str
    ask: Callable[[Query], Answer]
    repos: Mapping[str, Repo]
    complete: bool  # whether these are all the repos that it has
    unit: int | None  # bytes that the daily values count, as soon as that is known
    billed: Days = field(default_factory=dict)
    total: Total = field(default_factory=Total)


def run(
    given: settings.Backfill, wait: Wait = time.sleep, clock: Callable[[], float] = time.time
) -> int:
    """Write the accounts' history to a file; return the exit status."""
    problems: list[str] = []
    work = functools.partial(_run, given, clock(), wait, problems)
    status = oneshot.run(work, problems.append, 1, given.output)
    if status == oneshot.INTERRUPTED:
        problems.append("interrupted; nothing was written")
    for problem in problems:
        click.echo(printable(f"{settings.PROGRAM}: {problem}"), err=True)
    return status


def _run(given: settings.Backfill, now: float, wait: Wait, problems: list[str]) -> int:
    since, until = _timestamp(given.since, now), _timestamp(given.until, now)
    if until > now - HEAD:
        raise CommandError("--until: must be 3h ago or more, or Prometheus drops recent samples")
    if since >= until:
        raise CommandError("--since: is not before --until, so there is nothing to write")
    output = given.output.resolve()
    if output.exists() and not output.is_file():
        raise CommandError(f"{given.output}: is not a file")
    with tempfile.TemporaryFile(dir=output.parent) as waiting, oneshot.replacing(output) as draft:
        writer = Writer(draft, Grid(since, until, given.dense), LABELS | dict(given.labels))
        accounts = _accounts(given, wait, problems)
        writer.begin("borgbase_repo_usage_bytes")
        for account in accounts:
            _write_repos(account, _fetch(account, wait, problems), waiting, writer)
        writer.begin("borgbase_account_usage_bytes")
        for account in (account for account in accounts if account.complete):
            writer.write({"account": account.name}, account.total.series(), account.unit or 1)
        writer.begin("borgbase_account_billed_usage_bytes")
        for account in accounts:
            writer.write({"account": account.name}, held(account.billed))
        if not writer.samples:
            raise CommandError("there is nothing to write: no daily values in that time")
        draft.write(b"# EOF\n")
    written = f"{writer.samples:,} samples of {writer.series:,} series"
    click.echo(printable(f"{given.output}: {written}, {size(output.stat().st_size)}"))
    return 1 if problems else 0


def _timestamp(moment: Moment, now: float) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else now - moment.total_seconds()


def _accounts(given: settings.Backfill, wait: Wait, problems: list[str]) -> list[Account]:
    """Fetch each account's repos and bill; raise CommandError if a wanted repo is missing."""
    assert given.tokens  # noqa: S101  # missing with --demo only, and then filled in
    accounts: list[Account] = []
    with _explained("tokens"):
        sources = given.tokens.sources()
    for name, source in sources.items():
        if accounts:
            wait(PAUSE)
        with _explained(f"account {name}"):
            accounts.append(_account(given, name, source.read(), problems))
    if not accounts:
        raise CommandError("no token files, so there is nothing to query")
    found = {word for a in accounts for repo in a.repos.values() for word in (repo.id, repo.name)}
    if unknown := [word for word in given.repos if word not in found]:
        # A word that is too long for a name may be a token given by mistake.
        quoted = (w if len(w) <= LONGEST_NAME else f"word of {len(w)} characters" for w in unknown)
        raise CommandError(f"--repo: there is no {', no '.join(quoted)}")
    return accounts


def _account(given: settings.Backfill, name: str, token: str, problems: list[str]) -> Account:
    client, wanted = Client(given.api, name), set(given.repos)

    def ask(query: Query) -> Answer:
        with contextlib.closing(client):  # between the queries are pauses
            return client.run(query, token, seconds=given.poll.timeout)

    area = next(area for area in AREAS if area.name == "repos")
    listed = area.collect(client, token, seconds=given.poll.timeout).part
    assert isinstance(listed, RepoList)  # noqa: S101  # the area's part
    chosen = {r.id: r for r in listed.repos if not wanted or {r.id, r.name} & wanted}
    account = Account(name, ask, chosen, listed.complete and not wanted, given.unit)
    try:
        account.billed = billed_days(ask(BILLED))
    except PollError as error:
        problems.append(f"account {name}: the billed usage is left out: {error}")
    return account


@contextlib.contextmanager
def _explained(where: str) -> Iterator[None]:
    """Add the origin and the advice to a PollError."""
    try:
        yield
    except PollError as error:
        raise CommandError(f"{where}: {error}: {ADVICE.get(error.reason, RETRY)}") from None


def _write_repos(
    account: Account, fetched: Iterable[tuple[str, Days]], waiting: BinaryIO, writer: Writer
) -> None:
    """Write the daily usage of an account's repos, and add it to the account's total."""
    newest, unknown = dict[str, float](), {**account.repos}
    waiting.truncate(waiting.seek(0))
    where, steps, hidden = f"account {account.name}", 2 * len(unknown), not sys.stderr.isatty()
    label = printable(where)
    progress = click.progressbar(length=steps, label=label, file=sys.stderr, hidden=hidden)
    with _explained(where), progress:
        for repo_id, days in fetched:
            waiting.write(msgspec.json.encode((repo_id, days)) + b"\n")
            newest |= {repo_id: days[max(days)]} if any(days.values()) else {}
            progress.update(1)
        account.unit = account.unit or _unit(account, newest)
        waiting.seek(0)
        for line in waiting:
            repo_id, days = msgspec.json.decode(line, type=tuple[str, Days])
            labels = {"account": account.name, "repo_id": repo_id}
            writer.write(labels | {"repo": account.repos[repo_id].name}, held(days), account.unit)
            if days:
                account.total.add(days)
                del unknown[repo_id]
            progress.update(1)
    for repo in (repo for repo in unknown.values() if repo.usage):
        account.total.begin(int((repo.created or 0) // DAY))


def _fetch(account: Account, wait: Wait, problems: list[str]) -> Iterator[tuple[str, Days]]:
    """Fetch the daily usage in batches of repos; yield each repo's id and days."""
    repo_ids, batch_size, failures = [*account.repos], BATCH, 0
    while repo_ids:
        batch = repo_ids[:batch_size]
        try:
            answer = account.ask(usage(batch))
        except PollError as error:
            failures += 1
            if failures == TRIES or error.reason in PERMANENT:
                raise
            batch_size = max(1, batch_size // 2)
            wait(min(LONGEST_PAUSE, max(PAUSE * 2**failures, error.retry_after or 0)))
            continue
        for number, repo_id in enumerate(batch):
            try:
                yield repo_id, usage_days(answer, number)
            except PollError as error:
                if error.reason == Reason.AUTH:
                    raise
                name = account.repos[repo_id].name
                problems.append(f"account {account.name}: repo {name} is left out: {error}")
        repo_ids = repo_ids[len(batch) :]
        batch_size, failures = min(BATCH, batch_size + 1), 0
        if repo_ids:
            wait(PAUSE)


def _unit(account: Account, newest: Mapping[str, float]) -> int:
    """Return the unit of the daily values in bytes; raise CommandError if it is unclear."""
    if not newest:
        return 1  # nothing but zeros
    used = {id_: repo.usage for id_, repo in account.repos.items()}
    pairs = ((value, now) for id_, value in newest.items() if (now := used[id_]) is not None)
    unit, fits, compared = calibrate(pairs)
    if not unit:
        raise CommandError(
            f"account {account.name}: the unit of the daily values is unclear: the best one "
            f"matches the current usage of only {fits} of {compared} repos; set --unit, such as 1MB"
        )
    fit = f"the daily values are in {unit}, which fits {fits} of {compared} repos"
    click.echo(printable(f"Account {account.name}: {fit}"))
    return UNITS[unit]
