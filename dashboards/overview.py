"""BorgBase / Overview: what needs attention, then the trends."""

from __future__ import annotations

from dashboards import model as m
from dashboards import queries as q
from dashboards.choices import ACCOUNTS, JOBS

RUNBOOKS = (
    "https://github.com/borgbase-exporter/borgbase-exporter/blob/main/docs/runbooks"
    "/${__data.fields.alertname:percentencode}.md"
)
_SAME = "?${datasource:queryparam}&${job:queryparam}&${__url_time_range}"
_ACCOUNT_AND_REPO = (
    "&var-account=${__data.fields.account:percentencode}"
    "&var-repo=${__data.fields.repo:percentencode}"
)
REPO_PAGE = f"/d/borgbase-repository{_SAME}{_ACCOUNT_AND_REPO}"
ALERT_PAGE = f"/d/${{__data.fields.page}}{_SAME}{_ACCOUNT_AND_REPO}"

QUOTA, PLAN, LATENESS = m.steps(*q.QUOTA), m.steps(*q.PLAN), m.steps(*q.LATENESS)
PRESSURE = m.steps(q.QUOTA[0], 1)
DATA_AGE = m.steps(2 * 3600, q.MAX_AGE)
DAYS_LEFT = m.steps(3, q.EXPIRY_DAYS, colours=(m.RED, m.ORANGE, m.GREEN))
EXPIRY = m.steps(-30, 3, q.EXPIRY_DAYS, colours=(m.GREY, m.RED, m.ORANGE, m.GREEN))
"""What ended long ago counts as cancelled."""

SEVERITIES = {3: ("critical", m.RED), 2: ("warning", m.ORANGE), 1: ("info", m.BLUE)}
FLAGS: m.Words = {
    bits: (
        ", ".join(
            name for bit, name in ((1, "append-only"), (2, "compaction"), (4, "SFTP")) if bits & bit
        )
        or "none",
        m.GREY,
    )
    for bits in range(8)
}
UP: m.Words = {0: ("down", m.RED), 1: ("up", m.GREEN)}
SIMULATED: m.Words = {0: ("BorgBase", m.GREEN), 1: ("SIMULATED", m.ORANGE)}
FRESHNESS = m.names({0: ("in time", m.GREEN), 1: ("overdue", m.ORANGE), 2: ("long overdue", m.RED)})

_SIMULATED = q.newest("borgbase_simulated", "account")
SIMULATED_DATA = m.annotation(
    "Simulated data", f"{_SIMULATED} == 1", m.ORANGE, "15m",
    titleFormat="The account {{account}} is simulated: its data is invented.",
)  # fmt: skip


def source() -> m.Json:
    """Show whether the data is simulated."""
    up = q.newest("borgbase_up", "account")
    return m.stat(
        "Data from",
        "SIMULATED: at least one of the accounts comes from --demo; its data is invented.",
        f"max({_SIMULATED} or 0 * {up})", "none", m.FACT, words=SIMULATED,
    )  # fmt: skip


def down() -> m.Json:
    """Count the accounts that cannot be polled."""
    return m.stat(
        "Accounts down",
        "Accounts whose last poll of the repo list failed. Their values are old or absent.",
        f"sum({q.newest('borgbase_up', 'account')} == bool 0)", "none", m.ANY_IS_BAD,
    )  # fmt: skip


def scrapes_failing() -> m.Json:
    """Count the exporters that do not answer."""
    return m.stat(
        "Scrapes failing",
        "Exporters that are targets of Prometheus and cannot be scraped now.",
        f"sum({q.scrapes()} == bool 0)", "none", m.ANY_IS_BAD,
    )  # fmt: skip


def data_age() -> m.Json:
    """Show how old the numbers are."""
    return m.stat(
        "Data age",
        "Time since the last successful poll; of several accounts, the longest. The values are as"
        " old as that.", f"max(time() - {q.polled()})", "s", DATA_AGE, decimals=1,
    )  # fmt: skip


def _trust() -> list[m.Json]:
    alerts = f"count({q.firing('alertname, account, repo_id')}) or 0 * count({q.rules()})"
    return [
        m.stat(
            "Firing alerts",
            "BorgBase alerts that fire now, listed below. Unknown while no rules write to this"
            " data source.", alerts, "none", m.ANY_IS_BAD, missing="no rules seen",
        ),
        down(),
        scrapes_failing(),
        data_age(),
        m.stat(
            "Repos", "Repos that the accounts list now.", f"sum({q.of_account('repos')})",
            "none", m.FACT,
        ),
        source(),
    ]  # fmt: skip


