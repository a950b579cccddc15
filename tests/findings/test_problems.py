"""What is a problem, how bad it is, what is said of it, and which alert it is."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from borgbase_exporter.errors import REASONS
from borgbase_exporter.findings import problems as under_test
from borgbase_exporter.model import (
    CREATE_ONLY,
    Account,
    AccountStatus,
    APIToken,
    APITokenList,
    Plan,
    RepoList,
)
from borgbase_exporter.text import DAY
from tests.facts import FINE_ACCOUNT, FINE_REPO, NO_TOKENS, NOW, collector
from tests.findings.cases import ALL, failing, found, polled
from tests.rules import rules

QUOTA, OVERDUE = "BorgBaseRepoQuotaAlmostFull", "BorgBaseRepoBackupOverdue"
UNUSED, TOKEN = "BorgBaseRepoNeverBackedUp", "BorgBaseTokenExpiring"
FULL, OVERAGE = "BorgBasePlanAlmostFull", "BorgBasePlanOverage"
ENDING, INACTIVE = "BorgBaseSubscriptionExpiring", "BorgBaseSubscriptionInactive"
FINE = (None, None, None)


def reported(account: AccountStatus) -> list[tuple[str, str, str, str | None]]:
    return [(p.severity, p.where, p.what, p.alert) for p in found(account).problems]


def test_all_is_well() -> None:
    account = found(polled(FINE_REPO))
    assert account.well
    assert (account.state, account.problems) == ("well", ())
    assert account.api.reachable


def repo(**changes: Any) -> AccountStatus:
    return polled(replace(FINE_REPO, **changes))


def paid(**known: Any) -> AccountStatus:
    return polled(FINE_REPO, account=Account(**known))


NEVER = {"last_modified": None, "never_written": True}
ENDS, LATE = NOW + 2 * DAY, NOW - 3 * DAY


@pytest.mark.parametrize(
    ("account", "severity", "what", "alert"),
    [
        (repo(usage=85.0), *FINE),
        (repo(usage=86.0), "warning", "86% of its quota used", QUOTA),
        (repo(usage=96.0), "critical", "96% of its quota used", QUOTA),
        (repo(usage=150.0), "critical", "150% of its quota used", QUOTA),
        (repo(usage=500.0, quota=None), *FINE),
        (repo(last_modified=NOW - DAY), *FINE),
        (repo(last_modified=NOW - DAY - 1), "warning", "last written 2023-11-13 (1 d", OVERDUE),
        (repo(last_modified=NOW - 3 * DAY), "critical", "last written 2023-11-11 (3 d", OVERDUE),
        (repo(last_modified=0.0, inactivity_limit=None), *FINE),
        (repo(**NEVER, created=NOW - 3 * DAY), *FINE),
        (repo(**NEVER, created=NOW - 4 * DAY), "warning", "created 2023-11-10 (4 d", UNUSED),
        (repo(last_modified=None, created=NOW - 4 * DAY), *FINE),
        (paid(), *FINE),
        (paid(plan=Plan("S", 81.0)), "critical", "99% of the plan's 81 bytes used", FULL),
        (paid(plan=Plan("S", 86.0)), "warning", "93% of the plan's 86 bytes used", FULL),
        (paid(plan=Plan("S", 1.0, 1000.0)), *FINE),
        (paid(billed_excess=0.0), *FINE),
        (paid(billed_excess=2e9), "warning", "2.0 GB over the storage included", OVERAGE),
        (paid(subscription_end=NOW + 13 * DAY), "warning", "ends 2023-11-27 (in 13", ENDING),
        (paid(subscription_end=ENDS), "critical", "ends 2023-11-16 (in 2 d)", ENDING),
        (paid(subscription_end=NOW - DAY), "critical", "ended 2023-11-13 (1 d ago)", ENDING),
        (paid(subscription_end=ENDS, auto_renew=True), *FINE),
        (paid(subscription_end=NOW - DAY / 2, auto_renew=True), *FINE),
        (paid(subscription_end=LATE, auto_renew=True), "critical", "was due to renew 2023", ENDING),
        (paid(subscription_active=False), "warning", "is not active", INACTIVE),
        (paid(subscription_active=False, subscription_end=LATE), "warning", "is not", ENDING),
        (paid(subscription_active=True), *FINE),
    ],
)
def test_problems(
    account: AccountStatus, severity: str | None, what: str | None, alert: str | None
) -> None:
    problems = found(account).problems
    assert [(p.severity, p.alert) for p in problems] == ([(severity, alert)] if severity else [])
    for problem in problems:
        assert problem.what.startswith(what or "")
        assert (problem.where, problem.repo_id) == ("repo fine", "1") or not problem.repo_id
        assert problem.advice


def test_tokens_about_to_expire_but_not_those_long_expired() -> None:
    tokens = APITokenList(
        (
            APIToken("1", "soon", "read_only", expires=NOW + 5 * DAY),
            APIToken("2", "dead", "read_only", expires=NOW - 5 * DAY),
            APIToken("3", "never", "read_only"),
        ),
        complete=True,
    )
    assert reported(polled(FINE_REPO, tokens=tokens)) == [
        ("warning", "API token soon", "expires 2023-11-19 (in 5 d)", TOKEN)
    ]


def test_the_token_used_here_is_reported_once() -> None:
    end = NOW + 5 * DAY
    tokens = APITokenList((APIToken("1", "ours", "full_access", expires=end),), complete=True)
    account = replace(polled(FINE_REPO, tokens=tokens), token_expires=end)
    assert found(account).token.permission == "full_access"
    assert reported(account) == [
        ("warning", "token", "expires 2023-11-19 (in 5 d)", TOKEN),
        ("warning", "token", "its permission is full access", "BorgBaseTokenNotReadOnly"),
    ]


@pytest.mark.parametrize(
    ("account", "what", "alert"),
    [
        (failing("auth", *ALL, expires=NOW - DAY), "", "BorgBaseTokenInvalid"),
        (failing("", expires=NOW - DAY), ", yet BorgBase accepts it", TOKEN),
        (failing("", expires=NOW - DAY, last_poll=NOW - DAY - 60), "", TOKEN),
    ],
    ids=["refused", "accepted: the clock is wrong", "since the last poll"],
)
def test_an_expired_token_is_one_problem(account: AccountStatus, what: str, alert: str) -> None:
    assert reported(account) == [
        ("critical", "token", f"expired 2023-11-13 (1 d ago){what}", alert)
    ]


def test_failures_of_several_collectors_are_one_problem_with_advice() -> None:
    (problem,) = found(failing("graphql", "repos", "tokens")).problems
    assert (problem.severity, problem.where) == ("critical", "repos, tokens")
    assert problem.advice == "try again in a few minutes; the API may be under maintenance"
    assert problem.alert == "BorgBaseAPIUnreachable"


@pytest.mark.parametrize("reason", REASONS)
def test_a_failure_of_all_is_the_apis_or_the_tokens_and_comes_with_advice(reason: str) -> None:
    unread = "/run/token: is empty" if reason == "token" else ""
    account = found(replace(failing(reason, *ALL), token_problem=unread))
    (problem,) = account.problems
    blamed = reason in {"auth", "token"}
    assert problem.where == ("token" if blamed else "API")
    assert problem.severity == "critical"
    assert problem.advice
    assert problem.alert == ("BorgBaseTokenInvalid" if blamed else "BorgBaseAPIUnreachable")
    expected = {"token": None, "connect": False, "tls": False, "timeout": False}
    assert account.api.reachable is expected.get(reason, True)
    assert account.state == "failing"


def test_a_part_that_fails_is_a_warning() -> None:
    assert reported(failing("timeout", "tokens")) == [
        ("warning", "tokens", "so it is", "BorgBaseCollectorFailing")
    ]
    assert reported(failing("timeout", "repos", message="a"))[0][3] == "BorgBaseAPIUnreachable"


def test_without_the_repo_list_the_failure_of_another_collector_is_decisive() -> None:
    whole = failing("connect", "account")
    account = replace(whole, collectors={"account": whole.collectors["account"]})
    assert reported(account) == [("critical", "API", "so it is", "BorgBaseAPIUnreachable")]


def test_a_token_that_may_only_list_looks_like_create_only() -> None:
    refused = [name for name in ALL if name not in CREATE_ONLY]
    account = found(failing("auth", *refused, message="no permission"))
    assert account.token.permission == "create_only"
    (problem,) = account.problems
    assert (problem.severity, problem.where) == ("warning", "account, tokens")
    assert problem.what == "no permission; the token seems to be Create Only"
    assert problem.advice.endswith("--no-collector.account --no-collector.tokens")
    (other,) = found(failing("auth", "account")).problems
    assert "Create Only" not in other.what


def test_a_token_that_cannot_be_read_while_the_previous_one_works() -> None:
    rotated = replace(polled(FINE_REPO), token_problem="/run/token: is empty")
    (problem,) = found(rotated).problems
    assert problem.severity == "warning"
    assert "the exporter uses the previous one until it restarts" in problem.what


def test_what_was_skipped_is_gone_or_too_old() -> None:
    odd = replace(
        collector(RepoList((), complete=False)),
        skipped=2,
        fields_skipped=1,
        gaps=frozenset({"RepoType.format"}),
    )
    old = replace(collector(NO_TOKENS), part=None, taken=NOW - 7 * 3600)
    account = replace(polled(), collectors={"repos": odd, "tokens": old})
    assert [(p.where, p.what, p.alert) for p in found(account).problems] == [
        ("repos", "2 of the entries cannot be read", "BorgBaseListIncomplete"),
        ("repos", "1 of the fields cannot be read", None),
        ("repos", "the API no longer has RepoType.format", "BorgBaseSchemaDrift"),
        ("tokens", "the last values, read 7 h ago, are too old to be shown", "BorgBasePollStale"),
    ]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"reported_repos": 2}, None),
        ({"reported_repos": 3}, "1 repo listed, but BorgBase's repo count is 3: the list may be"),
        ({"reported_usage": 3e12}, None),
        ({"reported_usage": 1e13}, None),
        ({"reported_usage": 2e12}, "5.0 TB listed, but BorgBase's total usage is 2.0 TB: sizes"),
        ({"billed_usage": 9e12}, None),
        ({"billed_usage": 5e15}, "5.0 TB listed, but BorgBase's last bill is 5.0 PB: sizes may"),
        ({"billed_usage": 5e9}, "5.0 TB listed, but BorgBase's last bill is 5.0 GB: sizes may"),
        ({"billed_usage": 0.0, "reported_usage": 5e7}, None),
    ],
)
def test_differences_from_what_borgbase_counts(changes: dict[str, Any], what: str | None) -> None:
    account = replace(FINE_ACCOUNT, plan=None, **changes)
    status = polled(replace(FINE_REPO, usage=5e12, quota=None), account=account)
    said = [problem.what for problem in found(status).problems]
    assert len(said) == (what is not None)
    assert all(one.startswith(what or "") for one in said)
    incomplete = collector(RepoList((FINE_REPO,), complete=False))
    partial = replace(status, collectors={**status.collectors, "repos": incomplete})
    assert found(partial).comparisons == ()


def test_the_late_come_before_the_full_and_those_before_the_fine() -> None:
    late = replace(FINE_REPO, name="late", last_modified=NOW - 9 * DAY)
    full = replace(FINE_REPO, name="full", usage=99.0)
    other = replace(FINE_REPO, name="Zoe")
    ranked = found(polled(FINE_REPO, full, late, other)).repos or ()
    assert [repo.name for repo in ranked] == ["late", "full", "fine", "Zoe"]


def test_every_alert_that_is_named_exists() -> None:
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    named = set(re.findall(r"BorgBase\w+", Path(under_test.__file__).read_text())) - {"BorgBase"}
    assert named - alerts == set()
    assert named
