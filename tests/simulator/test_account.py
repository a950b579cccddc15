import json
from collections.abc import Callable
from typing import Any

import pytest

from borgbase_exporter.simulator import SimulatedAccount, Trouble
from borgbase_exporter.simulator.curves import DAY
from tests.simulator.asking import START, Clock, ask, seconds

ALL = """{
  isAuthenticated
  repoList { id name server { id hostname region public location } quota quotaEnabled alertDays
    region format borgVersion resticVersion appendOnly appendOnlyKeys fullAccessKeys rsyncKeys
    accessMode sftpEnabled encryption createdAt lastModified compactionEnabled compactionInterval
    compactionIntervalUnit compactionHour compactionHourTimezone repoPath currentUsage htpasswd }
  sshList { id name keyType bits addedAt lastUsedAt keyData }
  me { activePlan { id name maxSize includedSize } autoRenew email password address
    currentSubscription { startDate endDate active plan { name } }
    jwttokenSet { id name permission createdAt lastUsed expiration } repoSet { id } }
  overageList { id date plan { name } usedGb excessGb excessUsd }
  accruedOverage
  planList { id name maxRepos maxSize includedSize billingPeriodDays billingExtraGb
    billingPeriodUsd }
}"""
USAGE = "query ($id: String!) { repoUsageList(repoId: $id) { date diskUsage } }"
EVENTS = "query ($id: String!) { repoEventList(repoId: $id) { datetime slug } }"


def _healthy(clock: Clock, **options: Any) -> SimulatedAccount:
    return SimulatedAccount(clock=clock, start=START, troubles=(), **options)


def _repos(account: SimulatedAccount) -> list[dict[str, Any]]:
    query = "{ repoList { id name currentUsage quota quotaEnabled alertDays appendOnly createdAt"
    return ask(account, query + " lastModified } }")["repoList"]  # type: ignore[no-any-return]


def test_answers_follow_from_seed_start_and_clock() -> None:
    driven, late = Clock(), Clock(START + 60 * DAY)
    account = SimulatedAccount(seed=7, clock=driven)
    ask(account, ALL)
    driven.forward(60)

    assert ask(account, ALL) == ask(SimulatedAccount(seed=7, clock=late, start=START), ALL)
    assert account.token == SimulatedAccount(seed=7, clock=late, start=START).token


def test_another_seed_is_another_account() -> None:
    one, other = (SimulatedAccount(seed=seed, clock=Clock()) for seed in (1, 2))

    assert one.token != other.token
    assert not {repo.id for repo in one.repos} & {repo.id for repo in other.repos}
    assert {repo.name for repo in one.repos} == {repo.name for repo in other.repos}


def test_the_cast_is_varied() -> None:
    repos = ask(SimulatedAccount(clock=Clock()), ALL)["repoList"]

    assert {repo["format"] for repo in repos} == {"borg1", "borg2", "restic"}
    assert {repo["region"] for repo in repos} == {"eu", "us"}
    assert any(repo["appendOnly"] and not repo["compactionEnabled"] for repo in repos)
    assert any(not repo["alertDays"] for repo in repos)
    assert {repo["quotaEnabled"] for repo in repos} == {True, False}
    assert all((repo["htpasswd"] is not None) == (repo["format"] == "restic") for repo in repos)
    assert {"." in repo["lastModified"] for repo in repos if repo["lastModified"]} == {True, False}
    sizes = [repo["currentUsage"] for repo in repos if repo["lastModified"]]
    assert 1_000 < min(sizes) < 2_000
    assert 1_500_000 < max(sizes) < 2_000_000


@pytest.mark.parametrize("count", [0, 1, 5, 12, 300])
def test_any_number_of_repos(count: int) -> None:
    account = SimulatedAccount(clock=Clock(), repos=count)
    full = SimulatedAccount(clock=Clock(), repos=301)

    assert len({repo.id for repo in account.repos}) == count
    assert account.repos == full.repos[:count]
    assert full.repos[12].name == "host-0013"
    assert len(_repos(account)) == count


