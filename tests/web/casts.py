"""The states an exporter can be in, by hand, for tests of its status page."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import replace

from borgbase_exporter.metrics.exposition import Pages
from borgbase_exporter.model import (
    AccountStatus,
    CollectorStatus,
    Failure,
    Repo,
    RepoList,
)
from borgbase_exporter.polling.board import View
from tests.facts import ACCOUNT, NOW, TOKENS, collector, status

HOUR, DAY, GB = 3600.0, 86_400.0, 1e9
MAX_AGE = 6 * HOUR
Accounts = dict[str, AccountStatus]


class Stage:
    """The source of a status page, whose accounts a test may exchange."""

    def __init__(self, accounts: Accounts) -> None:
        self.latest: View[Pages] = View(accounts, {})
        self.problems: list[str] = []

    async def view(self) -> View[Pages]:
        return self.latest

    def troubles(self) -> Sequence[str]:
        return self.problems

    @property
    def accounts(self) -> Mapping[str, AccountStatus]:
        return self.latest.accounts

    @accounts.setter
    def accounts(self, accounts: Accounts) -> None:
        self.latest = View(accounts, {}, self.latest.revision + 1)


REFUSED = Failure("auth", "the token is refused: Signature has expired")
AREAS = ("repos", "account", "ssh_keys", "tokens")
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
    made = Repo(
        id=f"id-{name[:8]}",
        name=name,
        usage=10 * GB,
        last_modified=NOW - HOUR,
        quota_enabled=False,
        format="borg2",
        region="eu",
        append_only=True,
    )
    return replace(made, **fields)  # type: ignore[arg-type]  # the tests name real fields


FULL = repo("full", usage=97 * GB, quota=100 * GB, quota_enabled=True)
LATE = repo("late", last_modified=NOW - 3 * DAY, inactivity_limit=2 * DAY, usage=2 * GB)
SILENT = repo("silent", last_modified=NOW - 9 * DAY, inactivity_limit=2 * DAY, region="us")
UNUSED = repo("unused", last_modified=None, never_written=True, created=NOW - 10 * DAY, usage=0.0)
FINE = repo("fine", usage=30 * GB, quota=100 * GB, quota_enabled=True, inactivity_limit=DAY)


def well(name: str = "default") -> AccountStatus:
    """An account with nothing to worry about, polled a minute ago."""
    repos = RepoList((FINE, repo("quiet", inactivity_limit=2 * DAY)), complete=True)
    made = status(
        name,
        repos=repos,
        account=replace(ACCOUNT, auto_renew=True, billed_usage=None),
        tokens=replace(TOKENS, tokens=()),
        taken=NOW - 60,
    )
    return replace(
        made,
        token_expires=NOW + 400 * DAY,
        last_poll=NOW - 60,
        last_success=NOW - 60,
        next_poll=NOW + 840,
    )


def with_repos(base: AccountStatus, *repos: Repo, complete: bool = True) -> AccountStatus:
    part = collector(RepoList(repos, complete=complete), NOW - 60)
    return replace(base, collectors={**base.collectors, "repos": part})


def ailing(name: str = "default") -> AccountStatus:
    """Polled well, but with repos that need a look, of each kind."""
    return with_repos(well(name), FINE, UNUSED, LATE, SILENT, FULL)


def failing(name: str, since: float | None = 2 * HOUR, failure: Failure = REFUSED) -> AccountStatus:
    """Failing for that long; without a number, from the start."""
    base = well(name)
    taken = None if since is None else NOW - since
    return replace(
        base,
        last_poll=NOW - 30,
        last_success=taken,
        next_poll=NOW + 30,
        collectors={
            area: CollectorStatus(
                part=None if taken is None else base.collectors[area].part,
                taken=taken,
                failure=failure,
            )
            for area in AREAS
        },
    )


def unpolled(name: str = "default") -> AccountStatus:
    return AccountStatus(name, {area: collector() for area in AREAS})


def narrow(name: str = "default") -> AccountStatus:
    """Polled with a token that may read the repos only."""
    base = well(name)
    denied = CollectorStatus(failure=Failure("auth", "not authorised"))
    return replace(
        base,
        token_expires=None,
        collectors={**base.collectors, "account": denied, "tokens": denied},
    )


def cast(*members: AccountStatus) -> Accounts:
    return {member.name: member for member in members}


def hostile() -> Accounts:
    repos = (
        repo(
            name,
            id=f"id{number}",
            usage=97 * GB,
            quota=100 * GB,
            format=name[:40],
            region=name[:40],
        )
        for number, name in enumerate(HOSTILE.values())
    )
    evil = HOSTILE["markup"]
    return cast(
        with_repos(well(evil), *repos),
        failing(HOSTILE["attribute"], failure=Failure("graphql", evil)),
    )


def many(accounts: int, repos: int) -> Accounts:
    """Lots of repos, every tenth of them late."""
    return cast(
        *(
            with_repos(
                well(f"account-{number:03}"),
                *(
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
                ),
            )
            for number in range(accounts)
        )
    )


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
