from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from borgbase_exporter.diagnosis import Finding, Problem, examine
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
)
from borgbase_exporter.report import print_json, print_tables
from borgbase_exporter.text import DAY
from tests.facts import NOW, collector, status

FINE_REPO = Repo("1", "fine", usage=80.0, quota=100.0, last_modified=NOW - 10, inactivity_limit=DAY)
FINE_ACCOUNT = Account(plan=Plan("Small", included=1000.0), subscription_end=NOW + 100 * DAY)
NO_TOKENS = APITokenList((), complete=True)


def found(
    *repos: Repo, account: Account = FINE_ACCOUNT, tokens: APITokenList = NO_TOKENS
) -> Finding:
    made = status(repos=RepoList(repos, complete=True), account=account, tokens=tokens)
    return examine(replace(made, token_expires=None), "BORGBASE_TOKEN", NOW)


def problems(
    *repos: Repo, account: Account = FINE_ACCOUNT, tokens: APITokenList = NO_TOKENS
) -> list[tuple[str, str, str]]:
    finding = found(*repos, account=account, tokens=tokens)
    return [(p.severity, p.where, p.what) for p in finding.problems]


def printed(*findings: Finding, width: int = 120, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal)
    print_tables(findings, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_all_is_well() -> None:
    finding = found(FINE_REPO)
    assert finding.well
    assert "All is well." in printed(finding)


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
        (replace(FINE_REPO, last_modified=None, created=NOW - 2 * DAY), None),
        (
            replace(FINE_REPO, last_modified=None, created=NOW - 4 * DAY),
            ("warning", "created 2023-11-10 (4 d ago) and never written to"),
        ),
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
        (Account(subscription_end=NOW + 2 * DAY, auto_renew=True), None),
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


def test_failures_of_several_collectors_are_one_problem_with_advice() -> None:
    failed = CollectorStatus(failure=Failure("auth", "the API does not accept the token"))
    finding = examine(AccountStatus("a", {"repos": failed, "tokens": failed}), "/run/token", NOW)
    assert finding.problems == (
        Problem(
            "critical",
            "repos, tokens",
            "the API does not accept the token",
            "check that the token is whole, else make a new one with the permission Read Only",
        ),
    )
    assert not finding.well


def test_what_was_skipped_or_is_gone_is_told() -> None:
    odd = replace(
        collector(RepoList((), complete=False)), skipped=2, gaps=frozenset({"RepoType.format"})
    )
    finding = examine(AccountStatus("a", {"repos": odd}), "/run/token", NOW)
    assert [p.what for p in finding.problems] == [
        "2 of the entries cannot be read",
        "the API no longer has RepoType.format",
    ]


def test_the_worst_comes_first_in_the_table_and_in_the_list() -> None:
    full = replace(FINE_REPO, id="2", name="full", usage=99.0)
    late = replace(FINE_REPO, id="3", name="late", last_modified=NOW - 9 * DAY)
    idle = replace(FINE_REPO, id="4", name="idle", last_modified=None, created=NOW - 9 * DAY)
    text = printed(found(FINE_REPO, idle, full, late))
    positions = [text.index(name) for name in ("late", "full", "fine", "4 repos", "problems")]
    assert positions[3] < positions[0] < positions[1] < positions[2] < positions[4]
    assert text.rindex("idle") > text.rindex("full")


def test_hostile_names_are_shown_not_obeyed() -> None:
    text = printed(found(replace(FINE_REPO, name="[red]evil[/red]\x1b[2J\n", usage=99.0)))
    assert "[red]evil[/red]" in text
    assert "\x1b" not in text
    assert "evil[/red]\n" not in text


def test_a_terminal_gets_colours_and_a_pipe_gets_room() -> None:
    assert "\x1b[" in printed(found(FINE_REPO), terminal=True)
    long = found(replace(FINE_REPO, name="n" * 60))
    assert "n" * 60 in printed(long, width=40)


def test_json_is_complete_and_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([found(replace(FINE_REPO, usage=96.0))])
    (account,) = json.loads(capsys.readouterr().out)["accounts"]
    assert account["name"] == "default"
    assert account["well"] is False
    assert account["problems"][0]["where"] == "repo fine"
    assert account["data"]["repos"]["repos"][0]["usage"] == 96.0
    assert account["collectors"]["repos"] == {
        "success": True,
        "failure": None,
        "skipped": 0,
        "missing_fields": [],
    }


def test_no_account_is_told() -> None:
    assert "no account" in printed()
