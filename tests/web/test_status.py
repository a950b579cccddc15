from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from borgbase_exporter.model import CollectorStatus, Failure, Plan
from borgbase_exporter.web.status import Card, Moment, Overview, Row, overview
from tests.facts import ACCOUNT, NOW, collector
from tests.web.casts import (
    DAY,
    FINE,
    FULL,
    GB,
    HOUR,
    MAX_AGE,
    STATES,
    Accounts,
    ailing,
    cast,
    failing,
    many,
    narrow,
    repo,
    unpolled,
    well,
    with_repos,
)


def seen(accounts: Accounts, troubles: Sequence[str] = (), now: float = NOW) -> Overview:
    return overview(accounts, troubles, now, MAX_AGE)


def card(accounts: Accounts, now: float = NOW) -> Card:
    (only,) = [*(found := seen(accounts, now=now)).troubled, *found.well]
    return only


def with_account(**facts: object) -> Accounts:
    base = well()
    account = replace(ACCOUNT, billed_usage=None, **facts)  # type: ignore[arg-type]  # real fields
    return cast(replace(base, collectors={**base.collectors, "account": collector(account)}))


def row(**fields: object) -> Row:
    (only,) = seen(cast(with_repos(well(), repo("it", **fields)))).rows
    return only


@pytest.mark.parametrize(
    ("state", "level", "verdict"),
    [
        ("well", "well", "All is well"),
        ("no-repos", "well", "All is well"),
        ("ailing", "critical", "4 repos need a look"),
        ("troubled", "critical", "3 accounts failing, 1 account and 4 repos need a look"),
        ("unpolled", "waiting", "Waiting for the first poll of 1 account"),
        ("nobody", "waiting", "There are no accounts"),
    ],
)
def test_one_line_tells_whether_all_is_well(state: str, level: str, verdict: str) -> None:
    found = seen(STATES[state])
    assert (found.level, found.verdict) == (level, verdict)


def test_the_verdict_counts_in_good_english() -> None:
    late = replace(FINE, last_modified=NOW - 1.5 * DAY)
    found = seen(cast(with_repos(well(), late)))
    assert (found.level, found.verdict) == ("warning", "1 repo needs a look")


def test_the_exporters_own_trouble_comes_first() -> None:
    found = seen(STATES["well"], ["account x: the poll loop is dead or stuck"])
    assert (found.level, found.verdict) == ("critical", "The exporter has trouble")
    assert found.troubles == ("account x: the poll loop is dead or stuck",)


def test_accounts_and_repos_stand_worst_first() -> None:
    found = seen(STATES["troubled"])
    assert [c.name for c in found.troubled] == ["club", "new", "school", "shop", "next"]
    assert [c.name for c in found.well] == ["home", "work"]
    assert [(r.level, r.name) for r in found.rows][:5] == [
        ("critical", "silent"),
        ("critical", "full"),
        ("warning", "late"),
        ("warning", "unused"),
        ("well", "fine"),
    ]


@pytest.mark.parametrize(("accounts", "folded"), [(3, False), (4, True)])
def test_many_accounts_that_are_well_are_folded(accounts: int, *, folded: bool) -> None:
    assert seen(many(accounts, 1)).folded is folded


def test_the_sums_are_shown_when_they_are_known() -> None:
    assert seen(STATES["well"]).summary == "2 repos, 40.0 GB stored"
    assert seen(cast(well("a"), well("b"))).summary == "2 accounts, 4 repos, 80.0 GB stored"
    assert seen(cast(well("a"), failing("b", None))).summary == "2 accounts, 2 repos"
    odd = with_repos(well(), FINE, complete=False)
    assert seen(cast(odd)).summary == "1 repo"


def test_names_are_sorted_as_people_do() -> None:
    mixed = cast(*(with_repos(well(name), repo(name)) for name in ("b", "C", "A")))
    found = seen(mixed)
    assert [c.name for c in found.well] == ["A", "b", "C"]
    assert [r.name for r in found.rows] == ["A", "b", "C"]


def test_why_there_are_no_repos() -> None:
    assert seen(STATES["no-repos"]).nothing == "There are no repos."
    assert seen(STATES["unpolled"]).nothing == "No repos are known."
    assert seen(STATES["nobody"]).nothing == "No repos are known."
    assert seen(STATES["well"]).nothing == ""


