"""The cases as test groups of `promtool test rules`.

A group holds many cases, as that takes little longer than the longest of them. Each has labels of
its own, so that no rule joins its series with those of another.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

from tests.rules import (
    DASHBOARDS,
    MINUTE,
    RUNBOOKS,
    Alert,
    Firing,
    Labels,
    Series,
    Story,
    World,
    changed,
    healed,
    restarted,
    rules,
    seconds,
    world,
)

LARGEST = 16  # cases in a group
OWN = "job", "account", "repo_id"  # labels that no two cases share

Group = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A firing or another story of an alert."""

    alert: Alert
    title: str
    story: Firing | Story

    @property
    def name(self) -> str:
        """What its labels end with."""
        return f"{self.alert.name}: {self.title}"

    @property
    def fires(self) -> int:
        """When a firing fires, in seconds after the start."""
        assert isinstance(self.story, Firing)
        hold = max(seconds(r["for"]) for r in rules() if r.get("alert") == self.alert.name)
        return self.story.since + -(-hold // self.story.step) * self.story.step

    @property
    def heals(self) -> int:
        """When the cause of a firing is removed."""
        return self.fires + 4 * self.story.step

    @property
    def end(self) -> int:
        """When its last moment is, in seconds after the start."""
        if isinstance(self.story, Story):
            return self.story.end
        return self.heals + 5 * self.story.step + self.story.keeps

    @property
    def alerts(self) -> frozenset[str]:
        """The alerts that a firing makes fire, of which no other case may share the group."""
        if isinstance(self.story, Story):
            return frozenset()
        return frozenset({self.alert.name, *self.story.along.split()})

    def fits(self, batch: list[Case]) -> bool:
        """Return whether it can share a group."""
        first, own = batch[0].story, self.story
        return (
            len(batch) < LARGEST
            and (type(own), own.step) == (type(first), first.step)
            and not (own.alone or first.alone)
            and all(self.alerts.isdisjoint(case.alerts) for case in batch)
        )


def batches(alerts: Iterable[Alert]) -> list[list[Case]]:
    """Return all cases in batches that can share a group, those of a similar length together."""
    found: list[list[Case]] = []
    cases = [Case(alert, *case) for alert in alerts for case in alert.cases()]
    for case in sorted(cases, key=lambda case: case.end):
        if batch := next((batch for batch in found if case.fits(batch)), None):
            batch.append(case)
        else:
            found.append([case])
    return found


def group(batch: list[Case]) -> Group:
    """Return a batch as a test group."""
    step = batch[0].story.step
    return {
        "interval": f"{step}s",
        "input_series": [series for case in batch for series in _inputs(case)],
        "alert_rule_test": [
            _alert_test(case, case.story) for case in batch if isinstance(case.story, Firing)
        ],
        "promql_expr_test": [test for case in batch for test in _tests(case)],
    }


def _inputs(case: Case) -> Iterator[dict[str, str]]:
    of = (
        _sick(case, case.story)
        if isinstance(case.story, Firing)
        else changed(world(case.story.replicas), case.story.change)
    )
    moments = range(0, case.end + 1, case.story.step)
    for key, value in of.items():
        own = Series(key.name, frozenset(_own(case, dict(key.labels)).items()))
        yield {"series": str(own), "values": notation(value(t) for t in moments)}


def _own(case: Case, labels: Labels) -> dict[str, str]:
    return {key: f"{text}, {case.name}" if key in OWN else text for key, text in labels.items()}


def _sick(case: Case, firing: Firing) -> World:
    sick = changed(world("ab"), firing.change)
    if firing.outlives_restart:
        sick = restarted(sick, case.fires + firing.step, 5 * MINUTE)
    return healed(sick, changed(world("ab"), firing.cure), case.heals)


def _alert_test(case: Case, firing: Firing) -> dict[str, Any]:
    return {
        "eval_time": f"{case.fires}s",
        "alertname": case.alert.name,
        "exp_alerts": [_expected(case, firing, severity) for severity in firing.severities],
    }


def _expected(case: Case, firing: Firing, severity: str) -> dict[str, Any]:
    alert = case.alert
    labels = _own(case, {**alert.labels, **firing.labels})
    query = "&".join(
        f"var-{key}={quote_plus(labels[key])}"
        for key in ("job", "account", "repo")
        if key in alert.labels
    )
    description = re.sub(
        r"\b(acme|a1b2c3d4|job borgbase)\b", rf"\g<0>, {case.name}", firing.description
    )
    return {
        "exp_labels": labels | {"severity": severity},
        "exp_annotations": {
            "summary": firing.summary or alert.summary,
            "description": description,
            "runbook_url": f"{RUNBOOKS}/{alert.name}.md",
            "dashboard_url": f"{DASHBOARDS}/{alert.dashboard}" + (query and f"?{query}"),
        },
    }


def _tests(case: Case) -> Iterator[dict[str, Any]]:
    # An alert without a job would be everybody's.
    mine = f"job=~{json.dumps(f'.*{re.escape(case.name)}|')}"
    if isinstance(case.story, Story):
        for moment, names in case.story.at.items():
            yield _firing_at(moment, names, mine)
        yield _fired_by(case.end, case.story.ever, mine)
        return
    firing, step = case.story, case.story.step
    names = f"{firing.along} {' '.join([case.alert.name] * len(firing.severities))}"
    sooner = case.fires - step * (2 if firing.lenient else 1)
    yield _firing_at(
        sooner, "", f'{mine},alertname="{case.alert.name}",severity="{firing.severities[-1]}"'
    )
    for moment in range(case.fires, case.heals, step):
        yield _firing_at(moment, names, mine)
    yield _firing_at(case.end, "", mine)


def _firing_at(moment: int, names: str, among: str) -> dict[str, Any]:
    """Expect exactly these alerts to fire; a name is repeated for each alert it has."""
    return {
        "expr": f'count by (alertname) (ALERTS{{alertstate="firing",{among}}})',
        "eval_time": f"{moment}s",
        "exp_samples": [
            {"labels": f'{{alertname="{name}"}}', "value": count}
            for name, count in Counter(names.split()).items()
        ],
    }


def _fired_by(moment: int, names: str, among: str) -> dict[str, Any]:
    """Expect exactly these alerts to have fired at any time."""
    fired = f'last_over_time(ALERTS{{alertstate="firing",{among}}}[{moment}s])'
    return {
        "expr": f"group by (alertname) ({fired})",
        "eval_time": f"{moment}s",
        "exp_samples": [
            {"labels": f'{{alertname="{name}"}}', "value": 1} for name in names.split()
        ],
    }


def notation(values: Iterable[float | None]) -> str:
    """Return values as promtool writes them: runs of `first+differencexcount`, `stale`, `_`."""
    tokens: list[str] = []
    run: list[float] = []
    for value in values:
        if value is not None and run and (len(run) == 1 or value - run[-1] == run[1] - run[0]):
            run.append(value)
            continue
        tokens += _run(run)
        if value is None:
            tokens.append("stale" if run else "_")
        run = [] if value is None else [value]
    return " ".join(tokens + _run(run))


def _run(run: list[float]) -> list[str]:
    difference = run[1] - run[0] if len(run) > 1 else 0
    return [f"{run[0]:.17g}{difference:+.17g}x{len(run) - 1}"] if run else []
