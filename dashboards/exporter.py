"""BorgBase / Exporter: whether you can rely on the other dashboards."""

from __future__ import annotations

from dashboards import model as m
from dashboards import queries as q
from dashboards.choices import ACCOUNTS, JOBS
from dashboards.overview import EXPIRY, SIMULATED_DATA, UP, data_age, down, scrapes_failing, source

WORKS = m.names({0: ("fails", m.ORANGE), 1: ("works", m.GREEN)})


def _trust() -> list[m.Json]:
    up = q.newest("borgbase_up", "account")
    return [
        scrapes_failing(),
        m.stat(
            "Exporters", "Exporters that Prometheus scrapes now.",
            f"count({q.newest('borgbase_exporter_build_info', 'job, instance', q.JOB)})",
            "none", m.FACT,
        ),
        down(),
        m.stat("Accounts", "Accounts that the exporter polls.", f"count({up})", "none", m.FACT),
        data_age(),
        source(),
    ]  # fmt: skip


def _polls() -> list[m.Json]:
    skipped = q.newest("borgbase_entries_skipped", "account, collector")
    fields = q.newest("borgbase_fields_skipped", "account, collector")
    gaps = q.newest("borgbase_schema_field_missing", "account, field")
    up = q.newest("borgbase_up", "account")
    works = q.newest("borgbase_collector_success", "account, collector")
    return [
        m.stat(
            "Failed queries",
            "Queries that failed in the shown time. A poll sends one query per part of the API. The"
            " queries of all replicas are added up.",
            f"sum(increase(borgbase_poll_failures_total{{{q.ACCOUNT}}}[$__range]))",
            "none", m.ANY_IS_NEWS, decimals=0,
        ),
        m.stat(
            "Collectors failing", "Parts of the API that cannot be read now.",
            f"sum({works} == bool 0)", "none", m.ANY_IS_WARNING,
        ),
        m.stat(
            "Entries skipped", "List entries of the last polls that were null or unreadable.",
            f"sum({skipped})", "none", m.ANY_IS_WARNING,
        ),
        m.stat(
            "Fields skipped",
            "Single values of the last polls that were unreadable; the rest of their entries was"
            " read.",
            f"sum({fields})", "none", m.ANY_IS_WARNING,
        ),
        m.stat(
            "Fields missing", "Fields that the exporter asks for, but the API no longer has.",
            f"sum({gaps}) or 0 * count({up})", "none", m.ANY_IS_NEWS,
        ),
        m.stat(
            "Poll interval", "Time between polls; of several accounts, the longest.",
            f"max({q.newest('borgbase_poll_interval_seconds', 'account')})",
            "s", m.FACT, decimals=0,
        ),
    ]  # fmt: skip


def _states() -> list[m.Json]:
    up = q.newest("borgbase_up", "account")
    works = q.newest("borgbase_collector_success", "account, collector")
    share = f"avg_over_time(borgbase_up{{{q.ACCOUNT}}}[$__range] @ end())"
    least = f"bottomk(30, max by (account) ({share}))"
    failed = (
        "min by (account, collector) (min_over_time("
        f"borgbase_collector_success{{{q.ACCOUNT}}}[$__range] @ end())) == 0"
    )
    return [
        m.timeline(
            "Scrapes over time", "Whether Prometheus could read each exporter.",
            [m.Query(f"topk(20, {q.scrapes()})", "{{instance}}")],
            (8, 7), "No exporter was seen in the shown time.", m.names(UP),
        ),
        m.timeline(
            "Accounts over time",
            "Whether the last poll of the repo list succeeded. Shows the thirty accounts that were"
            " down the most.", [m.Query(f"{up} and on (account) {least}", "{{account}}")],
            (8, 7), "No exporter was seen in the shown time.", m.names(UP),
        ),
        m.timeline(
            "Collectors that failed", "Parts of the API that failed at times.",
            [
                m.Query(
                    f"{works} and on (account, collector) topk(30, {failed})",
                    "{{collector}} ({{account}})",
                )
            ],
            (8, 7), "None is known to have failed in the shown time.", WORKS,
        ),
    ]  # fmt: skip


def _times() -> list[m.Json]:
    duration = q.newest("borgbase_last_poll_duration_seconds", "account")
    success = f"borgbase_last_success_timestamp_seconds{{{q.ACCOUNT}}}"
    took = f"borgbase_last_poll_duration_seconds{{{q.ACCOUNT}}}"
    oldest = f"bottomk(10, max by (account) (last_over_time({success}[1d] @ end())))"
    slowest = f"topk(10, max by (account) (last_over_time({took}[1d] @ end())))"
    return [
        m.lines(
            "Age of the data in hours",
            "Time since the last successful poll, for the ten accounts where it is longest at the"
            " end of the shown time.",
            [m.Query(f"(time() - {q.polled()}) / 3600 and on (account) {oldest}", "{{account}}")],
            (12, 8), "none", "No good poll is known in the shown time.", custom=m.LINEAR,
        ),
        m.lines(
            "Poll duration",
            "How long polls take, for the ten accounts with the slowest polls at the end of the"
            " shown time.",
            [m.Query(f"{duration} and on (account) {slowest}", "{{account}}")],
            (12, 8), "s", "No poll is known in the shown time.",
        ),
    ]  # fmt: skip


