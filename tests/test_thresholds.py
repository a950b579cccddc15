"""The thresholds in the code, the alert rules and the dashboards are the same."""

import re

import pytest

from borgbase_exporter.findings import problems
from borgbase_exporter.settings import Serve, load
from dashboards import queries
from tests.rules import rules

ALERTS = {
    (rule["alert"], rule["labels"]["severity"]): rule["expr"] for rule in rules() if "alert" in rule
}
SEVERITIES = "warning", "critical"


@pytest.mark.parametrize("number", [0, 1], ids=SEVERITIES)
@pytest.mark.parametrize(
    ("alert", "ratio", "thresholds"),
    [
        ("BorgBaseRepoQuotaAlmostFull", "_per_quota:ratio", problems.QUOTA),
        ("BorgBasePlanAlmostFull", "_per_plan_limit:ratio", problems.PLAN),
        ("BorgBaseRepoBackupOverdue", "_per_inactivity_limit:ratio", problems.AGE),
    ],
)
def test_rules_fire_above_the_codes_thresholds(
    alert: str, ratio: str, thresholds: tuple[float, float], number: int
) -> None:
    expression = ALERTS[alert, SEVERITIES[number]]
    found = re.search(rf"{ratio} > ([\d.]+)", expression)

    assert found, expression
    assert float(found[1]) == thresholds[number]


@pytest.mark.parametrize(
    ("alert", "severity", "seconds"),
    [
        ("BorgBaseTokenExpiring", "warning", problems.EXPIRY),
        ("BorgBaseSubscriptionExpiring", "warning", problems.EXPIRY),
        ("BorgBaseSubscriptionExpiring", "critical", problems.SOON),
    ],
)
def test_expiries_are_reported_as_early(alert: str, severity: str, seconds: float) -> None:
    days = re.findall(r"< (\d+) \* 86400", ALERTS[alert, severity])

    assert {int(number) * 86_400 for number in days} == {seconds}


def test_dashboards_change_colour_at_the_same_thresholds() -> None:
    drawn = queries.QUOTA, queries.PLAN, queries.LATENESS
    assert list(drawn) == [problems.QUOTA, problems.PLAN, problems.AGE]
    assert queries.EXPIRY_DAYS * 86_400 == problems.EXPIRY
    serve = load(["serve", "--demo"], {})
    assert isinstance(serve, Serve)
    assert serve.poll.max_age == queries.MAX_AGE
