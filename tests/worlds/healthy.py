"""Worlds in which no notification is sent."""

from dataclasses import replace
from typing import Any

from tests.rules import DAY, GB, HOUR, MINUTE
from tests.worlds import TOKENS, Account, Repo, World, at, during, now_and_then, until

Settings = dict[str, Any]
POLLED_15M: Settings = {"interval": 15 * MINUTE, "scrape": MINUTE}
POLLED_30M: Settings = {"interval": 30 * MINUTE}
POLLED_1H: Settings = {"interval": HOUR}


def repo(**facts: Any) -> Account:
    return Account(repos=(Repo(**facts),))


def two(**facts: Any) -> Account:
    """Return an account with two repos, of which the second has other facts."""
    return Account(repos=(Repo(name="laptop", id="z9"), Repo(**facts)))


def partial(account: Account, share: float = 0.2) -> Account:
    """Return an account whose first repo is at times an unreadable entry."""
    first, *others = account.repos
    null = now_and_then(share)
    flickers = replace(first, there=lambda t: None if null(t) else at(first.there, t))
    return replace(account, repos=(flickers, *others))


def quiet(*accounts: Account, days: float = 3, **settings: Any) -> World:
    return World(accounts=accounts, days=days, **settings)


HEALTHY: dict[str, World] = {
    "polled every 15m": quiet(Account(), days=2, **POLLED_15M),
    "polled every 30m": quiet(Account(), days=2, scrape=2 * MINUTE, **POLLED_30M),
    "polled every hour": quiet(Account(), days=2, **POLLED_1H),
    "an entry unreadable in every fifth list": quiet(partial(two()), days=4),
    "an entry unreadable in every fifth list, polled every hour": quiet(
        partial(two()), days=4, **POLLED_1H
    ),
    "errors beside the data in every fifth answer, polled every 30m": quiet(
        Account(whole=lambda t: not now_and_then(0.2)(t)), days=4, **POLLED_30M
    ),
    "a repo left out of one list that looks complete": quiet(
        two(there=lambda t: not during((DAY, DAY + 15 * MINUTE))(t)), days=2
    ),
    "a repo left out of one list that looks complete, polled every hour": quiet(
        two(there=lambda t: not during((DAY, DAY + 50 * MINUTE))(t)), days=2, **POLLED_1H
    ),
    "a usage of 0 in one answer, polled every hour": quiet(
        repo(usage=until(DAY, 50 * GB, until(90_000, 0, 50 * GB))), days=2, **POLLED_1H
    ),
    "99% in one answer, polled every hour": quiet(
        repo(usage=until(DAY, 50 * GB, until(90_000, 79 * GB, 50 * GB)), quota=80 * GB),
        days=2,
        **POLLED_1H,
    ),
    "append-only off in one answer, polled every hour": quiet(
        repo(append_only=until(DAY, 1, until(90_000, 0, 1))), days=2, **POLLED_1H
    ),
    "a weekly full dump, pruned after some hours": quiet(
        repo(usage=lambda t: (190 if t % (7 * DAY) < 6 * HOUR else 100) * GB, quota=400 * GB),
        days=15,
    ),
    "a weekly full dump that stays": quiet(
        replace(
            repo(usage=lambda t: (200 + 50 * (t // (7 * DAY))) * GB, quota=1000 * GB),
            included=1000 * GB,
        ),
        days=15,
    ),
    "the first upload to an old repo": quiet(
        replace(
            repo(
                usage=lambda t: (0.2 + 400 * min(1, max(0, t - 9 * DAY) / (3 * DAY))) * GB,
                quota=1000 * GB,
            ),
            included=1000 * GB,
        ),
        days=13,
    ),
    "a new repo, its key and its first upload": quiet(
        two(
            there=lambda t: t >= DAY,
            created=DAY,
            keys=until(DAY + 2 * HOUR, 0, 1),
            usage=lambda t: max(0, t - DAY - 3 * HOUR) / DAY * 50 * GB,
            written=lambda t: t if t > DAY + 3 * HOUR else None,
        )
    ),
    "windows of maintenance, twice a day": quiet(
        Account(fails=lambda t: "connect" if t % (12 * HOUR) < 20 * MINUTE else None)
    ),
    "an API that is down for 50 minutes, polled every hour": quiet(
        Account(fails=lambda t: "connect" if during((DAY, DAY + 50 * MINUTE))(t) else None),
        **POLLED_1H,
    ),
    "an exporter that restarts four times a day": quiet(
        Account(down=lambda t: t % (6 * HOUR) < 4 * MINUTE)
    ),
    "one of two replicas down for a day": quiet(
        Account(),
        Account(target="b", down=during((DAY, 2 * DAY)), unconfigured=during((0, HOUR))),
    ),
    "renamed": quiet(two(name=lambda t: "mail" if t < DAY else "mail 2")),
    "pruned by 40%": quiet(repo(usage=until(DAY, 100 * GB, 60 * GB))),
    "pruned, then filled again": quiet(
        repo(usage=until(DAY, 100 * GB, until(DAY + 12 * HOUR, 60 * GB, 100 * GB)))
    ),
    "a small repo pruned to a fifth": quiet(repo(usage=until(DAY, 5 * GB, GB))),
    "pruned every day": quiet(repo(usage=lambda t: (100 + 12 * (t % DAY) / DAY) * GB), days=4),
    "append-only, growing": quiet(
        repo(usage=lambda t: (50 + t / DAY) * GB, append_only=1, compaction=0)
    ),
    "append-only, compacted by BorgBase every other day": quiet(
        repo(usage=lambda t: (100 - 30 * (t // (2 * DAY) % 2)) * GB, append_only=1), days=4
    ),
    "append-only since it was cleaned up": quiet(
        repo(usage=until(DAY, 100 * GB, 60 * GB), append_only=until(DAY + HOUR, 0, 1), compaction=0)
    ),
    "a plan without a maximum, exceeded on purpose": quiet(Account(included=40 * GB)),
    "a subscription that renews itself": quiet(
        Account(subscription=until(2 * DAY, 2 * DAY, 32 * DAY), renews=1)
    ),
    "a token that expired long ago, and one replaced in time": quiet(
        Account(
            tokens=TOKENS
            | {
                ("3", "old", "full_access"): -30 * DAY,
                ("4", "script", "read_only"): until(DAY, 16 * DAY, None),
                ("5", "script", "read_only"): until(DAY, None, 300 * DAY),
            }
        )
    ),
    "a backup one hour late every day": quiet(
        repo(limit=DAY, written=lambda t: t // (25 * HOUR) * 25 * HOUR), days=4
    ),
    "a laptop without a limit that is off for long": quiet(repo(limit=None, written=-40 * DAY)),
    "no quota, no limit, no plan": quiet(
        Account(repos=(Repo(quota_enabled=0, limit=None, usage=900 * GB),), included=None)
    ),
    "a quota switched off at 84%": quiet(repo(usage=168 * GB, quota_enabled=until(DAY, 1, 0))),
    "a repo reached by a password, not by keys": quiet(repo(keys=None)),
    "a key taken off and put back": quiet(
        repo(keys=until(2.5 * DAY, 2, until(2.6 * DAY, 1, 2))), days=4
    ),
    "growing by 3% a day, far from its quota": quiet(
        repo(usage=lambda t: 50 * 1.03 ** (t // DAY) * GB), days=4
    ),
}
