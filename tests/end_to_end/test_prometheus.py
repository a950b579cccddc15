"""The series that Prometheus stores for simulated accounts, polled by the exporter. golden.txt has
the values; these tests check that they arrive and change.
"""

import re
import time
from collections.abc import Mapping

import pytest

from borgbase_exporter.demo.curves import DAY
from tests.end_to_end.conftest import Theatre
from tests.end_to_end.facts import COLLECTORS, GOLDEN, MOVING, NOW, parsed, series
from tests.end_to_end.processes import Series, ask, until
from tests.end_to_end.stage import HOME, WORK, put_token

GAP = "borgbase_schema_field_missing"
FAILURES = "borgbase_poll_failures_total"
NEW_NAME = "another\nname"
OF_THE_ACCOUNT = ("borgbase_repo_", "borgbase_account_", "borgbase_ssh_", "borgbase_api_")

Facts = Mapping[Series, float]


@pytest.mark.parametrize("name", [HOME, WORK])
def test_prometheus_stores_the_exporters_page(theatre: Theatre, name: str) -> None:
    page = theatre.steady.house.exporter.get("/metrics").text
    shown = {key: v for key, v in _of(name, parsed(page)).items() if key[0] not in MOVING}

    assert theatre.steady.facts(name) == shown
    assert len(shown) > 100


def test_every_metric_arrives_with_its_labels(theatre: Theatre) -> None:
    found = {(name, frozenset(dict(labels))) for name, labels in theatre.steady.all()}

    ours = {(name, labels) for name, labels in found if name.startswith("borgbase_")}
    golden = re.findall(r"^(borgbase_\w+)\{(.*)\} ", GOLDEN.read_text("utf-8"), re.MULTILINE)
    expected = {(name, frozenset(re.findall(r'(\w+)="', labels))) for name, labels in golden}
    build = ("borgbase_exporter_build_info", frozenset({"version", "python_version"}))
    assert ours == expected | {build}


def test_the_exporters_own_times_are_now(theatre: Theatre) -> None:
    before = time.time()
    theatre.steady.wait(HOME)
    moving = {key[0]: v for key, v in theatre.steady.read(HOME).items() if key[0] in MOVING}
    success = moving["borgbase_last_success_timestamp_seconds"]

    assert moving.keys() == MOVING
    assert before < success < time.time()
    assert moving["borgbase_last_poll_timestamp_seconds"] == success
    assert 0 < moving["borgbase_last_poll_duration_seconds"] < 30


def test_prometheus_accepts_all_scrapes(theatre: Theatre) -> None:
    up = dict.fromkeys(("steady", "drifting", "listener"), ("up", ""))
    assert theatre.prometheus.targets() == up


def test_what_prometheus_asks_for_is_openmetrics(theatre: Theatre) -> None:
    answer = ask(theatre.steady.house.exporter.address, "/metrics", headers=theatre.scraped_with)

    assert answer.headers["Content-Type"] == (
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    )
    assert answer.headers["Content-Encoding"] == "gzip"


@pytest.fixture(scope="module")
def before(theatre: Theatre) -> Facts:
    """Change four accounts while they are polled; return the series as they were before."""
    stage, accounts = theatre.steady, theatre.steady.house.accounts
    known = stage.all()
    rotating = accounts["rotating"]
    put_token(stage.house.tokens, "rotating", rotating.add_token("renewed", "RO", NOW + 30 * DAY))
    stage.wait("rotating")  # no poll that read the old token is under way
    rotating.revoke(rotating.token)
    accounts["revoked"].revoke(accounts["revoked"].token)
    accounts["deleting"].delete(accounts["deleting"].repos[0].id)
    accounts["renaming"].rename(accounts["renaming"].repos[0].id, NEW_NAME)
    stage.wait("rotating", "revoked", "deleting", "renaming")
    return known


def test_a_deleted_repo_is_gone(before: Facts, theatre: Theatre) -> None:
    facts, left = theatre.steady.facts("deleting"), theatre.steady.house.accounts["deleting"].repos

    assert facts[series("borgbase_account_repos", account="deleting")] == len(left) == 2
    assert _repos(facts) == {repo.id: {repo.name} for repo in left}
    assert len(_repos(_of("deleting", before))) == 3


def test_a_renamed_repo_has_only_its_new_name(before: Facts, theatre: Theatre) -> None:
    first, *others = theatre.steady.house.accounts["renaming"].repos

    names = {first.id: {NEW_NAME}, **{repo.id: {repo.name} for repo in others}}
    assert _repos(theatre.steady.facts("renaming")) == names


