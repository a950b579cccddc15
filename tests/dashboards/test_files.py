"""The dashboards' files keep the conventions."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from borgbase_exporter.metrics.catalogue import BUILD, SCOPES
from borgbase_exporter.metrics.exposition import TEXT
from dashboards.generate import FOLDER, INPUT, files, shared
from dashboards.model import WIDTH, Json
from tests.rules import rules

ROOT = FOLDER.parent
DASHBOARDS: dict[str, Json] = {name: json.loads(text) for name, text in files().items()}
ALL = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)

UNITS = {
    *("none", "s", "percentunit", "decbytes", "bytes", "currencyUSD", "short", "suffix: d"),
    *("time:YYYY-MM-DD", "dateTimeFromNow"),
}
CATALOGUE = {metric.name: (*s.labels, *metric.labels) for s in SCOPES for metric in s.metrics}
CATALOGUE[BUILD.name] = BUILD.labels
CATALOGUE |= {
    "up": ("instance",),
    "ALERTS": ("alertname", "alertstate", "severity", "account", "repo_id", "repo"),
}
CATALOGUE |= {
    sample.name: ()
    for family in text_string_to_metric_families(TEXT.tail().decode())
    for sample in family.samples
}
RULES_OF_ALERTS = [rule for rule in rules() if "alert" in rule]


def panels(dashboard: Json) -> list[Json]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def targets(dashboard: Json) -> Iterator[tuple[Json, Json]]:
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield panel, target


def expressions(dashboard: Json) -> Iterator[tuple[str, str]]:
    """Every query of a dashboard, and where it is."""
    for panel, target in targets(dashboard):
        yield f"{panel['title']} {target['refId']}", target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield f"${variable['name']}", variable["query"]["query"]


def bare(expr: str) -> str:
    """Take the strings out of a query."""
    return re.sub(r'"[^"]*"|`[^`]*`', '""', expr)


def columns(panel: Json) -> dict[str, str]:
    """The columns of a table: their titles by the fields they show."""
    renamed: dict[str, str] = panel["transformations"][-1]["options"]["renameByName"]
    return renamed


def fields(panel: Json) -> list[Json]:
    """The settings of a panel's values, and of each override."""
    defaults: Json = panel["fieldConfig"]["defaults"]
    apart = (
        {item["id"]: item["value"] for item in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    )
    return [defaults, *apart]


def test_committed_files_are_what_the_code_makes() -> None:
    assert {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.json")} == files()


def test_they_import_and_provision_anywhere() -> None:
    for name, made in DASHBOARDS.items():
        assert f"{made['uid']}.json" == name
        assert made["id"] is None
        assert not [key for key in made if key.startswith("__")]
        assert made["timezone"] == "browser"
        assert (made["time"]["from"], made["time"]["to"]) == ("now-30d", "now")
        assert made["links"][0]["tags"] == made["tags"] == ["borgbase"]


@pytest.mark.parametrize("text", files().values(), ids=DASHBOARDS)
def test_the_shared_form_asks_for_the_data_source(text: str) -> None:
    made = shared(text)
    (asked,) = made["__inputs"]
    assert (asked["name"], asked["pluginId"]) == (INPUT, "prometheus")
    needed = {(each["type"], each["id"]) for each in made["__requires"]}
    assert {("panel", panel["type"]) for panel in panels(made)} < needed
    assert {("grafana", "grafana"), ("datasource", "prometheus")} < needed
    everything = json.dumps(made)
    assert "datasource}" not in everything
    assert "datasource:" not in everything
    assert everything.count(f"${{{INPUT}}}") == text.count("${datasource}")


@ALL
def test_every_panel_says_what_it_is_and_why_it_may_be_empty(dashboard: Json) -> None:
    for panel in panels(dashboard):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["noValue"]
        assert {field["unit"] for field in fields(panel) if "unit" in field} <= UNITS
        for field in fields(panel):
            if field.get("unit") == "percentunit":
                assert field["decimals"] == 0
    titles = [panel["title"] for panel in panels(dashboard)]
    assert len(set(titles)) == len(titles)


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
    known = {"__range", "__interval", "__rate_interval", *(v["name"] for v in (job, *others))}
    for where, expr in expressions(dashboard):
        assert set(re.findall(r"\$\{?([a-z_]\w*)", expr)) <= known, where


@ALL
def test_queries_read_metrics_that_exist_and_choose_job_and_account(dashboard: Json) -> None:
    for where, expr in expressions(dashboard):
        known = set(CATALOGUE) | {"label_values"}
        metrics = set(re.findall(r"\b(?:borgbase|process)_\w+|\bALERTS\b|\bup\b", bare(expr)))
        assert metrics <= known, where
        if where == "$job":
            continue
        for name, matchers in re.findall(r"(\w+)\{((?:`[^`]*`|[^`}])*)\}", expr):
            assert re.search(r'job=~"\$job\|?"', matchers), where
            named = set(re.findall(r"(\w+)=", matchers)) - {"job", "__name__"}
            assert named <= set(CATALOGUE[name]), where
            if "account" in CATALOGUE[name] and where != "$account":
                assert re.search(r"account=~`\$\{account:regex\}\|?`", matchers), where


@ALL
def test_counters_are_rates_over_an_interval_that_fits(dashboard: Json) -> None:
    for panel, target in targets(dashboard):
        expr = re.sub(r"`[^`]*`", "", target["expr"])
        counted = re.findall(r"(\w*)\(\w+_total\{[^}]*\}(\[\S+?\])", expr)
        assert len(counted) == len(re.findall(r"_total\b", expr)), panel["title"]
        for function, window in counted:
            assert (function, window) in {
                ("rate", "[$__rate_interval]"),
                ("increase", "[$__range]"),
            }
            # Counters of polls move once per poll, those of the process all the time. With the
            # target's scrape interval, the window would be four times as long.
            assert "interval" not in target
            once_per_poll = function == "rate" and "borgbase_polls" in expr
            assert not once_per_poll or panel["interval"] == "1h", panel["title"]


@ALL
def test_tables_are_made_of_their_columns(dashboard: Json) -> None:
    for panel in panels(dashboard):
        if panel["type"] != "table":
            continue
        titles = list(columns(panel).values())
        assert len(set(titles)) == len(titles)
        assert panel["options"]["sortBy"][0]["displayName"] in titles
        empty, *overrides = panel["fieldConfig"]["overrides"]
        assert empty["matcher"] == {"id": "byRegexp", "options": "/.*/"}
        assert {override["matcher"]["options"] for override in overrides} <= {*titles}


@ALL
def test_links_lead_somewhere(dashboard: Json) -> None:
    runbooks = RULES_OF_ALERTS[0]["annotations"]["runbook_url"].rpartition("/")[0]
    for panel in panels(dashboard):
        for link in (link for field in fields(panel) for link in field.get("links", ())):
            url = link["url"]
            used = set(re.findall(r"\$\{__data\.fields\.(\w+)", url))
            assert used <= {*columns(panel)}, panel["title"]
            if url.startswith("/d/"):
                assert "${datasource:queryparam}&${job:queryparam}&${__url_time_range}" in url
                assert re.findall(r"var-(\w+)=", url) == ["account", "repo"]
            else:
                assert url == f"{runbooks}/${{__data.fields.alertname:percentencode}}.md"


@pytest.mark.parametrize("rule", RULES_OF_ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_leads_to_a_dashboard_that_takes_its_variables(rule: Json) -> None:
    assert (ROOT / "docs" / "runbooks" / f"{rule['alert']}.md").is_file()
    url = rule["annotations"]["dashboard_url"]
    uid = re.search(r"/d/([\w-]+)", url)
    assert uid
    (goal,) = (made for made in DASHBOARDS.values() if made["uid"] == uid[1])
    known = {variable["name"] for variable in goal["templating"]["list"]}
    assert {*re.findall(r"var-(\w+)=", url)} <= known


def test_the_docs_show_them_all() -> None:
    page = (ROOT / "docs" / "dashboards.md").read_text("utf-8")
    for name in DASHBOARDS:
        picture = f"images/dashboard-{name.removeprefix('borgbase-').removesuffix('.json')}.png"
        assert f"dashboards/{name}" in page
        assert picture in page
        assert (ROOT / "docs" / picture).stat().st_size < 400_000


def test_npm_packages_are_locked_by_hash_and_no_registry_is_named() -> None:
    lock = json.loads((Path(FOLDER) / "render" / "package-lock.json").read_text("utf-8"))
    packages = {name: each for name, each in lock["packages"].items() if name}
    assert packages
    for name, each in packages.items():
        assert each["integrity"].startswith("sha"), name
        assert "resolved" not in each, name
