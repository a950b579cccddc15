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
from tests.findings.cases import ALL, failing, found, polled

GB = 1e9
FULL = replace(FINE_REPO, usage=96.0)
WARM = replace(FINE_REPO, usage=90.0)


@pytest.mark.parametrize(
    ("accounts", "troubles", "level", "words"),
    [
        ([polled(FINE_REPO)], (), "well", "All is well"),
        ([polled(FULL)], (), "critical", "1 critical problem"),
        ([polled(WARM, WARM)], (), "warning", "2 warnings"),
        ([polled(WARM, FULL)], (), "critical", "1 critical problem and 1 warning"),
        ([failing("graphql", *ALL)], (), "critical", "1 critical problem"),
        ([polled(FINE_REPO)], ["x hangs"], "critical", "1 critical problem"),
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
    unknown = failing("connect", *ALL)
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
        "API tokens": "2, 1 with full access",
        "Token in use": "read only, expires",
        "Repo list": "agrees with BorgBase's repo count and last bill "
        "(within 1 repo and a factor of 2)",
    }
    assert known["Stored"].share == pytest.approx(0.247, abs=0.001)
    assert known["Subscription"].moment == NOW + 100
    assert known["Token in use"].moment == NOW + 500


def test_nothing_unknown_is_shown_as_zero() -> None:
    account = found(failing("connect", *ALL))
    assert list(facts.of_account(account, NOW)) == []
    assert facts.repos(account) == "repos unknown"
    assert of_repo(Repo("1", "bare")) == {"Quota": "unknown", "Last write": "unknown"}


def of_repo(repo: Repo) -> dict[str, str]:
    (only,) = found(polled(repo)).repos or ()
    return {fact.name: fact.text for fact in facts.of_repo(only, NOW) if fact.text}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subscription_end": NOW + 9 * DAY, "auto_renew": True}, "renews"),
        ({"subscription_end": NOW + 9 * DAY, "auto_renew": False}, "ends"),
        ({"subscription_end": NOW - 9 * DAY, "auto_renew": False}, "ended"),
        ({"subscription_end": NOW - 9 * DAY, "auto_renew": True}, "was due to renew"),
        ({"subscription_active": False}, "not active"),
    ],
)
def test_the_state_of_a_subscription(changes: dict[str, Any], words: str) -> None:
    account = found(polled(account=replace(ACCOUNT, **changes)))
    found_ = {fact.name: fact.text for fact in facts.of_account(account, NOW)}
    assert found_["Subscription"] == words


def test_a_repo_in_full() -> None:
    repo = Repo(
        *("1", "nas", 97 * GB, 100 * GB),
        last_modified=NOW - 3600,
        inactivity_limit=1800,
        append_only=True,
        compaction_enabled=True,
        format="vykar",
        region="eu",
    )
    assert of_repo(repo) == {
        "Usage": "97.0 GB",
        "Quota": "100.0 GB",
        "Used": "97%",
        "Last write": "60 min ago",
        "Limit": "30 min",
        "Format": "vykar",
        "Region": "eu",
        "Flags": "append-only, compaction",
    }
    assert of_repo(Repo("1", "new", never_written=True))["Last write"] == "never"


def test_values_that_are_older_than_the_last_poll_say_so() -> None:
    base = polled(FINE_REPO)
    old = {n: replace(c, taken=NOW - 7200) for n, c in base.collectors.items()}
    assert facts.stale(found(base), NOW) == ""
    assert facts.stale(found(replace(base, collectors=old)), NOW) == (
        "The values of repos, account, ssh keys, tokens are from 2 h ago."
    )


@pytest.mark.parametrize("moment", [1e18, -1e18, float("inf")])
def test_an_odd_time_breaks_nothing(moment: float) -> None:
    assert of_repo(replace(FINE_REPO, last_modified=moment))["Last write"].endswith(" ago")