@pytest.mark.parametrize("seed", [1, 5])
@pytest.mark.parametrize("days", [-300, 0, 17.37, 60])
def test_answers_agree_with_each_other(seed: int, days: float) -> None:
    clock = Clock(START + days * DAY)
    account = SimulatedAccount(seed=seed, clock=clock, start=START)
    repos = _repos(account)
    query = "{ overageList { date usedGb excessGb } me { activePlan { includedSize } } }"
    answer = ask(account, query)
    rows, plan = answer["overageList"], answer["me"]["activePlan"]

    dates = [row["date"] for row in rows]
    assert dates == sorted(set(dates), reverse=True)
    used = sum(repo["currentUsage"] for repo in repos) / 1000
    assert rows[0]["usedGb"] == pytest.approx(used, abs=0.001)
    included = plan["includedSize"] / 1000
    for row in rows:
        assert row["excessGb"] == pytest.approx(max(0, row["usedGb"] - included), abs=0.002)
    for repo in repos:
        usage = ask(account, USAGE, id=repo["id"])["repoUsageList"]
        assert usage[-1]["date"] == rows[0]["date"]
        assert usage[-1]["diskUsage"] == round(repo["currentUsage"])
        assert usage[0]["date"] == repo["createdAt"][:10]
        events = ask(account, EVENTS, id=repo["id"])["repoEventList"]
        assert [event["datetime"] for event in events][-1] == repo["createdAt"]
        assert (events[0]["datetime"] if len(events) > 1 else None) == repo["lastModified"]


def test_usage_moves_with_the_last_write_and_only_then() -> None:
    clock = Clock()
    account = SimulatedAccount(clock=clock, start=START)
    now = {repo["id"]: repo for repo in _repos(account)}
    for id_, repo in now.items():
        if repo["lastModified"] is None:
            assert repo["currentUsage"] == 0
            continue
        clock.now = seconds(repo["lastModified"])
        (written,) = (other for other in _repos(account) if other["id"] == id_)
        clock.now -= 0.001
        (before,) = (other for other in _repos(account) if other["id"] == id_)
        assert written["currentUsage"] == repo["currentUsage"] != before["currentUsage"]
        assert seconds(before["lastModified"]) <= seconds(written["lastModified"]) - DAY


def test_the_usage_history_is_what_was_answered_at_the_time() -> None:
    clock = Clock()
    account = _healthy(clock)
    id_ = account.id_of("postgres-prod")
    history = ask(account, USAGE, id=id_)["repoUsageList"]
    used = ask(account, "{ overageList { date usedGb } }")["overageList"]
    for ago in (1, 2, 100, 300):
        clock.now = START // DAY * DAY - (ago - 1) * DAY - 1
        (repo,) = (repo for repo in _repos(account) if repo["id"] == id_)
        assert history[-1 - ago]["diskUsage"] == round(repo["currentUsage"])
        assert ask(account, "{ overageList { date usedGb } }")["overageList"][0] == used[ago]


def _troubles(account: SimulatedAccount, clock: Clock) -> set[Trouble]:
    """Find the troubles the way an alert would: in the answers alone."""
    now = clock.now
    clock.forward(-7)
    week_ago = {repo["id"]: repo["currentUsage"] for repo in _repos(account)}
    clock.now = now
    answer = ask(
        account,
        """{ accruedOverage overageList { excessGb } me { autoRenew
        currentSubscription { endDate active } jwttokenSet { expiration } } }""",
    )
    found = set()
    for repo in _repos(account):
        limited, usage = repo["quotaEnabled"], repo["currentUsage"]
        growth = usage - week_ago.get(repo["id"], usage)
        if limited and usage > 0.9 * repo["quota"]:
            found.add(Trouble.QUOTA_NEARLY_FULL)
        elif limited and growth * 2 > repo["quota"] - usage:
            found.add(Trouble.QUOTA_FILLING)
        if repo["lastModified"] is None:
            found.add(Trouble.NEVER_USED)
        elif repo["alertDays"] and now - seconds(repo["lastModified"]) > repo["alertDays"] * DAY:
            found.add(Trouble.SILENT)
    me = answer["me"]
    if not me["autoRenew"] or not me["currentSubscription"]["active"]:
        found.add(Trouble.SUBSCRIPTION_ENDING)
    expirations = [
        seconds(token["expiration"] or "9999-01-01T00:00Z") for token in me["jwttokenSet"]
    ]
    if any(-90 * DAY < expiration - now < 14 * DAY for expiration in expirations):
        found.add(Trouble.TOKEN_EXPIRING)
    if answer["overageList"][0]["excessGb"] > 0 or answer["accruedOverage"] > 0:
        assert answer["overageList"][0]["excessGb"] > 0
        assert answer["accruedOverage"] > 0
        found.add(Trouble.OVERAGE)
    return found


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("trouble", Trouble)
def test_each_trouble_alone_shows(trouble: Trouble, seed: int) -> None:
    clock = Clock()
    account = SimulatedAccount(seed=seed, clock=clock, troubles={trouble})

    assert _troubles(account, clock) == {trouble}


