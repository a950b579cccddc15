"""Cases of the alerts on the exporter itself and on its token."""

from collections.abc import Callable

from tests.rules import (
    ACCOUNT_LABELS,
    DAY,
    HOUR,
    MINUTE,
    Alert,
    Change,
    Curve,
    Firing,
    Series,
    Story,
    Value,
    World,
    ago,
    changed,
    curve,
    healed,
    now,
    restarted,
    until,
)

BOTH = ("warning", "critical")
SKIPPED = "borgbase_entries_skipped"
FAILURES = "borgbase_poll_failures_total"
OWN = "borgbase_exporter_token_expiration_timestamp_seconds"
API = "borgbase_api_token_expiration_timestamp_seconds"


def every(interval: int, begin: int = 0, end: int = 1000 * DAY) -> Curve:
    """Return a counter that increases at once, and then once in each interval."""
    return lambda t: 0 if t < begin else 1 + (min(t, end) - begin) // interval


def down(reason: str, interval: int = 15 * MINUTE) -> dict[str, Value]:
    return {
        "borgbase_up": 0,
        "borgbase_collector_success": 0,
        f"{FAILURES}{{collector=repos,reason={reason}}}": every(interval),
    }


def without_exporter(target: float | None) -> Change:
    """Return the change that takes the target down or, with None, out of the configuration."""

    def change(before: World) -> World:
        return {
            key: until(12 * MINUTE, old, target if key.name == "up" else None)
            for key, old in before.items()
        }

    return change


def down_for_five_hours(before: World) -> World:
    return healed(changed(before, without_exporter(0)), before, 5 * HOUR)


def textfile_that_ends(before: World) -> World:
    """Let node_exporter expose a file that is not written again after an hour."""
    after = changed(before, {"borgbase_last_success_timestamp_seconds": until(HOUR, now, HOUR)})
    return {
        Series(key.name, frozenset((dict(key.labels) | {"job": "node"}).items())): old
        for key, old in after.items()
        if key.name != "borgbase_poll_interval_seconds"
    }


def without_accounts(before: World) -> World:
    """The exporter continues to run, but its token folder is empty."""
    return {
        key: until(12 * MINUTE, old) if "account" in dict(key.labels) else old
        for key, old in before.items()
    }


def without_acme(begin: int) -> Change:
    """Return the change that removes the account from the exporter."""
    return lambda before: {
        key: until(begin, old) if ("account", "acme") in key.labels else old
        for key, old in before.items()
    }


def absent(job: str) -> str:
    return (
        f"Prometheus gets no metrics from borgbase-exporter{job}. Backups are not affected, but "
        "alerts on the exporter's repos get no new values. Start the exporter, or correct the "
        "scrape configuration."
    )


def incomplete(collector: str) -> str:
    return (
        f"For hours, the exporter could not read all {collector} of account acme. Those that are "
        "missing are not monitored. While the list of repos is incomplete, a deleted repo goes "
        "unnoticed. Run the exporter's check to see what is missing, then upgrade the exporter "
        "or ask BorgBase's support."
    )


def expiring(token: str, when: str) -> str:
    return (
        f"{token} of account acme {when}. BorgBase refuses an expired token. If nobody uses this "
        "one, delete it. Otherwise replace it with a new one. If the exporter uses it, and runs "
        "as a systemd service or gets it from BORGBASE_TOKEN, restart the exporter."
    )


def one_target_of_two_down(before: World) -> World:
    return {
        key: curve(0 if key.name == "up" else None)
        if ("instance", "a:10133") in key.labels
        else old
        for key, old in before.items()
    }


def another_job_down(before: World) -> World:
    sample = next(key for key in before if key.name == "up")
    return before | {
        sample._replace(labels=frozenset({("job", "web"), ("instance", "web:80")})): curve(0)
    }