def _why(nothing_set: str) -> m.Words:
    return {q.NOTHING_SET: (nothing_set, m.GREY), q.NO_REPOS: ("no repos", m.GREY)}


def _counts() -> list[m.Json]:
    usage = q.of_repo("usage_bytes")
    old = f"{q.never_written()} < time() - 3 * {q.DAY}"
    overdue = q.otherwise(f"sum({q.lateness()} > bool {q.LATENESS[0]})", usage)
    full = q.otherwise(f"sum({q.used()} > bool {q.QUOTA[0]})", usage)
    plan = q.otherwise(f"max({q.plan_used()})", q.of_account("usage_bytes"))
    return [
        m.stat(
            "Overdue", "Repos without a write for longer than their inactivity limit at BorgBase.",
            overdue, "none", m.ANY_IS_BAD, words=_why("no limit set"),
        ),
        m.stat(
            "Never backed up", "Repos older than three days that were never written to.",
            q.otherwise(f"count({old}) or 0 * count({usage})", usage),
            "none", m.ANY_IS_BAD, words=_why("none"),
        ),
        m.stat(
            f"Over {q.QUOTA[0] * 100:.0f} % of quota",
            f"Repos that use more than {q.QUOTA[0] * 100:.0f} % of their quota.",
            full, "none", m.ANY_IS_WARNING, words=_why("no quota set"),
        ),
        m.stat(
            "Plan used",
            "Usage as a share of what the plan allows: its maximum or, without one, what it"
            " includes. Of several accounts, the fullest.",
            plan, "percentunit", PLAN, words=_why("no plan limit"),
        ),
        m.stat(
            "Accrued overage",
            "What usage beyond the plan has cost in this billing period. No backup is in danger.",
            f"sum({q.of_account('accrued_overage_usd')})",
            "currencyUSD", m.steps(0.01, colours=(m.GREEN, m.YELLOW)), decimals=2,
        ),
        m.stat(
            "Usage", "Space that all repos take at BorgBase.",
            f"sum({q.of_account('usage_bytes')})", "decbytes", m.FACT,
        ),
    ]  # fmt: skip


def _alerts() -> m.Json:
    by = "alertname, account, repo_id, repo"
    fire = " or ".join(
        f"{rank} * {q.firing(by, severity)}" for rank, (severity, _) in SEVERITIES.items()
    )
    rows = f"max by ({by}) ({fire})"
    for label, value, where in (
        ("what", "exporter", ("account", "")),
        ("what", "whole account", ("account", ".+")),
        ("what", "$1", ("repo", "(.+)")),
        ("page", "borgbase-exporter", ("", "")),
        ("page", "borgbase-repository", ("repo", ".+")),
    ):
        rows = f'label_replace({rows}, "{label}", "{value}", "{where[0]}", "{where[1]}")'
    return m.table(
        "Firing alerts, worst first",
        "BorgBase alerts that fire now. *Alert* links to the runbook, *About* to the page of the"
        " repo or of the exporter.", rows, ("alertname", "account", "repo_id"),
        [
            m.column("Severity", m.ROW_VALUE, words=SEVERITIES, width=90),
            m.column("Alert", "alertname", links=m.link("Runbook", RUNBOOKS), custom__minWidth=220),
            m.column("Account", "account", width=130),
            m.column("About", "what", links=m.link("Page", ALERT_PAGE)),
            m.column("Repo", "repo", hidden=True),
            m.column("Page", "page", hidden=True),
        ],
        (14, 11), "No alert fires, or no rules write to this data source: see the tile above.",
        sort="Severity",
    )  # fmt: skip


def _expiries() -> m.Json:
    return m.table(
        "Expiries", "Subscriptions and API tokens that end within 90 days or ended within 30.",
        q.expiring(), ("account", "what"),
        [
            m.column("Account", "account", width=110),
            m.column("What", "what", custom__minWidth=140),
            m.column(
                "Days left", m.Query(f"({q.expiring()} - time()) / {q.DAY}"), decimals=0,
                thresholds=EXPIRY, width=90,
            ),
            m.column("On", m.Query(f"{q.expiring()} * 1000"), unit="time:YYYY-MM-DD" , width=105),
        ],
        (10, 11), "No expiry is known within 90 days.", sort="Days left",
        descending=False,
    )  # fmt: skip