def test_a_rotated_token_is_taken_up(before: Facts, theatre: Theatre) -> None:
    facts = theatre.steady.facts("rotating")

    own = series("borgbase_exporter_token_expiration_timestamp_seconds", account="rotating")
    assert facts[own] == NOW + 30 * DAY
    assert facts[series("borgbase_up", account="rotating")] == 1
    assert _failures(facts) == set()


def test_a_revoked_token_is_reported_and_values_stay(before: Facts, theatre: Theatre) -> None:
    facts = theatre.steady.facts("revoked")

    assert _values(facts) == _values(_of("revoked", before)) != {}
    assert _failures(facts) == {(collector, "auth") for collector in COLLECTORS}
    assert facts[series("borgbase_up", account="revoked")] == 0
    assert _successes(facts) == dict.fromkeys(COLLECTORS, 0)


def test_accounts_come_and_go_with_their_token_files(theatre: Theatre) -> None:
    stage = theatre.steady
    assert {"arriving", "leaving"} & stage.polled == {"leaving"}

    put_token(stage.house.tokens, "arriving", stage.house.accounts["arriving"].token)
    (stage.house.tokens / "leaving").unlink()
    until(lambda: "leaving" not in stage.polled, "the account without a token file is gone")
    until(lambda: "arriving" in stage.polled, "the account with a new one has been polled")

    assert stage.read("leaving") == {}
    arrived = stage.facts("arriving")
    assert arrived[series("borgbase_account_repos", account="arriving")] == 3
    assert arrived[series("borgbase_up", account="arriving")] == 1


def test_a_create_only_token_still_gives_the_repos(theatre: Theatre) -> None:
    facts = theatre.steady.facts("create-only")

    repos = theatre.steady.house.accounts["create-only"].repos
    assert _repos(facts) == {repo.id: {repo.name} for repo in repos}
    known = {name for name, _ in _values(facts) if not name.startswith("borgbase_repo_")}
    assert known == {
        *("borgbase_account_repos", "borgbase_account_usage_bytes", "borgbase_account_ssh_keys"),
        *(
            "borgbase_ssh_key_added_timestamp_seconds",
            "borgbase_ssh_key_last_used_timestamp_seconds",
        ),
    }
    assert _successes(facts) == {"repos": 1, "ssh_keys": 1, "account": 0, "tokens": 0}
    assert _failures(facts) == {("account", "auth"), ("tokens", "auth")}
    assert facts[series("borgbase_up", account="create-only")] == 1


def test_an_unknown_token_gives_no_values_but_failures(theatre: Theatre) -> None:
    facts = theatre.steady.facts("impostor")

    assert _values(facts) == {}
    assert _failures(facts) == {(collector, "auth") for collector in COLLECTORS}
    assert facts[series("borgbase_up", account="impostor")] == 0


def test_a_field_that_the_api_drops_costs_only_itself(theatre: Theatre) -> None:
    stage = theatre.drifting
    known = stage.facts("drifting")

    stage.house.api.drop_field("RepoType.quota")
    stage.wait("drifting")

    rest = {key: v for key, v in known.items() if key[0] != "borgbase_repo_quota_bytes"}
    assert rest != known
    gap = series(GAP, account="drifting", field="RepoType.quota")
    assert stage.facts("drifting") == rest | {gap: 1}


def _of(account: str, facts: Facts) -> Facts:
    return {key: value for key, value in facts.items() if ("account", account) in key[1]}


def _values(facts: Facts) -> Facts:
    """Return the series that describe the account, not its polls."""
    return {key: value for key, value in facts.items() if key[0].startswith(OF_THE_ACCOUNT)}


def _repos(facts: Facts) -> dict[str, set[str]]:
    """Return the repos by ID, with the names that they have in any series."""
    names: dict[str, set[str]] = {}
    for labels in (dict(pairs) for _, pairs in facts):
        if "repo_id" in labels:
            names.setdefault(labels["repo_id"], set()).add(labels["repo"])
    return names


def _successes(facts: Facts) -> dict[str, float]:
    """Return by collector whether its last poll succeeded."""
    name = "borgbase_collector_success"
    return {dict(key[1])["collector"]: value for key, value in facts.items() if key[0] == name}


def _failures(facts: Facts) -> set[tuple[str, str]]:
    """Return the collectors that have failed, and why."""
    failed = [dict(pairs) for (name, pairs), count in facts.items() if name == FAILURES and count]
    return {(labels["collector"], labels["reason"]) for labels in failed}