def _counters() -> list[m.Json]:
    # They change once per poll: over less than an hour there would be more gaps than bars. Grafana
    # takes a query's minimum step as the scrape interval, but not a panel's.
    hourly = {"interval": "1h"}
    polls = f"borgbase_polls_total{{{q.ACCOUNT}}}"
    failures = f"borgbase_poll_failures_total{{{q.ACCOUNT}}}"
    return [
        m.lines(
            "Polls per hour",
            "Polls of all accounts; after a failure the exporter tries again sooner.",
            [m.Query(f"3600 * sum(rate({polls}[$__rate_interval]))", "polls")],
            (12, 8), "none", "No exporter was seen in the shown time.",
            defaults={"decimals": 1}, more=hourly,
        ),
        m.lines(
            "Failed queries per hour, by reason", "For the reasons, see docs/troubleshooting.md.",
            [
                m.Query(
                    f"3600 * sum by (reason) (rate({failures}[$__rate_interval])) > 0",
                    "{{reason}}",
                )
            ],
            (12, 8), "none", "No query is known to have failed in the shown time.",
            custom=m.BARS | m.STACKED | {"fillOpacity": 70}, more=hourly,
        ),
    ]  # fmt: skip


def _tokens() -> m.Json:
    token = "account, token, token_id, permission"  # noqa: S105  # labels
    expires = q.newest("borgbase_api_token_expiration_timestamp_seconds", token)
    token_used = q.newest("borgbase_api_token_last_used_timestamp_seconds", token)
    own = q.newest("borgbase_exporter_token_expiration_timestamp_seconds", "account")
    own = f'label_replace({own}, "token", "the exporter\'s own", "", "")'
    ends = f"({expires} or ({own} unless on (account) {expires}))"
    return m.table(
        "API tokens",
        "The accounts' tokens or, if the exporter cannot list them, its own.",
        f"{ends} or on (account, token_id) {token_used}", ("account", "token_id"),
        [
            m.column("Account", "account", width=120),
            m.column("Token", "token", custom__minWidth=120),
            m.column("Permission", "permission", width=100),
            m.column(
                "Last used", m.Query(f"{token_used} * 1000"), unit="dateTimeFromNow",
                width=125,
            ),
            m.column(
                "Expires in", m.Query(f"({ends} - time()) / {q.DAY}"), unit=m.DAYS, decimals=0,
                thresholds=EXPIRY, width=95,
            ),
        ],
        (12, 9),
        "None is known: the collector `tokens` is off, or the token may not list them.",
        sort="Expires in", descending=False,
    )  # fmt: skip


def _keys() -> m.Json:
    key = "account, key, key_id"
    added = q.newest("borgbase_ssh_key_added_timestamp_seconds", key)
    key_used = q.newest("borgbase_ssh_key_last_used_timestamp_seconds", key)
    return m.table(
        "SSH keys", "Keys of the accounts. Delete keys that nobody uses.",
        f"{added} or {key_used}", ("account", "key_id"),
        [
            m.column("Account", "account", width=120),
            m.column("Key", "key", custom__minWidth=120),
            m.column("Added", m.Query(f"{added} * 1000"), unit="dateTimeFromNow", width=125),
            m.column(
                "Last used", m.Query(f"{key_used} * 1000"), unit="dateTimeFromNow", width=125,
            ),
        ],
        (12, 9), "None is known: the accounts have none, or the collector `ssh_keys` is off.",
        sort="Last used", descending=False,
    )  # fmt: skip


def _gaps() -> list[m.Json]:
    skipped = q.newest("borgbase_entries_skipped", "account, collector")
    fields = q.newest("borgbase_fields_skipped", "account, collector")
    return [
        m.table(
            "Missing fields",
            "Fields that the API no longer has: the metrics made from them are absent.",
            q.newest("borgbase_schema_field_missing", "account, field"),
            ("account", "field"),
            [m.column("Account", "account", width=130), m.column("Field", "field")],
            (12, 6),
            "No field is known to be missing.",
            sort="Account",
            descending=False,
        ),
        m.table(
            "Skipped entries and fields",
            "The number of entries and values that the last poll could not read.",
            f"{skipped} + ({fields} or 0 * {skipped}) > 0",
            ("account", "collector"),
            [
                m.column("Account", "account", width=130),
                m.column("Collector", "collector"),
                m.column("Skipped", m.ROW_VALUE),
            ],
            (12, 6),
            "Nothing is known to be unreadable.",
            sort="Skipped",
        ),
    ]


def _process() -> list[m.Json]:
    # With all jobs chosen, everything that Prometheus scrapes matches.
    ours = f"and on (job, instance) borgbase_exporter_build_info{{{q.JOB}}}"
    memory = f"process_resident_memory_bytes{{{q.JOB}}} {ours}"
    cpu = f"3600 * rate(process_cpu_seconds_total{{{q.JOB}}}[$__rate_interval]) {ours}"
    empty = "Unknown: not on Linux, or written by textfile."
    return [
        m.lines(
            "Memory", "Resident memory of the ten largest exporters.",
            [m.Query(f"topk(10, {memory})", "{{instance}}")], (12, 7), "bytes", empty,
        ),
        m.lines(
            "CPU per hour", "Seconds of CPU that the ten busiest exporters use in an hour.",
            [m.Query(f"topk(10, {cpu})", "{{instance}}")], (12, 7), "s", empty,
        ),
    ]  # fmt: skip


def exporter() -> m.Json:
    """Make the dashboard."""
    return m.dashboard(
        "borgbase-exporter",
        "BorgBase / Exporter",
        "The exporter's polls of the BorgBase API, and the tokens and keys it knows of.",
        [JOBS, ACCOUNTS],
        [
            _trust(), _polls(), _states(), _times(), _counters(),
            "Tokens and keys", [_tokens(), _keys()],
            "API", _gaps(),
            "Process", _process(),
        ],
        [SIMULATED_DATA],
    )  # fmt: skip
