"""How findings look: on a terminal, in a pipe, and as JSON."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

from borgbase_exporter import __version__
from borgbase_exporter.diagnosis import Daily, Finding, Problem, examine
from borgbase_exporter.model import Account, CollectorStatus, Failure, Repo
from borgbase_exporter.report import AT_ONCE, print_json, print_tables, progress
from borgbase_exporter.text import DAY
from tests.facts import FINE_ACCOUNT, FINE_REPO, NOW, found, status


def printed(
    *findings: Finding, problems: tuple[Problem, ...] = (), width: int = 120, terminal: bool = False
) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=terminal, legacy_windows=False
    )
    print_tables(findings, problems, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def uncoloured(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def many(count: int, usage: float = 80.0) -> list[Repo]:
    return [replace(FINE_REPO, id=f"i{n}", name=f"host-{n:04}", usage=usage) for n in range(count)]


def test_all_is_well() -> None:
    assert printed(found(FINE_REPO)) == (
        "Account default\n"
        "  Token    BORGBASE_TOKEN · permission unknown · tells no expiry\n"
        "  API      ✓ reachable, polled in 0.2 s\n"
        "  Read     ✓ repos  ✓ account  ✓ ssh_keys  ✓ tokens\n"
        "  Repos    1 · 80 bytes used\n"
        "  Account  plan Small (1.0 kB included) · ends 2024-02-22 (in 100 d) · 2 SSH keys · "
        "0 API tokens\n"
        "\n"
        "  Repo             Usage      Quota  Used  Last write  Limit  Format  Region  Flags\n"
        "  fine          80 bytes  100 bytes   80%  10 s ago    1 d    ?       ?\n"
        "\n"
        "All is well.\n"
        "\n"
    )


def test_a_token_that_is_known_is_told() -> None:
    finding = examine(status(), "/run/token", NOW)
    assert "Token    /run/token · Read Only · expires 2023-11-14 (in 8 min)\n" in printed(finding)


def test_an_account_that_cannot_be_polled() -> None:
    collectors = {n: CollectorStatus(failure=Failure("connect", "no answer")) for n in ("repos",)}
    made = replace(status(), collectors=collectors, token_expires=None)
    assert printed(examine(made, "/run/token", NOW)) == (
        "Account default\n"
        "  Token  /run/token · tells no expiry\n"
        "  API    ✗ not reachable\n"
        "  Read   ✗ repos\n"
        "\n"
        "1 problem\n"
        "  ● API: no answer → check the network, --api.url and --api.proxy\n"
        "\n"
    )


def test_units_are_told_with_what_speaks_for_them() -> None:
    account = replace(FINE_ACCOUNT, plan=None, billed_usage=5e9)
    finding = found(replace(FINE_REPO, usage=5.5e9, quota=None), account=account)
    text = printed(replace(finding, daily=Daily("MB", 9, 10)))
    assert (
        "  Units    usage is 1.10 times what was billed last, as it should be · daily values are "
        "in MB, by 9 of 10 repos\n" in text
    )
    text = printed(replace(finding, daily=Daily(None, 3, 10)))
    assert "· daily values fit no unit, by 10 repos\n" in text


def test_the_worst_comes_first_in_the_table_and_in_the_list() -> None:
    full = replace(FINE_REPO, id="2", name="full", usage=99.0)
    late = replace(FINE_REPO, id="3", name="late", last_modified=NOW - 9 * DAY)
    idle = replace(
        FINE_REPO, id="4", name="idle", usage=0.0, last_modified=None, created=NOW - 9 * DAY
    )
    text = printed(found(FINE_REPO, idle, full, late))
    places = [text.index(f"  {name}  ") for name in ("late", "full", "idle", "fine")]
    assert places == sorted(places)
    assert text.rindex("idle") > text.rindex("full") > text.index("3 problems")


def test_whether_a_repo_was_never_written_to_or_nobody_knows() -> None:
    empty = replace(FINE_REPO, name="empty", usage=0.0, last_modified=None)
    holds = replace(FINE_REPO, name="holds", last_modified=None)
    text = printed(found(empty, holds))
    assert re.search(r"empty .* never ", text)
    assert re.search(r"holds .* unknown ", text)


def test_the_late_are_coloured_by_how_late_they_are() -> None:
    late = replace(FINE_REPO, last_modified=NOW - 1.5 * DAY)
    silent = replace(FINE_REPO, last_modified=NOW - 9 * DAY)
    assert "\x1b[33m1 d ago" in printed(found(late), terminal=True)
    assert "\x1b[31m9 d ago" in printed(found(silent), terminal=True)


def test_a_subscription_that_is_over_is_not_said_to_renew() -> None:
    over = replace(
        FINE_ACCOUNT, subscription_active=False, subscription_end=NOW - DAY, auto_renew=True
    )
    text = printed(found(FINE_REPO, account=over))
    assert "subscription not active · " in text
    assert "renews" not in text


def test_hostile_names_are_shown_not_obeyed() -> None:
    text = printed(found(replace(FINE_REPO, name="[red]evil[/red]\x1b[2J\n", usage=99.0)))
    assert "[red]evil[/red]" in text
    assert "\x1b" not in text
    assert "evil[/red]\n" not in text


def test_a_pipe_gets_no_colours_and_each_thing_on_one_line() -> None:
    long = found(*many(AT_ONCE + 9, usage=99.0), replace(FINE_REPO, name="n" * 300))
    text = printed(long, width=40)
    assert "\x1b" not in text
    assert "n" * 300 in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]
    assert text.count("● repo host-") == AT_ONCE + 9
    assert "more" not in text


def test_a_terminal_gets_colours_and_what_matters() -> None:
    repos = (*many(AT_ONCE + 9, usage=99.0), FINE_REPO)
    text = printed(found(*repos, account=Account()), terminal=True)
    assert "\x1b[" in text
    text = uncoloured(text)
    assert "  … and 10 more, 9 of them with a problem; a pipe gets them all\n" in text
    assert "  … and 9 more; a pipe gets them all\n" in text
    text = uncoloured(printed(found(*many(AT_ONCE + 1)), terminal=True))
    assert "  … and 1 more, none of them with a problem; a pipe gets them all\n" in text


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_loses_no_numbers(width: int) -> None:
    size = 123_456_000_000
    long = replace(
        FINE_REPO, name="a-rather-long-name.example.org", usage=0.99 * size, quota=float(size)
    )
    text = uncoloured(printed(found(long), width=width, terminal=True))
    assert max(map(len, text.splitlines())) <= width
    assert re.search(r"122\.2 GB +123\.5 GB +99% +10 s ago +1 d", text)
    assert "Region" not in text


def test_a_terminal_is_told_what_comes_next_when_all_is_well() -> None:
    hint = "Now start it: the same without `check`."
    fine, full = found(FINE_REPO), found(replace(FINE_REPO, usage=99.0))
    assert hint in uncoloured(printed(fine, terminal=True))
    assert hint not in printed(fine)
    assert hint not in uncoloured(printed(full, terminal=True))


def test_several_accounts_are_summed_up() -> None:
    full = found(replace(FINE_REPO, usage=99.0))
    ill = replace(full, status=replace(full.status, name="acme [x]"))
    fine = found(FINE_REPO)
    assert printed(fine, ill, fine).endswith("\n3 accounts, 1 with problems: acme [x]\n")
    assert printed(fine, fine).endswith("\n2 accounts, none with problems\n")


def test_problems_of_no_account_are_told() -> None:
    problem = Problem("critical", "token folder", "/run/tokens holds no token files", "add one")
    assert printed(problems=(problem,)) == (
        "1 problem\n  ● token folder: /run/tokens holds no token files → add one\n\n"
    )


def test_json_is_complete_and_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    finding = replace(found(replace(FINE_REPO, usage=96.0)), daily=Daily("MB", 1, 1))
    print_json([finding])
    report = json.loads(capsys.readouterr().out)
    assert (report["version"], report["well"], report["problems"]) == (__version__, False, [])
    (account,) = report["accounts"]
    data = account.pop("data")
    assert data["repos"]["repos"][0]["usage"] == 96.0
    assert data.keys() == {"repos", "account", "ssh_keys", "tokens"}
    assert account.pop("collectors")["repos"] == {
        "success": True,
        "failure": None,
        "skipped": 0,
        "missing_fields": [],
    }
    assert account == {
        "name": "default",
        "well": False,
        "up": True,
        "token": {"origin": "BORGBASE_TOKEN", "permission": None, "expires": None},
        "api": {"reachable": True, "seconds": 0.25},
        "units": {
            "usage_per_billed": None,
            "daily_unit": "MB",
            "daily_fits": 1,
            "daily_compared": 1,
        },
        "problems": [
            {
                "severity": "critical",
                "where": "repo fine",
                "what": "96% of its quota used",
                "advice": "raise the quota, or prune and compact",
            }
        ],
    }


@pytest.mark.parametrize(
    ("findings", "problems", "well"),
    [
        ([found(FINE_REPO)], [], True),
        ([found(FINE_REPO)], [Problem("warning", "token folder", "is open")], False),
        ([found(FINE_REPO), found(replace(FINE_REPO, usage=99.0))], [], False),
        ([], [], False),
    ],
)
def test_json_says_whether_all_is_well(
    findings: list[Finding],
    problems: list[Problem],
    capsys: pytest.CaptureFixture[str],
    *,
    well: bool,
) -> None:
    print_json(findings, problems)
    assert json.loads(capsys.readouterr().out)["well"] is well


def test_a_log_gets_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Asking", 2) as advance:
        advance()
    assert capsys.readouterr().err == ""
