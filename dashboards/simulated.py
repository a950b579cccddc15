"""Sixty days of two simulated accounts in a real Prometheus, for tests and previews."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from borgbase_exporter.simulator import SimulatedAccount
from borgbase_exporter.simulator.schema import Drift, Edition
from dashboards.model import Json
from tests.end_to_end.processes import Prometheus
from tests.history import DAY, HOUR, History, Target, serve
from tests.programs import require
from tests.simulator.asking import Clock

RULES = Path(__file__).resolve().parent.parent / "deploy" / "prometheus" / "rules"

END = 1_750_000_000.0 // DAY * DAY + 9 * HOUR
"""A Monday morning, UTC."""
START = END - 60 * DAY - 300  # so that the newest poll is five minutes old at the end
RENAMED = "k8s-etcd", "etcd (prod)"
"""A repo's name until ten days before the end, and since."""
RULES_SINCE = END - 6 * HOUR
"""When the alert rules were loaded."""


@dataclass(frozen=True)
class Simulated:
    """A Prometheus, and the accounts that it knows, as of END."""

    prometheus: Prometheus
    home: SimulatedAccount
    work: SimulatedAccount


@contextmanager
def simulated(folder: Path) -> Iterator[Simulated]:
    """Give an account with all troubles, a small one that is well, and a Prometheus with rules."""
    clock = Clock(START)
    home = SimulatedAccount(clock=clock, start=END)
    work = SimulatedAccount(clock=clock, start=END, seed=2, repos=3, troubles=())
    before, after = RENAMED
    history = History(
        clock=clock,
        accounts={"home": home, "work": work},
        failing=[
            (END - 16 * DAY, END - 16 * DAY + 3 * HOUR),
            (END - 5 * DAY, END - 5 * DAY + 8 * HOUR),
        ],
        down=[(END - 9 * DAY, END - 9 * DAY + 2 * HOUR)],
        events={
            END - 10 * DAY: lambda: home.rename(home.id_of(before), after),
            END - 3 * DAY: lambda: _drift(history),
        },
    )
    # Dashboards show 30 days, and polling is what takes the time here.
    data, lately = folder / "data", END - 31 * DAY - 300
    replace(history, interval=6 * HOUR, events={}).write(data, START, lately - 300)
    history.write(data, lately, END)
    # A second replica, of which nobody may notice anything.
    today = clock.now = END - DAY - 300
    replace(history, targets=[Target(instance="replica:10133")], events={}).write(data, today, END)
    for rules in _rounds():
        with serve(data) as prometheus:
            _evaluate(rules, prometheus, data)
    with serve(data) as prometheus:
        yield Simulated(prometheus, home, work)


def _drift(history: History) -> None:
    """Take a field from the API, and an entry from one of its answers."""
    history.schema = Edition(
        Drift(without=frozenset({"PlanType.maxRepos"}), nulls={"Query.sshList": frozenset({3})})
    )


def _rounds() -> Iterator[list[Json]]:
    """Yield the rules that ship in rounds, each of which needs the ones before.

    An alert becomes a recording of what Prometheus would record of it, but for its `for`.
    """
    groups = [
        group
        for path in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
    ]
    rules = [rule for group in groups for rule in group["rules"]]
    waiting = [rule for rule in rules if "record" in rule]
    while waiting:
        names = [rule["record"] for rule in waiting]
        ready = [rule for rule in waiting if not any(name in rule["expr"] for name in names)]
        assert ready, names  # noqa: S101  # the rules would need one another
        yield ready
        waiting = [rule for rule in waiting if rule not in ready]
    yield [
        {
            "record": "ALERTS",
            "expr": f"0 * ({rule['expr']}) + 1",
            "labels": {**rule["labels"], "alertname": rule["alert"], "alertstate": "firing"},
        }
        for rule in rules
        if "alert" in rule
    ]


def _evaluate(rules: list[Json], prometheus: Prometheus, data: Path) -> None:
    file = data.with_name("rules.json")  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "round", "rules": rules}]}))
    command = (
        *(require("promtool"), "tsdb", "create-blocks-from", "rules"),
        *(f"--url=http://{prometheus.address}", f"--output-dir={data}", "--eval-interval=5m"),
        *(f"--start={RULES_SINCE:.0f}", f"--end={END:.0f}", file),
    )
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603  # a program of ours
