"""The report: its JSON, what monitors get, and what is left out of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from borgbase_exporter import __version__
from borgbase_exporter.findings.problems import Problem
from borgbase_exporter.findings.report import decode, encode, report, well
from borgbase_exporter.model import AccountStatus
from tests.facts import FINE_REPO, FULL_REPO, NOW, status
from tests.findings.cases import ALL, checked, failing, found, polled

FULL = replace(FINE_REPO, id="f", name="full", usage=96.0)
WARM = replace(FINE_REPO, id="w", name="warm", usage=90.0)


def test_json_is_for_machines() -> None:
    document = json.loads(encode(checked(polled(FULL, FINE_REPO))))
    (account,) = document.pop("accounts")
    expected = {"schema": 1, "version": __version__, "simulated": False, "well": False}
    assert document == {**expected, "at": NOW, "problems": []}
    assert account["problems"] == [
        {
            "severity": "critical",
            "where": "repo full",
            "what": "96% of its quota used",
            "advice": "raise the quota, or prune and compact",
            "repo_id": "f",
            "alert": "BorgBaseRepoQuotaAlmostFull",
        }
    ]
    first, second = account["repos"]
    known = {"id": "f", "severity": "critical", "usage": 96.0, "quota_used": 0.96}
    assert first == {**first, **known}
    assert second["severity"] is None
    assert account["token"] == {"origin": "BORGBASE_TOKEN", "permission": None, "expires": None}
    assert account["api"]["reachable"] is True
    counts = {"skipped": 0, "fields_skipped": 0, "missing_fields": []}
    outcome = {"success": True, "failure": None, "taken": NOW, "shown": True}
    assert account["collectors"]["repos"] == {**counts, **outcome}
    plan = {"name": "Small", "included": 1000.0, "maximum": None, "max_repos": None}
    assert account["account"]["plan"] == plan
    assert account["usage"] == 176.0


def test_a_report_survives_its_encoding() -> None:
    made = checked(
        status("a", repos=replace(polled(FULL_REPO).snapshot.repos, complete=False)),  # type: ignore[type-var]
        failing("auth", "account", "tokens"),
        AccountStatus("new", {}),
        problems=(Problem("warning", "token folder", "is open"),),
    )
    assert decode(encode(made)) == made


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"<html>", "not a report"),
        (b"[]", "not a report"),
        (b'{"schema": 2}', "not a report that this release can read"),
        (b'{"schema": 1, "accounts": "none"}', "not a report"),
    ],
)
def test_what_is_no_report_of_this_schema(document: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode(document)


def test_what_is_not_printable_is_escaped() -> None:
    name = "a\x1b[2Jb\u202ec\x7fd\u2066e\nf 📱 ö"
    made = checked(polled(replace(FINE_REPO, name=name), name=name))
    text = encode(made).decode()
    assert text.replace("\n", "").isprintable()
    assert "📱 ö" in text
    assert decode(text.encode()) == made


def test_names_that_utf8_cannot_carry_do_not_stop_it() -> None:
    assert b"odd\xef\xbf\xbd" in encode(checked(polled(FINE_REPO, name="odd\udcff")))


@pytest.mark.parametrize(
    ("accounts", "problems", "expected"),
    [
        ([polled(FINE_REPO)], (), True),
        ([polled(FINE_REPO)], (Problem("warning", "token folder", "is open"),), False),
        ([polled(FINE_REPO), polled(FULL)], (), False),
        ([replace(polled(FINE_REPO), polls=0)], (), False),
        ([], (), False),
    ],
)
def test_whether_all_is_well(
    accounts: list[AccountStatus],
    problems: tuple[Problem, ...],
    expected: bool,  # noqa: FBT001
) -> None:
    assert checked(*accounts, problems=problems).well is expected


def test_accounts_are_sorted_as_people_do_and_simulated_ones_show() -> None:
    made = report([polled(name="b"), polled(name="A"), polled(name="c")], NOW)
    assert [account.name for account in made.accounts] == ["A", "b", "c"]
    assert not made.simulated
    made = report([polled(name="b"), replace(polled(name="demo"), simulated=True)], NOW)
    assert made.simulated
    assert [account.simulated for account in made.accounts] == [False, True]


def test_the_place_of_a_token_is_for_check_alone() -> None:
    place = "/run/secrets/borgbase/token"
    failure = f"{place}: Permission denied"
    broken = failing("token", *ALL, message=failure)
    rotated = replace(polled(FINE_REPO, name="b"), token_problem=failure)
    served = encode(report([broken, rotated], NOW))
    assert place.encode() not in served
    assert b"the token is missing or unreadable, see the exporter's log" in served
    assert encode(checked(broken, rotated)).count(place.encode()) >= 2


@pytest.mark.parametrize(
    ("status", "state", "seen"),
    [
        (replace(polled(), polls=0, collectors={}), "waiting", False),
        (failing("connect", "repos"), "failing", False),
        (failing("connect", "tokens"), "problems", True),
        (polled(FULL), "well", True),
    ],
)
def test_the_state_of_an_account(status: AccountStatus, state: str, seen: bool) -> None:  # noqa: FBT001
    account = found(status)
    assert (account.state, account.seen) == (state, seen)


HANGS, IS_FULL = "account fine: its polls hang", "critical: full: repo full: 96% of its quota used"


@pytest.mark.parametrize(
    ("account", "severity", "answer"),
    [
        ("fine", "warning", (200, "OK")),
        ("warm", "critical", (200, "OK")),
        ("warm", "warning", (503, "warning: warm: repo warm: 90% of its quota used")),
        ("full", "critical", (503, IS_FULL)),
        ("full", "warning", (503, IS_FULL)),
        ("", "warning", (404, "unknown account")),
        ("nobody", "critical", (404, "unknown account")),
        ("fine", "info", (400, "severity: critical or warning")),
        (None, "critical", (503, f"critical: exporter: {HANGS}\n{IS_FULL}")),
    ],
)
def test_what_monitors_get(account: str | None, severity: str, answer: tuple[int, str]) -> None:
    repos = {"fine": FINE_REPO, "warm": WARM, "full": FULL}
    accounts = [polled(repo, name=name) for name, repo in repos.items()]
    assert well(report(accounts, NOW, troubles=[HANGS]), account, severity) == answer
