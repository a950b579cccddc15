"""Worlds in trouble, and the notifications due: how many begin and end, by receiver."""

from dataclasses import replace
from typing import Any

from tests.rules import DAY, GB, HOUR, MINUTE
from tests.worlds import TOKENS, Account, World, during, until
from tests.worlds.healthy import POLLED_1H, POLLED_15M, POLLED_30M, partial, repo, two

BEGINS, ENDS = (1, 0), (1, 1)


def due(
    sent: dict[str, tuple[int, int]],
    *accounts: Account,
    since: float = DAY,
    within: float = 3 * HOUR,
    days: float = 3,
    **settings: Any,
) -> World:
    """Return a world in trouble since a moment, with the notifications due within some time."""
    named = {
        f"{key.partition(' ')[0]} BorgBase{key.partition(' ')[2]}": n for key, n in sent.items()
    }
    return World(accounts=accounts, sent=named, since=since, within=within, days=days, **settings)


def failing(
    reason: str, begin: float, end: float = 1000 * DAY, account: Account | None = None
) -> Account:
    return replace(account or Account(), fails=until(begin, None, until(end, reason)))


GONE: dict[str, Any] = {"there": until(DAY, True, False)}
FULL: dict[str, Any] = {"usage": 175 * GB}
APPEND_ONLY: dict[str, Any] = {
    "append_only": 1,
    "compaction": 0,
    "usage": until(2 * DAY, 50 * GB, 5 * GB),
}