def test_an_account_tells_how_its_polls_go() -> None:
    found = card(cast(well()))
    assert (found.level, found.state, found.took) == ("well", "well", "0.2 s")
    assert found.polled == Moment("2023-11-14T22:12:20Z", "60 s ago")
    assert found.next == Moment("2023-11-14T22:27:20Z", "in 14 min")
    assert (found.success, found.stale, found.problems) == (None, "", ())
    assert card(cast(replace(well(), next_poll=NOW - 2))).next == Moment(
        "2023-11-14T22:13:18Z", "now"
    )


def test_an_account_that_waits_is_neither_well_nor_failing() -> None:
    found = card(cast(unpolled()))
    assert (found.level, found.state) == ("waiting", "not polled yet")
    assert (found.polled, found.next, found.facts) == (None, None, ())


def test_a_failing_account_shows_its_last_good_values_as_such() -> None:
    found = card(cast(failing("club")))
    assert (found.level, found.state, found.repos) == ("critical", "failing", "2 repos")
    assert found.success == Moment("2023-11-14T20:13:20Z", "2 h ago")
    assert "are those of 2 h ago" in found.stale
    assert "in 4 h" in found.stale
    (problem,) = found.problems
    assert problem.severity == "critical"
    assert problem.what.startswith("the token is refused: Signature has expired")
    assert "Read Only" in problem.advice


@pytest.mark.parametrize(("age", "shown"), [(MAX_AGE - 1, True), (MAX_AGE, False)])
def test_what_has_left_the_metrics_has_left_the_page(age: float, *, shown: bool) -> None:
    accounts = cast(failing("club", age))
    assert bool(list(seen(accounts).rows)) is shown
    found = card(accounts)
    assert bool(found.facts) is shown or [f.name for f in found.facts] == ["Token in use"]
    assert ("older than 6 h" in found.stale) is not shown


def test_what_is_gone_without_another_poll_is_not_well() -> None:
    after = NOW - 60 + MAX_AGE
    assert seen(cast(well()), now=after - 1).verdict == "All is well"
    found = seen(cast(well()), now=after)
    assert (found.level, found.verdict) == ("warning", "1 account needs a look")
    (ill,) = found.troubled
    assert (ill.level, ill.state, ill.repos) == ("warning", "needs a look", "repos unknown")
    assert ill.stale == (
        "The last good values of repos, account, ssh keys, tokens are older than 6 h, so neither "
        "this page nor the metrics show them."
    )


def test_a_clock_that_was_set_back_makes_no_odd_words() -> None:
    found = card(cast(failing("club")), now=NOW - DAY)
    assert (found.polled, found.success) == (
        Moment("2023-11-14T22:12:50Z", "0 s ago"),
        Moment("2023-11-14T20:13:20Z", "0 s ago"),
    )
    assert "are those of 0 s ago" in found.stale


def test_a_failure_from_the_start_shows_nothing_as_zero() -> None:
    found = card(cast(replace(failing("new", None), token_expires=None)))
    assert (found.repos, found.facts, found.stale, found.success) == ("repos unknown", (), "", None)


def test_a_part_that_may_not_be_read_is_told_and_the_rest_is_shown() -> None:
    found = card(cast(narrow()))
    assert (found.level, found.state) == ("warning", "needs a look")
    assert [problem.where for problem in found.problems] == ["account, tokens"]
    assert [fact.name for fact in found.facts][:3] == ["Repos", "Stored", "SSH keys"]


def test_the_place_of_a_token_is_not_told() -> None:
    place = "/run/secrets/borgbase/token"
    failure = Failure("token", f"{place}: Permission denied")
    missing = replace(failing("a", None, failure), token_problem=failure.message)
    rotated = replace(well("b"), token_problem=failure.message)
    found = seen(cast(missing, rotated))
    assert place not in repr(found)
    a, b = found.troubled
    assert "missing or unreadable" in a.problems[0].what
    assert "serves on until a restart" in b.problems[0].what


def test_facts_of_an_account() -> None:
    account = replace(
        ACCOUNT, plan=Plan("Large", 100 * GB, 50 * GB, 10), billed_usage=None, auto_renew=True
    )
    base = well()
    status = replace(base, collectors={**base.collectors, "account": collector(account, NOW - 60)})
    found = {fact.name: fact for fact in card(cast(status)).facts}
    assert {name: fact.text for name, fact in found.items()} == {
        "Repos": "2 of at most 10",
        "Stored": "40.0 GB, 80% of 50.0 GB",
        "Plan": "Large, 100.0 GB included, 50.0 GB at most",
        "Overage so far": "1.25 USD",
        "Subscription": "renews",
        "SSH keys": "2",
        "API tokens": "0",
        "Token in use": "expires",
    }
    assert (found["Stored"].share, found["Stored"].level) == (80, "well")
    assert found["Subscription"].moment == Moment("2023-11-14T22:15:00Z", "2023-11-14 (in 100 s)")


