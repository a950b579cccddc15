"""Worlds in which no notification is sent."""

from typing import Any

from tests.worlds import (
    DAY,
    GB,
    HOUR,
    MINUTE,
    TOKENS,
    Account,
    Repo,
    World,
    during,
    now_and_then,
    until,
)

Settings = dict[str, Any]
POLLED_15M: Settings = {"interval": 15 * MINUTE, "scrape": MINUTE}
POLLED_30M: Settings = {"interval": 30 * MINUTE, "scrape": 2 * MINUTE}
POLLED_1H: Settings = {"interval": HOUR, "scrape": 2 * MINUTE}


def one_repo(days: float = 3, **facts: Any) -> World:
    return World(accounts=(Account(repos=(Repo(**facts),)),), days=days)


def account(days: float = 3, **facts: Any) -> World:
    return World(accounts=(Account(**facts),), days=days)


def among_two(**facts: Any) -> tuple[Repo, ...]:
    """Return the two repos of an account, with other facts for the second."""
    return Repo(name="laptop", id="z9"), Repo(**facts)


def flickering(share: float = 0.2) -> tuple[Repo, ...]:
    """Return two repos, of which one is at times an unreadable entry."""
    null = now_and_then(share)
    return among_two(there=lambda t: None if null(t) else True)