def _repos() -> m.Json:
    late = f'label_replace({q.lateness(or_created=True)}, "of", "limit", "", "")'
    full = f'label_replace({q.used()}, "of", "quota", "", "")'
    usage = q.of_repo("usage_bytes")
    pressure = f"max by ({q.BY_ID}) ({late} or {full} or 0 * {usage})"
    flags = " or ".join(
        f'label_replace({bit} * {q.of_repo(flag)}, "flag", "{flag}", "", "")'
        for bit, flag in ((1, "append_only"), (2, "compaction_enabled"), (4, "sftp_enabled"))
    )
    flags = f"sum by ({q.BY_ID}) ({flags})"
    written = q.of_repo("last_modified_timestamp_seconds")
    limit = q.of_repo("inactivity_limit_seconds")
    return m.table(
        "Repos, worst first",
        "Pressure is the used share of the quota or the elapsed share of the inactivity limit,"
        " whichever is higher. At 100 %, the repo is full or overdue. Days left is a forecast of"
        " when the quota is used up, from the growth of the last week; it is empty without a quota,"
        " without growth, or without a week of history. A repo's name links to its page.",
        f"max by ({q.BY_REPO}, repo_region, version) ({q.info()})",
        ("account", "repo_id"),
        [
            m.column("Repo", "repo", links=m.link("Repo", REPO_PAGE), custom__minWidth=150),
            m.column("Account", "account", width=110),
            m.column(
                "Pressure", m.Query(pressure), max=2, min=0, thresholds=PRESSURE,
                unit="percentunit", custom__cellOptions={"type": "gauge", "mode": "basic"},
                width=120,
            ),
            m.column("Usage", m.Query(usage), unit="decbytes", width=90),
            m.column("Quota", m.Query(q.of_repo("quota_bytes")), unit="decbytes" , width=85),
            m.column("Used", m.Query(q.used()), thresholds=QUOTA, unit="percentunit", width=70),
            m.column(
                "Days left", m.Query(q.days_left()), decimals=0, thresholds=DAYS_LEFT, width=85,
            ),
            m.column("Last write", m.Query(f"{written} * 1000"), unit="dateTimeFromNow", width=120),
            m.column("Limit", m.Query(f"{limit} / {q.DAY}"), unit=m.DAYS, width=65),
            m.column("Flags", m.Query(flags), words=FLAGS, width=180),
            m.column("Region", "repo_region", width=65),
            m.column("Version", "version", width=115),
        ],
        (24, 13),
        "No repo is known: the accounts list none, or their last good poll is too old.",
        sort="Pressure", pages=True,
    )  # fmt: skip


def _accounts() -> m.Json:
    active = q.of_account("subscription_active")
    plan = q.newest("borgbase_account_plan_info", "account, plan")
    every = f"{plan} or on (account) {q.newest('borgbase_up', 'account')}"
    tokens = q.newest("borgbase_account_api_tokens", "account, permission")
    size: m.Json = {"width": 85, "unit": "decbytes"}
    return m.table(
        "Accounts",
        "What each account uses, and what its plan includes and allows. Billed is the usage in"
        " the last bill.", every, ("account",),
        [
            m.column("Account", "account", custom__minWidth=110),
            m.column("State", m.Query(q.newest("borgbase_up", "account")), words=UP, width=65),
            m.column(
                "Data age", m.Query(f"time() - {q.polled()}"), unit="s", decimals=0,
                thresholds=DATA_AGE, width=90,
            ),
            m.column("Plan", "plan", width=90),
            m.column("Used", m.Query(q.plan_used()), thresholds=PLAN, unit="percentunit", width=65),
            m.column("Usage", m.Query(q.of_account("usage_bytes")), **size),
            m.column("Included", m.Query(q.of_account("plan_included_bytes")), **size),
            m.column("Maximum", m.Query(q.of_account("plan_max_bytes")), **size),
            m.column("Billed", m.Query(q.of_account("billed_usage_bytes")), **size),
            m.column("Excess", m.Query(q.of_account("billed_excess_bytes")), **size),
            m.column("Repos", m.Query(q.of_account("repos")), width=70),
            m.column("Repo limit", m.Query(q.of_account("plan_max_repos")), unit="short", width=90),
            m.column("Keys", m.Query(q.of_account("ssh_keys")), width=70),
            m.column("Tokens", m.Query(f"sum by (account) ({tokens})"), width=70),
            m.column(
                "Subscription", m.Query(active),
                words={0: ("inactive", m.ORANGE), 1: ("active", m.GREEN)}, width=105,
            ),
        ],
        (24, 6), "No exporter was seen at the end of the shown time.", sort="State",
        descending=False,
    )  # fmt: skip


