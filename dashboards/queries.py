"""The PromQL that dashboards share: raw metrics only, so that no recording rule is needed.

`max by` takes what replicas, restarts and several Prometheus jobs repeat for one. A repo that is
renamed is still the same repo: what looks back in time matches on account and repo_id.
"""

JOB = 'job=~"$job"'
ACCOUNT = f'{JOB}, account=~"$account"'
REPO = f'{ACCOUNT}, repo_id=~"$repo_id"'

BY_REPO = "account, repo_id, repo"
DAY = 86400


def newest(metric: str, by: str, where: str = ACCOUNT) -> str:
    """Give a gauge once for each of what it is about."""
    return f"max by ({by}) ({metric}{{{where}}})"


def of_repo(metric: str, where: str = ACCOUNT, by: str = BY_REPO) -> str:
    """Give a gauge once for each repo."""
    return newest(f"borgbase_repo_{metric}", by, where)


def of_account(metric: str) -> str:
    """Give a gauge once for each account."""
    return newest(f"borgbase_account_{metric}", "account")


def used(where: str = ACCOUNT, by: str = BY_REPO) -> str:
    """Usage as a share of the quota; absent without one."""
    return f"{of_repo('usage_bytes', where, by)} / ({of_repo('quota_bytes', where, by)} > 0)"


def age(where: str = ACCOUNT, by: str = BY_REPO, *, or_created: bool = False) -> str:
    """Seconds without a write, as of the last good poll: nobody knows of later ones.

    A repo never written to has no age, or counts from its creation.
    """
    written = of_repo("last_modified_timestamp_seconds", where, by)
    if or_created:
        written = f"({written} or {of_repo('created_timestamp_seconds', where, by)})"
    polled = newest("borgbase_last_success_timestamp_seconds", "account")
    return f"({polled} - on (account) group_right () {written})"


def lateness(where: str = ACCOUNT, by: str = BY_REPO, *, or_created: bool = False) -> str:
    """Age as a share of the repo's inactivity limit; absent without one."""
    limit = of_repo("inactivity_limit_seconds", where, by)
    return f"{age(where, by, or_created=or_created)} / ({limit} > 0)"


def growth(where: str = ACCOUNT) -> str:
    """Bytes per day over a week, by account and repo_id.

    The average of a day less that of the same weekday before: it sees through the staircase of
    backups and prunes. Without a sample from a week ago there is none.
    """
    day = f"avg by (account, repo_id) (avg_over_time(borgbase_repo_usage_bytes{{{where}}}[1d]"
    return f"({day})) - {day} offset 7d))) / 7"


def days_left(where: str = ACCOUNT, by: str = BY_REPO) -> str:
    """Days until the quota is used up; absent without a quota, and where it takes ten years."""
    room = f"{of_repo('quota_bytes', where, by)} - {of_repo('usage_bytes', where, by)}"
    rate = f"({growth(where)} > 0)"
    return f"clamp_min({room}, 0) / on (account, repo_id) group_left () {rate} < 3650"


def named(by_id: str, where: str = ACCOUNT) -> str:
    """Give what is known by account and repo_id the repo's present name."""
    name = of_repo("info", where)
    return f"{name} * on (account, repo_id) group_left () ({by_id})"


def info(where: str = ACCOUNT) -> str:
    """Facts about each repo, with a label `version` that people read: borg 1.4, restic."""
    facts = f"borgbase_repo_info{{{where}}}"
    for pattern, text, source in (
        ("(.*)", "borg $1", "borg_version"),
        ("V_([0-9]+)_([0-9]+)_.*", "borg $1.$2", "borg_version"),
        ("(restic)", "$1", "format"),
    ):
        facts = f'label_replace({facts}, "version", "{text}", "{source}", "{pattern}")'
    return facts


def plan_used() -> str:
    """Usage as a share of what the plan allows: its maximum or, without one, what it includes."""
    limit = f"{of_account('plan_max_bytes')} or {of_account('plan_included_bytes')}"
    return f"{of_account('usage_bytes')} / (({limit}) > 0)"


def firing(by: str, severity: str = ".*") -> str:
    """Give our firing alerts; that of an exporter that is gone has no account, and maybe no job."""
    some = f'alertname=~"BorgBase.+", alertstate="firing", severity=~"{severity}"'
    some += ', account=~"$account|"'
    return f'max by ({by}) (ALERTS{{{JOB}, {some}}} or ALERTS{{job="", {some}}})'
