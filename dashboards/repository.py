"""BorgBase / Repository: all about one repo."""

from dashboards import queries as q
from dashboards.choices import JOBS, ONE_ACCOUNT, REPO, REPO_ID
from dashboards.model import (
    BARS,
    BLUE,
    DASHED,
    FACT,
    ORANGE,
    RED,
    YES_NO,
    Json,
    Query,
    annotation,
    column,
    dashboard,
    fixed,
    gauge,
    lines,
    override,
    stat,
    table,
    timeline,
)
from dashboards.overview import DAYS_LEFT, LATENESS, QUOTA

# One repo: a rename in the shown time must not make two of it.
ONE = "account, repo_id"


def _of(metric: str) -> str:
    return q.of_repo(metric, q.REPO, ONE)


def _now() -> list[Json]:
    return [
        gauge(
            "Quota used",
            "Usage as a share of the quota.",
            q.used(q.REPO, ONE),
            "no quota set", QUOTA, most=1,
        ),
        gauge(
            "Age against limit",
            "Time without a write as a share of the inactivity limit set at BorgBase.",
            q.lateness(q.REPO, ONE),
            "no limit set, or never written to", LATENESS, most=2,
        ),
        stat(
            "Days until full",
            "Until the quota is used up, if the repo grows on as it did in the last week.",
            q.days_left(q.REPO, ONE),
            "none", "not growing, or no quota", DAYS_LEFT, decimals=0, **WIDE,
        ),
        stat(
            "Growth per day",
            "Bytes a day over the last week: the average of a day less that of a week before.",
            q.growth(q.REPO),
            "decbytes", "no week of history yet", FACT, **WIDE,
        ),
        stat(
            "Usage",
            "Space that the repo takes on the server.",
            _of("usage_bytes"),
            "decbytes", "not known", FACT, **WIDE,
        ),
        stat(
            "Last write",
            "The last backup, prune or compaction.",
            f"{_of('last_modified_timestamp_seconds')} * 1000",
            "dateTimeFromNow", "never", FACT, **WIDE,
        ),
    ]  # fmt: skip


WIDE = {"size": (4, 6)}


def _facts() -> Json:
    facts = "repo, repo_id, version, encryption, access_mode, repo_region, server"
    created = _of("created_timestamp_seconds")
    return table(
        "Facts",
        "What BorgBase tells about the repo.",
        [
            column("Name", "repo", custom__width=190),
            column("Id", "repo_id"),
            column("Version", "version"),
            column("Encryption", "encryption", custom__width=130),
            column("Access", "access_mode"),
            column("Region", "repo_region"),
            column("Server", "server", custom__width=220),
            column("Created", Query(f"{created} * 1000"), unit="dateTimeAsLocal"),
            column("Limit", Query(_of("inactivity_limit_seconds")), unit="s", decimals=0),
            column("Quota", Query(_of("quota_bytes")), unit="decbytes"),
        ],
        (24, 4),
        "No such repo at the end of the shown time.",
        sort="Name",
        descending=False,
        queries=[f"max by (account, {facts}) ({q.info(q.REPO)})"],
        hidden=["account"],
    )


def _usage() -> list[Json]:
    usage, quota = _of("usage_bytes"), _of("quota_bytes")
    return [
        lines(
            "Usage and quota",
            "Space that the repo takes on the server, and its quota if it has one.",
            [Query(usage, "used"), Query(quota, "quota")],
            (24, 9), "decbytes", "no data",
            defaults={"min": 0},
            overrides=[
                override("used", color=fixed(BLUE), custom__fillOpacity=15),
                override("quota", color=fixed(RED), custom__lineStyle=DASHED),
            ],
        ),
    ]  # fmt: skip


def _changes() -> list[Json]:
    usage = _of("usage_bytes")
    day_ago = f"max by ({ONE}) (borgbase_repo_usage_bytes{{{q.REPO}}} offset 1d)"
    return [
        lines(
            "Daily change",
            "What each day added, or a prune or compaction took back.",
            [Query(f"{usage} - {day_ago}", "change", step="1d")],
            (12, 9), "decbytes", "no day of history yet",
            custom=BARS, overrides=[override("change", color=fixed(BLUE))],
        ),
        lines(
            "Age of the last write",
            "Falls to nothing with each write; above the limit BorgBase alerts its owner.",
            [
                Query(q.age(q.REPO, ONE), "age"),
                Query(_of("inactivity_limit_seconds"), "limit"),
            ],
            (12, 9), "s", "never written to",
            defaults={"min": 0},
            custom={"lineInterpolation": "linear"},
            overrides=[
                override("age", color=fixed(BLUE), custom__fillOpacity=15),
                override("limit", color=fixed(RED), custom__lineStyle=DASHED),
            ],
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
            "no data",
            YES_NO,
        ),
        table(
            "Keys",
            "SSH keys that may access the repo, by kind of access.",
            [
                column("Access", "access"),
                column("Keys", Query(q.of_repo("keys", q.REPO, f"{ONE}, access"))),
            ],
            (7, 6),
            "not known",
            sort="Keys",
            hidden=["account", "repo_id"],
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
        [_now(), [_facts()], _usage(), _changes(), _settings()],
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
        ],
    )  # fmt: skip