HEALTHY: dict[str, World] = {
    "polled every 15m": World(days=2, **POLLED_15M),
    "polled every 30m": World(days=2, **POLLED_30M),
    "polled every hour": World(days=2, **POLLED_1H),
    "an entry unreadable in every fifth list": World(
        accounts=(Account(repos=flickering()),), days=4
    ),
    "an entry unreadable in every fifth list, polled every hour": World(
        accounts=(Account(repos=flickering()),), days=4, **POLLED_1H
    ),
    "errors beside the data in every fifth answer, polled every 30m": World(
        accounts=(Account(whole=lambda t: not now_and_then(0.2)(t)),), days=4, **POLLED_30M
    ),
    "a repo left out of one list that looks complete": account(
        repos=among_two(there=lambda t: not during((DAY, DAY + 15 * MINUTE))(t)), days=2
    ),
    "a repo left out of one list that looks complete, polled every hour": World(
        accounts=(
            Account(repos=among_two(there=lambda t: not during((DAY, DAY + 50 * MINUTE))(t))),
        ),
        days=2,
        **POLLED_1H,
    ),
    "a usage of 0 in one answer, polled every hour": World(
        accounts=(Account(repos=(Repo(usage=until(DAY, 50 * GB, until(90_000, 0, 50 * GB))),)),),
        days=2,
        **POLLED_1H,
    ),
    "99% in one answer, polled every hour": World(
        accounts=(
            Account(
                repos=(
                    Repo(usage=until(DAY, 50 * GB, until(90_000, 79 * GB, 50 * GB)), quota=80 * GB),
                )
            ),
        ),
        days=2,
        **POLLED_1H,
    ),
    "append-only off in one answer, polled every hour": World(
        accounts=(Account(repos=(Repo(append_only=until(DAY, 1, until(90_000, 0, 1))),)),),
        days=2,
        **POLLED_1H,
    ),
    "a weekly full dump, pruned after some hours": World(
        accounts=(
            Account(
                repos=(
                    Repo(
                        usage=lambda t: (190 if t % (7 * DAY) < 6 * HOUR else 100) * GB,
                        quota=400 * GB,
                    ),
                ),
            ),
        ),
        days=15,
    ),
    "a weekly full dump that stays": World(
        accounts=(
            Account(
                repos=(Repo(usage=lambda t: (200 + 50 * (t // (7 * DAY))) * GB, quota=1000 * GB),),
                included=1000 * GB,
            ),
        ),
        days=15,
    ),
    "the first upload to an old repo": World(
        accounts=(
            Account(
                repos=(
                    Repo(
                        usage=lambda t: (0.2 + 400 * min(1, max(0, t - 9 * DAY) / (3 * DAY))) * GB,
                        quota=1000 * GB,
                    ),
                ),
                included=1000 * GB,
            ),
        ),
        days=13,
    ),
    "a new repo, its key and its first upload": account(
        repos=among_two(
            there=lambda t: t >= DAY,
            created=DAY,
            keys=until(DAY + 2 * HOUR, 0, 1),
            usage=lambda t: max(0, t - DAY - 3 * HOUR) / DAY * 50 * GB,
            written=lambda t: t if t > DAY + 3 * HOUR else None,
        )
    ),
    "windows of maintenance, twice a day": account(
        fails=lambda t: "connect" if t % (12 * HOUR) < 20 * MINUTE else None
    ),
    "an API that is down for 50 minutes, polled every hour": World(
        accounts=(
            Account(fails=lambda t: "connect" if during((DAY, DAY + 50 * MINUTE))(t) else None),
        ),
        **POLLED_1H,
    ),
    "an exporter that restarts four times a day": account(
        down=lambda t: t % (6 * HOUR) < 4 * MINUTE
    ),
    "one of two replicas down for a day": World(
        accounts=(
            Account(),
            Account(target="b", down=during((DAY, 2 * DAY)), unconfigured=during((0, HOUR))),
        ),
    ),
    "renamed": account(repos=among_two(name=lambda t: "mail" if t < DAY else "mail 2")),
    "pruned by 40%": one_repo(usage=until(DAY, 100 * GB, 60 * GB)),
    "pruned, then filled again": one_repo(
        usage=until(DAY, 100 * GB, until(DAY + 12 * HOUR, 60 * GB, 100 * GB))
    ),
    "a small repo pruned to a fifth": one_repo(usage=until(DAY, 5 * GB, GB)),
    "pruned every day": one_repo(usage=lambda t: (100 + 12 * (t % DAY) / DAY) * GB, days=4),
    "append-only, growing": one_repo(
        usage=lambda t: (50 + t / DAY) * GB, append_only=1, compaction=0
    ),
    "append-only, compacted by BorgBase every other day": one_repo(
        usage=lambda t: (100 - 30 * (t // (2 * DAY) % 2)) * GB, append_only=1, days=4
    ),
    "append-only since it was cleaned up": one_repo(
        usage=until(DAY, 100 * GB, 60 * GB), append_only=until(DAY + HOUR, 0, 1), compaction=0
    ),
    "a plan without a maximum, exceeded on purpose": account(included=40 * GB),
    "a subscription that renews itself": account(
        subscription=until(2 * DAY, 2 * DAY, 32 * DAY), renews=1
    ),
    "a token that expired long ago, and one replaced in time": account(
        tokens=TOKENS
        | {
            ("3", "old", "full_access"): -30 * DAY,
            ("4", "script", "read_only"): until(DAY, 16 * DAY, None),
            ("5", "script", "read_only"): until(DAY, None, 300 * DAY),
        }
    ),
    "a backup one hour late every day": one_repo(
        limit=DAY, written=lambda t: t // (25 * HOUR) * 25 * HOUR, days=4
    ),
    "a laptop without a limit that is off for long": one_repo(limit=None, written=-40 * DAY),
    "no quota, no limit, no plan": account(
        repos=(Repo(quota_enabled=0, limit=None, usage=900 * GB),), included=None
    ),
    "a quota switched off at 84%": one_repo(usage=168 * GB, quota_enabled=until(DAY, 1, 0)),
    "a repo reached by a password, not by keys": one_repo(keys=None),
    "a key taken off and put back": one_repo(
        keys=until(2.5 * DAY, 2, until(2.6 * DAY, 1, 2)), days=4
    ),
    "growing by 3% a day, far from its quota": one_repo(
        usage=lambda t: 50 * 1.03 ** (t // DAY) * GB, days=4
    ),
}
