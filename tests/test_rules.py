"""The shipped alert rules do what they say; rules, runbooks and docs agree."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from borgbase_exporter.metrics.catalogue import BUILD, SCOPES
from tests.end_to_end.processes import accepted
from tests.programs import require
from tests.rules import (
    PROMETHEUS,
    ROOT,
    RULES,
    RUNBOOKS,
    account,
    exporter,
    groups,
    promtool,
    repo,
    rules,
)

CASES = {alert.name: alert for alert in (*exporter.ALERTS, *account.ALERTS, *repo.ALERTS)}
ALERTS = [rule for rule in rules() if "alert" in rule]
NAMES = sorted({alert["alert"] for alert in ALERTS})
RECORDED = {rule["record"] for rule in rules() if "record" in rule}
DOCS = ROOT / "docs"
PAGES = {path.stem: path for path in (DOCS / "runbooks").glob("BorgBase*.md")}
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "False positives", "Silence or tune"]


def run(*command: str | Path) -> str:
    # One thread each, as several run at once; and even more memory rather than time.
    return accepted(*command, GOMAXPROCS="1", GOGC="1600")


def metrics(text: str) -> set[str]:
    """Return the exporter's metrics that a text names; a recording rule's name has a colon."""
    return set(re.findall(r"(?<![\w:])borgbase_(?!exporter\b)[a-z_]+(?![\w:*])", text))


def metric_names() -> set[str]:
    """Return the name of every metric that the exporter has."""
    return {BUILD.name, *(metric.name for scope in SCOPES for metric in scope.metrics)}


# The rules' behaviour.

BATCHES = promtool.batches(CASES.values())


@pytest.fixture(scope="module")
def verdicts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[int, Future[str]]]:
    """Run all selected cases by promtool, as many at a time as there are cores."""
    program = require("promtool")
    asked = [
        int(str(item.callspec.params["number"]))
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_cases"
    ]
    folder = tmp_path_factory.mktemp("cases")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {n: pool.submit(judge, program, BATCHES[n], folder / f"{n}.yml") for n in asked}


def judge(program: Path, batch: list[promtool.Case], path: Path) -> str:
    group = promtool.group(batch)
    suite = {
        "rule_files": [str(path) for path in RULES],
        "group_eval_order": sorted((group["name"] for group in groups()), key=place),
        "evaluation_interval": group["interval"],
        "tests": [group],
    }
    path.write_text(json.dumps(suite))
    return run(program, "test", "rules", path)


def place(group: str) -> int:
    """Return the place of a group: recording rules come before the alerts that use them."""
    order = ("borgbase-samples", "borgbase-recording", "borgbase-recording-history")
    return order.index(group) if group in order else len(order)


@pytest.mark.parametrize("number", range(len(BATCHES)))
def test_cases(verdicts: Mapping[int, Future[str]], number: int) -> None:
    assert "SUCCESS" in verdicts[number].result()


def test_every_alert_has_firing_and_silent_cases_and_a_runbook() -> None:
    assert sorted(CASES) == NAMES
    assert sorted(PAGES) == NAMES
    for name, alert in CASES.items():
        assert alert.fires, name
        assert alert.silent, name
        assert not [title for title, story in alert.silent.items() if name in story.ever.split()]
        severities = {rule["labels"]["severity"] for rule in ALERTS if rule["alert"] == name}
        assert severities == {s for firing in alert.fires.values() for s in firing.severities}, name


# The shipped files.


def test_promtool_accepts_the_rules() -> None:
    output = run(require("promtool"), "check", "rules", "--lint=all", "--lint-fatal", *RULES)
    assert output.count("SUCCESS") == len(RULES)


def test_promtool_accepts_the_configuration() -> None:
    output = run(require("promtool"), "check", "config", PROMETHEUS / "prometheus.yml")
    assert f"{len(RULES)} rule files found" in output


def test_amtool_accepts_the_configuration() -> None:
    path = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
    assert "SUCCESS" in run(require("amtool"), "check-config", path)


def test_groups_are_evaluated_often_enough() -> None:
    assert {group["interval"] for group in groups() if place(group["name"])} <= {"1m", "2m"}
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert config["global"]["scrape_interval"] in {"1m", "2m"}


def test_recording_rules_are_named_level_metric_operations() -> None:
    for name in RECORDED:
        assert re.fullmatch(r"(account|repo|token):borgbase_[a-z_]+:[a-z0-9_]+", name), name
        assert ("_per_" in name) == (":ratio" in name), name


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_expressions(rule: dict[str, Any]) -> None:
    assert not re.search(r"\b(instance|pod)\b", rule["expr"])
    used = set(re.findall(r"\w+:\w+:\w+", rule["expr"]))
    assert used <= RECORDED
    assert metrics(rule["expr"]) <= metric_names()


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_conventions(rule: dict[str, Any]) -> None:
    labels, notes = rule["labels"], rule["annotations"]
    assert re.fullmatch(r"BorgBase[A-Z]\w+", rule["alert"])
    assert rule["for"]
    assert labels in [{"severity": s} for s in ("critical", "warning", "info")]
    assert sorted(notes) == ["dashboard_url", "description", "runbook_url", "summary"]
    assert "{{" not in notes["summary"]
    assert "{{" in notes["description"]
    assert all(notes[key].endswith(".") for key in ("summary", "description"))
    assert notes["runbook_url"] == f"{RUNBOOKS}/{rule['alert']}.md"


def test_every_recording_rule_is_used() -> None:
    used = {name for rule in rules() for name in re.findall(r"\w+:\w+:\w+", rule["expr"])}
    assert used == RECORDED


# The documentation.


def sections(page: Path) -> dict[str, str]:
    title, *parts = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)
    assert title.strip() == f"# {page.stem}"
    return {head: text.strip() for head, _, text in (part.partition("\n") for part in parts)}


@pytest.mark.parametrize("name", PAGES)
def test_runbook(name: str) -> None:
    page = sections(PAGES[name])
    assert list(page) == SECTIONS
    assert all(len(text) > 40 for text in page.values()), page
    assert "```promql" in page["Diagnosis"]
    assert metrics(PAGES[name].read_text()) <= metric_names()


@pytest.mark.parametrize("page", [DOCS / "runbooks" / "README.md", DOCS / "alerts.md"], ids=str)
def test_every_alert_is_listed_once(page: Path) -> None:
    listed = re.findall(r"^\| \[(BorgBase\w+)", page.read_text(), re.MULTILINE)
    assert Counter(listed) == Counter(NAMES)


def test_the_table_of_alerts_agrees_with_the_rules() -> None:
    rows = {
        match[1]: match[0]
        for match in re.finditer(
            r"^\| \[(BorgBase\w+).*$", (DOCS / "alerts.md").read_text(), re.MULTILINE
        )
    }
    for rule in ALERTS:
        assert rule["labels"]["severity"] in rows[rule["alert"]]
        waits = rows[rule["alert"]].rstrip(" |").rpartition("| ")[2].split(", ")
        assert rule["for"] in waits
