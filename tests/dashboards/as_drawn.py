"""What panels show after Grafana's variables, transformations, overrides and mappings.

Needs npm and its registry: `make test-grafana` runs it, `make test` does not collect it.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dashboards.generate import files
from dashboards.model import GREY
from tests.dashboards.browser import CACHE, Grafana, Opened
from tests.dashboards.world import DOWN, END, HOSTILE, LARGE, MAIN, OUTAGE, RENAMED, SECOND, World
from tests.history import DAY, HOUR

OVERVIEW, REPOSITORY, EXPORTER = (
    f"borgbase-{name}" for name in ("overview", "repository", "exporter")
)
ALL = pytest.mark.parametrize("uid", [OVERVIEW, REPOSITORY, EXPORTER])
GREEN, ORANGE, RED = "#73BF69", "#FF9830", "#F2495C"
MAIL: dict[str, Any] = {"job": MAIN, "account": "home", "repo": "mail.example.org"}
RATES = ["Overdue", "Over 85 % of quota", "Plan used"]
COUNTS = [*RATES, "Never backed up", "Accrued overage", "Usage", "Repos"]


class Visit:
    """Opens dashboards on the world's data; errors of Grafana or Prometheus fail the test."""

    def __init__(self, grafana: Grafana, days: World) -> None:
        self._grafana, self._address = grafana, days.prometheus.address

    @contextmanager
    def __call__(
        self, uid: str, *, end: float = END, days: float = 30, **more: Any
    ) -> Iterator[Opened]:
        start = end - days * DAY
        with self._grafana.open(uid, self._address, start, end, **more) as page:
            assert page.report["errors"] == []
            assert [p["title"] for p in page.report["panels"] if p["error"]] == []
            yield page


@pytest.fixture(scope="package")
def visit(grafana: Grafana, days: World) -> Visit:
    return Visit(grafana, days)


def tiles(page: Opened) -> dict[str, tuple[str, str]]:
    """Text and colour of each tile."""
    found = (panel for panel in page.report["panels"] if panel["type"] == "stat")
    shown = {panel["title"]: panel["shown"] for panel in found}
    assert {len(values) for values in shown.values()} == {1}
    return {title: (values[0]["text"], values[0]["colour"]) for title, values in shown.items()}


def texts(page: Opened, title: str) -> list[dict[str, str]]:
    """The rows of a table, in no order."""
    return [{name: cell["text"] for name, cell in row.items()} for row in page.shown(title)]


def lines(page: Opened, title: str) -> dict[str, list[Any]]:
    return {series["title"]: series["points"] for series in page.shown(title)}


def test_the_json_has_the_types_of_grafanas_schema(grafana: Grafana) -> None:
    made = ["import type { Judged, Kinds } from './schema';"]
    for number, text in enumerate(files().values()):
        dashboard = json.loads(text)
        for panel in dashboard.pop("panels"):
            if panel["type"] == "row":
                continue
            config, defaults = panel["fieldConfig"], panel["fieldConfig"]["defaults"]
            parts = {"options": panel["options"], "overrides": config["overrides"]}
            parts |= {"custom": defaults["custom"]} if "custom" in defaults else {}
            name = f"panel{number}_{panel['id']}: Kinds['{panel['type']}']"
            made.append(f"export const {name} = {json.dumps(parts)};")
        made.append(f"export const dashboard{number}: Judged = {json.dumps(dashboard)};")
    (CACHE / "src" / "judged.ts").write_text("\n".join(made))
    command = ("node_modules/.bin/tsc", "--project", ".")
    done = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_good_times(visit: Visit) -> None:
    with visit(OVERVIEW, job=MAIN) as page:
        shown = tiles(page)
        assert shown["Firing alerts"] == (str(len(page.shown("Firing alerts, worst first"))), RED)
        assert shown["Accounts down"] == shown["Scrapes failing"] == ("0", GREEN)
        assert shown["Overdue"] == shown["Never backed up"] == ("1", RED)
        assert shown["Over 85 % of quota"] == ("1", ORANGE)
        assert shown["Data age"] == ("5.0 mins", GREEN)
        assert shown["Plan used"][0] == "28%"
        assert shown["Accrued overage"][0] == "$17.85"
        assert shown["Data from"] == ("BorgBase", GREEN)
        rows = {(row["Account"], row["Repo"]): row for row in texts(page, "Repos, worst first")}
        assert len(rows) == 15
        mail = rows["home", "mail.example.org"]
        assert (mail["Used"], mail["Days left"], mail["Pressure"]) == ("77%", "10", "77%")
        empty = {name for name, text in rows["home", "audit logs"].items() if text == "–"}
        assert empty == {"Quota", "Used", "Days left"}
        drawn = page.panel("Repos, worst first")["drawn"]
        order = [drawn.index(name) for name in ("new-server", "gitea", "postgres-prod")]
        assert order == sorted(order)


