"""BorgBase / Repository: all about one repo."""

from __future__ import annotations

from dashboards import queries as q
from dashboards.choices import JOBS, ONE_ACCOUNT, REPO, REPO_ID
from dashboards.model import (
    BARS,
    BLUE,
    DAYS,
    FACT,
    GREEN,
    GREY,
    LEVEL,
    LIMIT,
    LINEAR,
    ORANGE,
    YES_NO,
    Json,
    Query,
    annotation,
    column,
    dashboard,
    fixed,
    lines,
    override,
    stat,
    table,
    timeline,
)
from dashboards.overview import DAYS_LEFT, LATENESS, QUOTA, SIMULATED_DATA, UP, source

# One repo: a rename in the shown time must not make two of it.
ONE = q.BY_ID
TILE = 3, 4


def _of(metric: str) -> str:
    return q.of_repo(metric, q.REPO, ONE)


def _or_why(expr: str, *reasons: tuple[str, int]) -> str:
    """Give a negative number that names the first reason, where there is no value."""
    usage = _of("usage_bytes")
    parts = [f"0 * ({usage} {where}) - {number}" for where, number in reasons]
    return " or ".join((expr, *parts))


def _now() -> list[Json]:
    quota = f"unless {_of('quota_bytes')}"
    written = _of("last_modified_timestamp_seconds")
    never = (f"== 0 unless {written}", 2)
    limit = f"unless {_of('inactivity_limit_seconds')}"
    left = _or_why(q.days_left(q.REPO, ONE), (quota, 1), (f"unless {q.growth(q.REPO)}", 2), ("", 3))
    return [
        stat(
            "Quota used",
            "Usage as a share of the quota.",
            _or_why(q.used(q.REPO, ONE), (quota, 1)),
            "percentunit", QUOTA, size=TILE, words={-1: ("no quota set", GREY)},
        ),
        stat(
            "Age / limit",
            "Time without a write as a share of the inactivity limit set at BorgBase.",
            _or_why(q.lateness(q.REPO, ONE), (limit, 1), never, ("", 3)),
            "percentunit", LATENESS, size=TILE,
            words={
                -1: ("no limit set", GREY),
                -2: ("never written to", ORANGE),
                -3: ("last write unknown", GREY),
            },
        ),
        stat(
            "Days until full",
            "Until the quota is used up, if the repo grows on as it did in the last week.",
            left, "none", DAYS_LEFT, decimals=0, size=TILE,
            words={
                -1: ("no quota set", GREY),
                -2: ("no week of history yet", GREY),
                -3: ("not growing", GREEN),
            },
        ),
        stat(
            "Growth per day",
            "Bytes a day over the last week: the average of a day less that of a week before.",
            q.growth(q.REPO),
            "decbytes", FACT, missing="no week of history", size=TILE,
        ),
        stat(
            "Usage",
            "Space that the repo takes on the server.",
            _of("usage_bytes"),
            "decbytes", FACT, size=TILE,
        ),
        stat(
            "Last write",
            "The last backup, prune or compaction that BorgBase knows of.",
            _or_why(f"{written} * 1000", never, ("", 3)),
            "dateTimeFromNow", FACT, size=TILE,
            words={-2: ("never", ORANGE), -3: ("unknown", GREY)},
        ),
        stat(
            "Account",
            "Whether the last poll of the account's repo list succeeded. While it is down, what is"
            " shown is old, or gone.",
            q.newest("borgbase_up", "account"),
            "none", FACT, size=TILE, words=UP,
        ),
        source() | SMALL,
    ]  # fmt: skip


SMALL = {"gridPos": dict(zip("wh", TILE, strict=True))}


