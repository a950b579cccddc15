"""The simulated account is consistent, and its troubles show in its answers."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from borgbase_exporter.demo import SimulatedAccount, Trouble
from borgbase_exporter.text import DAY
from tests.clock import START, Clock


def seconds(text: str) -> float:
    moment = datetime.fromisoformat(text)
    assert moment.tzinfo is not None
    return moment.timestamp()


def _repos(account: SimulatedAccount) -> dict[str, dict[str, Any]]:
    return {repo["id"]: repo for repo in account.moment().repo_list()}


def _everything(account: SimulatedAccount) -> list[Any]:
    now = account.moment()
    usage = [now.usage(repo.id) for repo in now.repos]
    lists = [now.repo_list(), now.ssh_list(), now.api_tokens(), now.bill(), usage]
    return [*lists, now.me(), now.accrued_overage()]


def test_answers_follow_from_seed_start_and_clock() -> None:
    driven, late = Clock(), Clock(START + 60 * DAY)
    account = SimulatedAccount(seed=7, clock=driven)
    _everything(account)
    driven.forward(60)
    again = SimulatedAccount(seed=7, clock=late, start=START)

    assert _everything(account) == _everything(again)
    assert account.token == again.token
    other = SimulatedAccount(seed=8, clock=late, start=START)
    assert account.token != other.token
    assert not _repos(account).keys() & _repos(other).keys()


def test_the_repos_are_varied() -> None:
    repos = _repos(SimulatedAccount(clock=Clock())).values()

    assert {repo["format"] for repo in repos} == {"borg1", "borg2", "restic", "vykar"}
    assert {repo["region"] for repo in repos} == {"eu", "us"}
    assert any(repo["appendOnly"] and not repo["compactionEnabled"] for repo in repos)
    assert any(not repo["alertDays"] for repo in repos)
    assert {repo["quotaEnabled"] for repo in repos} == {True, False}
    assert {"." in repo["lastModified"] for repo in repos if repo["lastModified"]} == {True, False}


@pytest.mark.parametrize("count", [0, 1, 5, 12, 300])
def test_any_number_of_repos(count: int) -> None:
    account = SimulatedAccount(clock=Clock(), repos=count)
    full = SimulatedAccount(clock=Clock(), repos=301)

    assert len(_repos(account)) == count
    assert account.all_repos == full.all_repos[:count]
    assert full.all_repos[12].name == "host-0013"


@pytest.mark.parametrize("seed", [1, 5])
@pytest.mark.parametrize("days", [-300, 0, 17.37, 60])
def test_answers_agree_with_each_other(seed: int, days: float) -> None:
    account = SimulatedAccount(seed=seed, clock=Clock(START + days * DAY), start=START)
    now = account.moment()
    repos, rows, me = now.repo_list(), now.bill(), now.me()

    dates = [row["date"] for row in rows]
    assert dates == sorted(set(dates), reverse=True)
    used = sum(repo["currentUsage"] for repo in repos)
    assert rows[0]["usedGb"] == pytest.approx(used / 1000, abs=0.001)
    assert me["diskUsage"] == pytest.approx(used)
    assert me["repoCount"] == len(repos)
    included = me["activePlan"]["includedGb"]
    for row in rows:
        assert row["excessGb"] == pytest.approx(max(0, row["usedGb"] - included), abs=0.002)
    for repo in repos:
        usage = now.usage(repo["id"])
        assert usage[-1] == {"date": dates[0], "diskUsage": round(repo["currentUsage"])}
        assert usage[0]["date"] == repo["createdAt"][:10]


def test_usage_changes_with_the_last_write_and_only_then() -> None:
    clock = Clock()
    account = SimulatedAccount(clock=clock, start=START)
    for id_, repo in _repos(account).items():
        if repo["lastModified"] is None:
            assert repo["currentUsage"] == 0
            continue
        clock.now = seconds(repo["lastModified"])
        written = _repos(account)[id_]
        clock.now -= 0.001
        before = _repos(account)[id_]
        assert written["currentUsage"] == repo["currentUsage"] != before["currentUsage"]
        assert seconds(before["lastModified"]) <= seconds(written["lastModified"]) - DAY


def _troubles(account: SimulatedAccount, clock: Clock) -> set[Trouble]:
    """Find the troubles the way an alert would: in the answers alone."""
    now = clock.now
    clock.forward(-7)
    week_ago = {id_: repo["currentUsage"] for id_, repo in _repos(account).items()}
    clock.now = now
    found = set()
    for id_, repo in _repos(account).items():
        limited, usage = repo["quotaEnabled"], repo["currentUsage"]
        growth = usage - week_ago.get(id_, usage)
        if limited and usage > 0.9 * repo["quota"]:
            found.add(Trouble.QUOTA_NEARLY_FULL)
        elif limited and growth * 2 > repo["quota"] - usage:
            found.add(Trouble.QUOTA_FILLING)
        if repo["lastModified"] is None:
            found.add(Trouble.NEVER_USED)
        elif repo["alertDays"] and now - seconds(repo["lastModified"]) > repo["alertDays"] * DAY:
            found.add(Trouble.SILENT)
    me, tokens = account.moment().me(), account.moment().api_tokens()
    if not me["autoRenew"] or not me["currentSubscription"]["active"]:
        found.add(Trouble.SUBSCRIPTION_ENDING)
    expirations = [seconds(token["expiration"] or "9999-01-01T00:00Z") for token in tokens]
    if any(-90 * DAY < expiration - now < 14 * DAY for expiration in expirations):
        found.add(Trouble.TOKEN_EXPIRING)
    excess, accrued = account.moment().bill()[0]["excessGb"], account.moment().accrued_overage()
    assert (excess > 0) == (accrued > 0)
    return found | ({Trouble.OVERAGE} if excess else set())


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("trouble", Trouble)
def test_each_trouble_alone_shows(trouble: Trouble, seed: int) -> None:
    clock = Clock()
    account = SimulatedAccount(seed=seed, clock=clock, troubles={trouble})

    assert _troubles(account, clock) == {trouble}


def test_the_troubles_are_as_large_as_promised() -> None:
    now = SimulatedAccount(clock=Clock()).moment()
    repos = {repo["name"]: repo for repo in now.repo_list()}
    tokens = {token["name"]: token for token in now.api_tokens()}

    full, filling = (repos[name] for name in ("postgres-prod", "mail.example.org"))
    assert full["currentUsage"] / full["quota"] == pytest.approx(0.97, abs=0.006)
    assert 0.75 <= filling["currentUsage"] / filling["quota"] <= 0.80
    silent = START - seconds(repos["gitea"]["lastModified"])
    assert 2.5 * 4 * DAY <= silent < 2.5 * 4 * DAY + DAY
    assert START - seconds(repos["new-server"]["createdAt"]) == pytest.approx(10 * DAY, abs=3600)
    assert seconds(now.me()["currentSubscription"]["endDate"]) == START + 9 * DAY
    assert seconds(tokens["terraform"]["expiration"]) == START + 6 * DAY


def test_a_healthy_account_stays_so_and_its_subscription_renews_itself() -> None:
    clock = Clock()
    account = SimulatedAccount(clock=clock, start=START, troubles=(), repos=20)
    for days in (0, 60, 169, 2, 365):
        clock.forward(days)
        assert not _troubles(account, clock)
        assert clock.now < seconds(account.moment().me()["currentSubscription"]["endDate"])


def test_keys_and_tokens() -> None:
    account = SimulatedAccount(clock=Clock())
    now = account.moment()
    tokens, keys = now.api_tokens(), now.ssh_list()

    assert [key["lastUsedAt"] is None for key in keys].count(True) == 1
    assert {token["permission"] for token in tokens} == {"RO", "FA", "CO"}
    expired = [token["name"] for token in tokens if (token["expiration"] or "9") < "2025"]
    assert expired == ["old-dashboard"]
    assert {key for repo in now.repos for key in repo.keys} <= {key["id"] for key in keys}
    assert account.token not in json.dumps(_everything(account))