def test_an_alert_leads_to_its_runbook_and_to_what_it_is_about(visit: Visit) -> None:
    with visit(OVERVIEW, job=MAIN) as page:
        rows = page.shown("Firing alerts, worst first")
        found = {row["Alert"]["text"]: row for row in rows if row["Account"]["text"] == "home"}
        repo = found["BorgBaseRepoBackupOverdue"]
        assert (repo["Severity"]["text"], repo["About"]["text"]) == ("critical", "gitea")
        assert repo["Alert"]["href"].endswith("/docs/runbooks/BorgBaseRepoBackupOverdue.md")
        assert "/d/borgbase-repository?" in repo["About"]["href"]
        assert "var-account=home&var-repo=gitea" in repo["About"]["href"]
        account = found["BorgBaseSubscriptionExpiring"]
        assert account["About"]["text"] == "whole account"
        assert "/d/borgbase-exporter?" in account["About"]["href"]


def test_a_failing_api_is_not_taken_for_health(visit: Visit) -> None:
    end = OUTAGE[1] - 60
    with visit(OVERVIEW, end=end, job=MAIN) as page:
        shown = tiles(page)
        assert shown["Accounts down"] == ("2", RED)
        assert shown["Data age"] == ("9.0 hours", RED)
        assert {shown[title] for title in COUNTS} == {("unknown", GREY)}
        assert shown["Firing alerts"] == ("no rules seen", GREY)
        states = {row["State"] for row in texts(page, "Accounts")}
        assert states == {"down"}
        assert lines(page, "Usage by repo")
    with visit(REPOSITORY, end=end, **MAIL) as page:
        shown = tiles(page)
        assert shown.pop("Account") == ("down", RED)
        assert shown.pop("Data from") == ("BorgBase", GREEN)
        assert shown.pop("Growth per day")[1] != GREEN
        assert set(shown.values()) == {("unknown", GREY)}


def test_a_missing_exporter_is_not_taken_for_health(visit: Visit) -> None:
    with visit(OVERVIEW, end=DOWN[0] + HOUR, job=MAIN) as page:
        shown = tiles(page)
        assert shown.pop("Scrapes failing") == ("1", RED)
        assert {colour for _, colour in shown.values()} == {GREY}
    with visit(EXPORTER, end=DOWN[0] + HOUR, days=1, job=MAIN) as page:
        shown = tiles(page)
        assert shown.pop("Scrapes failing") == ("1", RED)
        shown.pop("Failed queries")  # of the shown time
        assert {colour for _, colour in shown.values()} == {GREY}


@ALL
def test_without_data_nothing_is_green_and_tables_say_why(uid: str, visit: Visit) -> None:
    with visit(uid, end=END - 90 * DAY, days=1) as page:
        assert {colour for _, colour in tiles(page).values()} == {GREY}
        models = {p["title"]: p for p in json.loads(files()[f"{uid}.json"])["panels"]}
        for panel in page.report["panels"]:
            if panel["type"] != "stat":
                assert panel["shown"] == []
                reason = models[panel["title"]]["fieldConfig"]["defaults"]["noValue"]
                assert panel["drawn"].split("\n")[1:] == [reason], panel["title"]


def test_one_dead_account_of_two_is_seen(visit: Visit) -> None:
    with visit(OVERVIEW, days=1, job="half") as page:
        assert tiles(page)["Accounts down"] == ("1", RED)
        assert tiles(page)["Data age"][1] == RED
        rows = {row["Account"]: row for row in texts(page, "Accounts")}
        assert (rows["dead"]["State"], rows["alive"]["State"]) == ("down", "up")
        assert rows["dead"]["Usage"] == "–"


def test_an_empty_account_and_one_without_limits_say_so(visit: Visit) -> None:
    with visit(OVERVIEW, days=0.1, job="empty") as page:
        shown = tiles(page)
        assert {shown[title] for title in ("Overdue", "Never backed up")} == {("no repos", GREY)}
        assert shown["Repos"][0] == "0"
    with visit(OVERVIEW, days=0.1, job="bare") as page:
        shown = tiles(page)
        assert shown["Overdue"] == ("no limit set", GREY)
        assert shown["Over 85 % of quota"] == ("no quota set", GREY)
        assert len(page.shown("Repos, worst first")) == 3
    with visit(OVERVIEW, days=0.1, job="single") as page:
        assert len(page.shown("Repos, worst first")) == 1


