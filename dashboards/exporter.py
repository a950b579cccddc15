"""BorgBase / Exporter: whether what the other dashboards show can be believed."""

from dashboards import queries as q
from dashboards.choices import ACCOUNTS, JOBS
from dashboards.model import (
    ANY_IS_BAD,
    ANY_IS_NEWS,
    BARS,
    COLOURED_TEXT,
    FACT,
    GREEN,
    ORANGE,
    RED,
    STACKED,
    Json,
    Query,
    column,
    dashboard,
    lines,
    names,
    stat,
    steps,
    table,
    timeline,
)
from dashboards.overview import DATA_AGE, TIME_LEFT

UP = names({0: ("down", RED), 1: ("up", GREEN)})
WORKS = names({0: ("fails", ORANGE), 1: ("works", GREEN)})


def _now() -> list[Json]:
    up = q.newest("borgbase_up", "account")
    polled = q.newest("borgbase_last_success_timestamp_seconds", "account")
    skipped = q.newest("borgbase_entries_skipped", "account, collector")
    gaps = q.newest("borgbase_schema_field_missing", "account, field")
    return [
        stat(
            "Accounts down",
            "Accounts whose last poll of the repo list failed.",
            f"count({up}) - sum({up})",
            "none", "no exporter", ANY_IS_BAD,
        ),
        stat(
            "Accounts",
            "Accounts that the exporter polls.",
            f"count({up})",
            "none", "no exporter", FACT,
        ),
        stat(
            "Data age",
            "Time since the last good poll; of several accounts, the longest.",
            f"max(time() - {polled})",
            "s", "no good poll yet", DATA_AGE,
        ),
        stat(
            "Failed queries",
            "In the shown time; each poll asks one query for each part of the API.",
            f"sum(increase(borgbase_poll_failures_total{{{q.ACCOUNT}}}[$__range]))",
            "none", "no exporter", ANY_IS_NEWS, decimals=0,
        ),
        stat(
            "Collectors failing",
            "Parts of the API that cannot be read now.",
            f"sum({q.newest('borgbase_collector_success', 'account, collector')} == bool 0)",
            "none", "no exporter", steps(1, colours=(GREEN, ORANGE)),
        ),
        stat(
            "Entries skipped",
            "List entries of the last polls that were null or unreadable.",
            f"sum({skipped})",
            "none", "no exporter", steps(1, colours=(GREEN, ORANGE)),
        ),
        stat(
            "Fields missing",
            "Fields that the exporter asks for and the API no longer has.",
            f"sum({gaps})",
            "none", "none", ANY_IS_NEWS,
        ),
        stat(
            "Exporters",
            "Exporters that Prometheus sees.",
            f"sum(borgbase_exporter_build_info{{{q.JOB}}})",
            "none", "none", FACT,
        ),
    ]  # fmt: skip


def _states() -> list[Json]:
    up, works = (
        q.newest("borgbase_up", "account"),
        q.newest("borgbase_collector_success", "account, collector"),
    )
    share = f"avg_over_time(borgbase_up{{{q.ACCOUNT}}}[$__range] @ end())"
    least = f"bottomk(30, max by (account) ({share}))"
    failed = (
        "min by (account, collector) (min_over_time("
        f"borgbase_collector_success{{{q.ACCOUNT}}}[$__range] @ end())) == 0"
    )
    return [
        timeline(
            "Up",
            "Whether the last poll of the repo list succeeded: the thirty accounts for which that"
            " was so the least.",
            [Query(f"{up} and on (account) {least}", "{{account}}")],
            (12, 7), "no exporter", UP,
        ),
        timeline(
            "Collectors that failed",
            "Parts of the API that could not be read at some time shown.",
            [
                Query(
                    f"{works} and on (account, collector) topk(30, {failed})",
                    "{{collector}} ({{account}})",
                )
            ],
            (12, 7), "None failed in the shown time.", WORKS,
        ),
    ]  # fmt: skip


def _polls() -> list[Json]:
    polled = q.newest("borgbase_last_success_timestamp_seconds", "account")
    duration = q.newest("borgbase_last_poll_duration_seconds", "account")
    success = f"borgbase_last_success_timestamp_seconds{{{q.ACCOUNT}}}"
    took = f"borgbase_last_poll_duration_seconds{{{q.ACCOUNT}}}"
    oldest = f"bottomk(10, max by (account) ({success} @ end()))"
    slowest = f"topk(10, max by (account) ({took} @ end()))"
    return [
        lines(
            "Age of the data",
            "Time since the last good poll: the ten accounts for which it is longest at the end.",
            [Query(f"time() - {polled} and on (account) {oldest}", "{{account}}")],
            (12, 8), "s", "no good poll yet",
            custom={"lineInterpolation": "linear"}, defaults={"min": 0},
        ),
        lines(
            "Poll duration",
            "How long polls take: the ten accounts for which it is longest at the end.",
            [Query(f"{duration} and on (account) {slowest}", "{{account}}")],
            (12, 8), "s", "no poll yet",
            defaults={"min": 0},
        ),
    ]  # fmt: skip


