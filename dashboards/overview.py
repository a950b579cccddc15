"""BorgBase / Overview: what needs a hand, then the trends."""

from __future__ import annotations

from dashboards import queries as q
from dashboards.choices import ACCOUNTS, JOBS
from dashboards.model import (
    ANY_IS_BAD,
    ANY_IS_WARNING,
    BLUE,
    COLOURED_TEXT,
    DAYS,
    FACT,
    GREEN,
    GREY,
    LEVEL,
    LIMIT,
    ORANGE,
    RED,
    ROW_VALUE,
    STACKED,
    YELLOW,
    Json,
    Query,
    Words,
    annotation,
    column,
    dashboard,
    fixed,
    lines,
    link,
    names,
    override,
    stat,
    steps,
    table,
    timeline,
)

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

QUOTA, PLAN, LATENESS = steps(*q.QUOTA), steps(*q.PLAN), steps(*q.LATENESS)
PRESSURE = steps(q.QUOTA[0], 1)
DATA_AGE = steps(2 * 3600, 6 * 3600)
DAYS_LEFT = steps(3, q.EXPIRY_DAYS, colours=(RED, ORANGE, GREEN))
EXPIRY = steps(-30, 3, q.EXPIRY_DAYS, colours=(GREY, RED, ORANGE, GREEN))
"""What ended long ago has been given up."""

SEVERITIES = {3: ("critical", RED), 2: ("warning", ORANGE), 1: ("info", BLUE)}
FLAGS: Words = {
    bits: (
        ", ".join(
            name
            for bit, name in ((1, "append-only"), (2, "compaction"), (4, "SFTP"))
            if bits & bit
        )
        or "none",
        GREY,
    )
    for bits in range(8)
}
UP: Words = {0: ("down", RED), 1: ("up", GREEN)}
SIMULATED: Words = {0: ("BorgBase", GREEN), 1: ("SIMULATED", ORANGE)}
FRESHNESS = names({0: ("in time", GREEN), 1: ("overdue", ORANGE), 2: ("long overdue", RED)})

_SIMULATED = q.newest("borgbase_simulated", "account")
SIMULATED_DATA = annotation(
    "Simulated data", f"{_SIMULATED} == 1", ORANGE, "15m",
    titleFormat="The account {{account}} is simulated: its data is invented.",
)  # fmt: skip


def source() -> Json:
    """Say whether the data is invented."""
    up = q.newest("borgbase_up", "account")
    return stat(
        "Data from",
        "SIMULATED: at least one of the accounts is that of --demo, and its data is invented.",
        f"max({_SIMULATED} or 0 * {up})",
        "none", FACT, words=SIMULATED,
    )  # fmt: skip


def down() -> Json:
    """Count the accounts that cannot be polled."""
    return stat(
        "Accounts down",
        "Accounts whose last poll of the repo list failed. What is shown of them is old, or gone.",
        f"sum({q.newest('borgbase_up', 'account')} == bool 0)",
        "none", ANY_IS_BAD,
    )  # fmt: skip


def scrapes_failing() -> Json:
    """Count the exporters that do not answer."""
    return stat(
        "Scrapes failing",
        "Exporters of the shown time that Prometheus still has as a target and cannot read.",
        f"sum({q.scrapes()} == bool 0)",
        "none", ANY_IS_BAD,
    )  # fmt: skip


def data_age() -> Json:
    """Say how old the numbers are."""
    return stat(
        "Data age",
        "Time since the last good poll; of several accounts, the longest. All numbers are as of"
        " then.",
        f"max(time() - {q.polled()})",
        "s", DATA_AGE, decimals=1,
    )  # fmt: skip


