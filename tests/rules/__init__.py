"""Cases for each alert, as small changes to a healthy world; `promtool test rules` runs them.

Every case begins with the same world: an exporter that watches two accounts, each with a repo, with
nothing wrong. A case changes series of the account `acme`; `globex` stays healthy, so that an alert
that catches the wrong account fails every case. In a firing case two replicas see the trouble. The
alert fires once, with its exact labels and annotations, not one evaluation sooner, and without
alerts that the case does not name. It outlives a restart of the exporters, and ends when the world
has healed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
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

Curve = Callable[[int], float | None]  # seconds since the start -> value, None for no sample
Value = float | Curve | None
Labels = Mapping[str, str]


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


@dataclass(frozen=True, kw_only=True)
class Story:
    """A change to the world, and the alerts that may fire: at some moments, and at all."""

    change: Change
    at: Mapping[int, str] = field(default_factory=dict)
    ever: str = ""
    end: int = 2 * HOUR
    step: int = 5 * MINUTE
    replicas: str = "a"
    alone: bool = False  # whether it needs a Prometheus that knows no other exporter


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
    alone: bool = False  # like that of a story


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

    def cases(self) -> Iterator[tuple[str, Firing | Story]]:
        """Yield all cases with their titles."""
        yield from self.fires.items()
        yield from self.silent.items()
        yield from self.stories.items()


@cache
def groups() -> list[dict[str, Any]]:
    """Return every group of rules that ships."""
    return [g for path in RULES for g in yaml.safe_load(path.read_text("utf-8"))["groups"]]


def rules() -> list[dict[str, Any]]:
    """Return every rule that ships."""
    return [rule for group in groups() for rule in group["rules"]]


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
