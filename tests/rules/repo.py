"""Cases of the alerts on repos."""

from collections.abc import Callable, Mapping

from tests.rules import (
    ACME,
    DAY,
    GB,
    HOUR,
    MINUTE,
    REPO_LABELS,
    Alert,
    Change,
    Curve,
    Firing,
    Series,
    Story,
    Value,
    World,
    ago,
    changed,
    until,
)
from tests.rules.exporter import outage

USAGE = "borgbase_repo_usage_bytes"
QUOTA = "borgbase_repo_quota_bytes"
QUOTA_ENABLED = "borgbase_repo_quota_enabled"
LAST_MODIFIED = "borgbase_repo_last_modified_timestamp_seconds"
LAST_SUCCESS = "borgbase_last_success_timestamp_seconds"
LIMIT = "borgbase_repo_inactivity_limit_seconds"
CREATED = "borgbase_repo_created_timestamp_seconds"
APPEND_ONLY = "borgbase_repo_append_only"
COMPACTION = "borgbase_repo_compaction_enabled"
KEYS = "borgbase_repo_keys{access=full}"
REPOS = "borgbase_account_repos"
BOTH = ("warning", "critical")


def is_acmes_repo(key: Series) -> bool:
    return key.name.startswith("borgbase_repo_") and ("account", "acme") in key.labels


def gone(begin: int, end: int = 1000 * DAY) -> Callable[[World], World]:
    """Return the change that removes the only repo from the list for a time."""

    def change(before: World) -> World:
        after = {
            key: until(begin, old, until(end, None, old)) if is_acmes_repo(key) else old
            for key, old in before.items()
        }
        return changed(after, {REPOS: until(begin, 1, until(end, 0, 1))})

    return change


def renamed(
    begin: int, then: Mapping[str, Value], end: int = 1000 * DAY
) -> Callable[[World], World]:
    """Return the change that renames the repo at `begin`, and deletes it at `end`."""

    def change(before: World) -> World:
        after = dict(before)
        for key, old in before.items():
            if is_acmes_repo(key):
                labels = (key.labels - {("repo", ACME["repo"])}) | {("repo", "renamed")}
                new = then.get(key.name, old)
                after[key] = until(begin, old)
                after[key._replace(labels=labels)] = until(begin, None, until(end, new))
        return changed(after, {REPOS: until(end, 1, 0)})

    return change


def backfilled(usage: Curve, live: int) -> Change:
    """Return the change to a usage that has one sample a day, and no job, before `live`."""

    def change(before: World) -> World:
        history = Series(USAGE, frozenset(ACME.items()))
        return changed(before, {USAGE: until(live, None, usage)}) | {
            history: until(live, lambda t: None if t % DAY else usage(t))
        }

    return change


def in_outage(change: Mapping[str, Value]) -> Change:
    return lambda before: changed(outage(HOUR, 6 * HOUR)(before), change)