def _trust() -> list[Json]:
    alerts = f"count({q.firing('alertname, account, repo_id')}) or 0 * count({q.rules()})"
    return [
        stat(
            "Firing alerts",
            "BorgBase alerts that fire now, listed below. Unknown while no rules write to this"
            " data source.",
            alerts, "none", ANY_IS_BAD, missing="no rules seen",
        ),
        down(),
        scrapes_failing(),
        data_age(),
        stat(
            "Repos",
            "Repos that the accounts list now.",
            f"sum({q.of_account('repos')})",
            "none", FACT,
        ),
        source(),
    ]  # fmt: skip


def _why(nothing_set: str) -> Words:
    return {q.NOTHING_SET: (nothing_set, GREY), q.NO_REPOS: ("no repos", GREY)}


def _counts() -> list[Json]:
    usage = q.of_repo("usage_bytes")
    old = f"{q.never_written()} < time() - 3 * {q.DAY}"
    overdue = q.otherwise(f"sum({q.lateness()} > bool {q.LATENESS[0]})", usage)
    full = q.otherwise(f"sum({q.used()} > bool {q.QUOTA[0]})", usage)
    plan = q.otherwise(f"max({q.plan_used()})", q.of_account("usage_bytes"))
    return [
        stat(
            "Overdue",
            "Repos without a write for longer than their inactivity limit at BorgBase.",
            overdue, "none", ANY_IS_BAD, words=_why("no limit set"),
        ),
        stat(
            "Never backed up",
            "Repos older than three days that were never written to.",
            q.otherwise(f"count({old}) or 0 * count({usage})", usage),
            "none", ANY_IS_BAD, words=_why("none"),
        ),
        stat(
            f"Over {q.QUOTA[0] * 100:.0f} % of quota",
            f"Repos that use more than {q.QUOTA[0] * 100:.0f} % of their quota.",
            full, "none", ANY_IS_WARNING, words=_why("no quota set"),
        ),
        stat(
            "Plan used",
            "Usage as a share of what the plan allows: its maximum or, without one, what it"
            " includes. Of several accounts, the fullest.",
            plan, "percentunit", PLAN, words=_why("no plan limit"),
        ),
        stat(
            "Accrued overage",
            "What usage beyond the plan has cost in this billing period. It endangers nothing.",
            f"sum({q.of_account('accrued_overage_usd')})",
            "currencyUSD", steps(0.01, colours=(GREEN, YELLOW)), decimals=2,
        ),
        stat(
            "Usage",
            "Space that all repos take at BorgBase.",
            f"sum({q.of_account('usage_bytes')})",
            "decbytes", FACT,
        ),
    ]  # fmt: skip


def _alerts() -> Json:
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
    return table(
        "Firing alerts, worst first",
        "BorgBase alerts that fire now. An alert leads to its runbook, what it is about to the"
        " page of the repo or the exporter.",
        rows,
        ("alertname", "account", "repo_id"),
        [
            column(
                "Severity", ROW_VALUE, words=SEVERITIES,
                custom__cellOptions=COLOURED_TEXT, custom__width=90, custom__align="left",
            ),
            column("Alert", "alertname", links=link("Runbook", RUNBOOKS), custom__minWidth=220),
            column("Account", "account", custom__width=130),
            column("About", "what", links=link("Page", ALERT_PAGE)),
            column("Repo", "repo", hidden=True),
            column("Page", "page", hidden=True),
        ],
        (14, 11),
        "No alert fires, or no rules write to this data source: see the tile above.",
        sort="Severity",
    )  # fmt: skip


def _expiries() -> Json:
    return table(
        "Expiries",
        "Subscriptions and API tokens that end within 90 days or ended within 30.",
        q.expiring(),
        ("account", "what"),
        [
            column("Account", "account", custom__width=110),
            column("What", "what", custom__minWidth=140),
            column(
                "Days left", Query(f"({q.expiring()} - time()) / {q.DAY}"),
                decimals=0, thresholds=EXPIRY, custom__cellOptions=COLOURED_TEXT,
                custom__width=90,
            ),
            column(
                "On", Query(f"{q.expiring()} * 1000"), unit="time:YYYY-MM-DD", custom__width=105
            ),
        ],
        (10, 11),
        "Nothing that is known expires within 90 days.",
        sort="Days left",
        descending=False,
    )  # fmt: skip