def test_all_troubles_show_together() -> None:
    clock = Clock()

    assert _troubles(SimulatedAccount(clock=clock), clock) == set(Trouble)


def test_the_troubles_are_as_large_as_promised() -> None:
    account = SimulatedAccount(clock=Clock())
    answer = ask(account, ALL)
    repos = {repo["name"]: repo for repo in answer["repoList"]}
    me = answer["me"]

    assert _share(repos["postgres-prod"]) == pytest.approx(0.97, abs=0.006)
    assert 0.75 <= _share(repos["mail.example.org"]) <= 0.80
    silent = START - seconds(repos["gitea"]["lastModified"])
    assert 2.5 * 4 * DAY <= silent < 2.5 * 4 * DAY + DAY
    assert START - seconds(repos["new-server"]["createdAt"]) == pytest.approx(10 * DAY, abs=3600)
    assert seconds(me["currentSubscription"]["endDate"]) == START + 9 * DAY
    (token,) = (token for token in me["jwttokenSet"] if token["name"] == "terraform")
    assert seconds(token["expiration"]) == START + 6 * DAY


def _share(repo: dict[str, Any]) -> float:
    return float(repo["currentUsage"] / repo["quota"])


def test_the_filling_repo_is_full_in_ten_days() -> None:
    clock = Clock()
    account = SimulatedAccount(clock=clock, troubles={Trouble.QUOTA_FILLING})
    shares = []
    for _ in range(14):
        (repo,) = (repo for repo in _repos(account) if repo["name"] == "mail.example.org")
        shares.append(_share(repo))
        clock.forward(1)

    assert shares[9] < 1
    assert shares[12:] == [1, 1]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_healthy_account_stays_so_for_60_days(seed: int) -> None:
    clock = Clock()
    account = _healthy(clock, seed=seed, repos=25)
    before = {repo["id"]: repo["currentUsage"] for repo in _repos(account)}
    for _ in range(60):
        clock.forward(1)
        assert not _troubles(account, clock)
        for repo in _repos(account):
            change = repo["currentUsage"] - before[repo["id"]]
            assert abs(change) < 20_000
            assert change > 0 or not repo["appendOnly"]
            assert not repo["quotaEnabled"] or _share(repo) < 0.8
            before[repo["id"]] = repo["currentUsage"]


def test_a_healthy_subscription_renews_itself() -> None:
    clock = Clock()
    account = _healthy(clock)
    for days in (0, 229, 2, 365):
        clock.forward(days)
        me = ask(account, "{ me { currentSubscription { startDate endDate active } } }")["me"]
        subscription = me["currentSubscription"]
        assert subscription["active"]
        assert seconds(subscription["startDate"]) <= clock.now < seconds(subscription["endDate"])


def test_keys_and_tokens() -> None:
    answer = ask(SimulatedAccount(clock=Clock()), ALL)
    tokens = answer["me"]["jwttokenSet"]

    assert [key["lastUsedAt"] is None for key in answer["sshList"]].count(True) == 1
    assert {token["permission"] for token in tokens} == {"RO", "FA", "CO"}
    expired = [token for token in tokens if (token["expiration"] or "9") < "2025"]
    assert [token["name"] for token in expired] == ["old-dashboard"]
    ids = {key["id"] for key in answer["sshList"]}
    for repo in answer["repoList"]:
        assert {*(repo["fullAccessKeys"] or ()), *(repo["appendOnlyKeys"] or ())} <= ids


