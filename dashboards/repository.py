"""BorgBase / Repository: all about one repo."""

from __future__ import annotations

from dashboards import model as m
from dashboards import queries as q
from dashboards.choices import JOBS, ONE_ACCOUNT, REPO, REPO_ID
from dashboards.overview import DAYS_LEFT, LATENESS, QUOTA, SIMULATED_DATA, UP, source

# One repo, even if it is renamed in the shown time.
ONE = q.BY_ID
TILE = 3, 4


def _of(metric: str) -> str:
    return q.of_repo(metric, q.REPO, ONE)


def _or_why(expr: str, *reasons: tuple[str, int]) -> str:
    """Return a negative number that stands for the first reason, where there is no value."""
    usage = _of("usage_bytes")
    parts = [f"0 * ({usage} {where}) - {number}" for where, number in reasons]
    return " or ".join((expr, *parts))


def _days_until_full(no_quota: str) -> m.Json:
    no_history = f"unless {q.growth(q.REPO)}"
    left = _or_why(q.days_left(q.REPO, ONE), (no_quota, 1), (no_history, 2), ("", 3))
    return m.stat(
        "Days until full",
        "Until the quota is used up, if the repo keeps growing as in the last week.",
        left, "none", DAYS_LEFT, decimals=0, size=TILE,
        words={
            -1: ("no quota set", m.GREY),
            -2: ("no week of history yet", m.GREY),
            -3: ("not growing", m.GREEN),
        },
    )  # fmt: skip


def _now() -> list[m.Json]:
    quota = f"unless {_of('quota_bytes')}"
    written = _of("last_modified_timestamp_seconds")
    never = (f"== 0 unless {written}", 2)
    limit = f"unless {_of('inactivity_limit_seconds')}"
    return [
        m.stat(
            "Quota used", "Usage as a share of the quota.",
            _or_why(q.used(q.REPO, ONE), (quota, 1)),
            "percentunit", QUOTA, size=TILE, words={-1: ("no quota set", m.GREY)},
        ),
        m.stat(
            "Age / limit",
            "Time without a write as a share of the inactivity limit set at BorgBase.",
            _or_why(q.lateness(q.REPO, ONE), (limit, 1), never, ("", 3)),
            "percentunit", LATENESS, size=TILE,
            words={
                -1: ("no limit set", m.GREY),
                -2: ("never written to", m.ORANGE),
                -3: ("last write unknown", m.GREY),
            },
        ),
        _days_until_full(quota),
        m.stat(
            "Growth per day",
            "Bytes per day over the last week: the average of the last day minus that of a week"
            " ago, divided by 7.",
            q.growth(q.REPO), "decbytes", m.FACT, missing="no week of history", size=TILE,
        ),
        m.stat(
            "Usage", "Space that the repo takes on the server.", _of("usage_bytes"),
            "decbytes", m.FACT, size=TILE,
        ),
        m.stat(
            "Last write", "The last backup, prune or compaction that BorgBase knows of.",
            _or_why(f"{written} * 1000", never, ("", 3)), "dateTimeFromNow", m.FACT, size=TILE,
            words={-2: ("never", m.ORANGE), -3: ("unknown", m.GREY)},
        ),
        m.stat(
            "Account",
            "Whether the last poll of the account's repo list succeeded. While the account is down,"
            " values are old or absent.", q.newest("borgbase_up", "account"),
            "none", m.FACT, size=TILE, words=UP,
        ),
        source() | SMALL,
    ]  # fmt: skip


SMALL = {"gridPos": dict(zip("wh", TILE, strict=True))}


