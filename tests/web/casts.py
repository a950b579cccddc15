"""Accounts in every state, made by hand for tests of the status page."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import replace

from borgbase_exporter.metrics.exposition import Pages, Renderer
from borgbase_exporter.model import AccountStatus, CollectorStatus, Failure, Repo, RepoList
from borgbase_exporter.polling.board import View
from tests.facts import ACCOUNT, NOW, TOKENS, collector, status

HOUR, DAY, GB = 3600.0, 86_400.0, 1e9
MAX_AGE = 6 * HOUR
Accounts = dict[str, AccountStatus]


class Stage:
    """The source of the pages; a test may replace its accounts."""

    def __init__(
        self,
        accounts: Accounts | None = None,
        problems: Sequence[str] = (),
        pages: Pages | None = None,
    ) -> None:
        self.problems, self._pages, self._revision = problems, pages, 0
        self.accounts = {"default": status()} if accounts is None else accounts

    async def view(self) -> View[Pages]:
        return self.latest

    def troubles(self) -> Sequence[str]:
        return self.problems

    @property
    def accounts(self) -> Mapping[str, AccountStatus]:
        return self.latest.accounts

    @accounts.setter
    def accounts(self, accounts: Accounts) -> None:
        self._revision += 1
        self.latest = View(accounts, self._pages or Renderer().render(accounts), self._revision)


REFUSED = Failure("auth", "the token is refused: Signature has expired")
HOSTILE = {
    "markup": "<img src=x onerror=alert(1)><script>alert(2)</script>",
    "attribute": "\" onmouseover='alert(3)' x=\"",
    "entity": "&lt;b&gt; &amp;",
    "override": "safe\u202egnp.exe",
    "hidden": "zero\u200bwidth\u2066\u00ad",
    "lines": "a\nb\x00\x1b[31mc",
    "template": "{{ 7 * 7 }}{% raw %}</style></script>",
    "long": "x" * 3000,
    "arabic": "نسخة احتياطية",
    "replaced": "\N{REPLACEMENT CHARACTER}",
}


def repo(name: str, **fields: object) -> Repo:
    made = Repo(f"id-{name[:8]}", name, 10 * GB, quota_enabled=False, last_modified=NOW - HOUR)
    made = replace(made, format="borg2", region="eu", append_only=True)
    return replace(made, **fields)  # type: ignore[arg-type]  # the tests name real fields


FULL = repo("full", usage=97 * GB, quota=100 * GB, quota_enabled=True)
LATE = repo("late", last_modified=NOW - 3 * DAY, inactivity_limit=2 * DAY, usage=2 * GB)
SILENT = repo("silent", last_modified=NOW - 9 * DAY, inactivity_limit=2 * DAY, region="us")
UNUSED = repo("unused", last_modified=None, never_written=True, created=NOW - 10 * DAY, usage=0.0)
FINE = repo("fine", usage=30 * GB, quota=100 * GB, quota_enabled=True, inactivity_limit=DAY)


def well(name: str = "default") -> AccountStatus:
    """An account without problems, polled a minute ago."""
    repos = RepoList((FINE, repo("quiet", inactivity_limit=2 * DAY)), complete=True)
    paid = replace(ACCOUNT, auto_renew=True, billed_usage=None)
    tokens = replace(TOKENS, tokens=())
    made = status(name, repos=repos, account=paid, tokens=tokens, taken=NOW - 60)
    polled = replace(made, last_poll=NOW - 60, last_success=NOW - 60, next_poll=NOW + 840)
    return replace(polled, token_expires=NOW + 400 * DAY)


def with_repos(base: AccountStatus, *repos: Repo, complete: bool = True) -> AccountStatus:
    part = collector(RepoList(repos, complete=complete), NOW - 60)
    return replace(base, collectors={**base.collectors, "repos": part})


def ailing(name: str = "default") -> AccountStatus:
    """An account whose polls succeed, with a repo for each problem that a repo can have."""
    return with_repos(well(name), FINE, UNUSED, LATE, SILENT, FULL)


def failing(name: str, since: float | None = 2 * HOUR, failure: Failure = REFUSED) -> AccountStatus:
    """An account whose polls fail for that many seconds; None: since the start."""
    base, taken = well(name), None if since is None else NOW - since
    collectors = {
        area: CollectorStatus(c.part if since else None, taken, failure=failure)
        for area, c in base.collectors.items()
    }
    polled = replace(base, last_poll=NOW - 30, last_success=taken, next_poll=NOW + 30)
    return replace(polled, collectors=collectors)


def unpolled(name: str = "default") -> AccountStatus:
    return AccountStatus(name, {area: collector() for area in status().collectors})


def narrow(name: str = "default") -> AccountStatus:
    """An account whose token may read the repos only."""
    base = well(name)
    denied = CollectorStatus(failure=Failure("auth", "not authorised"))
    collectors = {**base.collectors, "account": denied, "tokens": denied}
    return replace(base, token_expires=None, collectors=collectors)


def cast(*members: AccountStatus) -> Accounts:
    return {member.name: member for member in members}


def hostile() -> Accounts:
    full, evil = {"usage": 97 * GB, "quota": 100 * GB}, HOSTILE["markup"]
    repos = (
        repo(name, id=f"id{number}", format=name[:40], region=name[:40], **full)
        for number, name in enumerate(HOSTILE.values())
    )
    failed = failing(HOSTILE["attribute"], failure=Failure("graphql", evil))
    return cast(with_repos(well(evil), *repos), failed)


def many(accounts: int, repos: int) -> Accounts:
    """Lots of repos, every tenth of them late."""
    made: Accounts = {}
    for number in range(accounts):
        listed = (
            repo(
                f"host-{number:03}-{index:04}",
                id=f"{number * repos + index:08x}",
                usage=(index * 7919 % 1000 + 1) * GB,
                quota=1200 * GB,
                quota_enabled=True,
                region=string.ascii_lowercase[index % 26],
                inactivity_limit=DAY,
                last_modified=NOW - (30 * HOUR if index % 10 == 0 else index % 20 * HOUR),
            )
            for index in range(repos)
        )
        made |= cast(with_repos(well(f"account-{number:03}"), *listed))
    return made


STATES: dict[str, Accounts] = {
    "well": cast(well()),
    "ailing": cast(ailing()),
    "troubled": cast(
        well("home"), ailing("work"), failing("club"), failing("school", 7 * HOUR), narrow("shop"),
        failing("new", None), unpolled("next"),
    ),
    "unpolled": cast(unpolled()),
    "nobody": {},
    "no-repos": cast(with_repos(well())),
    "hostile": hostile(),
}  # fmt: skip
