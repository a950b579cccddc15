"""The facts in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from borgbase_exporter.findings import facts
from borgbase_exporter.findings.report import report
from borgbase_exporter.model import AccountStatus, Plan, Repo
from borgbase_exporter.text import DAY
from tests.facts import ACCOUNT, FINE_REPO, NOW, status
from tests.findings.cases import failing, found, polled

GB = 1e9
FULL = replace(FINE_REPO, usage=96.0)
WARM = replace(FINE_REPO, usage=90.0)
ALL_FAIL = ("repos", "account", "ssh_keys", "tokens")


@pytest.mark.parametrize(
    ("accounts", "troubles", "level", "words"),
    [
        ([polled(FINE_REPO)], (), "well", "All is well"),
        ([polled(FULL)], (), "critical", "1 repo needs a look"),
        ([polled(WARM, WARM)], (), "warning", "2 repos need a look"),
        ([failing("graphql", "tokens")], (), "warning", "1 account needs a look"),
        ([failing("graphql", *ALL_FAIL)], (), "critical", "1 account failing"),
        (
            [failing("graphql", *ALL_FAIL), polled(WARM), failing("graphql", "tokens")],
            (),
            "critical",
            "1 account failing, 1 account and 1 repo need a look",
        ),
        ([polled(FINE_REPO)], ["x hangs"], "critical", "The exporter needs a look"),
        ([], (), "waiting", "There are no accounts"),
        ([AccountStatus("a", {})], (), "waiting", "Waiting for the first poll of 1 account"),
    ],
)
def test_the_verdict(
    accounts: list[AccountStatus], troubles: Sequence[str], level: str, words: str
) -> None:
    assert facts.verdict(report(accounts, NOW, troubles=troubles)) == (level, words)


def test_the_sums_are_given_when_they_are_known() -> None:
    one, two = polled(FINE_REPO), polled(FINE_REPO, FINE_REPO)
    assert facts.summary(report([one], NOW)) == "1 repo, 80 bytes stored"
    assert facts.summary(report([one, two], NOW)) == "2 accounts, 3 repos, 240 bytes stored"
    unknown = failing("connect", *ALL_FAIL)
    assert facts.summary(report([one, unknown], NOW)) == "2 accounts, 1 repo"


def test_facts_of_an_account() -> None:
    plan = Plan("Large", 100 * GB, 500 * GB, 10)
    status_ = replace(
        status(account=replace(ACCOUNT, plan=plan, auto_renew=True, reported_repos=2)),
        token_expires=NOW + 500,
    )
    known = {fact.name: fact for fact in facts.of_account(found(status_), NOW)}
    assert {name: fact.text for name, fact in known.items()} == {
        "Repos": "2 of at most 10",
        "Stored": "123.5 GB, 25% of 500.0 GB",
        "Plan": "Large, 100.0 GB included, 500.0 GB at most",
        "Overage so far": "1.25 USD",
        "Subscription": "renews",
        "SSH keys": "2",
        "API tokens": "2, 1 Full Access",
        "Token in use": "Read Only, expires",
        "Compared": "2 repos listed, 2 by BorgBase's count: the list is whole (tolerance 1); "
        "123.5 GB listed, 120.0 GB by the last bill: sizes are in the right unit "
        "(tolerance: a factor of 2)",
    }
    assert known["Stored"].share == pytest.approx(0.247, abs=0.001)
    assert known["Subscription"].moment == NOW + 100
    assert known["Token in use"].moment == NOW + 500


def test_nothing_unknown_is_shown_as_zero() -> None:
    account = found(failing("connect", *ALL_FAIL))
    assert list(facts.of_account(account, NOW)) == []
    assert facts.repos(account) == "repos unknown"
    told = facts.of_repo((found(polled(Repo("1", "bare"))).repos or ())[0], NOW)
    assert told == facts.RepoFacts("", "unknown", "", None, "unknown", None, "", "", "", "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subscription_end": NOW + 9 * DAY, "auto_renew": True}, "renews"),
        ({"subscription_end": NOW + 9 * DAY, "auto_renew": False}, "ends"),
        ({"subscription_end": NOW - 9 * DAY, "auto_renew": False}, "ended"),
        ({"subscription_end": NOW - 9 * DAY, "auto_renew": True}, "should have renewed itself"),
        ({"subscription_active": False}, "not active"),
    ],
)
def test_what_becomes_of_a_subscription(changes: dict[str, Any], words: str) -> None:
    account = found(polled(account=replace(ACCOUNT, **changes)))
    told = [f.text for f in facts.of_account(account, NOW) if f.name == "Subscription"]
    assert told == [words]


def test_a_repo_in_full() -> None:
    repo = Repo(
        "1",
        "nas",
        usage=97 * GB,
        quota=100 * GB,
        quota_enabled=True,
        last_modified=NOW - 3600,
        inactivity_limit=1800,
        append_only=True,
        compaction_enabled=True,
        format="vykar",
        region="eu",
    )
    told = facts.of_repo((found(polled(repo)).repos or ())[0], NOW)
    assert told == facts.RepoFacts(
        usage="97.0 GB",
        quota="100.0 GB",
        used="97%",
        used_severity="critical",
        written="60 min ago",
        written_severity="warning",
        limit="30 min",
        format="vykar",
        region="eu",
        flags="append-only, compaction",
    )


def test_values_that_are_older_than_the_last_poll_say_so() -> None:
    base = polled(FINE_REPO)
    old = {n: replace(c, taken=NOW - 7200) for n, c in base.collectors.items()}
    assert facts.stale(found(base), NOW) == ""
    assert facts.stale(found(replace(base, collectors=old)), NOW) == (
        "The values of repos, account, ssh keys, tokens are from 2 h ago."
    )


@pytest.mark.parametrize("moment", [1e18, -1e18, float("inf")])
def test_an_odd_time_breaks_nothing(moment: float) -> None:
    (repo,) = found(polled(replace(FINE_REPO, last_modified=moment))).repos or ()
    assert facts.of_repo(repo, NOW).written.endswith(" ago")
