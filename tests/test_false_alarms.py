"""Sixty healthy days raise no alert; each trouble, planted alone, raises exactly its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from borgbase_exporter.simulator import SimulatedAccount, Trouble
from tests.alarms import Alarm, alarms
from tests.history import DAY, HOUR, History
from tests.simulator.asking import Clock

BEGIN = 1_700_006_400.0
"""A midnight (UTC)."""
PLANTED = BEGIN + 3 * DAY
MINUTE = 60.0

Expected = set[tuple[str, str, str]]
"""Alert, severity and repo."""


def found(alarms_: list[Alarm]) -> Expected:
    return {(alarm.alert, alarm.severity, alarm.repo) for alarm in alarms_}


def test_sixty_healthy_days_raise_no_alert(tmp_path_factory: pytest.TempPathFactory) -> None:
    end = BEGIN + 60 * DAY
    clock = Clock(BEGIN)
    account = SimulatedAccount(clock=clock, start=end, troubles=())
    maintenance = [
        (midnight + hours * HOUR, midnight + hours * HOUR + 20 * MINUTE)
        for midnight in (BEGIN + day * DAY for day in range(60))
        for hours in (9 + 20 / 60, 15 + 20 / 60)
    ]
    history = History(
        clock=clock,
        accounts={"healthy": account},
        interval=30 * MINUTE,
        failing=maintenance,
        down=[(BEGIN + day * DAY, BEGIN + day * DAY + 6 * MINUTE) for day in (11, 30.3, 47.5)],
        events={
            BEGIN + 40 * DAY: lambda: account.rename(account.id_of("gitea"), "forgejo"),
            BEGIN + 45 * DAY: lambda: account.add_repo("another laptop"),
        },
    )
    data = history.write(tmp_path_factory.mktemp("healthy") / "data", BEGIN, end)
    assert alarms(data, BEGIN + HOUR, end) == []


@dataclass(frozen=True)
class Plot:
    """A trouble of an account's from its start, or one that befalls it at the time `PLANTED`."""

    expected: Expected
    troubles: tuple[Trouble, ...] = ()
    change: Callable[[SimulatedAccount], object] = lambda _: None
    within: float = 3 * HOUR
    """How soon after PLANTED each of the expected alerts must fire."""


def warning(alert: str, repo: str = "") -> Expected:
    return {(alert, "warning", repo)}


def critical(alert: str, repo: str = "") -> Expected:
    return {(alert, "critical", repo)}


def usage(account: SimulatedAccount, repo: str) -> int:
    """Return what a repo uses now, in bytes."""
    return next(found.usage(account.now()) for found in account.repos if found.name == repo)


def resized(repo: str, factor: float) -> Callable[[SimulatedAccount], object]:
    return lambda account: account.set_usage(
        account.id_of(repo), int(usage(account, repo) * factor)
    )


def both(alert: str, repo: str) -> Expected:
    return warning(alert, repo) | critical(alert, repo)


PLOTS = {
    "nothing": Plot(set()),
    "quota nearly full": Plot(
        both("BorgBaseRepoQuotaAlmostFull", "postgres-prod"), (Trouble.QUOTA_NEARLY_FULL,)
    ),
    "quota filling up": Plot(
        warning("BorgBaseRepoQuotaFillingUp", "mail.example.org"), (Trouble.QUOTA_FILLING,)
    ),
    "silent": Plot(both("BorgBaseRepoBackupOverdue", "gitea"), (Trouble.SILENT,)),
    "never used": Plot(warning("BorgBaseRepoNeverBackedUp", "new-server"), (Trouble.NEVER_USED,)),
    "subscription ending": Plot(
        warning("BorgBaseSubscriptionExpiring"), (Trouble.SUBSCRIPTION_ENDING,)
    ),
    "token expiring": Plot(warning("BorgBaseTokenExpiring"), (Trouble.TOKEN_EXPIRING,)),
    "overage": Plot({("BorgBasePlanOverage", "info", "")}, (Trouble.OVERAGE,)),
    "quota crossed": Plot(
        both("BorgBaseRepoQuotaAlmostFull", "laptop-anna"),
        change=lambda account: account.update(
            account.id_of("laptop-anna"), quota=int(usage(account, "laptop-anna") / 0.97)
        ),
    ),
    "vanished": Plot(
        critical("BorgBaseRepoVanished", "gitea"),
        change=lambda account: account.delete(account.id_of("gitea")),
    ),
    "shrunk": Plot(warning("BorgBaseRepoShrunk", "gitea"), change=resized("gitea", 0.4)),
    "append-only shrunk": Plot(
        critical("BorgBaseAppendOnlyRepoShrunk", "audit logs"), change=resized("audit logs", 0.9)
    ),
    "append-only off": Plot(
        warning("BorgBaseRepoAppendOnlyDisabled", "audit logs"),
        change=lambda account: account.update(account.id_of("audit logs"), append_only=False),
    ),
    "growth": Plot(
        warning("BorgBaseRepoGrowthAnomaly", "laptop-anna"), change=resized("laptop-anna", 1.4)
    ),
    "token revoked": Plot(
        critical("BorgBaseTokenInvalid"), change=lambda account: account.revoke(account.token)
    ),
}


LASTING = {name: plot for name, plot in PLOTS.items() if plot.troubles}
SUDDEN = {name: plot for name, plot in PLOTS.items() if not plot.troubles}


def unfold(folder: Path, plots: Mapping[str, Plot], days: int) -> dict[str, list[Alarm]]:
    """Let plots unfold at once, each in an account of its own; return what each raises."""
    clock = Clock(BEGIN)
    end = BEGIN + days * DAY
    accounts = {
        name: SimulatedAccount(seed=seed, clock=clock, start=end, troubles=plot.troubles, repos=7)
        for seed, (name, plot) in enumerate(plots.items(), 1)
    }

    def befall() -> None:
        for name, plot in plots.items():
            plot.change(accounts[name])

    history = History(clock=clock, accounts=accounts, events={PLANTED: befall})
    every = alarms(history.write(folder / "data", BEGIN, end), BEGIN + HOUR, end)
    return {name: [alarm for alarm in every if alarm.account == name] for name in plots}


@pytest.fixture(scope="module")
def raised(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Alarm]]:
    make = tmp_path_factory.mktemp
    # A forecast looks two weeks back, and then takes a few days to come true.
    return unfold(make("lasting"), LASTING, 18) | unfold(make("sudden"), SUDDEN, 5)


@pytest.mark.parametrize("name", PLOTS)
def test_a_trouble_raises_exactly_its_alert(raised: dict[str, list[Alarm]], name: str) -> None:
    assert found(raised[name]) == PLOTS[name].expected


@pytest.mark.parametrize("name", SUDDEN)
def test_what_befalls_an_account_is_told_soon(raised: dict[str, list[Alarm]], name: str) -> None:
    for alarm in raised[name]:
        assert PLANTED < alarm.begin <= PLANTED + PLOTS[name].within