def _repos() -> Json:
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
    return table(
        "Repos, worst first",
        "Pressure is the worse of used / quota and time without a write / inactivity limit: 100 %"
        " is full or due. Days left: until the quota is used up, by the growth of the last week;"
        " none is shown without a quota, without growth, or in the first week. A repo's name"
        " leads to its page.",
        f"max by ({q.BY_REPO}, repo_region, version) ({q.info()})",
        ("account", "repo_id"),
        [
            column("Repo", "repo", links=link("Repo", REPO_PAGE), custom__minWidth=150),
            column("Account", "account", custom__width=110),
            column(
                "Pressure", Query(pressure),
                custom__width=120, max=2, min=0, thresholds=PRESSURE, unit="percentunit",
                custom__cellOptions={"type": "gauge", "mode": "basic"},
            ),
            column("Usage", Query(usage), unit="decbytes", custom__width=90),
            column(
                "Quota", Query(q.of_repo("quota_bytes")), unit="decbytes", custom__width=85
            ),
            column(
                "Used", Query(q.used()), thresholds=QUOTA, custom__width=70, unit="percentunit",
                custom__cellOptions=COLOURED_TEXT,
            ),
            column(
                "Days left", Query(q.days_left()),
                custom__cellOptions=COLOURED_TEXT, custom__width=85, decimals=0,
                thresholds=DAYS_LEFT,
            ),
            column(
                "Last write", Query(f"{written} * 1000"), unit="dateTimeFromNow",
                custom__width=120,
            ),
            column("Limit", Query(f"{limit} / {q.DAY}"), unit=DAYS, custom__width=65),
            column("Flags", Query(flags), words=FLAGS, custom__width=180, custom__align="left"),
            column("Region", "repo_region", custom__width=65),
            column("Version", "version", custom__width=115),
        ],
        (24, 13),
        "No repos: the accounts list none, or their last good poll is older than --poll.max-age.",
        sort="Pressure",
        pages=True,
    )  # fmt: skip


def _accounts() -> Json:
    active = q.of_account("subscription_active")
    plan = q.newest("borgbase_account_plan_info", "account, plan")
    every = f"{plan} or on (account) {q.newest('borgbase_up', 'account')}"
    tokens = q.newest("borgbase_account_api_tokens", "account, permission")
    size = {"unit": "decbytes", "custom__width": 85}
    number = {"custom__width": 70}
    return table(
        "Accounts",
        "What each account uses, and what its plan includes and allows. Billed is the usage of"
        " the last bill.",
        every,
        ("account",),
        [
            column("Account", "account", custom__minWidth=110),
            column(
                "State", Query(q.newest("borgbase_up", "account")), words=UP,
                custom__cellOptions=COLOURED_TEXT, custom__width=65, custom__align="left",
            ),
            column(
                "Data age", Query(f"time() - {q.polled()}"), unit="s", decimals=0,
                thresholds=DATA_AGE, custom__cellOptions=COLOURED_TEXT, custom__width=90,
            ),
            column("Plan", "plan", custom__width=90),
            column(
                "Used", Query(q.plan_used()), thresholds=PLAN, unit="percentunit",
                custom__cellOptions=COLOURED_TEXT, custom__width=65,
            ),
            column("Usage", Query(q.of_account("usage_bytes")), **size),
            column("Included", Query(q.of_account("plan_included_bytes")), **size),
            column("Maximum", Query(q.of_account("plan_max_bytes")), **size),
            column("Billed", Query(q.of_account("billed_usage_bytes")), **size),
            column("Excess", Query(q.of_account("billed_excess_bytes")), **size),
            column("Repos", Query(q.of_account("repos")), **number),
            column(
                "Repo limit", Query(q.of_account("plan_max_repos")), unit="short",
                custom__width=90,
            ),
            column("Keys", Query(q.of_account("ssh_keys")), **number),
            column("Tokens", Query(f"sum by (account) ({tokens})"), **number),
            column(
                "Subscription", Query(active),
                words={0: ("inactive", ORANGE), 1: ("active", GREEN)},
                custom__cellOptions=COLOURED_TEXT, custom__width=105, custom__align="left",
            ),
        ],
        (24, 6),
        "No exporter was seen at the end of the shown time.",
        sort="State",
        descending=False,
    )  # fmt: skip


