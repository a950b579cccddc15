"""What Prometheus comes to know of simulated accounts, by way of the exporter."""

import time
from collections import Counter
from collections.abc import Mapping

import pytest

from borgbase_exporter.demo.curves import DAY
from tests.end_to_end.conftest import Theatre
from tests.end_to_end.facts import (
    COLLECTORS,
    CONTRACT,
    MOVING,
    NOW,
    equal_to,
    expected,
    new_account,
    series,
)
from tests.end_to_end.processes import Series, ask
from tests.end_to_end.stage import (
    ARRIVING,
    CREATE_ONLY,
    DELETING,
    DRIFTING,
    HOME,
    IMPOSTOR,
    LEAVING,
    RENAMING,
    REVOKED,
    ROTATING,
    WORK,
    put_token,
)

OF_A_REPO = frozenset({"account", "repo_id", "repo"})
GAP = "borgbase_schema_field_missing"
FAILURES = "borgbase_poll_failures_total"
NEW_NAME = "another\nname"
NOT_OF_THE_POLLS = ("borgbase_repo_", "borgbase_account_", "borgbase_ssh_", "borgbase_api_")
OPEN_TO_CREATE_ONLY = (
    *("borgbase_repo_", "borgbase_account_repos", "borgbase_account_usage_bytes"),
    *("borgbase_ssh_key_", "borgbase_account_ssh_keys"),
)


@pytest.mark.parametrize("name", [HOME, WORK])
def test_every_value_is_the_accounts(theatre: Theatre, name: str) -> None:
    stage = theatre.steady

    assert stage.facts(name) == equal_to(expected(name, stage.house.accounts[name]))


def test_every_metric_of_the_contract_arrives_with_its_labels(theatre: Theatre) -> None:
    found = {(name, frozenset(dict(labels))) for name, labels in theatre.steady.all()}

    ours = {(name, labels) for name, labels in found if name.startswith("borgbase_")}
    assert ours == {item for item in CONTRACT.items() if item[0] != GAP}


def test_every_repo_has_its_series(theatre: Theatre) -> None:
    per_repo = {name for name, labels in CONTRACT.items() if labels == OF_A_REPO}
    counts = Counter(name for name, _ in theatre.steady.facts(HOME) if name in per_repo)

    # Of the twelve repos of the first account, six have a quota, two no inactivity limit, and
    # one was never written to.
    assert counts == dict.fromkeys(per_repo, 12) | {
        "borgbase_repo_quota_bytes": 6,
        "borgbase_repo_inactivity_limit_seconds": 10,
        "borgbase_repo_last_modified_timestamp_seconds": 11,
    }


def test_the_exporters_own_times_are_now(theatre: Theatre) -> None:
    before = time.time()
    theatre.steady.wait(HOME)
    moving = {key[0]: v for key, v in theatre.steady.read(HOME).items() if key[0] in MOVING}

    assert moving.keys() == MOVING
    assert before < moving["borgbase_last_success_timestamp_seconds"] < time.time()
    assert (
        moving["borgbase_last_poll_timestamp_seconds"]
        == moving["borgbase_last_success_timestamp_seconds"]
    )
    assert 0 < moving["borgbase_last_poll_duration_seconds"] < 30


def test_prometheus_knows_type_and_help_of_each_metric(theatre: Theatre) -> None:
    known = theatre.prometheus.api("metadata")

    # In OpenMetrics a counter is named without the suffix of its samples.
    families = {name.removesuffix("_total"): name for name in CONTRACT}
    types = {name: known[name][0]["type"] for name in families}
    assert types == {
        family: "counter" if family != name else "gauge" for family, name in families.items()
    }
    assert all(known[name][0]["help"] for name in families)
    assert all(len(known[name]) == 1 for name in families)


def test_prometheus_is_content_with_its_targets(theatre: Theatre) -> None:
    states = theatre.prometheus.targets()

    assert states == dict.fromkeys(("steady", "drifting", "listener"), ("up", ""))
    assert theatre.prometheus.query('up{job="steady"}') == {series("up"): 1}
    assert theatre.prometheus.complaints == []


def test_what_prometheus_asks_for_is_openmetrics(theatre: Theatre) -> None:
    answer = ask(theatre.steady.house.exporter.address, "/metrics", headers=theatre.scraped_with)

    assert answer.headers["Content-Type"] == (
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    )
    assert answer.headers["Content-Encoding"] == "gzip"


@pytest.fixture(scope="module")
def changed(theatre: Theatre) -> Theatre:
    """Change four accounts while they are polled, and wait for two polls of each."""
    stage, accounts = theatre.steady, theatre.steady.house.accounts
    rotating = accounts[ROTATING]
    put_token(stage.house.tokens, ROTATING, rotating.add_token("renewed", "RO", NOW + 30 * DAY))
    stage.wait(ROTATING, polls=1)  # none that has read the old one is under way any more
    rotating.revoke(rotating.token)
    accounts[REVOKED].revoke(accounts[REVOKED].token)
    accounts[DELETING].delete(accounts[DELETING].repos[0].id)
    accounts[RENAMING].rename(accounts[RENAMING].repos[0].id, NEW_NAME)
    stage.wait(ROTATING, REVOKED, DELETING, RENAMING)
    return theatre


