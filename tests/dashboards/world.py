"""Sixty days of simulated accounts in a real Prometheus, and scenes, each in its own job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.clock import Clock
from tests.end_to_end.processes import Prometheus, accepted
from tests.graphql import Drift, Edition, SimulatedAccount
from tests.history import DAY, HOUR, History, Target
from tests.programs import require
from tests.rules import levels, rules
from tests.tsdb import serve

END = 1_750_000_000.0 // DAY * DAY + 9 * HOUR  # a Monday morning, UTC
START = END - 60 * DAY - 300
RENAMED = "k8s-etcd", "etcd (prod)"  # a repo's name until ten days before the end, and since
OUTAGE = END - 5 * DAY, END - 5 * DAY + 8 * HOUR  # the API fails
DOWN = END - 9 * DAY, END - 9 * DAY + 2 * HOUR  # the exporter does not run
RULES_SINCE = END - 2 * HOUR  # when the alert rules were loaded
MAIN, SECOND = "borgbase", "borgbase-second"  # two jobs that see the same accounts
HOSTILE = ("me+backup@example.com", "Acme (prod)", 'say "hi"', r"a|b\c", "it's", "$5 [x]", "a.b*")
"""Names of accounts and repos."""
SCRAPE = 600.0
"""Seconds between two scrapes: ten times sparser than usual, as a month of them is written."""
LOOKBACK = f"--query.lookback-delta={SCRAPE + 60:.0f}s"
LARGE = 3000  # repos of the scene `large`


@dataclass(frozen=True)
class World:
    """A Prometheus, and the accounts of its main job, as of END."""

    prometheus: Prometheus
    home: SimulatedAccount
    work: SimulatedAccount


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Write the main job, with rules, and the scenes."""
    data = folder / "data"
    home, work = _main(data)
    for batch in _rounds():
        with serve(data, LOOKBACK) as prometheus:
            _evaluate(batch, prometheus, data)
    scenes(data)
    with serve(data, LOOKBACK) as prometheus:
        yield World(prometheus, home, work)


def _main(data: Path) -> tuple[SimulatedAccount, SimulatedAccount]:
    """Write an account with all troubles, and a small one that is well."""
    clock = Clock(START)
    home = SimulatedAccount(clock=clock, start=END, billed=2)
    work = SimulatedAccount(clock=clock, start=END, seed=2, repos=3, troubles=(), billed=2)
    before, after = RENAMED
    history = History(
        clock=clock,
        step=SCRAPE,
        accounts={"home": home, "work": work},
        failing=[(END - 16 * DAY, END - 16 * DAY + 3 * HOUR), OUTAGE],
        down=[DOWN],
        events={
            END - 10 * DAY: lambda: home.rename(home.id_of(before), after),
            END - 3 * DAY: lambda: _drift(history),
        },
    )
    # Dashboards show 30 days, and polls take most of the time here.
    month = END - 31 * DAY - HOUR / 2
    replace(history, interval=6 * HOUR, step=HOUR, events={}).write(data, START, month - SCRAPE)
    history.write(data, month, END)
    # A second replica and a second job, which must not change any panel.
    today = clock.now = END - DAY - 300
    others = [Target(instance="replica:10133"), Target(SECOND, "second:10133")]
    replace(history, targets=others, events={}).write(data, today, END)
    return home, work


def _drift(history: History) -> None:
    """Remove a field from the API, and make an entry of an answer unreadable."""
    history.schema = Edition(
        Drift(without=frozenset({"PlanType.maxRepos"}), nulls={"Query.sshList": frozenset({3})})
    )


def scenes(data: Path) -> None:
    """Write the scenes: each is a job whose accounts are seen for some hours before END."""
    _scene(data, "empty", {"empty": _account(repos=0)})
    _scene(data, "single", {"single": _account(repos=1)})
    hostile = {name: _account(repos=2, seed=n) for n, name in enumerate(HOSTILE, 10)}
    for name, account in hostile.items():
        account.rename(account.repos[0].id, name)
    _scene(data, "hostile", hostile)
    _scene(data, "large", {"large": _account(repos=LARGE)}, hours=0.2)
    bare = _account(repos=3)
    for repo in bare.repos:
        bare.update(repo.id, quota=0, quota_enabled=False, alert_days=0)
    _scene(data, "bare", {"bare": bare})
    halves = {"alive": _account(repos=2), "dead": _account(repos=2, seed=3)}
    dead = halves["dead"]
    _scene(data, "half", halves, hours=12, events={8 * HOUR: lambda: dead.revoke(dead.token)})
    gone = _account(repos=2)
    first = gone.repos[0].id
    deletion = {2 * HOUR: lambda: gone.delete(first)}
    _scene(data, "vanished", {"gone": gone}, hours=6, events=deletion)
    _scene(data, "demo", {"demo": _account(repos=2)}, simulated=True)


def _account(*, repos: int, seed: int = 1) -> SimulatedAccount:
    return SimulatedAccount(clock=Clock(END), start=END, seed=seed, repos=repos, billed=2)


def _scene(
    data: Path,
    job: str,
    accounts: dict[str, SimulatedAccount],
    *,
    hours: float = 2,
    events: dict[float, Any] | None = None,
    simulated: bool = False,
) -> None:
    """Write a scene; its events happen at seconds before END."""
    clock = Clock(END - hours * HOUR - 300)
    for account in accounts.values():
        account.now = clock
    happening = {END - before: event for before, event in (events or {}).items()}
    target = Target(job, f"{job}:10133")
    scene = History(
        clock=clock, accounts=accounts, targets=[target], events=happening, simulated=simulated
    )
    scene.write(data, clock.now, END)


def _rounds() -> Iterator[list[dict[str, Any]]]:
    """Yield the shipped rules in rounds; each round needs the results of those before.

    An alert becomes a recording of what Prometheus would record of it, but for its `for`.
    """
    yield from levels()
    yield [
        {
            "record": "ALERTS",
            "expr": f"0 * ({rule['expr']}) + 1",
            "labels": {**rule["labels"], "alertname": rule["alert"], "alertstate": "firing"},
        }
        for rule in rules()
        if "alert" in rule
    ]


def _evaluate(batch: list[dict[str, Any]], prometheus: Prometheus, data: Path) -> None:
    file = data.with_name("rules.json")  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "round", "rules": batch}]}))
    command = (
        *(require("promtool"), "tsdb", "create-blocks-from", "rules"),
        *(f"--url=http://{prometheus.address}", f"--output-dir={data}", "--eval-interval=5m"),
        *(f"--start={RULES_SINCE:.0f}", f"--end={END:.0f}", file),
    )
    accepted(*command)