def _facts() -> Json:
    facts = "repo, repo_id, version, encryption, access_mode, repo_region, server"
    created, limit = _of("created_timestamp_seconds"), _of("inactivity_limit_seconds")
    return table(
        "Facts",
        "What BorgBase reports of the repo.",
        f"max by (account, {facts}) ({q.info(q.REPO)})",
        ("account", "repo_id"),
        [
            column("Name", "repo", custom__minWidth=160),
            column("Id", "repo_id", custom__width=90),
            column("Version", "version", custom__width=90),
            column("Encryption", "encryption", custom__width=120),
            column("Access", "access_mode", custom__width=80),
            column("Region", "repo_region", custom__width=70),
            column("Server", "server", custom__minWidth=200),
            column(
                "Created", Query(f"{created} * 1000"), unit="time:YYYY-MM-DD", custom__width=105
            ),
            column("Limit", Query(f"{limit} / {q.DAY}"), unit=DAYS, custom__width=65),
            column("Quota", Query(_of("quota_bytes")), unit="decbytes", custom__width=85),
        ],
        (24, 4),
        "No such repo at the end of the shown time.",
        sort="Name",
        descending=False,
    )


def _usage() -> list[Json]:
    usage, quota = _of("usage_bytes"), _of("quota_bytes")
    return [
        lines(
            "Usage and quota",
            "Space that the repo takes on the server, and its quota if it has one.",
            [Query(usage, "used"), Query(quota, "quota")],
            (24, 9), "decbytes", "No usage is known in the shown time.",
            overrides=[override("used", **LEVEL), override("quota", **LIMIT)],
        ),
    ]  # fmt: skip


def _changes() -> list[Json]:
    last = f"last_over_time(borgbase_repo_usage_bytes{{{q.REPO}}}[1d]"
    change = f"max by ({ONE}) ({last} offset -1d)) - max by ({ONE}) ({last}))"
    return [
        lines(
            "Daily change",
            "What each day added, or a prune or compaction took back; the last bar is today's.",
            [Query(change, "change")],
            (12, 9), "decbytes", "No day of history yet.",
            custom=BARS | {"barAlignment": 1}, defaults={"min": None},
            overrides=[override("change", color=fixed(BLUE))],
            more={"interval": "1d"},
        ),
        lines(
            "Days since the last write",
            "Falls to nothing with each write; above the limit BorgBase alerts its owner.",
            [
                Query(f"{q.age(q.REPO, ONE)} / {q.DAY}", "age"),
                Query(f"{_of('inactivity_limit_seconds')} / {q.DAY}", "limit"),
            ],
            (12, 9), "none", "No write is known in the shown time.",
            custom=LINEAR,
            overrides=[override("age", **LEVEL), override("limit", **LIMIT)],
        ),
    ]  # fmt: skip


def _settings() -> list[Json]:
    flags = {
        "append-only": "append_only",
        "compaction": "compaction_enabled",
        "SFTP": "sftp_enabled",
        "quota enforced": "quota_enabled",
    }
    return [
        timeline(
            "Flags",
            "How the repo was set up in the shown time. Append-only that ends unannounced is a"
            " sign of an intruder.",
            [Query(_of(metric), flag) for flag, metric in flags.items()],
            (17, 6),
            "No flag is known in the shown time.",
            YES_NO,
        ),
        table(
            "Keys",
            "SSH keys that may access the repo, by kind of access.",
            q.of_repo("keys", q.REPO, f"{ONE}, access"),
            ("access",),
            [column("Access", "access"), column("Keys", "")],
            (7, 6),
            "Unknown, or not reached by SSH keys (restic, Vykar).",
            sort="Keys",
        ),
    ]


def repository() -> Json:
    """Make the dashboard."""
    alerts = (
        f'max by (alertname, severity) (ALERTS{{{q.REPO}, alertname=~"BorgBase.+",'
        ' alertstate="firing"})'
    )
    return dashboard(
        "borgbase-repository",
        "BorgBase / Repository",
        "One BorgBase repo: how full, how fresh, how it got there and how it is set up.",
        [JOBS, ONE_ACCOUNT, REPO, REPO_ID],
        [
            _now(),
            [_facts()],
            _usage(),
            _changes(),
            _settings(),
        ],
        [
            annotation(
                "Firing alerts", alerts, ORANGE, "1h",
                titleFormat="{{alertname}}", tagKeys="severity",
            ),
            # Each write is one line in every panel: for those who ask for them.
            annotation(
                "Writes", f"{_of('last_modified_timestamp_seconds')} * 1000", BLUE, "1h",
                titleFormat="written to", useValueForTime=True, enable=False,
            ),
            SIMULATED_DATA,
        ],
    )  # fmt: skip
