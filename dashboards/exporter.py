"""BorgBase / Exporter: whether what the other dashboards show can be believed."""

from __future__ import annotations

from dashboards import queries as q
from dashboards.choices import ACCOUNTS, JOBS
from dashboards.model import (
    ANY_IS_NEWS,
    ANY_IS_WARNING,
    BARS,
    COLOURED_TEXT,
    DAYS,
    FACT,
    GREEN,
    LINEAR,
    ORANGE,
    ROW_VALUE,
    STACKED,
    Json,
    Query,
    column,
    dashboard,
    lines,
    names,
    stat,
    table,
    timeline,
)
from dashboards.overview import (
    EXPIRY,
    SIMULATED_DATA,
    UP,
    data_age,
    down,
    scrapes_failing,
    source,
)

WORKS = names({0: ("fails", ORANGE), 1: ("works", GREEN)})


def _trust() -> list[Json]:
    up = q.newest("borgbase_up", "account")
    return [
        scrapes_failing(),
        stat(
            "Exporters",
            "Exporters that Prometheus reads now.",
            f"count({q.newest('borgbase_exporter_build_info', 'job, instance', q.JOB)})",
            "none", FACT,
        ),
        down(),
        stat("Accounts", "Accounts that the exporter polls.", f"count({up})", "none", FACT),
        data_age(),
        source(),
    ]  # fmt: skip


def _polls() -> list[Json]:
    skipped = q.newest("borgbase_entries_skipped", "account, collector")
    fields = q.newest("borgbase_fields_skipped", "account, collector")
    gaps = q.newest("borgbase_schema_field_missing", "account, field")
    up = q.newest("borgbase_up", "account")
    works = q.newest("borgbase_collector_success", "account, collector")
    return [
        stat(
            "Failed queries",
            "In the shown time; each poll asks one query for each part of the API. Replicas count"
            " each by itself.",
            f"sum(increase(borgbase_poll_failures_total{{{q.ACCOUNT}}}[$__range]))",
            "none", ANY_IS_NEWS, decimals=0,
        ),
        stat(
            "Collectors failing",
            "Parts of the API that cannot be read now.",
            f"sum({works} == bool 0)",
            "none", ANY_IS_WARNING,
        ),
        stat(
            "Entries skipped",
            "List entries of the last polls that were null or unreadable.",
            f"sum({skipped})",
            "none", ANY_IS_WARNING,
        ),
        stat(
            "Fields skipped",
            "Values of the last polls that were unreadable, in entries that are shown without"
            " them.",
            f"sum({fields})",
            "none", ANY_IS_WARNING,
        ),
        stat(
            "Fields missing",
            "Fields that the exporter asks for and the API no longer has.",
            f"sum({gaps}) or 0 * count({up})",
            "none", ANY_IS_NEWS,
        ),
        stat(
            "Poll interval",
            "Time between polls; of several accounts, the longest.",
            f"max({q.newest('borgbase_poll_interval_seconds', 'account')})",
            "s", FACT, decimals=0,
        ),
    ]  # fmt: skip


def _states() -> list[Json]:
    up = q.newest("borgbase_up", "account")
    works = q.newest("borgbase_collector_success", "account, collector")
    share = f"avg_over_time(borgbase_up{{{q.ACCOUNT}}}[$__range] @ end())"
    least = f"bottomk(30, max by (account) ({share}))"
    failed = (
        "min by (account, collector) (min_over_time("
        f"borgbase_collector_success{{{q.ACCOUNT}}}[$__range] @ end())) == 0"
    )
    return [
        timeline(
            "Scrapes over time",
            "Whether Prometheus could read each exporter.",
            [Query(f"topk(20, {q.scrapes()})", "{{instance}}")],
            (8, 7), "No exporter was seen in the shown time.", names(UP),
        ),
        timeline(
            "Accounts over time",
            "Whether the last poll of the repo list succeeded: the thirty accounts for which that"
            " was so the least.",
            [Query(f"{up} and on (account) {least}", "{{account}}")],
            (8, 7), "No exporter was seen in the shown time.", names(UP),
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
            (8, 7), "None is known to have failed in the shown time.", WORKS,
        ),
    ]  # fmt: skip


def _times() -> list[Json]:
    duration = q.newest("borgbase_last_poll_duration_seconds", "account")
    success = f"borgbase_last_success_timestamp_seconds{{{q.ACCOUNT}}}"
    took = f"borgbase_last_poll_duration_seconds{{{q.ACCOUNT}}}"
    oldest = f"bottomk(10, max by (account) (last_over_time({success}[1d] @ end())))"
    slowest = f"topk(10, max by (account) (last_over_time({took}[1d] @ end())))"
    return [
        lines(
            "Age of the data in hours",
            "Time since the last good poll: the ten accounts for which it is longest at the end.",
            [Query(f"(time() - {q.polled()}) / 3600 and on (account) {oldest}", "{{account}}")],
            (12, 8), "none", "No good poll is known in the shown time.",
            custom=LINEAR,
        ),
        lines(
            "Poll duration",
            "How long polls take: the ten accounts for which it is longest at the end.",
            [Query(f"{duration} and on (account) {slowest}", "{{account}}")],
            (12, 8), "s", "No poll is known in the shown time.",
        ),
    ]  # fmt: skip