TROUBLE: dict[str, World] = {
    # Repos that vanish.
    "vanished": due({"pager RepoVanished": ENDS}, two(**GONE), within=HOUR, days=4, **POLLED_15M),
    "vanished, polled every hour": due({"pager RepoVanished": BEGINS}, two(**GONE), **POLLED_1H),
    "vanished, and then every fifth list is incomplete": due(
        {"pager RepoVanished": ENDS}, partial(two(**GONE)), days=4
    ),
    "vanished while the token was refused for three days": due(
        {"mail TokenInvalid": ENDS, "pager TokenInvalid": ENDS, "pager RepoVanished": ENDS},
        failing("auth", DAY, 4 * DAY, two(there=until(2 * DAY, True, False))),
        days=7,
        **POLLED_30M,
    ),
    "vanished while the exporter was down for three days": due(
        {"mail ExporterAbsent": ENDS, "pager ExporterAbsent": ENDS, "pager RepoVanished": BEGINS},
        replace(two(there=until(2 * DAY, True, False)), down=during((DAY, 4 * DAY))),
        days=5,
    ),
    "almost full, then vanished": due(
        {"mail RepoQuotaAlmostFull": ENDS, "pager RepoVanished": BEGINS},
        two(**FULL, **GONE),
        since=0,
        within=2 * HOUR,
    ),
    "renamed, then deleted": due(
        {"pager RepoVanished": BEGINS},
        two(name=until(DAY - HOUR, "mail", "old mail"), **GONE),
        within=HOUR,
    ),
    # Backups that stop.
    "overdue": due(
        {"mail RepoBackupOverdue": ENDS, "pager RepoBackupOverdue": ENDS},
        repo(written=until(5 * DAY, 0, 5 * DAY)),
        since=2 * DAY,
        days=6,
    ),
    "overdue, while every fifth list lacks the repo": due(
        {"mail RepoBackupOverdue": BEGINS, "pager RepoBackupOverdue": BEGINS},
        partial(repo(written=-DAY)),
        days=6,
    ),
    "overdue, while every fifth list lacks the repo, polled every hour": due(
        {"mail RepoBackupOverdue": BEGINS, "pager RepoBackupOverdue": BEGINS},
        partial(repo(written=-DAY)),
        days=6,
        **POLLED_1H,
    ),
    "overdue, its last write unknown from then on": due(
        {"mail RepoBackupOverdue": BEGINS, "mail RepoDataMissing": BEGINS},
        repo(written=until(2 * DAY, -DAY, None)),
        days=6,
    ),
    "overdue, the field gone from the API": due(
        {"mail RepoBackupOverdue": BEGINS, "mail SchemaDrift": BEGINS},
        replace(
            repo(written=until(2 * DAY, -DAY, None)),
            lost=until(2 * DAY, (), ("RepoType.lastModified",)),
        ),
    ),
    "data, and its last write never known": due(
        {"mail RepoDataMissing": BEGINS}, repo(written=None), since=0, within=6 * HOUR
    ),
    "a backup three hours late every day": due(
        {"mail RepoBackupOverdue": (2, 1)},
        repo(limit=DAY, written=lambda t: t // (27 * HOUR) * 27 * HOUR),
        days=10,
    ),
    "never backed up": due(
        {"mail RepoNeverBackedUp": BEGINS}, two(usage=0, written=None, created=-2 * DAY)
    ),
    # Quota and plan.
    "a quota crossed, then pruned": due(
        {"mail RepoQuotaAlmostFull": ENDS},
        repo(usage=until(DAY, 150 * GB, until(2 * DAY, 174 * GB, 150 * GB))),
    ),
    "usage that hovers at 85%": due(
        {"mail RepoQuotaAlmostFull": BEGINS},
        repo(usage=lambda t: (0.86 if t % DAY < 12 * HOUR else 0.84) * 200 * GB),
        since=0,
        days=6,
    ),
    "usage that hovers at 95%": due(
        {"mail RepoQuotaAlmostFull": BEGINS, "pager RepoQuotaAlmostFull": BEGINS},
        repo(usage=lambda t: (0.96 if t % DAY >= 12 * HOUR else 0.94) * 200 * GB),
        since=0,
        days=6,
    ),
    "a plan with a maximum, hovering at 90%": due(
        {"mail PlanAlmostFull": BEGINS},
        replace(
            repo(usage=lambda t: (0.91 if t % DAY < 12 * HOUR else 0.89) * 100 * GB),
            maximum=100 * GB,
        ),
        since=0,
        days=6,
    ),
    "a plan that fills up while the list is incomplete": due(
        {"mail ListIncomplete": BEGINS, "pager PlanAlmostFull": BEGINS},
        replace(
            two(usage=until(2 * DAY, 20 * GB, 48 * GB)),
            maximum=100 * GB,
            whole=until(DAY, True, False),
        ),
        within=9 * HOUR,
    ),
    "filling up by 0.9% of the quota a day": due(
        {"mail RepoQuotaFillingUp": BEGINS},
        repo(usage=lambda t: (134 + 1.8 * (t // DAY)) * GB),
        since=0,
        within=10 * DAY,
        days=11,
    ),
    # Intruders and mishaps.
    "an append-only repo wiped": due(
        {"pager AppendOnlyRepoShrunk": BEGINS},
        repo(**APPEND_ONLY),
        since=2 * DAY,
        within=90 * MINUTE,
    ),
    "compaction switched on, then wiped": due(
        {"pager AppendOnlyRepoShrunk": BEGINS},
        repo(**APPEND_ONLY | {"compaction": until(DAY, 0, 1)}),
        since=2 * DAY,
        within=90 * MINUTE,
    ),
    "append-only switched off, then wiped, polled every hour": due(
        {"mail RepoAppendOnlyDisabled": BEGINS, "pager AppendOnlyRepoShrunk": BEGINS},
        repo(**APPEND_ONLY | {"append_only": until(DAY, 1, 0)}),
        **POLLED_1H,
    ),
    "append-only switched off, then a tenth deleted": due(
        {"mail RepoAppendOnlyDisabled": BEGINS, "pager AppendOnlyRepoShrunk": BEGINS},
        repo(
            append_only=until(DAY, 1, 0),
            compaction=0,
            usage=until(DAY + 3 * HOUR, 50 * GB, 45 * GB),
        ),
    ),
    "a repo of 9 GB emptied": due(
        {"pager RepoShrunk": BEGINS}, repo(usage=until(DAY, 9 * GB, 0)), within=90 * MINUTE
    ),
    "a repo of 4 GB emptied, polled every hour": due(
        {"pager RepoShrunk": BEGINS}, repo(usage=until(DAY, 4 * GB, GB / 10)), **POLLED_1H
    ),
    "three quarters deleted": due(
        {"mail RepoShrunk": ENDS}, repo(usage=until(DAY, 100 * GB, 25 * GB)), days=4
    ),
    "a fifth deleted every day": due(
        {"mail RepoShrunk": BEGINS},
        repo(usage=lambda t: 150 * 0.8 ** (t // DAY) * GB),
        since=0,
        within=5 * DAY,
        days=6,
    ),
    "a weekly full dump pruned to less than half: no news in the second week": due(
        {"mail RepoShrunk": ENDS},
        repo(usage=lambda t: (210 if t % (7 * DAY) < 6 * HOUR else 100) * GB, quota=400 * GB),
        since=0,
        within=8 * HOUR,
        days=9,
    ),
    "a key with full access added": due(
        {"mail RepoKeyAdded": ENDS}, repo(keys=until(DAY, 1, 2)), days=4
    ),
    "a key added while the API was down for three days": due(
        {"mail APIUnreachable": ENDS, "mail RepoKeyAdded": BEGINS},
        failing("connect", DAY, 4 * DAY, repo(keys=until(2 * DAY, 1, 2))),
        days=5,
    ),
    "a token with full access added": due(
        {"mail FullAccessTokenAdded": BEGINS}, Account(full_tokens=until(DAY, 1, 2))
    ),
    **{
        f"from {before} to {after} GB overnight": due(
            {"mail RepoGrowthAnomaly": ENDS},
            replace(
                repo(usage=until(9 * DAY, before * GB, after * GB), quota=5000 * GB),
                included=5000 * GB,
            ),
            since=9 * DAY,
            days=11,
        )
        for before, after in ((12, 30), (60, 75), (1000, 1250))
    },
    # Accounts, exporters, tokens, lists.
    "a token file deleted": due(
        {"mail AccountAbsent": ENDS},
        Account(),
        Account(name="globex", removed=lambda t: t >= DAY),
        within=HOUR,
        days=4,
    ),
    "one of two jobs removed": due(
        {"mail ExporterAbsent": BEGINS},
        Account(),
        Account(name="globex", job=" us", unconfigured=lambda t: t >= DAY),
        within=HOUR,
        days=2,
    ),
    "a shard with two accounts down": due(
        {"mail AccountAbsent": BEGINS},
        Account(),
        *(
            Account(name=name, target="b", down=lambda t: t >= DAY)
            for name in ("globex", "initech")
        ),
        within=HOUR,
        days=2,
    ),
    "the exporter down for five hours at night": due(
        {"mail ExporterAbsent": ENDS}, Account(down=during((DAY, DAY + 5 * HOUR))), within=HOUR
    ),
    "the exporter down for ten hours, a repo almost full": due(
        {
            "mail RepoQuotaAlmostFull": BEGINS,
            "mail ExporterAbsent": ENDS,
            "pager ExporterAbsent": ENDS,
        },
        replace(repo(**FULL), down=during((DAY, DAY + 10 * HOUR))),
        since=0,
    ),
    "the API down for thirty hours, a repo almost full and one overdue": due(
        {
            "mail RepoQuotaAlmostFull": BEGINS,
            "mail RepoBackupOverdue": BEGINS,
            "mail APIUnreachable": ENDS,
        },
        failing(
            "connect", DAY, 2 * DAY + 6 * HOUR, two(**FULL, limit=72 * HOUR, written=-70 * HOUR)
        ),
        since=0,
    ),
    "a token refused, polled every hour": due(
        {"mail TokenInvalid": ENDS, "pager TokenInvalid": ENDS},
        failing("auth", DAY, 2 * DAY + 12 * HOUR),
        **POLLED_1H,
    ),
    "a token refused for five hours": due(
        {"mail TokenInvalid": ENDS}, failing("auth", DAY, DAY + 5 * HOUR)
    ),
    "a token refused, and the exporter down meanwhile": due(
        {"mail TokenInvalid": BEGINS, "pager TokenInvalid": BEGINS, "mail ExporterAbsent": ENDS},
        replace(failing("auth", DAY), down=during((2 * DAY, 2 * DAY + 5 * HOUR))),
    ),
    "the exporter's own token expires": due(
        {"mail TokenExpiring": BEGINS, "mail TokenInvalid": BEGINS, "pager TokenInvalid": BEGINS},
        failing(
            "auth",
            DAY,
            account=Account(own=DAY, tokens=TOKENS | {("1", "exporter", "read_only"): DAY}),
        ),
        since=0,
    ),
    "one entry unreadable for good": due(
        {"mail ListIncomplete": BEGINS}, two(there=until(DAY, True, None)), within=9 * HOUR
    ),
    "an unreadable token for good": due(
        {"mail ListIncomplete": BEGINS}, Account(unreadable_tokens=1), since=0, within=9 * HOUR
    ),
    "one entry unreadable for good, and almost full": due(
        {"mail ListIncomplete": BEGINS, "mail RepoQuotaAlmostFull": BEGINS},
        two(**FULL, there=until(DAY, True, None)),
        since=0,
    ),
    "a collector fails, and the API for eight hours": due(
        {"mail CollectorFailing": BEGINS, "mail APIUnreachable": ENDS},
        failing("connect", DAY, DAY + 8 * HOUR, Account(forbidden=("tokens",))),
        since=0,
    ),
    "the poll loop hangs": due(
        {"mail PollStale": BEGINS}, Account(hangs=lambda t: t >= DAY), **POLLED_30M
    ),
    "a subscription that turns inactive": due(
        {"pager SubscriptionInactive": BEGINS}, Account(active=until(DAY, 1, 0))
    ),
    "a subscription that ends": due(
        {"mail SubscriptionExpiring": BEGINS, "pager SubscriptionExpiring": BEGINS},
        Account(subscription=5 * DAY),
        since=0,
    ),
}
