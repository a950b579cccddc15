"""What `check` looks at beyond a poll: where the tokens are, and what unit daily values are in."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

from borgbase_exporter.api.client import Client
from borgbase_exporter.api.usage import usage, usage_days
from borgbase_exporter.credentials import AccountTokens, TokenFile, TokenFolder, TokenSource
from borgbase_exporter.diagnosis import ADVICE, UNKNOWN, Daily, Finding, Problem, examine
from borgbase_exporter.errors import InternalError, PollError, TokenError
from borgbase_exporter.history import calibrate
from borgbase_exporter.model import RepoList
from borgbase_exporter.poller import Poller

log = logging.getLogger(__name__)

SAMPLE = 10
"""How many repos' daily values to ask for: of the largest, which were rounded by the least."""


def look(
    poller: Poller,
    source: TokenSource,
    connect: Callable[[str], AbstractContextManager[Client]],
    clock: Callable[[], float],
) -> Finding:
    """Poll an account and look it through for problems; a defect of ours is one of them."""
    try:
        return _look(poller, source, connect, clock)
    except Exception:
        log.exception("a defect, please report it", extra={"account": poller.status.name})
        what = "a defect of the exporter; its log has the details"
        problem = Problem("critical", "check", what, ADVICE[InternalError.reason])
        nothing = poller.status.snapshot(since=math.inf)
        return Finding(poller.status, source.origin, clock(), nothing, own=(problem,), repos=())


def _look(
    poller: Poller,
    source: TokenSource,
    connect: Callable[[str], AbstractContextManager[Client]],
    clock: Callable[[], float],
) -> Finding:
    poller.poll()
    repos = poller.status.snapshot(since=0).repos
    daily = UNKNOWN
    if repos:
        # It is an extra: what keeps it from being known has been told by the poll, or does not
        # matter to a token that may not ask for it.
        with contextlib.suppress(PollError), connect(source.read()) as client:
            daily = _daily(repos, client)
    return examine(poller.status, source.origin, clock(), _exposure(source), daily)


def _daily(repos: RepoList, client: Client) -> Daily:
    """Find the unit of the daily values; raise PollError when they are not to be had."""
    largest = sorted(repos.repos, key=lambda repo: repo.usage or 0, reverse=True)[:SAMPLE]
    answer = client.run(usage([repo.id for repo in largest]))
    pairs = []
    for number, repo in enumerate(largest):
        days = usage_days(answer, number)
        if days and repo.usage:
            pairs.append((days[max(days)], repo.usage))
    found = calibrate(pairs)
    return Daily(found.unit if found.convincing else None, found.fits, found.compared)


def _exposure(source: TokenSource) -> Iterator[Problem]:
    if isinstance(source, TokenFile) and source.exposed:
        what = f"{source.origin} can be read by other users"
        yield Problem("warning", "token", what, "chmod 600 it, or 640 for a group of its own")


def _folder_problems(
    tokens: AccountTokens, sources: Mapping[str, TokenSource]
) -> Iterator[Problem]:
    """Yield what is wrong with a folder of token files, if that is where the tokens are."""
    if not isinstance(tokens, TokenFolder):
        return
    folder = tokens.origin
    if not sources:
        advice = "put a file into it for each account, named like the account"
        yield Problem("critical", "token folder", f"{folder} holds no token files", advice)
    if tokens.exposed:
        what = f"other users may put files into {folder}"
        yield Problem("warning", "token folder", what, "chmod o-w it")
    for account, source in sources.items():
        if not isinstance(source, TokenFile):
            continue
        if source.stray:
            what = f"{source.origin} has not the name of an account, but is taken for one"
            yield Problem("warning", "token folder", what, "move it elsewhere")
        elif source.extended:
            what = f'{source.origin}: the account is then called "{account}"'
            advice = f'call the file "{account.rpartition(".")[0]}", unless that is meant'
            yield Problem("warning", "token folder", what, advice)


def sources_of(tokens: AccountTokens) -> tuple[Mapping[str, TokenSource], list[Problem]]:
    """Return the accounts' token sources, and what is wrong with the place where they are."""
    try:
        sources = tokens.sources()
    except TokenError as error:
        return {}, [Problem("critical", "token folder", str(error), ADVICE["token"])]
    return sources, [*_folder_problems(tokens, sources)]