def staircase(start: float, step: float, prune: float = 0) -> Callable[[int], float]:
    """Return a usage in GB that grows by a step each day and falls by a prune each week."""
    return lambda t: (start + step * (t // DAY) - prune * (t // (7 * DAY))) * GB


def overdue(age: str, repo: str = "mail server") -> str:
    return (
        f"Nothing was written to repo {repo} (account acme) for {age}; its inactivity limit is 1d "
        "0h 0m 0s. A restore would miss what changed since the last write. Run the backup on the "
        "machine that writes to the repo, and read its output."
    )


def never(age: str) -> str:
    return (
        f"Repo mail server (account acme) was created {age} ago and holds no backup. Set up the "
        "backup that was meant to use it, or delete the repo."
    )


def missing(data: str) -> str:
    return (
        f"The API does not report the {data} of repo mail server (account acme): alerts that need "
        "this value do not get it. Check by hand that the repo's backups still arrive, then ask "
        "BorgBase's support."
    )


def quota(used: str) -> str:
    return (
        f"Repo mail server (account acme) uses {used} of its quota. At 100% BorgBase refuses "
        "writes, and backups to the repo fail. Prune and compact it, or raise the quota."
    )


def filling(left: str) -> str:
    return (
        f"Repo mail server (account acme) reaches its quota in {left} if it keeps growing as in "
        "the last week. Nothing fails yet. Check that pruning runs, find out what grows, or "
        "raise the quota in time."
    )


def vanished(repo: str, seen: str) -> str:
    return (
        f"Repo {repo} (a1b2c3d4) was last in the list of account acme at 1970-01-01 {seen} +0000 "
        "UTC. All its backups are gone unless BorgBase can restore them. If nobody deleted it on "
        "purpose, ask BorgBase's support at once, and treat the account as compromised: delete "
        "its tokens with full access, change its password and end its sessions."
    )


def shrunk(size: str, repo: str = "mail server") -> str:
    return (
        f"Repo {repo} (account acme) is down to {size}, less than half of what it held in the "
        "last eight days. Unless somebody pruned it, archives were lost: stop its pruning, then "
        "look at its newest archives."
    )


def emptied(size: str) -> str:
    return (
        f"Repo mail server (account acme) is down to {size}, less than a tenth of what it held "
        f"in the "
        "last two days. Nearly all its backups are gone. If nobody did this on purpose, assume an "
        "intruder: delete API tokens and keys with full access, and save what is left."
    )


def tampered(size: str, repo: str = "mail server") -> str:
    return (
        f"Repo {repo} (account acme) is or was append-only and not compacted, yet it is down to "
        f"{size}, below 98% of what it held in the last two days. Unless you know who deleted "
        f"what, "
        "assume an intruder: delete API tokens and keys with full access, and look at its archives "
        "from a clean machine."
    )


ALERTS = [
    Alert(
        name="BorgBaseRepoBackupOverdue",
        summary="A BorgBase repo's backup is overdue.",
        dashboard="borgbase-repository",
        labels=REPO_LABELS,
        fires={
            "past its limit": Firing(
                change={LAST_MODIFIED: 12 * MINUTE - DAY},
                since=15 * MINUTE,
                description=overdue("1d 1h 15m 0s"),
            ),
            "past twice its limit, critical": Firing(
                change={LAST_MODIFIED: 12 * MINUTE - 2 * DAY},
                since=15 * MINUTE,
                severities=BOTH,
                description=overdue("2d 1h 15m 0s"),
            ),
        },
        silent={
            "limit exactly reached": Story(change={LAST_MODIFIED: ago(DAY)}),
            "no limit set": Story(change={LAST_MODIFIED: -30 * DAY, LIMIT: None}),
            "a limit of 0": Story(change={LAST_MODIFIED: -30 * DAY, LIMIT: 0}),
            "last write unknown": Story(
                change={LAST_MODIFIED: None}, ever="BorgBaseRepoDataMissing"
            ),
            "limit taken away": Story(
                change={
                    LAST_MODIFIED: lambda t: t - 23 * HOUR,
                    LIMIT: until(HOUR, DAY, None),
                }
            ),
            "as old as the API is down": Story(
                change=in_outage({LIMIT: 2 * HOUR}), ever="BorgBaseAPIUnreachable", end=8 * HOUR
            ),
        },
        stories={
            "twice its limit exactly: not critical": Story(
                change={LAST_MODIFIED: ago(2 * DAY)},
                at={3 * HOUR: "BorgBaseRepoBackupOverdue"},
                end=3 * HOUR,
                ever="BorgBaseRepoBackupOverdue",
            ),
        },
    ),
    Alert(
        name="BorgBaseRepoNeverBackedUp",
        summary="A BorgBase repo was never written to.",
        dashboard="borgbase-repository",
        labels=REPO_LABELS,
        fires={
            "three days old": Firing(
                change={CREATED: 12 * MINUTE - 3 * DAY, LAST_MODIFIED: None, USAGE: 0},
                since=15 * MINUTE,
                description=never("3d 1h 15m 0s"),
            ),
        },
        silent={
            "younger": Story(change={CREATED: ago(3 * DAY), LAST_MODIFIED: None, USAGE: 0}),
            "it has data: its last write is unknown, not never": Story(
                change={LAST_MODIFIED: None}, ever="BorgBaseRepoDataMissing"
            ),
            "written to long ago": Story(change={LAST_MODIFIED: -90 * DAY, LIMIT: None}),
            "its last write was known six days ago": Story(
                change={LAST_MODIFIED: until(DAY, -30 * DAY), LIMIT: None, USAGE: 0},
                ever="BorgBaseRepoDataMissing",
                end=7 * DAY,
                step=4 * HOUR,
            ),
            "the API no longer has the field": Story(
                change={
                    LAST_MODIFIED: None,
                    USAGE: 0,
                    "borgbase_schema_field_missing{field=RepoType.lastModified}": 1,
                },
                ever="BorgBaseSchemaDrift",
            ),
            "creation unknown": Story(change={CREATED: None, LAST_MODIFIED: None, USAGE: 0}),
        },
    ),
    Alert(
        name="BorgBaseRepoDataMissing",
        summary="BorgBase does not report the last write or the usage of a repo.",
        dashboard="borgbase-repository",
        labels=REPO_LABELS,
        fires={
            "its last write, never known": Firing(
                change={LAST_MODIFIED: None},
                labels={"data": "last write"},
                description=missing("last write"),
            ),
            "its last write, known before": Firing(
                step=6 * MINUTE,
                change={LAST_MODIFIED: until(12 * MINUTE, 0), LIMIT: None},
                since=4 * HOUR + 12 * MINUTE,
                labels={"data": "last write"},
                description=missing("last write"),
            ),
            "its usage": Firing(
                step=6 * MINUTE,
                change={USAGE: until(12 * MINUTE, 50 * GB)},
                since=4 * HOUR + 12 * MINUTE,
                labels={"data": "usage"},
                description=missing("usage"),
            ),
        },
        silent={
            "for three hours": Story(
                change={USAGE: until(HOUR, 50 * GB, until(4 * HOUR, None, 50 * GB))}, end=8 * HOUR
            ),
            "no limit, and never known": Story(
                change={LAST_MODIFIED: None, LIMIT: None}, end=8 * HOUR
            ),
            "deleted": Story(change=gone(HOUR), ever="BorgBaseRepoVanished", end=8 * HOUR),
        },
    ),
    Alert(
        name="BorgBaseRepoQuotaAlmostFull",
        summary="A BorgBase repo's quota is almost used up.",
        dashboard="borgbase-repository",
        labels=REPO_LABELS,
        fires={
            "above 85%": Firing(change={USAGE: 85.6 * GB}, description=quota("86%")),
            "above 95%, critical": Firing(
                change={USAGE: 96 * GB}, severities=BOTH, description=quota("96%")
            ),
            "usage above quota": Firing(
                change={USAGE: 103 * GB}, severities=BOTH, description=quota("103%")
            ),
        },
        silent={
            "at the threshold": Story(change={USAGE: 85 * GB}),
            "quota disabled": Story(change={USAGE: 99 * GB, QUOTA: None, QUOTA_ENABLED: 0}),
            "quota 0": Story(change={USAGE: 99 * GB, QUOTA: 0}),
            "usage unknown": Story(change={USAGE: None}),
            "one poll only": Story(
                change={USAGE: until(HOUR, 50 * GB, until(75 * MINUTE, 99 * GB, 50 * GB))}
            ),
        },
        stories={
            "below 85% again, not below 80%: it goes on; then it ends": Story(
                change={USAGE: until(3 * HOUR, 86 * GB, until(6 * HOUR, 81 * GB, 79 * GB))},
                at={6 * HOUR - 5 * MINUTE: "BorgBaseRepoQuotaAlmostFull", 7 * HOUR: ""},
                ever="BorgBaseRepoQuotaAlmostFull",
                end=7 * HOUR,
            ),
            "between 80% and 85%: forgotten after eight days": Story(
                change={USAGE: until(DAY, 86 * GB, 84 * GB)},
                at={8 * DAY: "BorgBaseRepoQuotaAlmostFull", 9 * DAY + 4 * HOUR: ""},
                ever="BorgBaseRepoQuotaAlmostFull",
                end=9 * DAY + 4 * HOUR,
                step=4 * HOUR,
            ),
            "critical only above its own threshold": Story(
                change={USAGE: 95 * GB},
                at={3 * HOUR: "BorgBaseRepoQuotaAlmostFull"},
                end=3 * HOUR,
                ever="BorgBaseRepoQuotaAlmostFull",
            ),
        },
    ),
    Alert(
        name="BorgBaseRepoQuotaFillingUp",
        summary="A BorgBase repo will use up its quota within a month.",
        dashboard="borgbase-repository",
        labels=REPO_LABELS,
        fires={
            "a daily staircase": Firing(
                change={USAGE: staircase(45, 2)},
                since=13 * DAY,
                step=8 * HOUR,
                outlives_restart=False,  # longer than the steps of this case
                keeps=DAY,
                description=filling("13d 12h 0m 0s"),
            ),
        },
        silent={
            "full in 30 days exactly": Story(
                change={
                    USAGE: staircase(75, 0.5),
                    QUOTA: lambda t: (90 + 0.5 * (t // DAY)) * GB,
                },
                end=18 * DAY,
                step=8 * HOUR,
            ),
            "less than seven days of history": Story(
                change={USAGE: staircase(65, 2.5)}, end=7 * DAY - 8 * HOUR, step=8 * HOUR
            ),
            "not yet at 70%": Story(
                change={USAGE: staircase(42, 3), QUOTA: lambda t: staircase(42, 3)(t) / 0.69},
                end=10 * DAY,
                step=8 * HOUR,
            ),
            "a one-off jump": Story(
                change={USAGE: until(16 * DAY, 64 * GB, 82 * GB)},
                ever="BorgBaseRepoGrowthAnomaly",
                end=32 * DAY,
                step=8 * HOUR,
            ),
            "a weekly prune of all that came in": Story(
                change={USAGE: staircase(70, 2, prune=14)}, end=22 * DAY, step=8 * HOUR
            ),
            "shrinking": Story(change={USAGE: staircase(84, -0.5)}, end=16 * DAY, step=8 * HOUR),
            "quota disabled": Story(
                change={USAGE: staircase(45, 2), QUOTA: None}, end=17 * DAY, step=8 * HOUR
            ),
        },
        stories={
            "a weekly prune of a part of it: fires, and does not flap": Story(
                change={USAGE: staircase(55, 2, prune=3.5)},
                at={
                    9 * DAY: "",
                    **dict.fromkeys(
                        range(13 * DAY, 19 * DAY, 8 * HOUR), "BorgBaseRepoQuotaFillingUp"
                    ),
                },
                ever="BorgBaseRepoQuotaFillingUp",
                end=19 * DAY - 8 * HOUR,
                step=8 * HOUR,
            ),
            "just above 70%": Story(
                change={USAGE: staircase(42, 3), QUOTA: lambda t: staircase(42, 3)(t) / 0.71},
                at={10 * DAY: "BorgBaseRepoQuotaFillingUp"},
                ever="BorgBaseRepoQuotaFillingUp",
                end=10 * DAY,
                step=8 * HOUR,
            ),
            "just 14 days old": Story(
                change={USAGE: staircase(60, 1.5), CREATED: 0},
                at={15 * DAY: "", 15 * DAY + 8 * HOUR: "BorgBaseRepoQuotaFillingUp"},
                ever="BorgBaseRepoQuotaFillingUp",
                end=15 * DAY + 8 * HOUR,
                step=8 * HOUR,
            ),
            "backfilled history": Story(
                change=backfilled(staircase(47, 2), live=14 * DAY),
                at={15 * DAY - 8 * HOUR: "", 15 * DAY: "BorgBaseRepoQuotaFillingUp"},
                ever="BorgBaseRepoQuotaFillingUp",
                end=16 * DAY,
                step=8 * HOUR,
            ),
            "renamed: its history is still its own": Story(
                change=lambda before: renamed(15 * DAY, {})(
                    changed(before, {USAGE: staircase(45, 2)})
                ),
                at={17 * DAY: "BorgBaseRepoQuotaFillingUp"},
                ever="BorgBaseRepoQuotaFillingUp",
                end=17 * DAY,
                step=8 * HOUR,
            ),
            "above its quota and growing": Story(
                change={USAGE: staircase(90, 2)},
                at={16 * DAY: 2 * "BorgBaseRepoQuotaAlmostFull " + "BorgBaseRepoQuotaFillingUp"},
                ever="BorgBaseRepoQuotaAlmostFull BorgBaseRepoQuotaFillingUp",
                end=16 * DAY,
                step=8 * HOUR,
            ),
        },
    ),
    Alert(
        name="BorgBaseRepoVanished",
        summary="A BorgBase repo is gone.",
        dashboard="borgbase-repository",
        labels=REPO_LABELS,
        fires={
            "deleted": Firing(
                change=gone(12 * MINUTE),
                since=33 * MINUTE,
                severities=("critical",),
                lenient=True,
                description=vanished("mail server", "00:09:00"),
            ),
            "renamed, then deleted": Firing(
                change=renamed(12 * MINUTE, {}, end=30 * MINUTE),
                since=51 * MINUTE,
                severities=("critical",),
                lenient=True,
                labels={"repo": "renamed"},
                description=vanished("renamed", "00:27:00"),
            ),
        },
        silent={
            "renamed": Story(change=renamed(HOUR, {})),
            "missing from one poll": Story(change=gone(HOUR, 75 * MINUTE)),
            "missing from a list that is incomplete": Story(
                change=lambda before: changed(gone(HOUR)(before), {REPOS: until(HOUR, 1)})
            ),
            "the account was removed on purpose": Story(
                change=lambda before: {
                    key: until(HOUR, old) if ("account", "acme") in key.labels else old
                    for key, old in before.items()
                },
                ever="BorgBaseAccountAbsent",
            ),
            "the exporter restarted while the API was down": Story(
                change=lambda before: changed(
                    gone(HOUR, 6 * HOUR)(before),
                    {
                        "borgbase_up": until(HOUR, 1, until(6 * HOUR, 0, 1)),
                        REPOS: until(HOUR, 1, until(6 * HOUR, None, 1)),
                    },
                ),
                ever="BorgBaseAPIUnreachable",
                end=10 * HOUR,
            ),
            "only one of two replicas has polled since": Story(
                change=lambda before: {
                    key: until(HOUR, old)
                    if is_acmes_repo(key) and ("instance", "a:10133") in key.labels
                    else old
                    for key, old in before.items()
                },
                replicas="ab",
            ),
        },
        stories={
            "deleted on purpose: ends by itself after two days": Story(
                change=gone(2 * HOUR),
                at={DAY: "BorgBaseRepoVanished", 2 * DAY + 4 * HOUR: ""},
                ever="BorgBaseRepoVanished",
                end=2 * DAY + 4 * HOUR,
                step=HOUR,
            ),
        },
    ),
    Alert(
        name="BorgBaseRepoShrunk",
        summary="A BorgBase repo has lost more than half of its size.",
        dashboard="borgbase-repository",
        labels=REPO_LABELS,
        fires={
            "below half": Firing(
                change={USAGE: until(12 * MINUTE, 50 * GB, 24.9 * GB)},
                since=12 * MINUTE,
                description=shrunk("24.9GB"),
            ),
            "emptied": Firing(
                change={USAGE: until(12 * MINUTE, 9 * GB, 0.8 * GB)},
                since=12 * MINUTE,
                severities=("critical",),
                summary="A BorgBase repo was emptied.",
                description=emptied("800MB"),
            ),
            "below half, under a new name": Firing(
                change=renamed(12 * MINUTE, {USAGE: 20 * GB}),
                since=12 * MINUTE,
                labels={"repo": "renamed"},
                description=shrunk("20GB", "renamed"),
            ),
        },
        silent={
            "exactly half": Story(change={USAGE: until(HOUR, 50 * GB, 25 * GB)}),
            "never held more than 10 GB": Story(change={USAGE: until(HOUR, 10 * GB, 2 * GB)}),
            "never held more than 1 GB": Story(change={USAGE: until(HOUR, GB, 0)}),
            "to a tenth exactly": Story(change={USAGE: until(HOUR, 10 * GB, GB)}),
            "usage unknown from now on": Story(change={USAGE: until(HOUR, 50 * GB)}),
            "0 in one poll": Story(
                change={USAGE: until(HOUR, 50 * GB, until(75 * MINUTE, 0, 50 * GB))}
            ),
            "deleted": Story(change=gone(HOUR), ever="BorgBaseRepoVanished"),
        },
        stories={
            "a first prune: ends by itself after two days": Story(
                change={USAGE: until(2 * HOUR, 50 * GB, 20 * GB)},
                at={DAY: "BorgBaseRepoShrunk", 2 * DAY + 4 * HOUR: ""},
                ever="BorgBaseRepoShrunk",
                end=2 * DAY + 4 * HOUR,
                step=HOUR,
            ),
        },
    ),
    Alert(
        name="BorgBaseAppendOnlyRepoShrunk",
        summary="An append-only BorgBase repo has shrunk, which it never should.",
        dashboard="borgbase-repository",
        labels=REPO_LABELS,
        fires={
            "below 98%": Firing(
                change={
                    USAGE: until(12 * MINUTE, 50 * GB, 48.5 * GB),
                    APPEND_ONLY: 1,
                    COMPACTION: 0,
                },
                since=12 * MINUTE,
                severities=("critical",),
                description=tampered("48.5GB"),
            ),
            "emptied, under a new name": Firing(
                change=lambda before: renamed(12 * MINUTE, {USAGE: 0})(
                    changed(before, {APPEND_ONLY: 1, COMPACTION: 0})
                ),
                since=12 * MINUTE,
                severities=("critical",),
                labels={"repo": "renamed"},
                along="BorgBaseRepoShrunk BorgBaseRepoShrunk",
                description=tampered("0B", "renamed"),
            ),
        },
        silent={
            "at 98%": Story(
                change={USAGE: until(HOUR, 50 * GB, 49 * GB), APPEND_ONLY: 1, COMPACTION: 0}
            ),
            "not append-only": Story(change={USAGE: until(HOUR, 50 * GB, 40 * GB), COMPACTION: 0}),
            "compacted": Story(change={USAGE: until(HOUR, 50 * GB, 40 * GB), APPEND_ONLY: 1}),
            "compaction switched off just after": Story(
                change={
                    USAGE: until(HOUR, 50 * GB, 40 * GB),
                    APPEND_ONLY: 1,
                    COMPACTION: until(90 * MINUTE, 1, 0),
                }
            ),
            "the API no longer has the flag": Story(
                change={USAGE: until(HOUR, 50 * GB, 40 * GB), APPEND_ONLY: 1, COMPACTION: None}
            ),
        },
    ),
    Alert(
        name="BorgBaseRepoGrowthAnomaly",
        summary="A BorgBase repo has grown far more than usual in a day.",
        dashboard="borgbase-repository",
        labels=REPO_LABELS,
        fires={
            f"from {before} to {after} GB": Firing(
                change={USAGE: until(9 * DAY, before * GB, after * GB), QUOTA: None},
                since=9 * DAY,
                step=4 * HOUR,
                outlives_restart=False,  # shorter than the steps of this case
                cure={USAGE: before * GB, QUOTA: None},
                description=f"Repo mail server (account acme) is {more} larger than at any time "
                "in the eight days before. Encrypted files do not deduplicate: unless somebody "
                "added that much data, look for ransomware on the machine before old archives "
                "are pruned.",
            )
            for before, after, more in ((60, 75, "15GB"), (1000, 1250, "250GB"))
        },
        silent={
            name: Story(change={QUOTA: None, USAGE: usage}, end=12 * DAY, step=6 * HOUR)
            for name, usage in {
                "by 10 GB exactly": until(10 * DAY, 40 * GB, 50 * GB),
                "by a fifth exactly": until(10 * DAY, 100 * GB, 120 * GB),
                "without a past of eight days": until(7 * DAY, 50 * GB, 90 * GB),
                "hardly anything before": until(10 * DAY, 4 * GB, 90 * GB),
                "a first upload of two days": lambda t: (
                    (0.5 + 200 * min(max(t - 9 * DAY, 0), 2 * DAY) / DAY) * GB
                ),
                "as much every week": lambda t: (100 + 30 * ((t + 6 * DAY) // (7 * DAY))) * GB,
                "filled again after a prune": until(
                    10 * DAY, 100 * GB, until(10 * DAY + 12 * HOUR, 60 * GB, 100 * GB)
                ),
            }.items()
        },
        stories={
            "ends a day after the jump": Story(
                change={USAGE: until(9 * DAY, 50 * GB, 75 * GB), QUOTA: None},
                at={10 * DAY - 4 * HOUR: "BorgBaseRepoGrowthAnomaly", 10 * DAY + 8 * HOUR: ""},
                ever="BorgBaseRepoGrowthAnomaly",
                end=11 * DAY,
                step=4 * HOUR,
            ),
        },
    ),
    Alert(
        name="BorgBaseRepoAppendOnlyDisabled",
        summary="A BorgBase repo is not append-only any more.",
        dashboard="borgbase-repository",
        labels=REPO_LABELS,
        fires={
            "switched off": Firing(
                change={APPEND_ONLY: until(12 * MINUTE, 1, 0)},
                since=12 * MINUTE,
                description="Repo mail server (account acme) was append-only within the last "
                "eight days and is not now: whoever holds a key can delete its backups. Turn "
                "append-only on again. If this was not on purpose, treat the account as "
                "compromised: delete its tokens with full access, change its password and end its "
                "sessions.",
                cure={APPEND_ONLY: 1},
            ),
        },
        silent={
            "never was": Story(change={APPEND_ONLY: 0}),
            "still is": Story(change={APPEND_ONLY: 1}),
            "the API no longer has the flag": Story(change={APPEND_ONLY: until(HOUR, 1)}),
            "off for one poll": Story(
                change={APPEND_ONLY: until(HOUR, 1, until(75 * MINUTE, 0, 1))}
            ),
        },
        stories={
            "switched off for good: ends after eight days": Story(
                change={APPEND_ONLY: until(DAY, 1, 0)},
                at={8 * DAY: "BorgBaseRepoAppendOnlyDisabled", 9 * DAY + 4 * HOUR: ""},
                ever="BorgBaseRepoAppendOnlyDisabled",
                end=9 * DAY + 4 * HOUR,
                step=2 * HOUR,
            ),
        },
    ),
    Alert(
        name="BorgBaseRepoKeyAdded",
        summary="A BorgBase repo has a new SSH key with full access.",
        dashboard="borgbase-repository",
        labels=REPO_LABELS,
        fires={
            "one more": Firing(
                change={KEYS: until(12 * MINUTE, 1, 2)},
                since=12 * MINUTE,
                description="Repo mail server (account acme) has 2 SSH keys with full access, "
                "more than before. Whoever holds one can delete its backups. If nobody added the "
                "new one on purpose, remove it at once and treat the account as compromised.",
            )
        },
        silent={
            "one less": Story(change={KEYS: until(HOUR, 2, 1)}),
            "a new repo gets its first": Story(
                change={KEYS: until(HOUR, 0, 1), CREATED: 0, USAGE: 0}, end=6 * HOUR
            ),
            "reached by a password": Story(change={KEYS: None}),
            "a key with append-only access": Story(
                change={"borgbase_repo_keys{access=append_only}": until(HOUR, 0, 1)}
            ),
        },
    ),
]
