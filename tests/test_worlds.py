"""The notifications of healthy and troubled worlds, by the shipped rules and routes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.alarms import Alarm, alarms
from tests.notifications import Message, messages, tally
from tests.tsdb import lines_to
from tests.worlds import DAY, MINUTE, START, World
from tests.worlds.healthy import HEALTHY
from tests.worlds.trouble import TROUBLE

if TYPE_CHECKING:
    from pathlib import Path

WORLDS = HEALTHY | TROUBLE


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Alarm]:
    """Return all alarms of all worlds: the short ones evaluated together, then the long ones."""
    short = {name: world for name, world in WORLDS.items() if world.days <= 4}
    long = {name: world for name, world in WORLDS.items() if world.days > 4}
    folders = [tmp_path_factory.mktemp("worlds") for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(play, folders, (short, long), (5 * MINUTE, 10 * MINUTE)))
    return [alarm for some in found for alarm in some]


def play(folder: Path, worlds: dict[str, World], step: int) -> list[Alarm]:
    data = folder / "data"
    with lines_to(data) as lines:
        for name, world in worlds.items():
            world.write(lines, job(name), step)
    return alarms(data, START, START + max(world.days for world in worlds.values()) * DAY, step)


def job(name: str) -> str:
    return f"borgbase {[*WORLDS].index(name):02d}"


def sent(everything: list[Alarm], name: str) -> list[Message]:
    # The last minutes of a world do not count: its accounts end with its data.
    mine = [alarm for alarm in everything if alarm.labels["job"].startswith(job(name))]
    return messages(mine, START + WORLDS[name].days * DAY - 10 * MINUTE)


@pytest.mark.parametrize("name", WORLDS)
def test_world(everything: list[Alarm], name: str) -> None:
    world = WORLDS[name]
    heard = sent(everything, name)
    assert tally(heard) == world.sent
    if heard and world.within:
        first = min(message.time for message in heard) - START
        assert world.since <= first <= world.since + world.within


def test_enough_worlds() -> None:
    assert min(len(HEALTHY), len(TROUBLE)) >= 30
    assert {world.interval for world in WORLDS.values()} >= {15 * MINUTE, 30 * MINUTE, 60 * MINUTE}
    assert {world.scrape for world in WORLDS.values()} >= {MINUTE, 2 * MINUTE}