def outage(begin: int, end: int) -> Callable[[World], World]:
    """Return an outage of the API: values stay for 6h after the last success, then disappear."""
    kept = begin - MINUTE + 6 * HOUR

    def change(before: World) -> World:
        def value(name: str, labels: dict[str, str], old: Curve) -> Curve:
            if name == "borgbase_up":
                return until(begin, 1, until(end, 0, 1))
            if name == "borgbase_last_success_timestamp_seconds":
                return until(begin, now, until(end, begin - MINUTE, now))
            if name == FAILURES and labels["reason"] == "connect":
                return every(15 * MINUTE, begin, end)
            if name == "borgbase_repo_last_modified_timestamp_seconds":
                return until(end, 0, now)
            if name.startswith(("borgbase_repo_", "borgbase_account_", API)):
                return until(kept, old, until(end, None, old)) if end > kept else old
            return old

        return {
            key: value(key.name, dict(key.labels), old)
            if ("account", "acme") in key.labels
            else old
            for key, old in before.items()
        }

    return change


ALERTS = [
    Alert(
        name="BorgBaseExporterAbsent",
        summary="A borgbase-exporter is down or not scraped.",
        dashboard="borgbase-exporter",
        labels={},
        fires={
            "target down": Firing(
                alone=True,
                step=6 * MINUTE,
                change=without_exporter(0),
                since=12 * MINUTE,
                severities=BOTH,
                labels={"job": "borgbase"},
                description=absent(" (job borgbase)"),
                outlives_restart=False,
            ),
            "no exporter ever": Firing(
                alone=True,
                step=6 * MINUTE,
                change=lambda _: {},
                severities=BOTH,
                description=absent(""),
                outlives_restart=False,
            ),
        },
        silent={
            "one of two replicas is down": Story(change=one_target_of_two_down, replicas="ab"),
            "a job of another kind is down": Story(change=another_job_down),
            "an account was removed": Story(
                change=without_acme(HOUR), ever="BorgBaseAccountAbsent"
            ),
        },
        stories={
            title: Story(
                change=change,
                at={HOUR: "BorgBaseExporterAbsent", 7 * HOUR: names},
                ever="BorgBaseExporterAbsent",
                end=7 * HOUR,
                alone=True,
            )
            for title, change, names in (
                ("job removed", without_exporter(None), 2 * "BorgBaseExporterAbsent "),
                ("no account left", without_accounts, 2 * "BorgBaseExporterAbsent "),
            )
        }
        | {
            "down for five hours at night: no more than a warning": Story(
                change=down_for_five_hours,
                at={4 * HOUR: "BorgBaseExporterAbsent", 6 * HOUR: ""},
                ever="BorgBaseExporterAbsent",
                end=6 * HOUR,
            ),
        },
    ),
    Alert(
        name="BorgBaseAccountAbsent",
        summary="A BorgBase account is no longer polled.",
        dashboard="borgbase-exporter",
        labels=ACCOUNT_LABELS,
        fires={
            "token file deleted": Firing(
                change=without_acme(0 * HOUR + 3 * MINUTE),
                since=18 * MINUTE,
                description="Account acme disappeared from job borgbase 30m 0s ago; the job's "
                "other accounts are still polled. The account's backups are not affected, but "
                "alerts on its repos get no new values. Put its token file back, or start the "
                "exporter that polled it.",
                lenient=True,
                outlives_restart=False,
            ),
        },
        silent={
            "the exporter restarts": Story(change=lambda before: restarted(before, HOUR, 600)),
            "the whole exporter is down": Story(
                change=without_exporter(0), ever="BorgBaseExporterAbsent"
            ),
            "one of two replicas is down": Story(change=one_target_of_two_down, replicas="ab"),
        },
        stories={
            "removed on purpose: ends after two days": Story(
                change=without_acme(2 * HOUR),
                at={DAY: "BorgBaseAccountAbsent", 2 * DAY + 4 * HOUR: ""},
                ever="BorgBaseAccountAbsent",
                end=2 * DAY + 4 * HOUR,
                step=HOUR,
            ),
        },
    ),
    Alert(
        name="BorgBaseTokenInvalid",
        summary="BorgBase refuses the exporter's token, or the token cannot be read.",
        dashboard="borgbase-exporter",
        labels=ACCOUNT_LABELS,
        fires={
            f"reason {reason}": Firing(
                step=6 * MINUTE,
                change={
                    **down(reason),
                    "borgbase_up": until(12 * MINUTE, 1, 0),
                    f"{FAILURES}{{collector=repos,reason={reason}}}": every(
                        15 * MINUTE, 12 * MINUTE
                    ),
                    "borgbase_collector_success": until(12 * MINUTE, 1, 0),
                },
                since=12 * MINUTE,
                severities=BOTH,
                description="Account acme cannot be polled because of its token. Its backups are "
                "not affected, but alerts on its repos get no new values. Read the reason in the "
                "exporter's log. If it is auth, use a new read-only token; if it is token, correct "
                "the token file. With systemd or BORGBASE_TOKEN, restart the exporter afterwards.",
            )
            for reason in ("auth", "token")
        },
        silent={
            "the API is down": Story(change=down("connect"), ever="BorgBaseAPIUnreachable"),
            "only another collector may not ask, and the API is down": Story(
                change={
                    **down("connect"),
                    f"{FAILURES}{{collector=tokens,reason=auth}}": every(5 * MINUTE),
                },
                ever="BorgBaseAPIUnreachable",
            ),
            "a token replaced just before the API went down": Story(
                change={
                    "borgbase_up": until(12 * MINUTE, 1, 0),
                    f"{FAILURES}{{collector=repos,reason=token}}": every(HOUR, HOUR - 600, HOUR),
                    f"{FAILURES}{{collector=repos,reason=connect}}": every(5 * MINUTE, HOUR),
                },
                ever="BorgBaseAPIUnreachable",
            ),
            "the API is down, and the token file is broken": Story(
                change={
                    **down("connect"),
                    f"{FAILURES}{{collector=repos,reason=token}}": every(15 * MINUTE),
                },
                ever="BorgBaseAPIUnreachable",
            ),
            "the token file is broken, the token read before serves on": Story(
                change={f"{FAILURES}{{collector=repos,reason=token}}": every(15 * MINUTE)}
            ),
        },
        stories={
            "the exporter restarts now and then, its counters begin at 1": Story(
                change={
                    **down("connect"),
                    f"{FAILURES}{{collector=repos,reason=connect}}": 0,
                    f"{FAILURES}{{collector=repos,reason=auth}}": lambda t: (
                        1 + t % (2 * HOUR) // (12 * MINUTE)
                    ),
                },
                at=dict.fromkeys(range(HOUR, 6 * HOUR, 15 * MINUTE), "BorgBaseTokenInvalid"),
                ever="BorgBaseTokenInvalid",
                end=6 * HOUR,
            ),
            "polls once an hour": Story(
                change=down("auth", HOUR), ever="BorgBaseTokenInvalid", end=6 * HOUR
            ),
        },
    ),
    Alert(
        name="BorgBaseAPIUnreachable",
        summary="The exporter cannot get the list of repos from BorgBase.",
        dashboard="borgbase-exporter",
        labels=ACCOUNT_LABELS,
        fires={
            "reason connect": Firing(
                change={
                    "borgbase_up": until(12 * MINUTE, 1, 0),
                    "borgbase_collector_success": until(12 * MINUTE, 1, 0),
                    f"{FAILURES}{{collector=repos,reason=connect}}": every(
                        15 * MINUTE, 12 * MINUTE
                    ),
                },
                since=12 * MINUTE,
                description="Polls of account acme fail, and its token is not the main cause. "
                "Backups may still work, but alerts on the account's repos get no new values. "
                "Check BorgBase's status page, then the reason in the exporter's log, such as "
                "DNS, a proxy or a firewall.",
            ),
            "never up, without a single counted failure": Firing(
                change={"borgbase_up": 0},
                description="Polls of account acme fail, and its token is not the main cause. "
                "Backups may still work, but alerts on the account's repos get no new values. "
                "Check BorgBase's status page, then the reason in the exporter's log, such as "
                "DNS, a proxy or a firewall.",
            ),
        },
        silent={
            "a maintenance window of 20 minutes and the backoff": Story(
                change=outage(HOUR, HOUR + 35 * MINUTE)
            ),
            "down for an hour": Story(change=outage(HOUR, 2 * HOUR), step=MINUTE),
            "one of two replicas cannot reach it": Story(
                change={"borgbase_up{instance=b:10133}": 0}, replicas="ab"
            ),
        },
        stories={
            "down for seven hours: nothing is overdue, nothing has vanished": Story(
                change=outage(HOUR, 8 * HOUR),
                at={
                    2 * HOUR - 5 * MINUTE: "",
                    2 * HOUR: "BorgBaseAPIUnreachable",
                    8 * HOUR - 5 * MINUTE: "BorgBaseAPIUnreachable",
                    8 * HOUR: "",
                },
                ever="BorgBaseAPIUnreachable",
                end=12 * HOUR,
            ),
        },
    ),
    Alert(
        name="BorgBasePollStale",
        summary="The exporter has stopped polling, though nothing failed.",
        dashboard="borgbase-exporter",
        labels=ACCOUNT_LABELS,
        fires={
            "hung loop": Firing(
                change={"borgbase_last_success_timestamp_seconds": until(HOUR, now, HOUR)},
                since=3 * HOUR + 3 * MINUTE,
                description="The last poll of account acme ended 2h 15m 0s ago, and no poll has "
                "failed since: the account's values are that old. The poll loop hangs, or the "
                "timer that writes the textfile has stopped. Save the exporter's log, then "
                "restart it.",
                outlives_restart=False,  # it ends the trouble
            )
        },
        silent={
            "a poll every two hours": Story(
                change={"borgbase_last_success_timestamp_seconds": ago(2 * HOUR)}
            ),
            "one of two replicas hangs": Story(
                change={"borgbase_last_success_timestamp_seconds{instance=b:10133}": 0},
                replicas="ab",
            ),
            "not up: that is said already": Story(
                change=outage(MINUTE, 9 * HOUR), ever="BorgBaseAPIUnreachable"
            ),
        },
        stories={
            "the timer of a textfile stops": Story(
                change=textfile_that_ends,
                at={3 * HOUR: "", 4 * HOUR: "BorgBasePollStale"},
                ever="BorgBasePollStale",
                end=4 * HOUR,
            ),
        },
    ),
    Alert(
        name="BorgBaseCollectorFailing",
        summary="One part of the BorgBase API fails while the rest works.",
        dashboard="borgbase-exporter",
        labels=ACCOUNT_LABELS | {"collector": "tokens"},
        fires={
            "a limited token": Firing(
                change={"borgbase_collector_success{collector=tokens}": 0},
                description="Account acme can be polled, but the collector tokens fails: alerts "
                "that need its data get no new values. Read the reason in the exporter's log. If "
                "it is auth, use a read-only token, or start the exporter with "
                "--no-collector.tokens.",
            )
        },
        silent={
            "switched off": Story(change={"borgbase_collector_success{collector=tokens}": None}),
            "fails for less than an hour": Story(
                change={"borgbase_collector_success{collector=tokens}": until(HOUR, 0, 1)}
            ),
            "the whole account is down": Story(
                change=down("connect"), ever="BorgBaseAPIUnreachable"
            ),
        },
    ),
    Alert(
        name="BorgBaseListIncomplete",
        summary="A list from the BorgBase API has been incomplete for hours.",
        dashboard="borgbase-exporter",
        labels=ACCOUNT_LABELS,
        fires={
            "of repos": Firing(
                step=6 * MINUTE,
                change={"borgbase_account_repos": until(12 * MINUTE, 1)},
                since=6 * HOUR + 12 * MINUTE,
                lenient=True,
                labels={"collector": "repos"},
                description=incomplete("repos"),
            ),
            "of tokens": Firing(
                change={f"{SKIPPED}{{collector=tokens}}": 1},
                labels={"collector": "tokens"},
                description=incomplete("tokens"),
            ),
        },
        silent={
            "for five hours": Story(
                change={"borgbase_account_repos": until(HOUR, 1, until(6 * HOUR, None, 1))},
                end=9 * HOUR,
            ),
            "every other time": Story(
                change={"borgbase_account_repos": lambda t: None if t // (2 * HOUR) % 2 else 1},
                end=12 * HOUR,
            ),
            "the API is down": Story(
                change=lambda before: changed(
                    outage(HOUR, 9 * HOUR)(before), {"borgbase_account_repos": until(HOUR, 1)}
                ),
                ever="BorgBaseAPIUnreachable",
                end=9 * HOUR - 5 * MINUTE,
            ),
        },
    ),
    Alert(
        name="BorgBaseSchemaDrift",
        summary="The BorgBase API no longer has a field that the exporter reads.",
        dashboard="borgbase-exporter",
        labels=ACCOUNT_LABELS,
        fires={
            f"{field} is gone": Firing(
                step=6 * MINUTE,
                change={f"borgbase_schema_field_missing{{field={field}}}": 1},
                severities=severities,
                labels={"field": field},
                keeps=4 * HOUR,
                description=f"{field} is gone from the API (account acme). Metrics made from it "
                "are absent, and alerts that need them get no new values. Upgrade the exporter; "
                "if there is no newer version, report the field.",
            )
            for field, severities in (
                ("RepoType.quota", ("warning", "info")),
                ("RepoType.lastModified", ("warning", "info")),
                ("RepoType.borgVersion", ("info",)),
            )
        },
        silent={
            "back within the hour": Story(
                change={
                    "borgbase_schema_field_missing{field=RepoType.quota}": until(45 * MINUTE, 1)
                }
            ),
        },
    ),
    Alert(
        name="BorgBaseTokenExpiring",
        summary="A BorgBase API token expires soon or has expired.",
        dashboard="borgbase-exporter",
        labels=ACCOUNT_LABELS,
        fires={
            "a token of the account": Firing(
                change={f"{API}{{token_id=2}}": 14 * DAY + 12 * MINUTE},
                since=15 * MINUTE,
                labels={"token_id": "2", "token": "terraform", "permission": "full_access"},
                description=expiring("API token terraform", "expires in 13d 22h 57m 0s"),
            ),
            "the exporter's own, which the list does not have": Firing(
                change={OWN: 14 * DAY + 12 * MINUTE, API: None},
                since=15 * MINUTE,
                description=expiring("The exporter's own token", "expires in 13d 22h 57m 0s"),
            ),
            "the exporter's own, once, by the name that the list has": Firing(
                change={OWN: 10 * DAY, f"{API}{{token_id=1}}": 10 * DAY + 0.5},
                labels={"token_id": "1", "token": "exporter", "permission": "read_only"},
                description=expiring("API token exporter", "expires in 9d 23h 0m 0s"),
            ),
            "the exporter's own, of one replica only": Firing(
                change={OWN: 200 * DAY, f"{OWN}{{instance=b:10133}}": 10 * DAY, API: None},
                description=expiring("The exporter's own token", "expires in 9d 23h 0m 0s"),
            ),
            "already expired": Firing(
                change={f"{API}{{token_id=2}}": -DAY},
                labels={"token_id": "2", "token": "terraform", "permission": "full_access"},
                description=expiring("API token terraform", "has expired"),
            ),
        },
        silent={
            "in 14 days": Story(change={f"{API}{{token_id=2}}": ago(-14 * DAY)}),
            "dead for a week": Story(change={f"{API}{{token_id=2}}": -7 * DAY}),
            "dead for long, the exporter's own": Story(change={OWN: -8 * DAY, API: None}),
            "no token has an expiration": Story(change={OWN: None, API: None}),
        },
        stories={
            "fires for a week after the end, and then no more": Story(
                change={f"{API}{{token_id=2}}": DAY},
                at={7 * DAY: "BorgBaseTokenExpiring", 8 * DAY + 4 * HOUR: ""},
                ever="BorgBaseTokenExpiring",
                end=9 * DAY,
                step=4 * HOUR,
            ),
        },
    ),
    Alert(
        name="BorgBaseTokenNotReadOnly",
        summary="The exporter's BorgBase token can do more than read.",
        dashboard="borgbase-exporter",
        labels=ACCOUNT_LABELS,
        fires={
            "full access": Firing(
                change={OWN: 300 * DAY},
                severities=("info",),
                labels={"token_id": "2", "token": "terraform", "permission": "full_access"},
                description="The exporter polls account acme with the API token terraform, whose "
                "permission is full_access. Whoever gets hold of the token has this permission "
                "too. Replace it with a read-only token, then delete the old one.",
            ),
        },
        silent={
            "no own expiration known": Story(change={OWN: None}),
            "no token in the list expires with it": Story(change={OWN: 250 * DAY}),
            "a second apart": Story(change={OWN: 300 * DAY - 1}),
            "two tokens expire with it": Story(
                change={OWN: 300 * DAY, f"{API}{{token_id=1}}": 300 * DAY}
            ),
            "the list of tokens is unknown": Story(change={OWN: 300 * DAY, API: None}),
        },
    ),
]