def _facts() -> m.Json:
    facts = "repo, repo_id, version, encryption, access_mode, repo_region, server"
    created, limit = _of("created_timestamp_seconds"), _of("inactivity_limit_seconds")
    return m.table(
        "Facts", "What BorgBase reports about the repo.",
        f"max by (account, {facts}) ({q.info(q.REPO)})", ("account", "repo_id"),
        [
            m.column("Name", "repo", custom__minWidth=160),
            m.column("Id", "repo_id", width=90),
            m.column("Version", "version", width=90),
            m.column("Encryption", "encryption", width=120),
            m.column("Access", "access_mode", width=80),
            m.column("Region", "repo_region", width=70),
            m.column("Server", "server", custom__minWidth=200),
            m.column("Created", m.Query(f"{created} * 1000"), unit="time:YYYY-MM-DD" , width=105),
            m.column("Limit", m.Query(f"{limit} / {q.DAY}"), unit=m.DAYS, width=65),
            m.column("Quota", m.Query(_of("quota_bytes")), unit="decbytes", width=85),
        ],
        (24, 4), "No such repo at the end of the shown time.", sort="Name", descending=False,
    )  # fmt: skip


def _usage() -> list[m.Json]:
    usage, quota = _of("usage_bytes"), _of("quota_bytes")
    return [
        m.lines(
            "Usage and quota",
            "Space that the repo takes on the server, and its quota if it has one.",
            [m.Query(usage, "used"), m.Query(quota, "quota")],
            (24, 9), "decbytes", "No usage is known in the shown time.",
            overrides=[m.override("used", **m.LEVEL), m.override("quota", **m.LIMIT)],
        ),
    ]  # fmt: skip


def _changes() -> list[m.Json]:
    last = f"last_over_time(borgbase_repo_usage_bytes{{{q.REPO}}}[1d]"
    change = f"max by ({ONE}) ({last} offset -1d)) - max by ({ONE}) ({last}))"
    return [
        m.lines(
            "Daily change",
            "The change of usage per day; prune and compaction lower it. The last bar is today's.",
            [m.Query(change, "change")], (12, 9), "decbytes", "No day of history yet.",
            custom=m.BARS | {"barAlignment": 1}, defaults={"min": None},
            overrides=[m.override("change", color=m.fixed(m.BLUE))], more={"interval": "1d"},
        ),
        m.lines(
            "Days since the last write",
            "Drops to 0 with each write. Above the limit, BorgBase alerts the account's owner.",
            [
                m.Query(f"{q.age(q.REPO, ONE)} / {q.DAY}", "age"),
                m.Query(f"{_of('inactivity_limit_seconds')} / {q.DAY}", "limit"),
            ],
            (12, 9), "none", "No write is known in the shown time.", custom=m.LINEAR,
            overrides=[m.override("age", **m.LEVEL), m.override("limit", **m.LIMIT)],
        ),
    ]  # fmt: skip


def _settings() -> list[m.Json]:
    flags = {
        "append-only": "append_only",
        "compaction": "compaction_enabled",
        "SFTP": "sftp_enabled",
        "quota enforced": "quota_enabled",
    }
    return [
        m.timeline(
            "Flags",
            "The repo's settings over time. If append-only was turned off and nobody did it on"
            " purpose, suspect an intruder.",
            [m.Query(_of(metric), flag) for flag, metric in flags.items()],
            (17, 6),
            "No flag is known in the shown time.",
            m.YES_NO,
        ),
        m.table(
            "Keys",
            "SSH keys that may access the repo, by kind of access.",
            q.of_repo("keys", q.REPO, f"{ONE}, access"),
            ("access",),
            [m.column("Access", "access"), m.column("Keys", "")],
            (7, 6),
            "Unknown, or not reached by SSH keys (restic, Vykar).",
            sort="Keys",
        ),
    ]


def repository() -> m.Json:
    """Make the dashboard."""
    alerts = (
        f'max by (alertname, severity) (ALERTS{{{q.REPO}, alertname=~"BorgBase.+",'
        ' alertstate="firing"})'
    )
    return m.dashboard(
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
            m.annotation(
                "Firing alerts", alerts, m.ORANGE, "1h",
                titleFormat="{{alertname}}", tagKeys="severity",
            ),
            # Each write is a line in every panel, so they are off by default.
            m.annotation(
                "Writes", f"{_of('last_modified_timestamp_seconds')} * 1000", m.BLUE, "1h",
                titleFormat="written to", useValueForTime=True, enable=False,
            ),
            SIMULATED_DATA,
        ],
    )  # fmt: skip