def test_a_subscription_that_is_over_is_not_said_to_end() -> None:
    base = well()
    over = replace(ACCOUNT, billed_usage=None, subscription_active=False, auto_renew=True)
    status = replace(base, collectors={**base.collectors, "account": collector(over, NOW - 60)})
    facts = {fact.name: fact.text for fact in card(cast(status)).facts}
    assert facts["Subscription"] == "not active"
    found = seen(cast(status))
    assert (found.level, found.verdict) == ("warning", "1 account needs a look")


@pytest.mark.parametrize(
    ("end", "auto_renew", "words"),
    [
        (NOW + 9 * DAY, True, "renews"),
        (NOW + 9 * DAY, False, "ends"),
        (NOW - 9 * DAY, False, "ended"),
        (NOW - 9 * DAY, True, "should have renewed itself"),
    ],
)
def test_what_becomes_of_a_subscription(end: float, *, auto_renew: bool, words: str) -> None:
    found = card(with_account(subscription_end=end, auto_renew=auto_renew))
    assert [fact.text for fact in found.facts if fact.name == "Subscription"] == [words]


def test_a_row_in_full() -> None:
    found = row(usage=97 * GB, quota=100 * GB, inactivity_limit=HOUR / 2, compaction_enabled=True)
    assert (found.level, found.usage, found.bytes) == ("critical", "97.0 GB", 97 * GB)
    assert (found.quota, found.share, found.quota_level) == ("100.0 GB", 97, "critical")
    assert found.written == Moment("2023-11-14T21:13:20Z", "60 min ago")
    assert (found.limit, found.age, found.age_level) == ("30 min", 200, "warning")
    assert (found.format, found.region, found.flags) == ("borg2", "eu", "append-only, compaction")
    assert found.problems[0].what == "97% of its quota used"


def test_unknown_is_not_shown_as_zero() -> None:
    found = row(usage=None, quota_enabled=None, last_modified=None, format=None, region=None)
    assert (found.usage, found.bytes, found.quota, found.share) == ("", None, "unknown", None)
    assert (found.written, found.limit, found.age) == (None, "", None)
    assert (found.format, found.region) == ("", "")


@pytest.mark.parametrize(("usage", "words"), [(0.0, "never"), (None, "never"), (1.0, "unknown")])
def test_what_holds_something_was_written_to(usage: float | None, words: str) -> None:
    assert row(usage=usage, last_modified=None).unwritten == words


def test_whether_the_api_tells_of_last_writes() -> None:
    base = with_repos(well(), repo("old", usage=0.0, last_modified=None, created=NOW - 9 * DAY))
    (told,) = seen(cast(base)).rows
    assert (told.unwritten, told.level) == ("never", "warning")
    gap = frozenset({"RepoType.lastModified"})
    listing = replace(base.collectors["repos"], gaps=gap, missing=gap)
    (untold,) = seen(cast(replace(base, collectors={"repos": listing}))).rows
    assert (untold.unwritten, untold.level) == ("unknown", "well")


@pytest.mark.parametrize("moment", [1e18, -1e18, float("inf")])
def test_an_odd_time_breaks_nothing(moment: float) -> None:
    found = row(last_modified=moment, inactivity_limit=DAY)
    assert found.written is not None
    assert found.written.iso == ""
    assert found.age in {0, 999}


def test_the_same_problems_as_check() -> None:
    from borgbase_exporter.diagnosis import examine  # noqa: PLC0415

    accounts = STATES["ailing"]
    found = seen(accounts)
    told = {p for r in found.rows for p in r.problems}
    told |= {p for c in (*found.troubled, *found.well) for p in c.problems}
    assert told == set(examine(accounts["default"], "", NOW).problems)
    assert FULL in accounts["default"].snapshot(0).repos.repos  # type: ignore[union-attr]


def test_a_skipped_entry_is_told() -> None:
    base = ailing()
    skipping = replace(base.collectors["repos"], skipped=2)
    found = card(cast(replace(base, collectors={**base.collectors, "repos": skipping})))
    assert found.level == "warning"
    assert "2" in found.problems[0].what


def test_a_collector_that_is_off_is_not_missed() -> None:
    base = well()
    only = {"repos": base.collectors["repos"]}
    found = seen(cast(replace(base, collectors=only)))
    assert found.verdict == "All is well"
    assert isinstance(only["repos"], CollectorStatus)
