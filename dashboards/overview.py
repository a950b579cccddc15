"""BorgBase / Overview: what needs a hand, then the trends."""

from dashboards import queries as q
from dashboards.choices import ACCOUNTS, JOBS
from dashboards.model import (
    ANY_IS_BAD,
    BLUE,
    COLOURED_TEXT,
    DASHED,
    FACT,
    GREEN,
    GREY,
    ORANGE,
    RED,
    STACKED,
    YELLOW,
    Json,
    Query,
    bars,
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
REPO_PAGE = (
    "/d/borgbase-repository?${datasource:queryparam}&${job:queryparam}"
    "&var-account=${__data.fields.account:percentencode}"
    "&var-repo=${__data.fields.repo:percentencode}&${__url_time_range}"
)

QUOTA = steps(0.85, 0.95)
LATENESS = steps(1, 2)
PLAN = steps(0.9, 0.97)
DATA_AGE = steps(45 * 60, 2 * 3600)
DAYS_LEFT = steps(3, 14, colours=(RED, ORANGE, GREEN))
PRESSURE = steps(0.85, 1)
TIME_LEFT = steps(-30 * q.DAY, 3 * q.DAY, 14 * q.DAY, colours=(GREY, RED, ORANGE, GREEN))
"""What ended long ago has been given up."""

SEVERITIES = {3: ("critical", RED), 2: ("warning", ORANGE), 1: ("info", YELLOW)}
FLAGS = names(
    {
        bits: (text, GREY)
        for bits, text in enumerate(
            (
                "–",
                "append-only",
                "compaction",
                "append-only, compaction",
                "SFTP",
                "append-only, SFTP",
                "compaction, SFTP",
                "append-only, compaction, SFTP",
            )
        )
    }
)
FRESHNESS = names({0: ("in time", GREEN), 1: ("overdue", ORANGE), 2: ("long overdue", RED)})


def _headline() -> list[Json]:
    never = (
        f"({q.of_repo('created_timestamp_seconds')} < time() - 3 * {q.DAY})"
        f" unless {q.of_repo('last_modified_timestamp_seconds')}"
    )
    polled = q.newest("borgbase_last_success_timestamp_seconds", "account")
    return [
        stat(
            "Alerts",
            "BorgBase alerts that fire now, listed below. Needs the alert rules in Prometheus.",
            f"count({q.firing('alertname, account, repo')})",
            "none", "none", ANY_IS_BAD,
        ),
        stat(
            "Overdue",
            "Repos without a write for longer than their inactivity limit at BorgBase.",
            f"sum({q.lateness()} > bool 1)",
            "none", "no limit set", ANY_IS_BAD,
        ),
        stat(
            "Never backed up",
            "Repos older than three days that were never written to.",
            f"count({never}) or 0 * count({q.of_repo('created_timestamp_seconds')})",
            "none", "no data", ANY_IS_BAD,
        ),
        stat(
            "Over 85 % of quota",
            "Repos that use more than 85 % of their quota.",
            f"sum({q.used()} > bool 0.85)",
            "none", "no quota set", steps(1, colours=(GREEN, ORANGE)),
        ),
        stat(
            "Plan used",
            "Usage as a share of what the plan allows: its maximum or, without one, what it"
            " includes. Of several accounts, the fullest.",
            f"max({q.plan_used()})",
            "percentunit", "no plan limit", PLAN,
        ),
        stat(
            "Accrued overage",
            "What usage beyond the plan has cost in this billing period. It endangers nothing.",
            f"sum({q.of_account('accrued_overage_usd')})",
            "currencyUSD", "not known", steps(0.01, colours=(GREEN, YELLOW)),
        ),
        stat(
            "Data age",
            "Time since the last good poll; of several accounts, the longest. All numbers here"
            " are as of then.",
            f"max(time() - {polled})",
            "s", "no good poll yet", DATA_AGE,
        ),
        stat(
            "Repos",
            "Number of repos.",
            f"sum({q.of_account('repos')})",
            "none", "no data", FACT,
        ),
    ]  # fmt: skip


def _attention() -> list[Json]:
    alerts = " or ".join(
        f"{rank} * {q.firing('alertname, account, repo', severity)}"
        for rank, (severity, _) in SEVERITIES.items()
    )
    renewed = q.of_account("auto_renew")
    ends = q.of_account("subscription_end_timestamp_seconds")
    token = q.newest("borgbase_api_token_expiration_timestamp_seconds", "account, token")
    own = q.newest("borgbase_exporter_token_expiration_timestamp_seconds", "account")
    expiries = " or ".join(
        (
            _called("subscription", f"{ends} unless {renewed} == 1"),
            _called("subscription (renews itself)", f"{ends} and {renewed} == 1"),
            f'label_replace({token}, "what", "token $1", "token", "(.*)")',
            _called("the exporter's own token", f"{own} unless on (account) {token}"),
        )
    )
    # What ended long ago or runs on for years is nobody's worry.
    expiries = f"max by (account, what) ({expiries})"
    near = f"({expiries} < time() + 400 * {q.DAY} > time() - 30 * {q.DAY})"
    return [
        table(
            "Firing alerts",
            "BorgBase alerts that fire now. An alert leads to its runbook, a repo to its page.",
            [
                column(
                    "Severity", Query(alerts),
                    mappings=names(SEVERITIES), custom__cellOptions=COLOURED_TEXT, custom__width=90,
                ),
                column("Alert", "alertname", links=link("Runbook", RUNBOOKS)),
                column("Account", "account", custom__width=130),
                column("Repo", "repo", links=link("Repo", REPO_PAGE)),
            ],
            (13, 9),
            "Nothing fires, or the alert rules are not loaded.",
            sort="Severity",
        ),
        table(
            "Expiries",
            "Subscriptions and API tokens that end within 400 days or ended within 30.",
            [
                column("Account", "account", custom__width=100),
                column("What", "what"),
                column(
                    "Left", Query(f"{near} - time()"),
                    unit="s", thresholds=TIME_LEFT, custom__cellOptions=COLOURED_TEXT,
                    custom__width=110,
                ),
                column(
                    "On", Query(f"{near} * 1000"), unit="dateTimeAsLocal", custom__width=140
                ),
            ],
            (11, 9),
            "Nothing expires within 400 days.",
            sort="Left",
            descending=False,
        ),
    ]  # fmt: skip


def _called(what: str, expr: str) -> str:
    return f'label_replace({expr}, "what", "{what}", "", "")'


def _repos() -> Json:
    info = f"max by ({q.BY_REPO}, repo_region, version) ({q.info()})"
    late = f'label_replace({q.lateness(or_created=True)}, "of", "limit", "", "")'
    full = f'label_replace({q.used()}, "of", "quota", "", "")'
    usage = q.of_repo("usage_bytes")
    pressure = f"max by ({q.BY_REPO}) ({late} or {full} or 0 * {usage})"
    flags = " or ".join(
        f'label_replace({bit} * {q.of_repo(flag)}, "flag", "{flag}", "", "")'
        for bit, flag in ((1, "append_only"), (2, "compaction_enabled"), (4, "sftp_enabled"))
    )
    flags = f"sum by ({q.BY_REPO}) ({flags})"
    written = q.of_repo("last_modified_timestamp_seconds")
    share = {"custom__cellOptions": COLOURED_TEXT, "unit": "percentunit", "decimals": 0}
    return table(
        "Repos, worst first",
        "Pressure is the worse of used / quota and time without a write / inactivity limit: 100 %"
        " is full or due. Days left: until the quota is used up, by the growth of the last week."
        " A repo's name leads to its page.",
        [
            column("Repo", "repo", links=link("Repo", REPO_PAGE), custom__minWidth=150),
            column("Account", "account", custom__width=110),
            column(
                "Pressure", Query(pressure),
                custom__width=110, max=2, min=0, thresholds=PRESSURE, unit="percentunit",
                decimals=0, custom__cellOptions={"type": "gauge", "mode": "basic"},
            ),
            column("Usage", Query(usage), unit="decbytes", custom__width=95),
            column("Quota", Query(q.of_repo("quota_bytes")), unit="decbytes", custom__width=95),
            column("Used", Query(q.used()), thresholds=QUOTA, custom__width=75, **share),
            column(
                "Days left", Query(q.days_left()),
                custom__cellOptions=COLOURED_TEXT, custom__width=90, decimals=0, unit="none",
                thresholds=DAYS_LEFT,
            ),
            column(
                "Last write", Query(f"{written} * 1000"),
                unit="dateTimeFromNow", custom__width=130,
            ),
            column(
                "Limit", Query(q.of_repo("inactivity_limit_seconds")),
                unit="s", decimals=0, custom__width=80,
            ),
            column("Flags", Query(flags), mappings=FLAGS, custom__width=210),
            column("Region", "repo_region", custom__width=75),
            column("Version", "version", custom__width=100),
        ],
        (24, 13),
        "No repos: the account has none, or no poll has succeeded within --poll.max-age.",
        sort="Pressure",
        queries=[info],
        hidden=["repo_id"],
    )  # fmt: skip


def _trends() -> list[Json]:
    by_repo = q.of_repo("usage_bytes")
    # The largest as of the end of the shown range, so that they are the same ten all along.
    usage_then = f"max by (account, repo_id) (borgbase_repo_usage_bytes{{{q.ACCOUNT}}} @ end())"
    largest = f"topk(10, {usage_then})"
    included, most = q.of_account("plan_included_bytes"), q.of_account("plan_max_bytes")
    total = q.of_account("usage_bytes")
    return [
        lines(
            "Usage by repo",
            "The ten largest repos as of the end of the shown time, and all others together.",
            [
                Query(f"{by_repo} and on (account, repo_id) {largest}", "{{repo}} ({{account}})"),
                Query(f"sum({by_repo} unless on (account, repo_id) {largest})", "all others"),
            ],
            (12, 9), "decbytes", "no data",
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
            (12, 9), "decbytes", "no data",
            defaults={"min": 0},
            overrides=[
                override("used", color=fixed(BLUE), custom__fillOpacity=15),
                override("included", color=fixed(YELLOW), custom__lineStyle=DASHED),
                override("maximum", color=fixed(RED), custom__lineStyle=DASHED),
            ],
        ),
    ]  # fmt: skip


def _details() -> list[Json]:
    late = q.lateness()
    state = f"({late} > bool 1) + ({late} > bool 2)"
    worst = f"topk(20, max_over_time(({late})[$__range:6h] @ end()))"
    return [
        bars(
            "Growth per day, top 10",
            "Bytes a day over the last week; empty in the first week of the exporter's life.",
            Query(
                f"sort_desc(topk(10, {q.named(q.growth())} > 0))", "{{repo}} ({{account}})"
            ),
            (9, 10), "decbytes", "Nothing grew, or there is no week of history yet.",
        ),
        timeline(
            "Freshness",
            "Whether each repo was written to within its inactivity limit: the twenty that came"
            " closest to it, or passed it by the most, in the shown time.",
            [
                Query(
                    f"{state} and on (account, repo_id, repo) {worst}", "{{repo}} ({{account}})"
                )
            ],
            (15, 10), "no inactivity limit set", FRESHNESS,
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
            _headline(),
            _attention(),
            [_repos()],
            "Trends",
            _trends(),
            _details(),
        ],
    )
