"""Cases for each alert, as small changes to a healthy world; `promtool test rules` runs them.

Every case begins with the same world: an exporter that watches two accounts, each with a repo, with
nothing wrong. A case changes series of the account `acme`; `globex` stays healthy, so that an alert
that catches the wrong account fails every case. In a firing case two replicas see the trouble. The
alert fires once, with its exact labels and annotations, not one evaluation sooner, and without
alerts that the case does not name. It outlives a restart of the exporters, and ends when the world
has healed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
RUNBOOKS = "https://github.com/borgbase-exporter/borgbase-exporter/blob/main/docs/runbooks"
DASHBOARDS = "http://localhost:3000/d"

MINUTE, HOUR, DAY = 60, 3600, 86400
GB = 10**9
BATCH = 16  # cases in one test group

Curve = Callable[[int], float | None]  # seconds since the start -> value, None for no sample
Value = float | Curve | None
Labels = Mapping[str, str]
Group = dict[str, Any]  # a test group of promtool


class Series(NamedTuple):
    """A series by its name and labels."""

    name: str
    labels: frozenset[tuple[str, str]]

    def __str__(self) -> str:
        labels = ",".join(f'{name}="{value}"' for name, value in sorted(self.labels))
        return f"{self.name}{{{labels}}}"


World = dict[Series, Curve]
Change = Mapping[str, Value] | Callable[[World], World]


def now(seconds: float) -> float:
    """Return a value that is always the present moment."""
    return seconds


def ago(seconds: float) -> Curve:
    """Return a moment that is always this long ago."""
    return lambda t: t - seconds


def until(end: int, value: Value, then: Value = None) -> Curve:
    """Return one value before `end`, and another from then on."""
    first, second = curve(value), curve(then)
    return lambda t: first(t) if t < end else second(t)


def curve(value: Value) -> Curve:
    """Return a constant as a curve, and a curve unchanged."""
    return value if callable(value) else lambda _: value


HEALTHY: Mapping[str, Value] = {
    "borgbase_up": 1,
    "borgbase_poll_interval_seconds": 900,
    **{f"borgbase_entries_skipped{{collector={name}}}": 0 for name in ("repos", "tokens")},
    **{
        f"borgbase_collector_success{{collector={name}}}": 1
        for name in ("repos", "account", "ssh_keys", "tokens")
    },
    "borgbase_last_success_timestamp_seconds": now,
    **{
        f"borgbase_poll_failures_total{{collector={name},reason={reason}}}": 0
        for name in ("repos", "tokens")
        for reason in ("auth", "connect", "token")
    },
    "borgbase_exporter_token_expiration_timestamp_seconds": 200 * DAY,
    "borgbase_api_token_expiration_timestamp_seconds"
    "{permission=read_only,token=exporter,token_id=1}": 200 * DAY,
    "borgbase_api_token_expiration_timestamp_seconds"
    "{permission=full_access,token=terraform,token_id=2}": 300 * DAY,
    "borgbase_account_api_tokens{permission=full_access}": 1,
    "borgbase_account_repos": 1,
    "borgbase_account_usage_bytes": 50 * GB,
    "borgbase_account_plan_included_bytes": 250 * GB,
    "borgbase_account_billed_excess_bytes": 0,
    "borgbase_account_subscription_end_timestamp_seconds": 90 * DAY,
    "borgbase_account_subscription_active": 1,
    "borgbase_account_auto_renew": 0,
    "borgbase_repo_info": 1,
    "borgbase_repo_usage_bytes": 50 * GB,
    "borgbase_repo_quota_bytes": 100 * GB,
    "borgbase_repo_quota_enabled": 1,
    "borgbase_repo_last_modified_timestamp_seconds": ago(HOUR),
    "borgbase_repo_created_timestamp_seconds": -100 * DAY,
    "borgbase_repo_inactivity_limit_seconds": DAY,
    "borgbase_repo_append_only": 0,
    "borgbase_repo_compaction_enabled": 1,
    "borgbase_repo_keys{access=full}": 1,
}
ACME = {"account": "acme", "repo_id": "a1b2c3d4", "repo": "mail server"}
GLOBEX = {"account": "globex", "repo_id": "e5f6a7b8", "repo": "nas"}
ACCOUNT_LABELS = {"job": "borgbase", "account": "acme"}
REPO_LABELS = {"job": "borgbase", **ACME}


def series(text: str, account: Labels, instance: str) -> Series:
    """Parse `name{label=value,…}` and add the labels that an account's series has."""
    name, _, given = text.rstrip("}").partition("{")
    labels = {"job": "borgbase", "instance": f"{instance}:10133"}
    if name.startswith("borgbase_") and name != "borgbase_exporter_build_info":
        wanted = account if name.startswith("borgbase_repo_") else ("account",)
        labels |= {key: account[key] for key in wanted}
    labels |= dict(pair.split("=", 1) for pair in given.split(",") if pair)
    return Series(name, frozenset(labels.items()))


