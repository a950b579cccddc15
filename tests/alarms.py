"""Which alerts a simulated history raises.

The shipped rules are evaluated over the data folder of a Prometheus (see tests.history), weeks in
seconds: by range queries of the real Prometheus, a level of recording rules after the other, then
the alerts. Only `for` is counted here, as Prometheus counts it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.end_to_end.processes import Prometheus
from tests.history import lines_to, serve

RULES = Path(__file__).resolve().parent.parent / "deploy" / "prometheus" / "rules"
STEP = 300.0
"""Seconds between two evaluations; the rules say 1m and 2m, and look 10m back at the least."""
POINTS = 10_000
"""Prometheus answers with up to 11,000 points of a series."""

Labels = dict[str, str]
Points = list[tuple[float, str]]
Rule = dict[str, Any]


@dataclass(frozen=True, order=True)
class Alarm:
    """An alert from the first evaluation at which it fires to the last (Unix seconds)."""

    alert: str
    severity: str
    account: str
    repo: str
    begin: float
    end: float


def alarms(data: Path, start: float, end: float) -> list[Alarm]:
    """Return what fires between two moments, the data folder's recorded series being added."""
    rules = [
        rule
        for file in RULES.glob("*.yml")
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]
    for level in _levels([rule for rule in rules if "record" in rule]):
        with serve(data) as prometheus, lines_to(data) as lines:
            for rule in level:
                for labels, points in _evaluated(prometheus, rule["expr"], start, end):
                    series = rule["record"] + _spelled(labels)
                    lines.writelines(f"{series} {value} {now}\n" for now, value in points)
    with serve(data) as prometheus:
        return sorted(
            Alarm(
                rule["alert"],
                rule["labels"]["severity"],
                labels.get("account", ""),
                labels.get("repo", ""),
                *span,
            )
            for rule in rules
            if "alert" in rule
            for labels, points in _evaluated(prometheus, rule["expr"], start, end)
            for span in _firing(points, _seconds(rule.get("for", "0s")))
        )


def _levels(rules: Sequence[Rule]) -> Iterator[list[Rule]]:
    """Yield the recording rules in an order such that each reads only what is there by then."""
    pending = list(rules)
    while pending:
        names = "|".join(re.escape(rule["record"]) for rule in pending)
        level = [rule for rule in pending if not re.search(rf"\b(?:{names})\b", rule["expr"])]
        assert level, f"these rules go round in circles: {names}"
        yield level
        pending = [rule for rule in pending if rule not in level]


def _evaluated(
    prometheus: Prometheus, expression: str, start: float, end: float
) -> Iterable[tuple[Labels, Points]]:
    """Return the series of an expression over time."""
    series: dict[str, tuple[Labels, Points]] = {}
    while start <= end:
        stop = min(end, start + (POINTS - 1) * STEP)
        query = {"query": expression, "start": start, "end": stop, "step": STEP}
        for found in prometheus.api(f"query_range?{urlencode(query)}")["result"]:
            key = json.dumps(found["metric"], sort_keys=True)
            labels = {name: text for name, text in found["metric"].items() if name != "__name__"}
            series.setdefault(key, (labels, []))[1].extend(map(tuple, found["values"]))
        start = stop + STEP
    return series.values()


def _spelled(labels: Labels) -> str:
    pairs = (f"{name}={json.dumps(text, ensure_ascii=False)}" for name, text in labels.items())
    return f"{{{','.join(pairs)}}}"


def _firing(points: Points, wait: float) -> Iterator[tuple[float, float]]:
    """Yield the spans in which an alert fires that is true at these points."""
    begin, last = float("inf"), float("-inf")
    for now, _value in [*points, (float("inf"), "")]:
        if now - last > STEP:
            if last - begin >= wait:
                yield begin + wait, last
            begin = now
        last = now


def _seconds(duration: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    return sum(int(n) * units[unit] for n, unit in re.findall(r"(\d+)([smhd])", duration))
