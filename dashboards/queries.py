"""The PromQL that dashboards share: raw metrics only, so that no recording rule is needed.

`max by` merges series that replicas, restarts and several Prometheus jobs repeat. A repo that is
renamed is still the same repo: what looks back in time matches on account and repo_id.
"""

from __future__ import annotations

JOB = 'job=~"$job"'
# Grafana escapes a variable in a regex only if it may have many values. `:regex` always does; in
# backticks, backslashes and quotes are literal.
ACCOUNT = f"{JOB}, account=~`${{account:regex}}`"
REPO = f'{ACCOUNT}, repo_id=~"$repo_id"'

BY_ID = "account, repo_id"
BY_REPO = "account, repo_id, repo"
DAY = 86400

QUOTA = 0.85, 0.95
"""Usage as a share of the quota: a warning, critical. Findings and alert rules have the same."""
PLAN = 0.9, 0.97
"""Usage as a share of what the plan allows."""
LATENESS = 1, 2
"""Age of the last write as a share of the inactivity limit."""
EXPIRY_DAYS = 14
"""Before a subscription or a token ends."""
MAX_AGE = 6 * 3600
"""The default of --poll.max-age."""


def newest(metric: str, by: str, where: str = ACCOUNT) -> str:
    """Return a gauge once for each of its subjects."""
    return f"max by ({by}) ({metric}{{{where}}})"


def of_repo(metric: str, where: str = ACCOUNT, by: str = BY_REPO) -> str:
    """Return a gauge once for each repo."""
    return newest(f"borgbase_repo_{metric}", by, where)


def of_account(metric: str) -> str:
    """Give a gauge once for each account."""
    return newest(f"borgbase_account_{metric}", "account")


NOTHING_SET, NO_REPOS = -1, -2


def otherwise(expr: str, metric: str) -> str:
    """Return NOTHING_SET where `metric` exists but `expr` has no result, or NO_REPOS.

    No value at all means unknown.
    """
    none = f"sum({of_account('repos')}) == 0"
    return f"{expr} or 0 * count({metric}) + {NOTHING_SET} or ({none}) + {NO_REPOS}"


def used(where: str = ACCOUNT, by: str = BY_REPO) -> str:
    """Usage as a share of the quota; absent without one."""
    return f"{of_repo('usage_bytes', where, by)} / ({of_repo('quota_bytes', where, by)} > 0)"


def polled() -> str:
    """Time of the last good poll, by account."""
    return newest("borgbase_last_success_timestamp_seconds", "account")


def age(where: str = ACCOUNT, by: str = BY_REPO, *, or_created: bool = False) -> str:
    """Seconds without a write, as of the last good poll: later writes are unknown.

    A repo never written to has no age, or counts from its creation.
    """
    written = of_repo("last_modified_timestamp_seconds", where, by)
    if or_created:
        written = f"({written} or {never_written(where, by)})"
    return f"({polled()} - on (account) group_right () {written})"


def never_written(where: str = ACCOUNT, by: str = BY_REPO) -> str:
    """Time of creation of the repos without data and without a last write."""
    written = of_repo("last_modified_timestamp_seconds", where, by)
    created = of_repo("created_timestamp_seconds", where, by)
    return f"({created} unless {written} and {of_repo('usage_bytes', where, by)} == 0)"


def lateness(where: str = ACCOUNT, by: str = BY_REPO, *, or_created: bool = False) -> str:
    """Age as a share of the repo's inactivity limit; absent without one."""
    limit = of_repo("inactivity_limit_seconds", where, by)
    return f"{age(where, by, or_created=or_created)} / ({limit} > 0)"


def growth(where: str = ACCOUNT) -> str:
    """Bytes per day over a week, by account and repo_id.

    The average of a day minus that of the same weekday a week ago, so that daily backups and
    weekly prunes cancel out. Without a sample from a week ago there is none.
    """
    day = f"avg by ({BY_ID}) (avg_over_time(borgbase_repo_usage_bytes{{{where}}}[1d]"
    return f"({day})) - {day} offset 7d))) / 7"


def days_left(where: str = ACCOUNT, by: str = BY_REPO) -> str:
    """Days until the quota is used up; absent without a quota, and beyond ten years."""
    room = f"{of_repo('quota_bytes', where, by)} - {of_repo('usage_bytes', where, by)}"
    rate = f"({growth(where)} > 0)"
    return f"clamp_min({room}, 0) / on ({BY_ID}) group_left () {rate} < 3650"


def named(by_id: str, where: str = ACCOUNT) -> str:
    """Add the repo's current name to series by account and repo_id."""
    name = of_repo("info", where)
    return f"{name} * on ({BY_ID}) group_left () ({by_id})"


def info(where: str = ACCOUNT) -> str:
    """Facts about each repo, with a label `version` that people read: borg 1.4, restic, vykar."""
    facts = f"borgbase_repo_info{{{where}}}"
    for pattern, text, source in (
        ("(.*)", "borg $1", "borg_version"),
        ("V_([0-9]+)_([0-9]+)_.*", "borg $1.$2", "borg_version"),
        ("(restic|vykar)", "$1", "format"),
    ):
        facts = f'label_replace({facts}, "version", "{text}", "{source}", "{pattern}")'
    return facts


def plan_limit() -> str:
    """Return the plan's limit, by account: its maximum or, without one, what it includes."""
    return f"{of_account('plan_max_bytes')} or {of_account('plan_included_bytes')}"


def plan_used() -> str:
    """Usage as a share of what the plan allows."""
    return f"{of_account('usage_bytes')} / (({plan_limit()}) > 0)"


def expiring() -> str:
    """When subscriptions and tokens end, if within 90 days or less than 30 days ago."""
    renewed = of_account("auto_renew")
    ends = of_account("subscription_end_timestamp_seconds")
    token = newest("borgbase_api_token_expiration_timestamp_seconds", "account, token")
    own = newest("borgbase_exporter_token_expiration_timestamp_seconds", "account")
    everything = " or ".join(
        (
            _called("subscription", f"{ends} unless {renewed} == 1"),
            _called("subscription (renews itself)", f"{ends} and {renewed} == 1"),
            f'label_replace({token}, "what", "token $1", "token", "(.*)")',
            _called("the exporter's own token", f"{own} unless on (account) {token}"),
        )
    )
    each = f"max by (account, what) ({everything})"
    return f"({each} < time() + 90 * {DAY} > time() - 30 * {DAY})"


def _called(what: str, expr: str) -> str:
    return f'label_replace({expr}, "what", "{what}", "", "")'


def firing(by: str, severity: str = ".*") -> str:
    """Return the firing alerts; that of a missing exporter has no account, and maybe no job."""
    where = 'job=~"$job|", account=~`${account:regex}|`, alertstate="firing"'
    return f'max by ({by}) (ALERTS{{alertname=~"BorgBase.+", severity=~"{severity}", {where}}})'


def rules() -> str:
    """Return the results of this project's recording rules: a sign that they run."""
    return f'{{__name__=~"[a-z]+:borgbase_.+", {JOB}}}'


def scrapes() -> str:
    """Whether each exporter in the shown time answers Prometheus."""
    seen = f"last_over_time(borgbase_exporter_build_info{{{JOB}}}[$__range])"
    return f"max by (job, instance) (up{{{JOB}}} and on (job, instance) {seen})"