def _counters() -> list[Json]:
    # They move once per poll: over less than an hour there would be more gaps than bars.
    hour = "1h"
    polls = f"borgbase_polls_total{{{q.ACCOUNT}}}"
    failures = f"borgbase_poll_failures_total{{{q.ACCOUNT}}}"
    return [
        lines(
            "Polls per hour",
            "Polls of all accounts; after a failure the exporter tries again sooner.",
            [Query(f"3600 * sum(rate({polls}[$__rate_interval]))", "polls", step=hour)],
            (12, 8), "none", "no exporter",
            defaults={"min": 0, "decimals": 1},
        ),
        lines(
            "Failed queries per hour, by reason",
            "The reasons are explained in docs/metrics.md.",
            [
                Query(
                    f"3600 * sum by (reason) (rate({failures}[$__rate_interval])) > 0",
                    "{{reason}}",
                    step=hour,
                )
            ],
            (12, 8), "none", "No query failed in the shown time.",
            custom=BARS | STACKED | {"fillOpacity": 70}, defaults={"min": 0},
        ),
    ]  # fmt: skip


def _lists() -> list[Json]:
    token = "account, token, token_id, permission"  # noqa: S105  # labels
    key = "account, key, key_id"
    expires = q.newest("borgbase_api_token_expiration_timestamp_seconds", token)
    token_used = q.newest("borgbase_api_token_last_used_timestamp_seconds", token)
    added = q.newest("borgbase_ssh_key_added_timestamp_seconds", key)
    key_used = q.newest("borgbase_ssh_key_last_used_timestamp_seconds", key)
    own = q.newest("borgbase_exporter_token_expiration_timestamp_seconds", "account")
    own = f'label_replace({own}, "token", "the exporter\'s own", "", "")'
    left = f"({expires} or ({own} unless on (account) {expires})) - time()"
    return [
        table(
            "API tokens",
            "The accounts' tokens, or, where they cannot be listed, the exporter's own.",
            [
                column("Account", "account", custom__width=130),
                column("Token", "token"),
                column("May", "permission", custom__width=110),
                column("Last used", Query(f"{token_used} * 1000"), unit="dateTimeFromNow"),
                column(
                    "Expires in", Query(left),
                    unit="s", thresholds=TIME_LEFT, custom__cellOptions=COLOURED_TEXT,
                ),
            ],
            (12, 8),
            "The collector `tokens` is off, or the token may not list them.",
            sort="Expires in",
            descending=False,
            hidden=["token_id"],
        ),
        table(
            "SSH keys",
            "Keys of the accounts; one that nobody uses is best deleted.",
            [
                column("Account", "account", custom__width=130),
                column("Key", "key"),
                column("Added", Query(f"{added} * 1000"), unit="dateTimeFromNow"),
                column("Last used", Query(f"{key_used} * 1000"), unit="dateTimeFromNow"),
            ],
            (12, 8),
            "The account has no SSH keys, or the collector `ssh_keys` is off.",
            sort="Last used",
            descending=False,
            hidden=["key_id"],
        ),
    ]  # fmt: skip


def _gaps() -> list[Json]:
    skipped = q.newest("borgbase_entries_skipped", "account, collector")
    return [
        table(
            "Missing fields",
            "Fields that the API no longer has: the metrics made of them are absent.",
            [
                column("Account", "account", custom__width=130),
                column("Field", "field"),
            ],
            (12, 6),
            "none",
            sort="Account",
            descending=False,
            queries=[q.newest("borgbase_schema_field_missing", "account, field")],
        ),
        table(
            "Skipped entries",
            "List entries of the last poll that were null or unreadable, where there were any.",
            [
                column("Account", "account", custom__width=130),
                column("Collector", "collector"),
                column("Entries", Query(f"{skipped} > 0")),
            ],
            (12, 6),
            "none",
            sort="Entries",
        ),
    ]


def _process() -> list[Json]:
    where = f"{{{q.JOB}}}"
    return [
        lines(
            "Memory",
            "Resident memory of the ten largest exporters.",
            [Query(f"topk(10, process_resident_memory_bytes{where})", "{{instance}}")],
            (12, 7), "bytes", "not on Linux, or written by textfile",
            defaults={"min": 0},
        ),
        lines(
            "CPU",
            "Seconds of CPU per second, of the ten busiest exporters.",
            [
                Query(
                    f"topk(10, rate(process_cpu_seconds_total{where}[$__rate_interval]))",
                    "{{instance}}",
                )
            ],
            (12, 7), "percentunit", "not on Linux, or written by textfile",
            defaults={"min": 0},
        ),
    ]  # fmt: skip


def exporter() -> Json:
    """Make the dashboard."""
    return dashboard(
        "borgbase-exporter",
        "BorgBase / Exporter",
        "The exporter's polls of the BorgBase API, and the tokens and keys they tell of.",
        [JOBS, ACCOUNTS],
        [
            _now(), _states(), _polls(), _counters(),
            "Tokens and keys", _lists(),
            "API", _gaps(),
            "Process", _process(),
        ],
    )  # fmt: skip
