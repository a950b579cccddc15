"""The output of plugins for Nagios, its relatives, and Checkmk."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from borgbase_exporter.findings import plugins
from borgbase_exporter.findings.problems import Problem
from borgbase_exporter.findings.report import Report
from borgbase_exporter.model import AccountStatus, Plan, Repo
from tests.facts import FINE_ACCOUNT, FINE_REPO, NOW
from tests.findings.cases import ALL, checked, failing, polled

GB = 1e9
NAS = replace(FINE_REPO, id="a1", name="nas", usage=80 * GB, quota=100 * GB)
FULL = replace(NAS, id="f2", name="full", usage=96 * GB)
WARM = replace(NAS, id="w3", name="warm", usage=90 * GB)
NO_PLAN = replace(FINE_ACCOUNT, plan=None)
UNREACHED = failing("connect", *ALL, message="no answer")
VALUE = r"'([^'=]+)'=(-?\d+)(B|s|);(\d*);(\d*);0(;\d+)?|'([^'=]+)'=(-?\d+)(B|s|);;;0"


def account(*repos: Repo, name: str = "home") -> AccountStatus:
    return polled(*repos, name=name, account=NO_PLAN)


@pytest.mark.parametrize(
    ("accounts", "status"),
    [
        ([account(NAS)], plugins.OK),
        ([account(WARM)], plugins.WARNING),
        ([account(WARM), account(FULL)], plugins.CRITICAL),
        ([UNREACHED], plugins.UNKNOWN),
        ([UNREACHED, account(WARM)], plugins.UNKNOWN),
        ([UNREACHED, account(FULL)], plugins.CRITICAL),
        ([AccountStatus("new", {})], plugins.UNKNOWN),
        ([], plugins.UNKNOWN),
    ],
)
def test_the_exit_status(accounts: list[AccountStatus], status: int) -> None:
    report = checked(*accounts)
    assert plugins.status(report) == status
    assert next(plugins.nagios(report)).startswith(f"BORGBASE {plugins.WORDS[status]}: ")


def test_nagios() -> None:
    text = "\n".join(plugins.nagios(checked(account(NAS))))
    assert text == (
        "BORGBASE OK: All is well, 1 repo, 80.0 GB stored | 'home repos'=1;;;0 "
        "'home usage'=80000000000B;;;0 "
        "'home/nas usage'=80000000000B;85000000000;95000000000;0;100000000000 "
        "'home/nas age'=10s;86400;172800;0"
    )
    ahead = replace(NAS, last_modified=NOW + 9)
    assert "'home/nas age'=0s;" in next(plugins.nagios(checked(account(ahead))))
    first, second = plugins.nagios(checked(account(FULL)))
    assert first.startswith(
        "BORGBASE CRITICAL: 1 critical problem: repo full: 96% of its quota used, 1 repo, "
    )
    assert second == (
        "critical: repo full: 96% of its quota used (raise the quota, or prune and compact)"
    )
    _, *problems = plugins.nagios(checked(account(FULL), account(FULL, name="work")))
    assert [line.split(": ")[1] for line in problems] == ["account home", "account work"]


def test_the_plan_limits_an_accounts_usage() -> None:
    status = polled(NAS, name="home", account=replace(FINE_ACCOUNT, plan=Plan("S", 1e12)))
    assert "'home usage'=80000000000B;900000000000;970000000000;0;1000000000000 " in next(
        plugins.nagios(checked(status))
    )


def hostile() -> Report:
    names = ["a|b", "it's=1", 'c"d\\n$(id)`id`', "e\nf\x1b[2J\u202e", "twin", "twin", "日本"]
    repos = [replace(FULL, id=f"i{n}", name=name) for n, name in enumerate(names)]
    return checked(account(*repos, name="h|o'm=e"))


def test_hostile_names_break_no_format() -> None:
    first, *rest = plugins.nagios(hostile())
    words, values = first.split(" | ")
    assert "|" not in words + "".join(rest)
    assert len(rest) == 7
    parsed = re.findall(VALUE, values)
    assert re.sub(VALUE, "", values).strip() == ""
    labels = [one[0] or one[6] for one in parsed]
    assert len(labels) == len(set(labels)) == 2 + 2 * 7
    assert "h_o_m_e/twin i4 usage" in labels
    services = list(plugins.checkmk(hostile()))
    for line in services:
        assert re.fullmatch(r'[0-3] "[^"|\\$`;]+" \S+ [^|\\]+', line), line
        assert line.isprintable()
    names = [line.split('"')[1] for line in services]
    assert len(names) == len(set(names)) == 8


def test_many_repos_leave_their_values_out() -> None:
    repos = [replace(NAS, id=str(n), name=str(n)) for n in range(plugins.MOST_REPOS + 1)]
    first = next(plugins.nagios(checked(account(*repos))))
    assert first.endswith(" | 'home repos'=51;;;0 'home usage'=4080000000000B;;;0")


def test_checkmk() -> None:
    assert list(plugins.checkmk(checked(account(NAS, FULL)))) == [
        '0 "BorgBase home" borgbase_repos=2;;;0|borgbase_usage=176000000000;;;0 '
        "well, 2 repos, 1 with problems",
        '2 "BorgBase home full" '
        "borgbase_usage=96000000000;85000000000;95000000000;0;100000000000|"
        "borgbase_age=10;86400;172800;0 "
        "critical: repo full: 96% of its quota used (raise the quota, or prune and compact)",
        '0 "BorgBase home nas" '
        "borgbase_usage=80000000000;85000000000;95000000000;0;100000000000|"
        "borgbase_age=10;86400;172800;0 80.0 GB stored, last write 10 s ago",
    ]
    (unknown,) = plugins.checkmk(checked(UNREACHED))
    assert unknown.startswith('3 "BorgBase default" - critical: API: no answer')


def test_checkmk_has_a_service_for_what_belongs_to_no_account() -> None:
    problem = Problem("warning", "token folder", "other users may put files into it")
    first, *_ = plugins.checkmk(checked(account(NAS), problems=(problem,)))
    assert first == '1 "BorgBase" - warning: token folder: other users may put files into it'
    assert list(plugins.checkmk(checked())) == ['3 "BorgBase" - there are no accounts']


def test_simulated_data_is_named_in_every_service() -> None:
    report = checked(replace(account(NAS), simulated=True))
    assert all("SIMULATED DATA" in line for line in plugins.checkmk(report))
    assert "SIMULATED DATA" in next(plugins.nagios(report))


def test_there_is_no_report() -> None:
    assert plugins.unknown("no | answer", "nagios") == "BORGBASE UNKNOWN: no ¦ answer"
    assert plugins.unknown("no answer", "checkmk") == '3 "BorgBase" - no answer'