def test_lists_can_be_filtered() -> None:
    account = SimulatedAccount(clock=Clock())

    assert ask(account, '{ repoList(name: "gitea") { name } }') == {"repoList": [{"name": "gitea"}]}
    assert ask(account, '{ sshList(name: "nas") { name } }') == {"sshList": [{"name": "nas"}]}
    assert ask(account, '{ sshList(hashMd5: "none") { name } }') == {"sshList": []}
    one = ask(
        account, "query ($id: String!) { repo(repoId: $id) { name } }", id=account.repos[0].id
    )
    assert one == {"repo": {"name": "laptop-anna"}}
    all_usage = ask(account, "{ me { repousageSet { repo } } }")["me"]["repousageSet"]
    assert {row["repo"] for row in all_usage} == {repo.id for repo in account.repos}


def test_setting_usage_moves_the_curve_from_then_on() -> None:
    clock = Clock()
    account, untouched = _healthy(clock), _healthy(clock)
    id_ = account.id_of("audit logs")
    past = ask(account, USAGE, id=id_)["repoUsageList"][:-1]
    account.set_usage(id_, 500_000_000_000)

    (repo,) = (repo for repo in _repos(account) if repo["id"] == id_)
    assert repo["currentUsage"] == 500_000
    assert seconds(repo["lastModified"]) == clock.now
    assert ask(account, EVENTS, id=id_)["repoEventList"][0]["datetime"] == repo["lastModified"]
    assert ask(account, USAGE, id=id_)["repoUsageList"][:-1] == past
    before = _usage_of(untouched, id_)
    clock.forward(30)
    assert _usage_of(account, id_) - 500_000 == pytest.approx(_usage_of(untouched, id_) - before)
    account.set_usage(id_, 0)
    assert _usage_of(account, id_) == 0


def _usage_of(account: SimulatedAccount, id_: str) -> float:
    return {repo["id"]: float(repo["currentUsage"]) for repo in _repos(account)}[id_]


def test_repos_come_change_and_go() -> None:
    clock = Clock()
    account = _healthy(clock)
    new = account.add_repo("brand new", append_only=True, quota=10**11, quota_enabled=True)
    (repo,) = (repo for repo in _repos(account) if repo["id"] == new)
    assert (repo["name"], repo["quota"], repo["lastModified"]) == ("brand new", 100_000, None)
    clock.forward(2)
    assert _usage_of(account, new) > 0

    account.rename(new, "no longer new")
    account.update(new, append_only=False, alert_days=9)
    (repo,) = (repo for repo in _repos(account) if repo["id"] == new)
    assert (repo["name"], repo["appendOnly"], repo["alertDays"]) == ("no longer new", False, 9)

    used = ask(account, "{ overageList { date usedGb } }")["overageList"]
    account.delete(new)
    rest = ask(account, "{ overageList { date usedGb } }")["overageList"]
    assert new not in {repo["id"] for repo in _repos(account)}
    assert rest[0]["usedGb"] < used[0]["usedGb"]
    assert rest[1:] == used[1:]


@pytest.mark.parametrize(
    "change",
    [
        lambda account, id_: account.rename(id_, "x"),
        lambda account, id_: account.delete(id_),
        lambda account, id_: account.set_usage(id_, 1),
        lambda account, id_: account.update(id_, quota=1),
    ],
)
def test_what_is_not_there_cannot_be_changed(
    change: Callable[[SimulatedAccount, str], None],
) -> None:
    account = _healthy(Clock())
    id_ = account.repos[0].id
    account.delete(id_)
    for gone in (id_, "never was"):
        with pytest.raises(KeyError, match=gone):
            change(account, gone)
    with pytest.raises(TypeError, match="colour"):
        account.update(account.repos[0].id, colour="red")


def test_no_secret_shows_in_a_token_record() -> None:
    account = SimulatedAccount(clock=Clock())

    assert account.token not in json.dumps(ask(account, ALL))
    assert account.token not in repr([*account.tokens.values()])
