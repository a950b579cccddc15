"""What is a problem, how bad it is, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from borgbase_exporter.diagnosis import Finding, Problem, examine
from borgbase_exporter.errors import REASONS
from borgbase_exporter.model import (
    Account,
    AccountStatus,
    APIToken,
    APITokenList,
    CollectorStatus,
    Failure,
    Plan,
    Repo,
    RepoList,
    Snapshot,
    SSHKeyList,
)
from borgbase_exporter.text import DAY
from tests.facts import FINE_ACCOUNT, FINE_REPO, NO_TOKENS, NOW, collector, found, status


def problems(
    *repos: Repo, account: Account = FINE_ACCOUNT, tokens: APITokenList = NO_TOKENS
) -> list[tuple[str, str, str]]:
    finding = found(*repos, account=account, tokens=tokens)
    return [(p.severity, p.where, p.what) for p in finding.problems]


def failing(
    reason: str,
    *names: str,
    message: str = "so it is",
    expires: float | None = None,
    last_poll: float = NOW,
) -> Finding:
    """Return what is found of an account where these collectors fail, and the others work."""
    repos = RepoList((FINE_REPO,), complete=True)
    whole = status(repos=repos, account=FINE_ACCOUNT, tokens=NO_TOKENS)
    broken = CollectorStatus(failure=Failure(reason, message))
    collectors = {n: broken if n in names else c for n, c in whole.collectors.items()}
    polled = replace(whole, last_poll=last_poll, token_expires=expires)
    return examine(replace(polled, collectors=collectors), "/run/token", NOW)


ALL = ("repos", "account", "ssh_keys", "tokens")


def test_all_is_well() -> None:
    finding = found(FINE_REPO)
    assert finding.well
    assert finding.problems == ()
    assert finding.reachable


@pytest.mark.parametrize(
    ("repo", "problem"),
    [
        (replace(FINE_REPO, usage=85.0), None),
        (replace(FINE_REPO, usage=86.0), ("warning", "86% of its quota used")),
        (replace(FINE_REPO, usage=96.0), ("critical", "96% of its quota used")),
        (replace(FINE_REPO, usage=150.0), ("critical", "150% of its quota used")),
        (replace(FINE_REPO, usage=500.0, quota=None), None),
        (replace(FINE_REPO, last_modified=NOW - DAY), None),
        (
            replace(FINE_REPO, last_modified=NOW - DAY - 1),
            ("warning", "last written 2023-11-13 (1 d ago), limit 1 d"),
        ),
        (
            replace(FINE_REPO, last_modified=NOW - 3 * DAY),
            ("critical", "last written 2023-11-11 (3 d ago), limit 1 d"),
        ),
        (replace(FINE_REPO, last_modified=0.0, inactivity_limit=None), None),
        (replace(FINE_REPO, last_modified=None, created=NOW - 2 * DAY, usage=0.0), None),
        (
            replace(FINE_REPO, last_modified=None, created=NOW - 4 * DAY, usage=0.0),
            ("warning", "created 2023-11-10 (4 d ago) and never written to"),
        ),
        (replace(FINE_REPO, last_modified=None, created=NOW - 4 * DAY), None),
    ],
)
def test_repos(repo: Repo, problem: tuple[str, str] | None) -> None:
    expected = [(problem[0], "repo fine", problem[1])] if problem else []
    assert problems(repo) == expected


@pytest.mark.parametrize(
    ("account", "problem"),
    [
        (Account(), None),
        (
            Account(plan=Plan("S", included=81.0)),
            ("critical", "plan", "99% of the plan's 81 bytes used"),
        ),
        (
            Account(plan=Plan("S", included=86.0)),
            ("warning", "plan", "93% of the plan's 86 bytes used"),
        ),
        (Account(plan=Plan("S", included=1.0, maximum=1000.0)), None),
        (Account(billed_excess=0.0), None),
        (
            Account(billed_excess=2e9),
            ("warning", "plan", "2.0 GB beyond what the plan includes are billed"),
        ),
        (
            Account(subscription_end=NOW + 13 * DAY),
            ("warning", "subscription", "ends 2023-11-27 (in 13 d) and does not renew itself"),
        ),
        (
            Account(subscription_end=NOW + 2 * DAY),
            ("critical", "subscription", "ends 2023-11-16 (in 2 d) and does not renew itself"),
        ),
        (
            Account(subscription_end=NOW - 30 * DAY),
            ("critical", "subscription", "ended 2023-10-15 (30 d ago) and does not renew itself"),
        ),
        (Account(subscription_end=NOW + 2 * DAY, auto_renew=True), None),
        (Account(subscription_end=NOW - DAY / 2, auto_renew=True), None),
        (
            Account(subscription_end=NOW - 30 * DAY, auto_renew=True),
            ("critical", "subscription", "should have renewed itself 2023-10-15 (30 d ago)"),
        ),
        (
            Account(subscription_active=False, subscription_end=NOW - 30 * DAY, auto_renew=True),
            ("warning", "subscription", "is not active"),
        ),
        (Account(subscription_active=True), None),
    ],
)
def test_accounts(account: Account, problem: tuple[str, str, str] | None) -> None:
    assert problems(FINE_REPO, account=account) == ([problem] if problem else [])


def test_tokens_about_to_expire_but_not_those_long_dead() -> None:
    tokens = APITokenList(
        (
            APIToken("1", "soon", "read_only", expires=NOW + 5 * DAY),
            APIToken("2", "dead", "read_only", expires=NOW - 5 * DAY),
            APIToken("3", "never", "read_only"),
        ),
        complete=True,
    )
    assert problems(FINE_REPO, tokens=tokens) == [
        ("warning", "API token soon", "expires 2023-11-19 (in 5 d)")
    ]


def test_the_token_used_here_is_told_of_once() -> None:
    end = NOW + 5 * DAY
    tokens = APITokenList((APIToken("1", "ours", "full_access", expires=end),), complete=True)
    made = status(repos=RepoList((FINE_REPO,), complete=True), account=FINE_ACCOUNT, tokens=tokens)
    finding = examine(replace(made, token_expires=end), "BORGBASE_TOKEN", NOW)
    assert finding.permission == "full_access"
    assert [(p.where, p.what) for p in finding.problems] == [
        ("token", "expires 2023-11-19 (in 5 d)"),
        ("token", "its permission is Full Access"),
    ]


def test_an_expired_token_is_one_problem() -> None:
    (problem,) = failing("auth", *ALL, expires=NOW - DAY).problems
    assert problem.what == "expired 2023-11-13 (1 d ago)"


def test_an_expired_token_that_works_speaks_of_a_wrong_clock() -> None:
    (problem,) = failing("", expires=NOW - DAY).problems
    assert problem.what == "expired 2023-11-13 (1 d ago), and yet BorgBase takes it"
    assert problem.advice == "check this machine's clock"


def test_a_token_that_expired_since_the_last_poll_does_not() -> None:
    (problem,) = failing("", expires=NOW - 60, last_poll=NOW - 120).problems
    assert problem.what == "expired 2023-11-14 (60 s ago)"


def test_a_write_in_the_future_speaks_of_a_wrong_clock() -> None:
    assert problems(replace(FINE_REPO, last_modified=NOW + 3000)) == []
    assert problems(replace(FINE_REPO, last_modified=NOW + 5 * 3600)) == [
        ("warning", "clock", "a repo was written to 5 h in the future")
    ]


def test_failures_of_several_collectors_are_one_problem_with_advice() -> None:
    assert failing("graphql", "repos", "tokens").problems == (
        Problem(
            "critical",
            "repos, tokens",
            "so it is",
            "try again in a few minutes; the API may be under maintenance",
        ),
    )


@pytest.mark.parametrize("reason", REASONS)
def test_a_failure_of_all_is_the_apis_or_the_tokens_and_comes_with_advice(reason: str) -> None:
    finding = failing(reason, *ALL)
    (problem,) = finding.problems
    assert problem.where == ("token" if reason in {"auth", "token"} else "API")
    assert problem.severity == "critical"
    assert problem.advice
    expected = {"token": None, "connect": False, "tls": False, "timeout": False}
    assert finding.reachable is expected.get(reason, True)


def test_a_token_that_may_only_list_looks_like_create_only() -> None:
    finding = failing("auth", "account", "tokens", message="no permission")
    assert finding.permission == "create_only"
    assert finding.problems == (
        Problem(
            "warning",
            "account, tokens",
            "no permission; it seems to be Create Only, so plan, bills and tokens stay unknown",
            "make a token with the permission Read Only, or do without: --no-collector.account "
            "--no-collector.tokens",
        ),
    )
    assert failing("auth", "account", "tokens", expires=NOW - DAY).permission == "create_only"
    assert len(failing("auth", "account", "tokens", expires=NOW - DAY).problems) == 2
    (problem,) = failing("auth", "account").problems
    assert "Create Only" not in problem.what


def test_what_was_skipped_or_is_gone_is_told() -> None:
    odd = replace(
        collector(RepoList((), complete=False)), skipped=2, gaps=frozenset({"RepoType.format"})
    )
    finding = examine(AccountStatus("a", {"repos": odd}), "/run/token", NOW)
    assert [p.what for p in finding.problems] == [
        "2 of the entries cannot be read",
        "the API no longer has RepoType.format",
    ]


@pytest.mark.parametrize(
    ("usage", "billed", "ratio", "told"),
    [
        (5e12, 5e12, 1.0, None),
        (5e12, 3e12, 5 / 3, None),
        (5e12, 2e12, 2.5, "the repos use 2.5 times the 2.0 TB that were billed last"),
        (5e12, 5e15, 0.001, "the repos use 0.001 times the 5.0 PB that were billed last"),
        (5e12, 5e9, 1000.0, "the repos use 1,000 times the 5.0 GB that were billed last"),
        (5e8, 5e11, 0.001, "the repos use 0.001 times the 500.0 GB that were billed last"),
        (5e7, 5e12, None, None),
        (5e12, 0.0, None, None),
        (5e12, None, None, None),
    ],
)
def test_sizes_that_cannot_be_in_the_units_we_assume(
    usage: float, billed: float | None, ratio: float | None, told: str | None
) -> None:
    account = replace(FINE_ACCOUNT, plan=None, billed_usage=billed)
    finding = found(replace(FINE_REPO, usage=usage, quota=None), account=account)
    assert finding.usage_per_billed == ratio
    assert [p.what for p in finding.problems] == ([told] if told else [])


def test_an_incomplete_list_is_not_compared_with_the_bill() -> None:
    repos = RepoList((replace(FINE_REPO, usage=5e12),), complete=False)
    made = status(repos=repos, account=Account(billed_usage=9e15), ssh_keys=SSHKeyList((), 0))
    assert examine(made, "x", NOW).usage_per_billed is None


def test_problems_found_elsewhere_are_ranked_with_the_others() -> None:
    known = Problem("warning", "token", "is on a poster")
    full = replace(FINE_REPO, usage=99.0)
    made = replace(status(repos=RepoList((full,), complete=True), account=None), token_expires=None)
    finding = examine(made, "x", NOW, [known])
    assert [p.where for p in finding.problems][:2] == ["repo fine", "token"]


def test_the_late_come_before_the_full_and_those_before_the_fine() -> None:
    late = replace(FINE_REPO, name="late", last_modified=NOW - 9 * DAY)
    full = replace(FINE_REPO, name="full", usage=99.0)
    other = replace(FINE_REPO, name="Zoe")
    ranked = found(FINE_REPO, full, late, other).repos
    assert [found.repo.name for found in ranked] == ["late", "full", "fine", "Zoe"]


@pytest.mark.parametrize("field", ["gaps", "missing"])
def test_without_the_time_of_the_last_write_nothing_is_told_of_it(field: str) -> None:
    new = Repo("1", "new", created=NOW - 9 * DAY)
    untold: Any = {field: frozenset({"RepoType.lastModified"})}
    listing = replace(collector(RepoList((new,), complete=True)), **untold)
    (repo,) = examine(AccountStatus("a", {"repos": listing}), "", NOW).repos
    assert (repo.unwritten, repo.problems) == ("unknown", ())


def test_what_is_too_old_is_left_out() -> None:
    full = replace(FINE_REPO, usage=99.0)
    made = status(repos=RepoList((full,), complete=True), account=FINE_ACCOUNT, taken=NOW - 10)
    assert examine(made, "", NOW, since=NOW - 11).repos
    gone = examine(made, "", NOW, since=NOW - 10)
    assert (gone.repos, gone.snapshot, gone.permission) == ((), Snapshot(), None)