def test_a_deleted_repo_is_gone(changed: Theatre) -> None:
    facts = changed.steady.facts(DELETING)

    assert facts[series("borgbase_account_repos", account=DELETING)] == 2
    assert facts == equal_to(expected(DELETING, changed.steady.house.accounts[DELETING]))


def test_a_renamed_repo_has_only_its_new_name(changed: Theatre) -> None:
    account, facts = changed.steady.house.accounts[RENAMING], changed.steady.facts(RENAMING)

    renamed = ("repo_id", account.repos[0].id)
    assert {dict(key[1])["repo"] for key in facts if renamed in key[1]} == {NEW_NAME}
    assert facts == equal_to(expected(RENAMING, account))


def test_a_rotated_token_is_taken_up(changed: Theatre) -> None:
    own = series("borgbase_exporter_token_expiration_timestamp_seconds", account=ROTATING)
    known = expected(ROTATING, changed.steady.house.accounts[ROTATING]) | {own: NOW + 30 * DAY}

    assert changed.steady.facts(ROTATING) == equal_to(known)


def test_a_revoked_token_is_told_and_the_last_values_stay(changed: Theatre) -> None:
    facts, account = changed.steady.facts(REVOKED), changed.steady.house.accounts[REVOKED]

    refusals = [_of(REVOKED, FAILURES, c, reason="auth") for c in COLLECTORS]
    counts = {key: facts[key] for key in refusals}
    assert min(counts.values()) >= 1
    before = expected(REVOKED, new_account(account.seed))  # with the token
    zero = [_of(REVOKED, "borgbase_collector_success", c) for c in COLLECTORS]
    zero.append(series("borgbase_up", account=REVOKED))
    assert facts == equal_to(before | dict.fromkeys(zero, 0.0) | counts)


def test_accounts_come_and_go_with_their_token_files(theatre: Theatre) -> None:
    stage = theatre.steady
    assert {ARRIVING, LEAVING} & stage.polled == {LEAVING}

    put_token(stage.house.tokens, ARRIVING, stage.house.accounts[ARRIVING].token)
    (stage.house.tokens / LEAVING).unlink()
    stage.wait(HOME, polls=3)  # the folder is looked at as often as one is polled, not in step

    assert stage.read(LEAVING) == {}
    known = expected(ARRIVING, stage.house.accounts[ARRIVING])
    assert stage.facts(ARRIVING) == equal_to(known)


def test_a_create_only_token_still_gives_the_repos(theatre: Theatre) -> None:
    stage = theatre.steady
    facts = stage.facts(CREATE_ONLY)
    known = expected(CREATE_ONLY, stage.house.accounts[CREATE_ONLY])

    of_the_account = {key: v for key, v in facts.items() if key[0].startswith(NOT_OF_THE_POLLS)}
    assert of_the_account == equal_to(
        {key: v for key, v in known.items() if key[0].startswith(OPEN_TO_CREATE_ONLY)}
    )
    successes = {c: facts[_of(CREATE_ONLY, "borgbase_collector_success", c)] for c in COLLECTORS}
    assert successes == {"repos": 1, "ssh_keys": 1, "account": 0, "tokens": 0}
    assert _failures(facts) == {("account", "auth"), ("tokens", "auth")}
    assert facts[series("borgbase_up", account=CREATE_ONLY)] == 1


def test_a_token_of_nobodys_gives_nothing_but_says_so(theatre: Theatre) -> None:
    facts = theatre.steady.facts(IMPOSTOR)

    assert not any(name.startswith(NOT_OF_THE_POLLS) for name, _ in facts)
    assert _failures(facts) == {(collector, "auth") for collector in COLLECTORS}
    assert facts[series("borgbase_up", account=IMPOSTOR)] == 0


def test_a_field_that_the_api_drops_costs_only_itself(theatre: Theatre) -> None:
    stage, account = theatre.drifting, theatre.drifting.house.accounts[DRIFTING]

    stage.house.api.drop_field("RepoType.quota")
    stage.wait(DRIFTING)

    known = expected(DRIFTING, account)
    rest = {key: v for key, v in known.items() if key[0] != "borgbase_repo_quota_bytes"}
    assert rest != known
    gap = series(GAP, account=DRIFTING, field="RepoType.quota")
    assert stage.facts(DRIFTING) == equal_to(rest | {gap: 1})


def _of(account: str, name: str, collector: str, **labels: str) -> Series:
    return series(name, account=account, collector=collector, **labels)


def _failing(facts: Mapping[Series, float]) -> set[Series]:
    return {key for key, count in facts.items() if key[0] == FAILURES and count}


def _failures(facts: Mapping[Series, float]) -> set[tuple[str, str]]:
    """Return the collectors that have failed, and why."""
    labels = [dict(pairs) for _, pairs in _failing(facts)]
    return {(found["collector"], found["reason"]) for found in labels}
