"""The alerts that fire over weeks of samples, by the shipped rules in a real Prometheus.

Range queries over a data folder evaluate the rules: first the recording rules, level by level, with
the results added to the folder, then the alerts. Only `for` and `keep_firing_for` are
counted here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import msgspec
import requests

from tests.rules import levels, rules, seconds
from tests.tsdb import lines_to, serve

if TYPE_CHECKING:
    from pathlib import Path

SAMPLED = 600  # seconds between two samples of what the rules keep for eight days
POINTS = 1_000  # of a series per query: timestamp() searches from the first for each, in long ones
PATIENCE = 600.0

Labels = Mapping[str, str]
Series = tuple[dict[str, str], list[tuple[float, str]]]  # labels, and points as time and value


@dataclass(frozen=True)
class Alarm:
    """An alert from the first evaluation at which it fires until the first at which it does not."""

    labels: Labels
    begin: float
    end: float

    @property
    def name(self) -> str:
        """The name of the alert."""
        return self.labels["alertname"]


def alarms(data: Path, start: float, end: float, step: int) -> list[Alarm]:
    """Return what fires between two moments; what the rules record is added to the data folder."""
    for level in levels():
        expressions = {rule["record"]: rule["expr"] for rule in level}
        found = _evaluated(data, start, end, step, expressions)
        with lines_to(data) as lines:
            for name, series in found.items():
                for labels, points in series:
                    _write(lines, name, labels, points)
    alerts = {
        rule["alert"] + rule["labels"]["severity"]: rule for rule in rules() if "alert" in rule
    }
    expressions = {key: rule["expr"] for key, rule in alerts.items()}
    return sorted(
        (
            Alarm({**labels, "alertname": rule["alert"], **rule["labels"]}, begin, stop)
            for key, series in _evaluated(data, start, end, step, expressions).items()
            for rule in [alerts[key]]
            for labels, points in series
            for begin, stop in _firing([now for now, _ in points], rule, end, step)
        ),
        key=lambda alarm: (alarm.begin, alarm.name),
    )


def _evaluated(
    data: Path, start: float, end: float, step: int, expressions: Mapping[str, str]
) -> dict[str, list[Series]]:
    flags = (f"--query.lookback-delta={step + 60}s", "--query.max-samples=500000000")
    steps = (SAMPLED if "sampled" in name else step for name in expressions)
    with serve(data, *flags) as prometheus, requests.Session() as session:
        session.trust_env = False  # a proxy is not meant for it
        url = f"http://{prometheus.address}/api/v1/query_range"
        with ThreadPoolExecutor(2) as pool:
            ask = partial(_series, session, url, start, end)
            found = pool.map(ask, expressions.values(), steps)
            return dict(zip(expressions, found, strict=True))


def _firing(
    times: list[float], rule: dict[str, Any], end: float, step: int
) -> Iterator[tuple[float, float]]:
    """Yield the spans in which an alert fires whose expression is true at these times."""
    wait, keep = seconds(rule["for"]), seconds(rule.get("keep_firing_for", "0m"))
    true = set(times)
    since = begin = false = None
    now = min(true, default=end)
    while now <= end and (begin is not None or now <= max(true)):
        if now in true:
            since, false = now if since is None else since, None
            if begin is None and now - since >= wait:
                begin = now
        else:
            since, false = None, now if false is None else false
            if begin is not None and now - false >= keep:
                yield begin, now
                begin = None
        now += step
    if begin is not None:
        yield begin, float("inf")


def _write(lines: IO[str], name: str, labels: Labels, points: Iterable[tuple[float, str]]) -> None:
    pairs = (f"{key}={json.dumps(text, ensure_ascii=False)}" for key, text in labels.items())
    series = f"{name}{{{','.join(pairs)}}}"
    lines.writelines(f"{series} {value} {now}\n" for now, value in points)


def _series(
    session: requests.Session, url: str, start: float, end: float, expression: str, step: int
) -> list[Series]:
    """Return the series of an expression, with a point every some seconds."""
    series: dict[str, Series] = {}
    while start <= end:
        stop = min(end, start + (POINTS - 1) * step)
        query: dict[str, Any] = {"query": expression, "start": start, "end": stop, "step": step}
        answer = msgspec.json.decode(session.post(url, data=query, timeout=PATIENCE).content)
        assert answer["status"] == "success", (answer, expression)
        for found in answer["data"]["result"]:
            labels = {name: text for name, text in found["metric"].items() if name != "__name__"}
            key = json.dumps(labels, sort_keys=True)
            series.setdefault(key, (labels, []))[1].extend(map(tuple, found["values"]))
        start = stop + step
    # Two series may differ only by the name, which a rule replaces.
    return [(labels, sorted(points)) for labels, points in series.values()]