def _counters() -> list[Json]:
    # They move once per poll: over less than an hour there would be more gaps than bars.
    # A query's own least step would be taken for the scrape interval, a panel's is not.
    hourly = {"interval": "1h"}
    polls = f"borgbase_polls_total{{{q.ACCOUNT}}}"
    failures = f"borgbase_poll_failures_total{{{q.ACCOUNT}}}"
    return [
        lines(
            "Polls per hour",
            "Polls of all accounts; after a failure the exporter tries again sooner.",
            [Query(f"3600 * sum(rate({polls}[$__rate_interval]))", "polls")],
            (12, 8), "none", "No exporter was seen in the shown time.",
            defaults={"decimals": 1}, more=hourly,
        ),
        lines(
            "Failed queries per hour, by reason",
            "The reasons are explained in docs/metrics.md.",
            [
                Query(
                    f"3600 * sum by (reason) (rate({failures}[$__rate_interval])) > 0",
                    "{{reason}}",
                )
            ],
            (12, 8), "none", "No query is known to have failed in the shown time.",
            custom=BARS | STACKED | {"fillOpacity": 70}, more=hourly,
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
    ends = f"({expires} or ({own} unless on (account) {expires}))"
    return [
        table(
            "API tokens",
            "The accounts' tokens, or, where they cannot be listed, the exporter's own.",
            f"{ends} or on (account, token_id) {token_used}",
            ("account", "token_id"),
            [
                column("Account", "account", custom__width=120),
                column("Token", "token", custom__minWidth=120),
                column("May", "permission", custom__width=100),
                column(
                    "Last used", Query(f"{token_used} * 1000"), unit="dateTimeFromNow",
                    custom__width=125,
                ),
                column(
                    "Expires in", Query(f"({ends} - time()) / {q.DAY}"),
                    unit=DAYS, decimals=0, thresholds=EXPIRY, custom__cellOptions=COLOURED_TEXT,
                    custom__width=95,
                ),
            ],
            (12, 9),
            "None is known: the collector `tokens` is off, or the token may not list them.",
            sort="Expires in",
            descending=False,
        ),
        table(
            "SSH keys",
            "Keys of the accounts; one that nobody uses is best deleted.",
            f"{added} or {key_used}",
            ("account", "key_id"),
            [
                column("Account", "account", custom__width=120),
                column("Key", "key", custom__minWidth=120),
                column(
                    "Added", Query(f"{added} * 1000"), unit="dateTimeFromNow", custom__width=125
                ),
                column(
                    "Last used", Query(f"{key_used} * 1000"), unit="dateTimeFromNow",
                    custom__width=125,
                ),
            ],
            (12, 9),
            "None is known: the accounts have none, or the collector `ssh_keys` is off.",
            sort="Last used",
            descending=False,
        ),
    ]  # fmt: skip


def _gaps() -> list[Json]:
    skipped = q.newest("borgbase_entries_skipped", "account, collector")
    fields = q.newest("borgbase_fields_skipped", "account, collector")
    return [
        table(
            "Missing fields",
            "Fields that the API no longer has: the metrics made of them are absent.",
            q.newest("borgbase_schema_field_missing", "account, field"),
            ("account", "field"),
            [column("Account", "account", custom__width=130), column("Field", "field")],
            (12, 6),
            "No field is known to be missing.",
            sort="Account",
            descending=False,
        ),
        table(
            "Skipped entries and fields",
            "What the last poll could not read, where there was anything.",
            f"{skipped} + ({fields} or 0 * {skipped}) > 0",
            ("account", "collector"),
            [
                column("Account", "account", custom__width=130),
                column("Collector", "collector"),
                column("Skipped", ROW_VALUE),
            ],
            (12, 6),
            "Nothing is known to be unreadable.",
            sort="Skipped",
        ),
    ]


def _process() -> list[Json]:
    # With all jobs chosen, everything that Prometheus scrapes matches.
    ours = f"and on (job, instance) borgbase_exporter_build_info{{{q.JOB}}}"
    memory = f"process_resident_memory_bytes{{{q.JOB}}} {ours}"
    cpu = f"3600 * rate(process_cpu_seconds_total{{{q.JOB}}}[$__rate_interval]) {ours}"
    empty = "Unknown: not on Linux, or written by textfile."
    return [
        lines(
            "Memory",
            "Resident memory of the ten largest exporters.",
            [Query(f"topk(10, {memory})", "{{instance}}")],
            (12, 7), "bytes", empty,
        ),
        lines(
            "CPU per hour",
            "Seconds of CPU that the ten busiest exporters use in an hour.",
            [Query(f"topk(10, {cpu})", "{{instance}}")],
            (12, 7), "s", empty,
        ),
    ]  # fmt: skip


def exporter() -> Json:
    """Make the dashboard."""
    return dashboard(
        "borgbase-exporter",
        "BorgBase / Exporter",
        "The exporter's polls of the BorgBase API, and the tokens and keys it knows of.",
        [JOBS, ACCOUNTS],
        [
            _trust(), _polls(), _states(), _times(), _counters(),
            "Tokens and keys", _lists(),
            "API", _gaps(),
            "Process", _process(),
        ],
        [SIMULATED_DATA],
    )  # fmt: skip