def world(instances: Iterable[str] = ("a",)) -> World:
    """Return a world with nothing wrong, seen by one or more replicas of the exporter."""
    shared = {"up": 1, "borgbase_exporter_build_info{version=1.0.0}": 1}
    return {
        series(text, account, instance): curve(value)
        for instance in instances
        for account in (ACME, GLOBEX)
        for text, value in {**shared, **HEALTHY}.items()
    }


def changed(before: World, change: Change) -> World:
    """Return a world with each named series of acme replaced (in all replicas), or added."""
    if callable(change):
        return change(before)
    after = dict(before)
    instances = sorted({dict(key.labels)["instance"].split(":")[0] for key in before})
    for text, value in change.items():
        name, _, given = text.rstrip("}").partition("{")
        labels = {("account", "acme"), *(tuple(p.split("=", 1)) for p in given.split(",") if p)}
        known = [key for key in before if key.name == name and labels <= key.labels]
        added = [series(text, ACME, instance) for instance in instances]
        after |= dict.fromkeys(known or added, curve(value))
    return after


def healed(sick: World, well: World, end: int) -> World:
    """Return the sick world until `end`, and the healthy one from then on."""
    return {key: until(end, sick.get(key), well.get(key)) for key in dict.fromkeys((*sick, *well))}


