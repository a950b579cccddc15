"""The dashboards keep their conventions, and show the truth of sixty simulated days."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from borgbase_exporter.exposition import TEXT
from borgbase_exporter.metrics import BUILD, SCOPES
from borgbase_exporter.simulator import SimulatedAccount
from dashboards import grafana
from dashboards.generate import FOLDER, files
from dashboards.grafana import Opened, Series
from dashboards.model import BLUE, GREEN, GREY, ORANGE, RED, WIDTH, YELLOW, Json
from dashboards.simulated import END, RENAMED, RULES, START, Simulated, simulated
from tests.end_to_end.processes import Prometheus
from tests.history import DAY, HOUR, History, serve
from tests.simulator.asking import Clock

ROOT = FOLDER.parent
DASHBOARDS = {name: grafana.load(text) for name, text in files().items()}
OVERVIEW, REPOSITORY, EXPORTER = (
    DASHBOARDS[f"borgbase-{name}.json"] for name in ("overview", "repository", "exporter")
)
ALL = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)

UNITS = {
    *("none", "s", "percentunit", "decbytes", "bytes", "currencyUSD"),
    *("dateTimeAsLocal", "dateTimeFromNow"),
}
CATALOGUE = {metric.name: (*s.labels, *metric.labels) for s in SCOPES for metric in s.metrics}
CATALOGUE[BUILD.name] = BUILD.labels
PROCESS = {
    sample.name
    for family in text_string_to_metric_families(TEXT.tail().decode())
    for sample in family.samples
}
ALERT_LABELS = ("alertname", "alertstate", "severity", "account", "repo_id", "repo")
RULES_OF_ALERTS = [
    rule
    for path in RULES.glob("*.yml")
    for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
]


def panels(dashboard: Json) -> list[Json]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def bare(expr: str) -> str:
    """Take the strings out of a query."""
    return re.sub(r'"[^"]*"', '""', expr)


def targets(dashboard: Json) -> Iterator[tuple[Json, Json]]:
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield panel, target


def columns(panel: Json) -> dict[str, str]:
    """The columns of a table: what they are called, by what they are made of."""
    renamed: dict[str, str] = panel["transformations"][1]["options"]["renameByName"]
    return renamed


def fields(panel: Json) -> list[Json]:
    """The settings of a panel's values, and of each that is set apart."""
    defaults: Json = panel["fieldConfig"]["defaults"]
    apart = (
        {item["id"]: item["value"] for item in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    )
    return [defaults, *apart]


# As they are in the files.


def test_committed_files_are_what_the_code_makes() -> None:
    assert {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.json")} == files()


def test_they_import_and_provision_anywhere() -> None:
    assert [made["uid"] for made in DASHBOARDS.values()] == [
        name.removesuffix(".json") for name in DASHBOARDS
    ]
    for made in DASHBOARDS.values():
        assert made["id"] is None
        assert not [key for key in made if key.startswith("__")]
        assert made["timezone"] == "browser"
        assert (made["time"]["from"], made["time"]["to"]) == ("now-30d", "now")
        assert made["links"][0]["tags"] == made["tags"] == ["borgbase"]


@ALL
def test_every_panel_tells_what_it_is_and_why_it_may_be_empty(dashboard: Json) -> None:
    for panel in panels(dashboard):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["noValue"]
        assert {field["unit"] for field in fields(panel) if "unit" in field} <= UNITS
        assert "unit" in panel["fieldConfig"]["defaults"]
    titles = [panel["title"] for panel in panels(dashboard)]
    assert len(set(titles)) == len(titles)


@ALL
def test_colours_are_the_same_everywhere(dashboard: Json) -> None:
    for panel in panels(dashboard):
        for field in fields(panel):
            steps = field.get("thresholds", {"steps": []})["steps"]
            mapped = [option for m in field.get("mappings", ()) for option in m["options"].values()]
            used = {each["color"] for each in (*steps, *mapped)}
            assert used <= {GREEN, YELLOW, ORANGE, RED, BLUE, GREY}, panel["title"]


@ALL
def test_panels_fill_the_grid_without_overlap(dashboard: Json) -> None:
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    cells = [
        {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        for place in (panel["gridPos"] for panel in dashboard["panels"])
    ]
    assert not any(one & other for one, other in combinations(cells, 2))
    rows = Counter(y for each in cells for _, y in each)
    assert set(rows.values()) == {WIDTH}
    assert set(rows) == set(range(len(rows)))


@ALL
def test_all_ask_the_chosen_data_source(dashboard: Json) -> None:
    asking = [
        *panels(dashboard),
        *(target for _, target in targets(dashboard)),
        *dashboard["annotations"]["list"],
        *(v for v in dashboard["templating"]["list"] if v["type"] == "query"),
    ]
    for each in asking:
        assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@ALL
def test_variables(dashboard: Json) -> None:
    first, job, *others = dashboard["templating"]["list"]
    assert (first["name"], first["type"], first["query"]) == (
        "datasource", "datasource", "prometheus",
    )  # fmt: skip
    assert (job["name"], job["label"], job["allValue"], job["multi"]) == ("job", "Job", ".+", True)
    assert [v["name"] for v in others if not v["hide"]][:1] == ["account"]
    assert {v["refresh"] for v in (job, *others)} == {2}  # also when the time range changes
    known = {"__range", "__rate_interval", *(v["name"] for v in (job, *others))}
    for where, expr in grafana.queries(dashboard):
        assert set(re.findall(r"\$([a-z_]\w*)", expr)) <= known, where


@ALL
def test_queries_read_metrics_that_exist_and_choose_the_job(dashboard: Json) -> None:
    for where, expr in grafana.queries(dashboard):
        text = re.sub(r"\$\w+", "", bare(expr))
        names = set(re.findall(r"\b(?:borgbase|process)_\w+|\bALERTS\b", text))
        assert names <= {*CATALOGUE, *PROCESS, "ALERTS"}, where
        assert names, where
        if where == "$job":
            continue
        selectors = re.findall(r"(\w+)\{([^}]*)\}", expr)
        assert {name for name, _ in selectors} == names, where
        for name, matchers in selectors:
            assert 'job=~"$job"' in matchers or (name == "ALERTS" and 'job=""' in matchers), where
            assert re.search(r'account=~"\$account\|?"|^job=~"\$job"$', matchers), where
            labels = set(re.findall(r"(\w+)=", matchers)) - {"job"}
            assert labels <= {*CATALOGUE.get(name, ()), *ALERT_LABELS}, where


@ALL
def test_labels_that_are_grouped_by_exist(dashboard: Json) -> None:
    known = {label for labels in CATALOGUE.values() for label in labels} | {*ALERT_LABELS}
    for where, expr in grafana.queries(dashboard):
        made = set(re.findall(r'label_replace\(.*?, "(\w+)", "', expr))
        for group in re.findall(r"(?:by|on) \(([^)]*)\)", bare(expr)):
            assert set(filter(None, group.split(", "))) <= known | made, where


@ALL
def test_counters_are_rates_over_an_interval_that_fits(dashboard: Json) -> None:
    for panel, target in targets(dashboard):
        expr = target["expr"]
        counted = re.findall(r"(\w*)\(\w+_total\{[^}]*\}(\[\S+?\])", expr)
        assert len(counted) == len(re.findall(r"_total\b", expr)), panel["title"]
        for function, window in counted:
            assert (function, window) in {
                ("rate", "[$__rate_interval]"),
                ("increase", "[$__range]"),
            }
            # A poll moves its counters once; the process its own all the time.
            once_per_poll = function == "rate" and "borgbase_" in expr
            assert target["interval"] == ("1h" if once_per_poll else ""), panel["title"]


@ALL
def test_targets_and_legends(dashboard: Json) -> None:
    for panel in panels(dashboard):
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs) > 0
        for target in panel["targets"]:
            assert target["instant"] is not target["range"]
            if panel["type"] in {"timeseries", "state-timeline", "bargauge"}:
                assert target["legendFormat"] != "__auto"
                labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
                assert labels <= set(re.findall(r"\w+", bare(target["expr"]))) | {"instance"}
        if panel["type"] == "timeseries":
            named = {target["legendFormat"] for target in panel["targets"]}
            overrides = panel["fieldConfig"]["overrides"]
            assert {override["matcher"]["options"] for override in overrides} <= named


@ALL
def test_tables_are_made_of_their_columns(dashboard: Json) -> None:
    for panel in panels(dashboard):
        if panel["type"] != "table":
            continue
        titles = list(columns(panel).values())
        assert len(set(titles)) == len(titles)
        assert panel["options"]["sortBy"][0]["displayName"] in titles
        overrides = panel["fieldConfig"]["overrides"]
        assert {override["matcher"]["options"] for override in overrides} <= {*titles}


@ALL
def test_links_lead_somewhere(dashboard: Json) -> None:
    uids = {made["uid"]: made for made in DASHBOARDS.values()}
    runbooks = RULES_OF_ALERTS[0]["annotations"]["runbook_url"].rpartition("/")[0]
    for panel in panels(dashboard):
        for field in fields(panel):
            for link in field.get("links", ()):
                url = link["url"]
                used = set(re.findall(r"\$\{__data\.fields\.(\w+):percentencode\}", url))
                assert used <= {*columns(panel)}, panel["title"]
                if url.startswith("/d/"):
                    goal = uids[re.split("[/?]", url)[2]]
                    chosen = {"datasource", "job", *re.findall(r"var-(\w+)=", url)}
                    assert chosen == {
                        v["name"] for v in goal["templating"]["list"] if not v["hide"]
                    }
                else:
                    assert url == f"{runbooks}/${{__data.fields.alertname:percentencode}}.md"


def test_every_alert_has_the_runbook_that_the_overview_leads_to() -> None:
    for rule in RULES_OF_ALERTS:
        assert (ROOT / "docs" / "runbooks" / f"{rule['alert']}.md").is_file()


def test_provisioning_fits() -> None:
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    sources = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text("utf-8"))
    (source,) = sources["datasources"]
    assert source["type"] == "prometheus"
    assert grafana.seconds(source["jsonData"]["timeInterval"]) == grafana.SCRAPES
    scrape = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text("utf-8")
    interval = yaml.safe_load(scrape)["global"]["scrape_interval"]
    assert grafana.seconds(interval) == grafana.SCRAPES
    providers = yaml.safe_load((folder / "dashboards" / "borgbase.yml").read_text("utf-8"))
    (provider,) = providers["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards/borgbase"


def test_the_docs_show_them_all() -> None:
    page = (ROOT / "docs" / "dashboards.md").read_text("utf-8")
    for name in DASHBOARDS:
        picture = f"images/dashboard-{name.removeprefix('borgbase-').removesuffix('.json')}.png"
        assert f"dashboards/{name}" in page
        assert picture in page
        assert (ROOT / "docs" / picture).stat().st_size < 300_000


# As they look on sixty simulated days.


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    with simulated(tmp_path_factory.mktemp("dashboards")) as world:
        yield world


def opened(dashboard: Json, prometheus: Prometheus, **chosen: str) -> Opened:
    return Opened(dashboard, prometheus.api, END - 30 * DAY, END, chosen)


def shown(page: Opened, title: str) -> list[Series]:
    """What the first query of a panel gives."""
    (panel,) = (panel for panel in page.panels if panel["title"] == title)
    return page.ask(panel["targets"][0])


def number(page: Opened, title: str) -> float:
    (series,) = shown(page, title)
    return series.last


def repo(world: Simulated, name: str) -> Any:
    return next(repo for repo in world.home.repos if repo.name == name)


@ALL
def test_every_query_works_and_finds_something(dashboard: Json, days: Simulated) -> None:
    page = opened(dashboard, days.prometheus, **MAIL) if dashboard is REPOSITORY else None
    page = page or opened(dashboard, days.prometheus)
    empty = [
        f"{panel['title']} {target['refId']}"
        for panel in page.panels
        for target in panel["targets"]
        if not page.ask(target)
    ]
    empty += [each["name"] for each in dashboard["annotations"]["list"] if not page.annotate(each)]
    assert empty == []


MAIL = {"account": "home", "repo": "mail.example.org"}


def test_what_may_be_chosen(days: Simulated) -> None:
    page = opened(REPOSITORY, days.prometheus, **MAIL)
    options = {
        v["name"]: page.options(v) for v in REPOSITORY["templating"]["list"] if v["type"] == "query"
    }
    assert options["job"] == ["borgbase"]
    assert options["account"] == ["home", "work"]
    assert set(options["repo"]) == {each.name for each in days.home.repos} | {RENAMED[0]}
    assert options["repo_id"] == [repo(days, "mail.example.org").id]


def test_headline(days: Simulated) -> None:
    page = opened(OVERVIEW, days.prometheus)
    assert number(page, "Overdue") == 1  # gitea
    assert number(page, "Never backed up") == 1  # new-server
    assert number(page, "Over 85 % of quota") == 1  # postgres-prod
    assert number(page, "Repos") == 15
    assert number(page, "Data age") == pytest.approx(300, abs=2)
    alerts = shown(page, "Firing alerts")
    assert number(page, "Alerts") == len(alerts)
    assert {
        "BorgBaseRepoBackupOverdue",
        "BorgBaseRepoNeverBackedUp",
        "BorgBaseRepoQuotaAlmostFull",
        "BorgBaseRepoQuotaFillingUp",
        "BorgBaseSubscriptionExpiring",
        "BorgBaseTokenExpiring",
        "BorgBasePlanOverage",
        "BorgBaseSchemaDrift",
    } == {series.labels["alertname"] for series in alerts}
    severities = {series.labels.get("repo"): series.last for series in alerts}
    assert severities["gitea"] == 3  # critical, though the warning's condition holds, too


def test_the_plan_of_the_fuller_account(days: Simulated) -> None:
    total = sum(each.usage(END) for each in days.home.repos)
    allowed = days.home.moment().me()["activePlan"]["maxSize"] * 1e6
    page = opened(OVERVIEW, days.prometheus)
    assert number(page, "Plan used") == pytest.approx(total / allowed)
    assert number(page, "Accrued overage") == days.home.moment().accrued_overage()


def table(page: Opened, title: str) -> list[dict[str, Any]]:
    """The rows of a table as they are shown, in their order."""
    (panel,) = (panel for panel in page.panels if panel["title"] == title)
    _, rows = grafana.tabled(panel, [(target, page.ask(target)) for target in panel["targets"]])
    return rows


def test_repos_are_listed_once_and_the_worst_come_first(days: Simulated) -> None:
    rows = table(opened(OVERVIEW, days.prometheus), "Repos, worst first")
    assert [row["Repo"] for row in rows[:4]] == [
        "new-server", "gitea", "postgres-prod", "mail.example.org",
    ]  # fmt: skip
    listed = Counter((row["Account"], row["Repo"]) for row in rows)
    there = {("home", each.name) for each in days.home.repos}
    there |= {("work", each.name) for each in days.work.repos}
    assert listed == dict.fromkeys(there, 1)
    mail, real = rows[3], repo(days, "mail.example.org")
    assert mail["Usage"] == real.usage(END)
    assert mail["Quota"] == real.quota
    assert mail["Used"] == pytest.approx(real.usage(END) / real.quota)
    assert mail["Days left"] == pytest.approx(10, abs=0.5)
    assert mail["Last write"] == pytest.approx(real.last_write(END) * 1000)
    assert mail["Limit"] == 2 * DAY
    assert (mail["Region"], mail["Version"]) == ("eu", "borg 1.4")
    versions = {row["Repo"]: row["Version"] for row in rows}
    assert (versions["video-archive"], versions["new-server"]) == ("restic", "borg LATEST")
    flags = {row["Repo"]: row["Flags"] for row in rows if row["Account"] == "home"}
    assert (flags["audit logs"], flags["gitea"], flags["nas-photos"]) == (1, 2, 7)
    pressure = {row["Repo"]: row["Pressure"] for row in rows}
    assert pressure["gitea"] == pytest.approx(2.5, abs=0.26)  # it wrote at night
    assert pressure["new-server"] == pytest.approx(5, abs=0.1)
    assert pressure['web "staging"'] == 0  # neither quota nor limit


def test_expiries(days: Simulated) -> None:
    rows = table(opened(OVERVIEW, days.prometheus, account="home"), "Expiries")
    assert [(row["What"], row["Left"]) for row in rows] == [
        ("token terraform", 6 * DAY),
        ("subscription", 9 * DAY),
    ]


def test_a_repos_page(days: Simulated) -> None:
    page = opened(REPOSITORY, days.prometheus, **MAIL)
    real = repo(days, "mail.example.org")
    assert number(page, "Quota used") == pytest.approx(real.usage(END) / real.quota)
    # It grows by 2.3 % of its quota a day.
    assert number(page, "Growth per day") == pytest.approx(0.023 * real.quota, rel=0.02)
    assert number(page, "Days until full") == pytest.approx(10, abs=0.5)
    age = END - 300 - real.last_write(END)
    assert number(page, "Age against limit") == pytest.approx(age / (2 * DAY), abs=1e-4)
    (change,) = shown(page, "Daily change")
    at, grown = change.points[-1]
    assert grown == pytest.approx(real.usage(at) - real.usage(at - DAY), rel=0.01)


@pytest.mark.parametrize("name", RENAMED)
def test_a_renamed_repo_keeps_its_history_under_either_name(name: str, days: Simulated) -> None:
    page = opened(REPOSITORY, days.prometheus, account="home", repo=name)
    (usage,) = shown(page, "Usage and quota")
    (before, _), (after, _) = usage.points[0], usage.points[-1]
    assert after - before == pytest.approx(30 * DAY, abs=2 * HOUR)
    facts = table(page, "Facts")
    assert [row["Name"] for row in facts] == [RENAMED[1]]


@pytest.mark.parametrize("name", ['web "staging"', "Zoë's phone 📱", "new-server", "audit logs"])
def test_any_repo_has_a_page(name: str, days: Simulated) -> None:
    page = opened(REPOSITORY, days.prometheus, account="home", repo=name)
    for panel in page.panels:
        for target in panel["targets"]:
            page.ask(target)
    assert number(page, "Usage") == repo(days, name).usage(END)


def test_accounts_are_told_apart(days: Simulated) -> None:
    homes = opened(REPOSITORY, days.prometheus, **MAIL)
    works = opened(REPOSITORY, days.prometheus, **(MAIL | {"account": "work"}))
    assert number(homes, "Usage") != number(works, "Usage")
    assert number(opened(OVERVIEW, days.prometheus, account="work"), "Repos") == 3


def test_the_exporters_page(days: Simulated) -> None:
    page = opened(EXPORTER, days.prometheus)
    assert number(page, "Accounts") == 2
    assert number(page, "Accounts down") == 0
    assert number(page, "Exporters") == 2
    assert number(page, "Failed queries") > 8 * (11 + 3)  # hourly, and sooner in the beginning
    failures = shown(page, "Failed queries per hour, by reason")
    assert [series.labels["reason"] for series in failures] == ["http_status"]
    down = {at for series in shown(page, "Up") for at, value in series.points if value == 0}
    assert min(down) >= END - 16 * DAY - 300
    assert len(down) * 30 * DAY / grafana.POINTS == pytest.approx(11 * HOUR, rel=0.2)
    tokens = table(page, "API tokens")
    expires = {(row["Account"], row["Token"]): row["Expires in"] for row in tokens}
    assert expires["home", "terraform"] == 6 * DAY


def test_what_is_not_known_is_not_shown_as_a_number(days: Simulated) -> None:
    early = START - 30 * DAY
    for dashboard in DASHBOARDS.values():
        page = Opened(dashboard, days.prometheus.api, early, early + DAY, MAIL)
        for _, target in targets(dashboard):
            assert page.ask(target) == []


# With many accounts and repos.


def test_no_panel_drowns_in_lines(tmp_path: Path) -> None:
    clock = Clock(END - 3 * HOUR)
    accounts = {
        f"account-{number}": SimulatedAccount(clock=clock, seed=number, repos=2)
        for number in range(2, 36)
    } | {"large": SimulatedAccount(clock=clock, repos=80)}
    history = History(clock=clock, accounts=accounts, failing=[(END - 2 * HOUR, END - HOUR)])
    with serve(history.write(tmp_path / "data", clock.now, END)) as prometheus:
        for dashboard in (OVERVIEW, EXPORTER):
            page = Opened(dashboard, prometheus.api, END - 3 * HOUR, END)
            for panel in page.panels:
                if panel["type"] != "table":
                    series = sum(len(page.ask(target)) for target in panel["targets"])
                    assert series <= 30, panel["title"]
        assert (
            len(table(Opened(OVERVIEW, prometheus.api, clock.now, END), "Repos, worst first"))
            == 148
        )


@pytest.mark.parametrize("rule", RULES_OF_ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_leads_to_a_dashboard_that_takes_its_variables(rule: Json) -> None:
    url = rule["annotations"]["dashboard_url"]
    uid = re.search(r"/d/([\w-]+)", url)
    assert uid
    (goal,) = (made for made in DASHBOARDS.values() if made["uid"] == uid[1])
    known = {variable["name"] for variable in goal["templating"]["list"]}
    assert {*re.findall(r"var-(\w+)=", url)} <= known