def _trends() -> list[m.Json]:
    by_repo = q.of_repo("usage_bytes")
    # The largest at the end of the shown range, so that the same ten are shown throughout.
    last = f"last_over_time(borgbase_repo_usage_bytes{{{q.ACCOUNT}}}[1d] @ end())"
    largest = f"topk(10, max by ({q.BY_ID}) ({last}))"
    included, most = q.of_account("plan_included_bytes"), q.of_account("plan_max_bytes")
    total = q.of_account("usage_bytes")
    return [
        m.lines(
            "Usage by repo",
            "The ten largest repos as of the last day of the shown time, and all others together.",
            [
                m.Query(f"{by_repo} and on ({q.BY_ID}) {largest}", "{{repo}} ({{account}})"),
                m.Query(f"sum({by_repo} unless on ({q.BY_ID}) {largest})", "all others"),
            ],
            (12, 10), "decbytes", "No usage is known in the shown time.",
            custom=m.STACKED, overrides=[m.override("all others", color=m.fixed(m.GREY))],
        ),
        m.lines(
            "Usage and plan",
            "Usage of all accounts against what their plans include and allow at most. The maximum"
            " is shown only if every account has one.",
            [
                m.Query(f"sum({total})", "used"),
                m.Query(f"sum({included})", "included"),
                m.Query(
                    f"sum({most}) and on () count({most}) == on () count({total})", "maximum"
                ),
            ],
            (12, 10), "decbytes", "No usage is known in the shown time.",
            overrides=[
                m.override("used", **m.LEVEL),
                m.override("included", **(m.LIMIT | {"color": m.fixed(m.YELLOW)})),
                m.override("maximum", **m.LIMIT),
            ],
        ),
    ]  # fmt: skip


def _details() -> list[m.Json]:
    late = q.lateness()
    state = " + ".join(f"({late} > bool {bound})" for bound in q.LATENESS)
    by_id = q.lateness(by=q.BY_ID)
    worst = f"topk(20, max_over_time(({by_id})[$__range:$__interval] @ end()))"
    return [
        m.table(
            "Growth per day, top 10",
            "Bytes per day over the last week; absent without a week of history.",
            f"topk(10, {q.named(q.growth())} > 0)", ("account", "repo_id"),
            [
                m.column("Repo", "repo", links=m.link("Repo", REPO_PAGE), custom__minWidth=110),
                m.column("Account", "account", width=90),
                m.column(
                    "Per day", m.ROW_VALUE, unit="decbytes", min=0,
                    custom__cellOptions={"type": "gauge", "mode": "basic"}, width=160,
                ),
            ],
            (9, 10), "No growth is known: nothing grew, or there is no week of history.",
            sort="Per day",
        ),
        m.timeline(
            "Freshness",
            "Whether repos were written to within their inactivity limit. Shows the twenty that, in"
            " the shown time, came closest to the limit or exceeded it most.",
            [m.Query(f"{state} and on ({q.BY_ID}) {worst}", "{{repo}} ({{account}})")],
            (15, 10), "No repo has an inactivity limit, or none is known in the shown time.",
            FRESHNESS,
        ),
    ]  # fmt: skip


def overview() -> m.Json:
    """Make the dashboard."""
    return m.dashboard(
        "borgbase-overview",
        "BorgBase / Overview",
        "All BorgBase accounts and repos: what needs attention, and the trends.",
        [JOBS, ACCOUNTS],
        [
            _trust(),
            _counts(),
            [_alerts(), _expiries()],
            [_repos()],
            [_accounts()],
            "Trends",
            _trends(),
            _details(),
        ],
        [SIMULATED_DATA],
    )