def restarted(before: World, at: int, seconds: int) -> World:
    """Return a world in which the exporter was restarted, and has not polled for some time."""
    fresh = {"up": 1, "borgbase_exporter_build_info": 1, "borgbase_up": 0}
    return {
        key: until(at, old, until(at + seconds, fresh.get(key.name), old))
        for key, old in before.items()
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


@dataclass(frozen=True, kw_only=True)
class Story:
    """A change to the world, and the alerts that may fire: at some moments, and at all."""

    change: Change
    at: Mapping[int, str] = field(default_factory=dict)
    ever: str = ""
    end: int = 2 * HOUR
    step: int = 5 * MINUTE
    replicas: str = "a"
    alone: bool = False
    """Whether it needs a Prometheus that knows no other exporter."""


@dataclass(frozen=True, kw_only=True)
class Firing:
    """A change that makes the alert fire, `since` when its condition holds, and its annotations.

    `lenient` is for conditions on the edge of a range, which Prometheus 3 leaves a sample sooner.
    """

    change: Change
    description: str
    since: int = 0
    severities: tuple[str, ...] = ("warning",)
    summary: str = ""
    labels: Labels = field(default_factory=dict)
    along: str = ""
    step: int = 3 * MINUTE
    lenient: bool = False
    outlives_restart: bool = True
    keeps: int = 0  # how long it goes on after the cure, in seconds
    cure: Change = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Alert:
    """An alert's name, what its cases have in common, and the cases."""

    name: str
    summary: str
    dashboard: str
    labels: Labels
    fires: Mapping[str, Firing]
    silent: Mapping[str, Story]
    stories: Mapping[str, Story] = field(default_factory=dict)


def rules() -> Iterator[dict[str, Any]]:
    """Yield every rule that ships."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def levels() -> Iterator[list[dict[str, Any]]]:
    """Yield the recording rules, sorted so that each reads only the results of earlier levels."""
    pending = [rule for rule in rules() if "record" in rule]
    while pending:
        names = {rule["record"] for rule in pending}
        level = [r for r in pending if not names & set(re.findall(r"\w+:\w+:\w+", r["expr"]))]
        assert level, f"these rules need each other: {names}"
        yield level
        pending = [rule for rule in pending if rule not in level]


def seconds(duration: str) -> int:
    """Read a Prometheus duration of one unit."""
    return int(duration[:-1]) * {"s": 1, "m": MINUTE, "h": HOUR, "d": DAY}[duration[-1]]


def hold(alert: str) -> int:
    """Return the longest `for` of an alert, in seconds."""
    return max(seconds(rule["for"]) for rule in rules() if rule.get("alert") == alert)


def firing_groups(alert: Alert) -> Iterator[tuple[int, Group]]:
    """Yield the alert's firing cases as promtool's test groups, with their evaluation interval."""
    for name, firing in alert.fires.items():
        yield firing.step, _firing(alert, name, firing)


def story_groups(alerts: Iterable[Alert], step: int) -> Iterator[tuple[int, Group]]:
    """Yield all alerts' other cases of one evaluation interval, likewise.

    Cases of similar length share a group, as that takes little longer than the longest alone.
    """
    stories = {
        f"{alert.name}: {title}": story
        for alert in alerts
        for title, story in (*alert.silent.items(), *alert.stories.items())
        if story.step == step
    }
    together = sorted((s.end, name) for name, s in stories.items() if not s.alone)
    names = [name for _, name in together]
    batches = [names[begin : begin + BATCH] for begin in range(0, len(names), BATCH)]
    for batch in batches + [[name] for name, story in stories.items() if story.alone]:
        yield step, _stories(step, {name: stories[name] for name in batch})


def _firing(alert: Alert, name: str, firing: Firing) -> Group:
    step = firing.step
    fires = firing.since + -(-hold(alert.name) // step) * step
    sooner = fires - step * (2 if firing.lenient else 1)
    restart, heals = fires + step, fires + 4 * step
    clear = heals + 5 * step + firing.keeps

    sick = changed(world("ab"), firing.change)
    if firing.outlives_restart:
        sick = restarted(sick, restart, 5 * MINUTE)
    story = healed(sick, changed(world("ab"), firing.cure), heals)

    names = f"{firing.along} {' '.join([alert.name] * len(firing.severities))}"
    worst = f'alertname="{alert.name}",severity="{firing.severities[-1]}"'
    return {
        "name": name,
        "interval": f"{step}s",
        "input_series": _inputs(story, clear, step),
        "alert_rule_test": [
            {
                "eval_time": f"{fires}s",
                "alertname": alert.name,
                "exp_alerts": [
                    _expected(alert, firing, severity) for severity in firing.severities
                ],
            }
        ],
        "promql_expr_test": [
            _firing_at(sooner, "", worst),
            *(_firing_at(moment, names) for moment in range(fires, heals, step)),
            _firing_at(clear, ""),
        ],
    }


def _expected(alert: Alert, firing: Firing, severity: str) -> dict[str, Any]:
    labels = {**alert.labels, **firing.labels}
    query = "&".join(
        f"var-{key}={labels[key].replace(' ', '+')}"
        for key in ("job", "account", "repo")
        if key in alert.labels
    )
    return {
        "exp_labels": labels | {"severity": severity},
        "exp_annotations": {
            "summary": firing.summary or alert.summary,
            "description": firing.description,
            "runbook_url": f"{RUNBOOKS}/{alert.name}.md",
            "dashboard_url": f"{DASHBOARDS}/{alert.dashboard}" + (query and f"?{query}"),
        },
    }


def _stories(step: int, stories: Mapping[str, Story]) -> Group:
    inputs, checks = [], []
    for name, story in stories.items():
        of = changed(world(story.replicas), story.change)
        inputs += _inputs(
            {_of_case(key, name): value for key, value in of.items()}, story.end, step
        )
        # An alert without a job would be everybody's.
        among = f"job=~{json.dumps(f'.*{re.escape(name)}|')}"
        checks += [_firing_at(moment, names, among) for moment, names in story.at.items()]
        checks.append(_fired_by(story.end, story.ever, among))
    group = {"name": f"cases every {step} s", "interval": f"{step}s"}
    return group | {"input_series": inputs, "promql_expr_test": checks}


def _of_case(key: Series, name: str) -> Series:
    """Return a series with labels by which no rule joins it with that of another case."""
    own = ("job", "account", "repo_id")
    labels = ((label, f"{v}, {name}" if label in own else v) for label, v in key.labels)
    return Series(key.name, frozenset(labels))


def _inputs(of: World, end: int, step: int) -> list[dict[str, str]]:
    return [
        {"series": str(key), "values": notation(value(t) for t in range(0, end + 1, step))}
        for key, value in of.items()
    ]


def _firing_at(moment: int, names: str, among: str = "") -> dict[str, Any]:
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
