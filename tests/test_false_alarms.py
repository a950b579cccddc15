"""Sixty healthy days of the simulated account raise no alert."""

import pytest

from tests.alarms import alarms
from tests.clock import Clock
from tests.graphql import SimulatedAccount
from tests.history import DAY, HOUR, History

BEGIN = 1_700_006_400.0  # a midnight (UTC)
MINUTE = 60.0


def test_sixty_healthy_days_raise_no_alert(tmp_path_factory: pytest.TempPathFactory) -> None:
    end = BEGIN + 60 * DAY
    clock = Clock(BEGIN)
    account = SimulatedAccount(clock=clock, start=end, repos=3, troubles=(), billed=2)
    maintenance = [
        (midnight + hours * HOUR, midnight + hours * HOUR + 20 * MINUTE)
        for midnight in (BEGIN + day * DAY for day in range(60))
        for hours in (9 + 20 / 60, 15 + 20 / 60)
    ]
    history = History(
        clock=clock,
        accounts={"healthy": account},
        interval=HOUR,
        step=10 * MINUTE,
        failing=maintenance,
        # Each hides a scrape.
        down=[
            (BEGIN + day * DAY - MINUTE, BEGIN + day * DAY + 5 * MINUTE) for day in (11, 30.5, 47.5)
        ],
        events={
            BEGIN + 40 * DAY: lambda: account.rename(account.id_of("mail.example.org"), "mail"),
            BEGIN + 45 * DAY: lambda: account.add_repo("another laptop"),
        },
    )
    data = history.write(tmp_path_factory.mktemp("healthy") / "data", BEGIN, end)
    assert alarms(data, BEGIN + HOUR, end, step=600) == []