def test_simulated_data_says_so_everywhere(visit: Visit) -> None:
    for uid in (OVERVIEW, REPOSITORY, EXPORTER):
        with visit(uid, days=0.1, job="demo", account="demo") as page:
            assert tiles(page)["Data from"] == ("SIMULATED", ORANGE)
            assert page.report["annotations"]["Simulated data"] != [0]


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_has_a_page(name: str, visit: Visit) -> None:
    with visit(REPOSITORY, days=0.1, job="hostile", account=name, repo=name) as page:
        assert len(page.report["variables"]["repo_id"]["options"]) == 1
        assert [row["Name"] for row in texts(page, "Facts")] == [name]
        assert re.fullmatch(r"[\d.]+ [GT]B", tiles(page)["Usage"][0])
        assert set(lines(page, "Usage and quota")) == {"used", "quota"}
    with visit(OVERVIEW, days=0.1, job="hostile", account=[name]) as page:
        assert tiles(page)["Repos"][0] == "2"


def test_all_names_at_once(visit: Visit) -> None:
    with visit(OVERVIEW, days=0.1, job="hostile") as page:
        assert {row["Account"] for row in texts(page, "Accounts")} == set(HOSTILE)
    with visit(OVERVIEW, days=0.1, job="hostile", account=[*HOSTILE[:3]]) as page:
        assert {row["Account"] for row in texts(page, "Accounts")} == set(HOSTILE[:3])


@pytest.mark.parametrize("name", RENAMED)
def test_a_renamed_repo_keeps_its_history_under_either_name(name: str, visit: Visit) -> None:
    with visit(REPOSITORY, **(MAIL | {"repo": name})) as page:
        used = lines(page, "Usage and quota")["used"]
        assert used[-1][0] - used[0][0] == pytest.approx(30 * DAY, abs=2 * HOUR)
        assert [row["Name"] for row in texts(page, "Facts")] == [RENAMED[1]]


def test_a_repos_page_distinguishes_never_written_from_vanished(visit: Visit) -> None:
    with visit(REPOSITORY, **(MAIL | {"repo": "new-server"})) as page:
        shown = tiles(page)
        assert shown["Last write"] == ("never", ORANGE)
        assert shown["Age / limit"] == ("never written to", ORANGE)
        assert shown["Days until full"] == ("not growing", GREEN)
    with visit(REPOSITORY, days=0.5, job="vanished", account="gone") as page:
        repos = page.report["variables"]["repo"]["options"]
        listed = {}
        for name in repos:
            with visit(REPOSITORY, days=0.5, job="vanished", account="gone", repo=name) as one:
                listed[tiles(one)["Last write"]] = bool(one.shown("Facts"))
        assert listed.pop(("unknown", GREY)) is False
        assert list(listed.values()) == [True]


def test_replicas_and_jobs_show_once(visit: Visit) -> None:
    with visit(OVERVIEW, days=1, job=[MAIN, SECOND]) as both:
        assert tiles(both)["Repos"][0] == "15"
        assert len(both.shown("Repos, worst first")) == 15
        assert len(both.shown("Accounts")) == 2
    with visit(EXPORTER, days=1, job=[MAIN, SECOND]) as both:
        assert tiles(both)["Exporters"][0] == "3"


def test_thousands_of_repos_are_one_table_and_few_lines(visit: Visit) -> None:
    with visit(OVERVIEW, days=0.1, job="large") as page:
        assert len(page.shown("Repos, worst first")) == LARGE
        assert tiles(page)["Repos"][0] == str(LARGE)
        drawn = [panel for panel in page.report["panels"] if panel["type"] != "table"]
        assert max(len(panel["shown"]) for panel in drawn) <= 30


@pytest.mark.parametrize("hours", [1, 3])
def test_short_ranges_show_freshness(hours: int, visit: Visit) -> None:
    with visit(OVERVIEW, days=hours / 24, job=MAIN) as page:
        assert len(page.shown("Freshness")) == 12


def test_rates_and_daily_changes_mean_what_they_say(visit: Visit, days: World) -> None:
    with visit(EXPORTER, days=2, end=END - 2 * DAY, job=MAIN) as page:
        polls = lines(page, "Polls per hour")["polls"]
        assert polls[-1][1] == pytest.approx(2, abs=0.1)  # two accounts, hourly
        window = next(s["expr"] for s in page.report["sent"] if "polls_total" in s["expr"])
        assert re.search(r"\[(\d+)s\]", window)[1] == "3660"  # type: ignore[index]
    repo = next(one for one in days.home.repos if one.name == "mail.example.org")
    with visit(REPOSITORY, **MAIL) as page:
        change = dict(lines(page, "Daily change")["change"])
        for midnight in (END // DAY * DAY - DAY, END // DAY * DAY - 6 * DAY):
            grown = repo.usage(midnight + DAY - 1) - repo.usage(midnight)
            assert change[midnight] == pytest.approx(grown, rel=0.01)
        today = repo.usage(END) - repo.usage(END // DAY * DAY)
        assert change[END // DAY * DAY] == pytest.approx(today, rel=0.01, abs=1e6)
