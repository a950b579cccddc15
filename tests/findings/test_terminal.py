"""The report on a terminal and in a pipe."""

from __future__ import annotations

import re
from dataclasses import replace

import click
import pytest

from borgbase_exporter.findings.problems import Problem
from borgbase_exporter.findings.report import Report
from borgbase_exporter.findings.terminal import AT_ONCE, lines
from borgbase_exporter.model import Repo
from borgbase_exporter.text import DAY
from tests.facts import FINE_REPO, NOW
from tests.findings.cases import ALL, checked, failing, polled

FULL = replace(FINE_REPO, id="2", name="full", usage=99.0)
LATE = replace(FINE_REPO, id="3", name="late", last_modified=NOW - 1.5 * DAY)


def plain(report: Report, width: int | None = None) -> str:
    return click.unstyle("\n".join(lines(report, width)))


def many(count: int, usage: float = 80.0) -> list[Repo]:
    return [replace(FINE_REPO, id=f"i{n}", name=f"host-{n:04}", usage=usage) for n in range(count)]


def test_all_is_well() -> None:
    assert plain(checked(polled(FINE_REPO))) == (
        "Account default\n"
        "  API           reachable, polled in 0.2 s\n"
        "  Read          ✓ repos  ✓ account  ✓ ssh_keys  ✓ tokens\n"
        "  Repos         1\n"
        "  Stored        80 bytes, 8% of 1.0 kB\n"
        "  Plan          Small, 1.0 kB included\n"
        "  Subscription  ends 2024-02-22 (in 100 d)\n"
        "  SSH keys      2\n"
        "  API tokens    0\n"
        "  Token in use  BORGBASE_TOKEN, expiry unknown\n"
        "\n"
        "  State  Repo     Usage      Quota  Used  Last write  Limit  Format  Region  Flags\n"
        "  ok     fine  80 bytes  100 bytes   80%  10 s ago    1 d    –       –       –\n"
        "\n"
        "All is well.\n"
    )


def test_an_account_that_cannot_be_polled() -> None:
    account = failing("connect", *ALL, message="no answer")
    assert plain(checked(account)) == (
        "Account default\n"
        "  API           not reachable, polled in 0.2 s\n"
        "  Read          ✗ repos  ✗ account  ✗ ssh_keys  ✗ tokens\n"
        "  Token in use  BORGBASE_TOKEN, expiry unknown\n"
        "\n"
        "1 problem\n"
        "  critical  API: no answer → check the network, --api.url and --api.proxy\n"
    )


def test_values_older_than_the_last_poll_are_named() -> None:
    text = plain(checked(replace(polled(FINE_REPO), last_poll=NOW + 1)))
    assert "  Stale         The values of repos, account, ssh keys, tokens are from " in text


def test_simulated_data_is_announced_first() -> None:
    demo = replace(polled(FINE_REPO), simulated=True)
    assert plain(checked(demo)).startswith(
        "SIMULATED DATA: these accounts and repos are invented\n"
    )
    assert "SIMULATED" not in plain(checked(polled(FINE_REPO)))


def test_severities_are_words_and_the_worst_come_first() -> None:
    text = plain(checked(polled(FINE_REPO, LATE, FULL)))
    rows = re.findall(r"^  (critical|warning|ok) +(\w+)  ", text, re.MULTILINE)
    assert rows == [("critical", "full"), ("warning", "late"), ("ok", "fine")]
    problems = re.findall(r"^  (critical|warning) +repo (\w+):", text, re.MULTILINE)
    assert problems == [("critical", "full"), ("warning", "late")]


def test_a_terminal_gets_colours_too() -> None:
    text = "\n".join(lines(checked(polled(LATE, FULL)), 120))
    for expected in ("\x1b[33m1 d ago", "\x1b[31m99%", "\x1b[31mcritical", "\x1b[33mwarning"):
        assert expected in text


def test_hostile_names_are_shown_not_obeyed() -> None:
    name = "evil\x1b[2J\n\u202egnp"
    text = plain(checked(polled(replace(FULL, name=name, format=name), name=name)))
    assert text.count("evil\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}") == 4
    assert text.replace("\n", "").isprintable()


def test_a_pipe_gets_each_thing_on_one_line() -> None:
    report = checked(polled(*many(AT_ONCE + 9, usage=99.0), replace(FINE_REPO, name="n" * 300)))
    text = plain(report)
    assert "n" * 300 in text
    assert text.count("critical  repo host-") == AT_ONCE + 9
    assert "more" not in text


def test_a_terminal_gets_what_matters() -> None:
    text = plain(checked(polled(*many(AT_ONCE + 9, usage=99.0), FINE_REPO)), 120)
    assert "  … and 10 more, 9 with a problem; to see all, use a pipe\n" in text
    assert "more; to see all, use a pipe\n" in text
    text = plain(checked(polled(*many(AT_ONCE + 1))), 120)
    assert "  … and 1 more, none with a problem; to see all, use a pipe\n" in text


@pytest.mark.parametrize("width", [70, 80])
def test_a_narrow_terminal_loses_no_numbers(width: int) -> None:
    long = replace(
        FINE_REPO, name="a-rather-long-name.example.org", usage=0.99 * 123.5e9, quota=123.5e9
    )
    text = plain(checked(polled(long)), width)
    assert max(map(len, text.splitlines())) <= width
    assert re.search(r"  a-rath\S*…  122\.3 GB +123\.5 GB +99% +10 s ago +1 d", text)
    assert "Region" not in text


def test_wide_characters_keep_the_columns_aligned() -> None:
    repos = [replace(FINE_REPO, name=name) for name in ("phone 📱", "日本", "cafe\u0301", "plain")]
    text = plain(checked(polled(*repos)))
    # Two columns each for 📱, 日 and 本, none for the combining accent.
    offsets = {
        line.index("80 bytes") + 2 * ("日" in line) + ("📱" in line) - ("\u0301" in line)
        for line in text.splitlines()
        if line.startswith("  ok")
    }
    assert len(offsets) == 1


def test_several_accounts_are_summed_up() -> None:
    fine, full = polled(FINE_REPO), polled(FULL, name="work")
    last = "\n2 accounts, 2 repos, 179 bytes stored: 1 critical problem"
    assert plain(checked(fine, full)).endswith(last)


def test_problems_of_no_account() -> None:
    problem = Problem("critical", "token folder", "/run/tokens has no token files", "add one")
    assert plain(checked(problems=(problem,))) == (
        "1 problem\n  critical  token folder: /run/tokens has no token files → add one\n"
    )
