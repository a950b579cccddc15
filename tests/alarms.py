"""Which alerts fire over weeks of samples, by the shipped rules and a real Prometheus.

The rules are evaluated by range queries over a data folder: the recording rules level by level,
what they record being added to the folder, then the alerts. Only `for` and `keep_firing_for` are
counted here.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import requests

from tests.programs import require
from tests.rules import rules, seconds

if TYPE_CHECKING:
    from pathlib import Path

STEP = 240
"""Seconds between two evaluations: what is recorded stays visible for five minutes."""
SAMPLED = 600
"""Seconds between two samples of what the rules keep for eight days."""
POINTS = 10_000
"""Prometheus answers with up to 11,000 points of a series."""
PATIENCE = 60.0

Labels = Mapping[str, str]
Series = tuple[dict[str, str], list[tuple[float, str]]]
"""Labels, and points as time and value."""
Ask = Callable[[str, int], list[Series]]
"""Returns the series of an expression over the whole time, with a point every some seconds."""


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


def alarms(data: Path, start: float, end: float) -> list[Alarm]:
    """Return what fires between two moments; what the rules record is added to the data folder."""
    for level in _levels():
        with serve(data, start, end) as ask, lines_to(data) as lines:
            for name, series in _all(ask, level):
                for labels, points in series:
                    _write(lines, name, labels, points)
    alerts = {
        rule["alert"] + rule["labels"]["severity"]: rule for rule in rules() if "alert" in rule
    }
    found = []
    with serve(data, start, end) as ask:
        for key, series in _all(ask, {key: rule["expr"] for key, rule in alerts.items()}):
            rule = alerts[key]
            own = {"alertname": rule["alert"], **rule["labels"]}
            for labels, points in series:
                for begin, stop in _firing([now for now, _ in points], rule, end):
                    found.append(Alarm(labels | own, begin, stop))
    return sorted(found, key=lambda alarm: (alarm.begin, alarm.name))


def _all(ask: Ask, expressions: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    steps = (SAMPLED if "sampled" in name else STEP for name in expressions)
    with ThreadPoolExecutor(2) as pool:
        yield from zip(expressions, pool.map(ask, expressions.values(), steps), strict=True)


def _levels() -> Iterator[dict[str, str]]:
    """Yield the recording rules in an order such that each reads only what is there by then."""
    pending = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
    while pending:
        names = re.compile(rf"(?<![\w:])(?:{'|'.join(map(re.escape, pending))})(?![\w:])")
        level = {name: text for name, text in pending.items() if not names.search(text)}
        assert level, f"these rules need each other: {[*pending]}"
        yield level
        pending = {name: text for name, text in pending.items() if name not in level}


def _firing(times: list[float], rule: dict[str, Any], end: float) -> Iterator[tuple[float, float]]:
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
        now += STEP
    if begin is not None:
        yield begin, float("inf")


def _write(lines: IO[str], name: str, labels: Labels, points: Iterable[tuple[float, str]]) -> None:
    pairs = (f"{key}={json.dumps(text, ensure_ascii=False)}" for key, text in labels.items())
    series = f"{name}{{{','.join(pairs)}}}"
    lines.writelines(f"{series} {value} {now}\n" for now, value in points)


@contextmanager
def lines_to(data: Path) -> Iterator[IO[str]]:
    """Take samples as OpenMetrics lines with times, and add them to a Prometheus' data folder."""
    data.mkdir(parents=True, exist_ok=True)
    file = data.with_name(f"{data.name}.openmetrics")
    with file.open("w", encoding="utf-8") as lines:
        yield lines
        lines.write("# EOF\n")
    command: list[str | Path] = [
        *(require("promtool"), "tsdb", "create-blocks-from", "--quiet"),
        # The file is read once per block: of two hours if this did not say otherwise.
        *("--max-block-duration=1458h", "openmetrics", file, data),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    file.unlink()


@contextmanager
def serve(data: Path, start: float, end: float) -> Iterator[Ask]:
    """Run a Prometheus that only answers from a data folder, however old."""
    config = data.with_name(f"{data.name}.yml")
    config.write_text("")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*free.getsockname())
    command = (
        *(require("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={data}"),
        *("--storage.tsdb.retention.time=100y", f"--web.listen-address={address}"),
        "--query.max-samples=500000000",
        "--query.timeout=10m",
    )
    with data.with_name(f"{data.name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with requests.Session() as session:
            session.trust_env = False
            _ready(session, f"http://{address}/-/ready", process)
            yield partial(_series, session, f"http://{address}/api/v1/query_range", start, end)
    finally:
        process.terminate()
        process.wait()


def _ready(session: requests.Session, url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, "Prometheus does not start"
        assert time.monotonic() < deadline, "Prometheus does not become ready"
        try:
            if session.get(url, timeout=PATIENCE).ok:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.02)


def _series(
    session: requests.Session, url: str, start: float, end: float, expression: str, step: int
) -> list[Series]:
    series: dict[str, Series] = {}
    while start <= end:
        stop = min(end, start + (POINTS - 1) * step)
        query: dict[str, Any] = {"query": expression, "start": start, "end": stop, "step": step}
        answer = session.post(url, data=query, timeout=10 * PATIENCE).json()
        assert answer["status"] == "success", (answer, expression)
        for found in answer["data"]["result"]:
            labels = {name: text for name, text in found["metric"].items() if name != "__name__"}
            key = json.dumps(labels, sort_keys=True)
            series.setdefault(key, (labels, []))[1].extend(map(tuple, found["values"]))
        start = stop + step
    return [*series.values()]