def _trends() -> list[Json]:
    by_repo = q.of_repo("usage_bytes")
    # The largest as of the end of the shown range, so that they are the same ten all along.
    last = f"last_over_time(borgbase_repo_usage_bytes{{{q.ACCOUNT}}}[1d] @ end())"
    largest = f"topk(10, max by ({q.BY_ID}) ({last}))"
    included, most = q.of_account("plan_included_bytes"), q.of_account("plan_max_bytes")
    total = q.of_account("usage_bytes")
    return [
        lines(
            "Usage by repo",
            "The ten largest repos as of the last day of the shown time, and all others together.",
            [
                Query(f"{by_repo} and on ({q.BY_ID}) {largest}", "{{repo}} ({{account}})"),
                Query(f"sum({by_repo} unless on ({q.BY_ID}) {largest})", "all others"),
            ],
            (12, 10), "decbytes", "No usage is known in the shown time.",
            custom=STACKED, overrides=[override("all others", color=fixed(GREY))],
        ),
        lines(
            "Usage and plan",
            "Usage of all accounts against what their plans include and allow at most. The maximum"
            " is shown where every account has one.",
            [
                Query(f"sum({total})", "used"),
                Query(f"sum({included})", "included"),
                Query(
                    f"sum({most}) and on () count({most}) == on () count({total})", "maximum"
                ),
            ],
            (12, 10), "decbytes", "No usage is known in the shown time.",
            overrides=[
                override("used", **LEVEL),
                override("included", **(LIMIT | {"color": fixed(YELLOW)})),
                override("maximum", **LIMIT),
            ],
        ),
    ]  # fmt: skip


def _details() -> list[Json]:
    late = q.lateness()
    state = " + ".join(f"({late} > bool {bound})" for bound in q.LATENESS)
    by_id = q.lateness(by=q.BY_ID)
    worst = f"topk(20, max_over_time(({by_id})[$__range:$__interval] @ end()))"
    return [
        table(
            "Growth per day, top 10",
            "Bytes a day over the last week; there is none in the exporter's first week.",
            f"topk(10, {q.named(q.growth())} > 0)",
            ("account", "repo_id"),
            [
                column("Repo", "repo", links=link("Repo", REPO_PAGE), custom__minWidth=110),
                column("Account", "account", custom__width=90),
                column(
                    "Per day", ROW_VALUE, unit="decbytes", min=0, custom__width=160,
                    custom__cellOptions={"type": "gauge", "mode": "basic"},
                ),
            ],
            (9, 10),
            "No growth is known: nothing grew, or there is no week of history.",
            sort="Per day",
        ),
        timeline(
            "Freshness",
            "Whether each repo was written to within its inactivity limit: the twenty that came"
            " closest to it, or passed it by the most, in the shown time.",
            [Query(f"{state} and on ({q.BY_ID}) {worst}", "{{repo}} ({{account}})")],
            (15, 10), "No repo has an inactivity limit, or none is known in the shown time.",
            FRESHNESS,
        ),
    ]  # fmt: skip


def overview() -> Json:
    """Make the dashboard."""
    return dashboard(
        "borgbase-overview",
        "BorgBase / Overview",
        "All BorgBase accounts and repos: what needs a hand, and where things are going.",
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
