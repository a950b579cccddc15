"""The messages that Alertmanager sends for alarms, by the shipped routes and inhibitions.

A model of its dispatcher: it checks a group `group_wait` after the first alert and then every
`group_interval`; a message is due when an alert in the group is new or has ended. test_inhibition
tests that the real Alertmanager routes and inhibits in this way.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from tests.rules import ROOT, seconds

if TYPE_CHECKING:
    from tests.alarms import Alarm, Labels

CONFIG = yaml.safe_load((ROOT / "deploy" / "alertmanager" / "alertmanager.yml").read_text())


@dataclass(frozen=True)
class Message:
    """A message to a receiver about alerts that began or ended; reminders are left out."""

    time: float
    receiver: str
    alert: str
    begins: tuple[Labels, ...]
    ends: tuple[Labels, ...]


def messages(alarms: Sequence[Alarm], until: float) -> list[Message]:
    """Return all messages up to a moment, in their order."""
    groups: dict[tuple[str, ...], tuple[dict[str, Any], list[Alarm]]] = {}
    for alarm in alarms:
        way = route(alarm.labels)
        key = (way["receiver"], *(alarm.labels.get(name, "") for name in way["group_by"]))
        groups.setdefault(key, (way, []))[1].append(alarm)
    sent = [
        message
        for way, members in groups.values()
        if way["receiver"] != "nobody"
        for message in _sent(way, members, alarms, until)
    ]
    return sorted(sent, key=lambda message: message.time)


def route(labels: Labels, under: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the route that labels take, with the settings that it inherits."""
    under = under or CONFIG["route"]
    for child in under.get("routes", ()):
        if matches(labels, child["matchers"]):
            return route(labels, {**under, "routes": (), **child})
    return under


def matches(labels: Labels, matchers: Iterable[str]) -> bool:
    """Return whether labels satisfy all matchers as Alertmanager spells them."""
    for matcher in matchers:
        name, sign, value = re.fullmatch(r'(\w+)(=~|!~|!=|=)"(.*)"', matcher).groups()  # type: ignore[union-attr]
        text = labels.get(name, "")
        equal = bool(re.fullmatch(value, text)) if "~" in sign else text == value
        if equal == sign.startswith("!"):
            return False
    return True


def muted(alarm: Alarm, alarms: Iterable[Alarm], now: float) -> bool:
    """Return whether another alarm that fires now inhibits this one."""
    return any(
        other is not alarm
        and other.begin <= now < other.end
        and matches(alarm.labels, rule["target_matchers"])
        and matches(other.labels, rule["source_matchers"])
        and all(alarm.labels.get(name) == other.labels.get(name) for name in rule["equal"])
        for rule in CONFIG["inhibit_rules"]
        for other in alarms
    )


def _sent(
    way: dict[str, Any], members: Sequence[Alarm], alarms: Sequence[Alarm], until: float
) -> Iterator[Message]:
    waiting = sorted(members, key=lambda alarm: alarm.begin)
    present: list[Alarm] = []
    announced: dict[int, Alarm] = {}
    now = 0.0
    while waiting or present:
        if not present:
            now = max(now, waiting[0].begin) + seconds(way["group_wait"])
        if now > until:
            return
        while waiting and waiting[0].begin <= now:
            present.append(waiting.pop(0))
        heard = [alarm for alarm in present if not muted(alarm, alarms, now)]
        begins = [a for a in heard if now < a.end and _key(a) not in announced]
        ends = [a for a in heard if a.end <= now and _key(a) in announced]
        announced |= {_key(alarm): alarm for alarm in begins}
        for alarm in ends:
            del announced[_key(alarm)]
        if begins or ends:
            texts = (tuple(alarm.labels for alarm in some) for some in (begins, ends))
            yield Message(now, way["receiver"], members[0].name, *texts)
        present = [alarm for alarm in present if now < alarm.end]
        now += seconds(way["group_interval"])


def _key(alarm: Alarm) -> int:
    return hash(frozenset(alarm.labels.items()))


def tally(sent: Iterable[Message]) -> dict[str, tuple[int, int]]:
    """Return how many alerts began and ended, by receiver and alert, across all messages."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for message in sent:
        count = counts[f"{message.receiver} {message.alert}"]
        count[0] += bool(message.begins)
        count[1] += bool(message.ends)
    return {key: (begins, ends) for key, (begins, ends) in counts.items()}
