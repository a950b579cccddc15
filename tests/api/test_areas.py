"""What the answers mean: units, dates, nulls, and entries that cannot be read."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from borgbase_exporter.api.areas import AREAS, Collected
from borgbase_exporter.api.client import Answer, Client
from borgbase_exporter.api.query import Query
from borgbase_exporter.errors import AuthError, GraphQLError
from borgbase_exporter.model import (
    Account,
    APIToken,
    APITokenList,
    Failure,
    Plan,
    Repo,
    RepoList,
    SSHKey,
    SSHKeyList,
)
from tests.graphql import GraphQLApi, SimulatedAccount
from tests.graphql.server import OLDER_PLAN
from tests.lab.account import REPO
from tests.lab.bench import PLENTY, Endpoint

MOMENT = 1_706_933_106.0
"""2024-02-03 04:05:06 UTC"""
BARE = {"id": "b", "name": "bare"}


class Canned(Client):
    """A client with one answer."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def run(
        self, query: Query, token: str, missing: frozenset[str] = frozenset(), *, seconds: float
    ) -> Answer:
        return self._answer


def collect(area: str, error: str = "", *, denied: bool = False, **data: Any) -> Collected:
    """Collect from an answer; values that are bytes are the JSON itself."""
    raw = {
        name: msgspec.Raw(value if isinstance(value, bytes) else msgspec.json.encode(value))
        for name, value in data.items()
    }
    (found,) = [one for one in AREAS if one.name == area]
    return found.collect(Canned(Answer(raw, error, denied)), "token", seconds=1)


def repos(error: str = "", **data: Any) -> tuple[RepoList, int, int]:
    """Return the repos, and how many entries and fields were skipped."""
    found = collect("repos", error, **data)
    assert isinstance(found.part, RepoList)
    return found.part, found.skipped, found.fields_skipped


def repo(**fields: Any) -> Repo:
    """Decode a repo of these fields; it must be readable."""
    found, *skipped = repos(repoList=[BARE | fields])
    assert skipped == [0, 0]
    return found.repos[0]


def skips(*entries: bytes) -> None:
    """Assert that these entries are skipped and counted, and the one beside them is kept."""
    listed = b",".join([msgspec.json.encode(BARE), *entries])
    assert repos(repoList=b"[%b]" % listed) == (
        RepoList((Repo("b", "bare"),), complete=False),
        len(entries),
        0,
    )


def without(field: str, value: bytes) -> RepoList:
    """Return the repos where one field of the second cannot be read."""
    good = {**REPO, "id": "x", "currentUsage": 2.0}
    encoded = {key: msgspec.Raw(msgspec.json.encode(item)) for key, item in good.items()}
    bad = encoded | {field: msgspec.Raw(value)}
    listed = b",".join(msgspec.json.encode(item) for item in (REPO, bad, {**REPO, "id": "z"}))
    found, *skipped = repos(repoList=b"[%b]" % listed)
    assert skipped == [0, 1]
    assert [one.id for one in found.repos] == ["a1b2c3d4", "x", "z"]
    return found


def test_a_repo_with_everything() -> None:
    assert repo(**REPO | {"currentUsage": 123_456.75}) == Repo(
        id="a1b2c3d4",
        name="laptop",
        usage=123_456_750_000,
        quota=50_000_000_000,
        quota_enabled=True,
        last_modified=MOMENT + 0.123456,
        never_written=False,
        created=1_675_397_106,
        inactivity_limit=172_800,
        append_only=False,
        compaction_enabled=True,
        sftp_enabled=False,
        full_access_keys=2,
        append_only_keys=0,
        rsync_keys=None,
        region="eu",
        format="borg1",
        borg_version="V_1_4_X",
        encryption="repokey-blake2",
        access_mode="full",
        server="a1b2c3d4.repo.example",
    )


def test_what_is_null_or_not_there_is_unknown() -> None:
    nulls = dict.fromkeys(REPO.keys() - BARE.keys())

    assert repo() == Repo("b", "bare")
    assert repo(**nulls) == Repo("b", "bare", never_written=True)


@pytest.mark.parametrize("enabled", [True, False, None])
@pytest.mark.parametrize("quota", [5, 0, -5, None])
def test_a_quota_is_one_when_enabled_and_above_zero(quota: int | None, *, enabled: bool) -> None:
    expected = 5_000_000 if enabled and quota == 5 else None

    assert repo(quota=quota, quotaEnabled=enabled).quota == expected


@pytest.mark.parametrize(("days", "seconds"), [(1, 86_400), (0.5, 43_200), (0, None), (-1, None)])
def test_no_alert_days_are_no_limit(days: float, seconds: float | None) -> None:
    assert repo(alertDays=days).inactivity_limit == seconds


@pytest.mark.parametrize(
    ("megabytes", "size"),
    [(0, 0), (0.5, 500_000), (9_007_199_255, 9_007_199_255_000_000), (1e18, 10**24)],
)
def test_usage_is_in_decimal_megabytes(megabytes: float, size: int) -> None:
    assert repo(currentUsage=megabytes).usage == size


@pytest.fixture
def far_from_utc() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "XXX+11")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2024-02-03T04:05:06+00:00", MOMENT),
        ("2024-02-03T04:05:06Z", MOMENT),
        ("2024-02-03T04:05:06", MOMENT),
        ("2024-02-03 04:05:06", MOMENT),
        ("2024-02-03T04:05:06.5", MOMENT + 0.5),
        ("2024-02-03T04:05:06.123456+00:00", MOMENT + 0.123456),
        ("2024-02-03T04:05:06.123456789Z", MOMENT + 0.123457),
        ("2024-02-03T06:05:06+02:00", MOMENT),
        ("2024-02-02T23:05:06-05:00", MOMENT),
        ("0001-01-01T00:00:00+14:00", -62_135_647_200),
        ("9999-12-31T23:59:59-14:00", 253_402_351_199),
    ],
)
@pytest.mark.usefixtures("far_from_utc")
def test_dates(text: str, seconds: float) -> None:
    assert repo(lastModified=text).last_modified == seconds


NAMES = [
    'it\'s "quoted" \\ back',
    "two\nlines\r\n\ttabbed",
    "\U0001f4be π 名前",
    "<script>alert(1)</script> &amp;",
    "x" * 300,
    "",
    "\x00\x1b[31m\u202e",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_kept(name: str) -> None:
    assert repo(name=name).name == name


@pytest.mark.parametrize(
    "entry",
    [
        *b'null {} [] 1 "x" {"id":"x"} {"name":"x"} {"id":null,"name":"x"}'.split(),
        *b'{"id":5,"name":"x"} {"id":"x","name":"\xff"} {"id":"x","name":"\xed\xa0\x80"}'.split(),
        b'{"id":"x","name":"%b"}' % (b"x" * 1001),
    ],
)
def test_an_entry_that_cannot_be_read_costs_only_itself(entry: bytes) -> None:
    skips(entry)


@pytest.mark.parametrize(
    "value",
    [
        *b'-1 1e19 1e999 -1e999 true "NaN" "inf" "-Infinity" "1e999" "much" [] {}'.split(),
        b"1" * 5000,
        b"[" * 99 + b"]" * 99,
    ],
)
def test_an_unreadable_usage_is_left_out_and_the_sum_with_it(value: bytes) -> None:
    found = without("currentUsage", value)

    assert found.repos[1] == replace(found.repos[0], id="x", usage=None)
    assert not found.complete
    assert found.usage is None


@pytest.mark.parametrize(
    ("field", "value", "unknown"),
    [
        ("quota", b"1e300", {"quota": None}),
        ("quota", b"false", {"quota": None}),
        ("alertDays", b"1e300", {"inactivity_limit": None}),
        ("quotaEnabled", b"2", {"quota_enabled": None, "quota": None}),
        ("appendOnly", b'"perhaps"', {"append_only": None}),
        ("fullAccessKeys", b"7", {"full_access_keys": None}),
        ("createdAt", b'"soon"', {"created": None}),
        ("server", b'"host"', {"server": None}),
        ("server", b'{"hostname":7}', {"server": None}),
        ("region", b"1", {"region": None}),
        ("region", b'"%b"' % (b"x" * 1001), {"region": None}),
        ("format", b'"\xff"', {"format": None}),
        *(
            ("lastModified", value, {"last_modified": None, "never_written": None})
            for value in (
                # 253402300800 is the year 10000
                *b'253402300800 "253402300800" "10000-01-01T00:00:00Z" "-99999999999999"'.split(),
                *b'"yesterday" "2024-02-30T00:00:00Z" true 1e300'.split(),
            )
        ),
    ],
)
def test_an_unreadable_field_is_left_out(field: str, value: bytes, unknown: Any) -> None:
    found = without(field, value)

    assert found.repos[1] == replace(found.repos[0], id="x", usage=2_000_000, **unknown)
    assert found.complete


def test_all_fields_may_be_unreadable() -> None:
    bad: dict[str, Any] = {field: [[]] for field in REPO.keys() - BARE.keys()}

    found, skipped, fields_skipped = repos(repoList=[BARE | bad])

    lists = {"fullAccessKeys", "appendOnlyKeys", "rsyncKeys"}
    assert (skipped, fields_skipped) == (0, len(bad) - len(lists))
    assert found.repos == (Repo("b", "bare", full_access_keys=1, append_only_keys=1, rsync_keys=1),)


@pytest.mark.parametrize(
    ("fields", "never"),
    [
        ({"lastModified": None}, True),
        ({"lastModified": None, "currentUsage": None}, True),
        ({"lastModified": None, "currentUsage": 0}, True),
        ({"lastModified": None, "currentUsage": 0.5}, None),
        ({"currentUsage": 0}, None),
        ({}, None),
        ({"lastModified": "2024-02-03T04:05:06Z", "currentUsage": 0}, False),
    ],
)
def test_a_repo_is_never_written_where_the_api_says_so(
    fields: dict[str, Any], *, never: bool | None
) -> None:
    assert repo(**fields).never_written is never


def test_beside_an_unreadable_usage_no_last_write_means_nothing() -> None:
    bare = {**BARE, "lastModified": None, "currentUsage": -1}

    (found, *_) = repos(repoList=[bare])

    assert found.repos[0].never_written is None


@pytest.mark.parametrize(
    ("spelled", "count"),
    [
        *((spelled, 2) for spelled in ("borg1", "borg2", "BORG", "", None)),
        *((spelled, None) for spelled in ("restic", "vykar", "vger", "something-new")),
    ],
)
def test_keys_are_counted_where_ssh_reaches(spelled: str | None, count: int | None) -> None:
    keys = {"fullAccessKeys": ["1", "2"], "appendOnlyKeys": ["3", "4"], "rsyncKeys": ["5", "6"]}

    found = repo(format=spelled, **keys)

    assert (found.full_access_keys, found.append_only_keys, found.rsync_keys) == (count,) * 3


def test_a_number_may_come_as_a_string() -> None:
    assert repo(currentUsage="1.5", quota="7", quotaEnabled=True) == replace(
        repo(), usage=1_500_000, quota=7_000_000, quota_enabled=True
    )


def test_many_bad_entries_are_all_counted() -> None:
    skips(b"null", b"1", b"{}", b'{"id":"x"}')


def test_of_two_repos_with_one_id_the_first_is_kept() -> None:
    skips(b'{"id":"b","name":"other"}')


def test_errors_beside_the_list_make_it_incomplete() -> None:
    found = collect("repos", "boom", repoList=[BARE])

    assert found.part == RepoList((Repo("b", "bare"),), complete=False)
    assert (found.failure, found.whole, found.skipped) == (Failure("graphql", "boom"), True, 0)


def test_errors_that_cost_a_root_field_are_more() -> None:
    found = collect("account", "boom", me={}, overageList=None)

    assert (found.part, found.whole) == (Account(), False)


def test_no_repos_count_only_where_the_api_reports_who_asks() -> None:
    repos_ = AREAS[0]
    nobody = Answer({"repoList": msgspec.Raw(b"[]")})

    assert repos_.collect(Canned(nobody), "t", seconds=1).part == RepoList((), complete=True)
    unsure = replace(nobody, missing=frozenset({"Query.isAuthenticated"}))
    with pytest.raises(GraphQLError, match="does not report who asks"):
        repos_.collect(Canned(unsure), "t", seconds=1)


def test_a_guess_is_not_remembered_but_reported() -> None:
    bare = {"repoList": msgspec.Raw(b'[{"id":"b","name":"bare"}]')}
    query = AREAS[0].query
    missing = query.names - query.floor

    guessed = AREAS[0].collect(Canned(Answer(bare, missing=missing, guessed=True)), "t", seconds=1)
    certain = AREAS[0].collect(Canned(Answer(bare, missing=missing)), "t", seconds=1)

    assert guessed.gaps == certain.gaps == certain.missing == missing
    assert guessed.missing == frozenset()


@pytest.mark.parametrize(
    "data", [{"repoList": None}, {"repoList": {}}, {"repoList": 1}, {"repoList": b"[" * 9999}, {}]
)
@pytest.mark.parametrize("denied", [True, False])
def test_without_a_list_an_error_is_raised(data: dict[str, Any], *, denied: bool) -> None:
    with pytest.raises(AuthError if denied and data.get("repoList") is None else GraphQLError):
        collect("repos", "no permission" if denied else "", denied=denied, **data)


PLAN = {"name": "Small", "maxRepos": 10, "maxSizeGb": 500, "includedGb": 250}


def account(**data: Any) -> Account:
    found = collect("account", **{"me": {}, **data})
    assert isinstance(found.part, Account)
    assert (found.skipped, found.fields_skipped) == (0, 0)
    return found.part


def test_an_account_with_everything() -> None:
    assert account(
        me={
            "activePlan": PLAN,
            "currentSubscription": {"endDate": "2024-02-03T04:05:06Z", "active": True},
            "autoRenew": False,
            "diskUsage": 1234.5,
            "repoCount": 7,
        },
        overageList=[{"date": "2024-02-03", "usedGb": 12.5, "excessGb": 0}],
        accruedOverage=1.25,
    ) == Account(
        plan=Plan("Small", 250_000_000_000, 500_000_000_000, 10),
        billed_usage=12_500_000_000,
        billed_excess=0,
        accrued_overage_usd=1.25,
        subscription_end=MOMENT,
        subscription_active=True,
        auto_renew=False,
        reported_usage=1_234_500_000,
        reported_repos=7,
    )


def test_an_account_with_nothing() -> None:
    nothing = {"activePlan": None, "currentSubscription": None, "autoRenew": None}

    assert account(me=nothing, overageList=None, accruedOverage=None) == account() == Account()


@pytest.mark.parametrize(
    ("fields", "plan"),
    [
        ({"includedGb": 250, "maxSizeGb": 500}, Plan("", 250_000_000_000, 500_000_000_000)),
        ({"includedGb": 250, "maxSizeGb": None}, Plan("", 250_000_000_000)),
        ({"includedSize": "250000", "maxSize": "500000"}, Plan("", 250_000_000_000, 5e11)),
        ({"includedSize": 0, "maxSize": 0, "maxRepos": 0}, Plan("")),
        ({"includedSize": -1, "maxSize": None, "maxRepos": -1}, Plan("")),
    ],
)
def test_plans_in_both_spellings(fields: dict[str, Any], plan: Plan) -> None:
    assert account(me={"activePlan": fields}).plan == plan


@pytest.mark.parametrize("order", [1, -1])
def test_the_newest_row_is_the_one_of_the_latest_date(order: int) -> None:
    rows = [
        {"date": "2023-12-31", "usedGb": 1, "excessGb": None},
        {"date": "2024-01-31", "usedGb": "2.5", "excessGb": "0.5"},
        {"date": "2024-01-05", "usedGb": 3, "excessGb": 0},
    ]

    found = account(overageList=rows[::order])

    assert (found.billed_usage, found.billed_excess) == (2_500_000_000, 500_000_000)


def test_of_two_rows_of_a_day_the_first_is_the_newer() -> None:
    rows = [{"date": "2024-01-31", "usedGb": 2}, {"date": "2024-01-31", "usedGb": 1}]

    assert account(overageList=rows).billed_usage == 2_000_000_000


def test_rows_that_cannot_be_read_are_counted() -> None:
    rows = [
        None,
        {"date": "tomorrow"},
        {"date": "2024-01-31", "usedGb": -1, "excessGb": 2},
        {"date": "2024-01-01", "usedGb": 3},
    ]

    found = collect("account", me={}, overageList=rows)

    assert found.part == Account(billed_excess=2_000_000_000)
    assert (found.skipped, found.fields_skipped) == (2, 1)


@pytest.mark.parametrize("value", ["NaN", "inf", "-inf", 1e19, True, [], "much"])
def test_overage_that_is_no_number_is_left_out(value: object) -> None:
    found = collect("account", me={"autoRenew": True}, accruedOverage=value, overageList=value)

    assert found.part == Account(auto_renew=True)
    assert found.fields_skipped == (1 if value == [] else 2)


@pytest.mark.parametrize(
    "plan",
    [
        *b'"maxRepos":1.5 "maxSizeGb":"inf" "maxSizeGb":1e30 "maxSize":[]'.split(),
        b'"maxRepos":1%b' % (b"0" * 4000),
    ],
)
def test_an_unreadable_field_of_a_plan_is_left_out(plan: bytes) -> None:
    me = b'{"activePlan":{"name":"Small","includedGb":9,%b},"repoCount":-1}' % plan

    found = collect("account", me=me)

    assert found.part == Account(plan=Plan("Small", 9_000_000_000))
    assert found.fields_skipped == 2


def test_an_account_that_is_withheld_is_an_error() -> None:
    with pytest.raises(AuthError, match='may not ask for "me"'):
        collect("account", "no permission", denied=True, me=None, accruedOverage=1)


def test_ssh_keys() -> None:
    keys = [
        {"id": 7, "name": "a", "addedAt": "2024-02-03T04:05:06Z", "lastUsedAt": None},
        {"id": "007", "name": "b", "lastUsedAt": "2024-02-03T04:05:06Z"},
        {"id": "7", "name": "the first again"},
        None,
        {"id": "8", "name": "c", "addedAt": "253402300800"},
        msgspec.Raw(b'{"id":1%b,"name":"d"}' % (b"0" * 5000)),
    ]

    found = collect("ssh_keys", sshList=keys)

    known = (SSHKey("7", "a", MOMENT), SSHKey("007", "b", None, MOMENT), SSHKey("8", "c"))
    assert found.part == SSHKeyList(known, length=6)
    assert (found.skipped, found.fields_skipped) == (3, 1)


def test_tokens() -> None:
    held = [
        {"id": "1", "name": "a", "permission": "RO", "expiration": "2024-02-03T04:05:06Z"},
        {"id": 2, "name": "b", "permission": "FA", "lastUsed": "2024-02-03T04:05:06Z"},
        {"id": "3", "name": "c", "permission": "CO"},
        {"id": "4", "name": "d", "permission": "New_Kind"},
        {"id": "5", "name": "e"},
    ]

    found = collect("tokens", me={"jwttokenSet": held})

    known = (
        APIToken("1", "a", "read_only", expires=MOMENT),
        APIToken("2", "b", "full_access", last_used=MOMENT),
        APIToken("3", "c", "create_only"),
        APIToken("4", "d", "new_kind"),
    )
    assert found.part == APITokenList(known, complete=False)
    assert found.skipped == 1


def test_of_a_token_whose_expiry_is_unreadable_the_permission_is_not_concluded() -> None:
    held = [{"id": "1", "name": "a", "permission": "RO", "expiration": "soon"}]

    found = collect("tokens", me={"jwttokenSet": held})

    assert found.part == APITokenList((APIToken("1", "a", "read_only"),), complete=False)
    assert found.fields_skipped == 1


def test_no_list_of_tokens_is_an_error() -> None:
    with pytest.raises(GraphQLError, match='the "me" of the API is not readable'):
        collect("tokens", me={})


def test_an_api_of_older_names_without_its_own_counts() -> None:
    simulated = SimulatedAccount(repos=3)
    account_area = AREAS[1]
    counts = ["UserType.diskUsage", "UserType.repoCount"]
    with (
        GraphQLApi([simulated]) as new,
        GraphQLApi([simulated], renamed=OLDER_PLAN, without=counts) as old,
    ):
        now, before = (
            account_area.collect(Client(Endpoint(api.url)), simulated.token, seconds=PLENTY)
            for api in (new, old)
        )

    assert isinstance(now.part, Account)
    assert isinstance(before.part, Account)
    assert now.part.plan
    assert before.part.plan == now.part.plan
    assert (now.part.reported_repos, before.part.reported_repos) == (3, None)
    assert now.missing == frozenset()
    assert before.missing == {*OLDER_PLAN, *counts}
    assert (before.gaps, before.failure) == (frozenset(), None)


WORKED_OUT = """
import msgspec, msgspec.inspect
real, given = msgspec.json.Decoder, []
def decoder(kind, **options):
    given.append(kind)
    return real(kind, **options)
msgspec.json.Decoder = decoder
import borgbase_exporter.api.history

def structs(info):
    if isinstance(info, msgspec.inspect.StructType):
        yield info.cls
        for field in info.fields:
            yield from structs(field.type)
    for inner in getattr(info, "types", ()):
        yield from structs(inner)

def kinds(base):
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)

ready = {kind for one in given for kind in structs(msgspec.inspect.type_info(one))}
ours = {kind for kind in kinds(msgspec.Struct) if kind.__module__.startswith("borgbase_exporter")}
print(*sorted(kind.__name__ for kind in ours - ready if not kind.__subclasses__()))
print(len(ready))
"""


def test_every_type_is_worked_out_before_there_are_threads() -> None:
    # Two threads that meet a type for the first time at once crash the process within msgspec.
    said = subprocess.run(
        [sys.executable, "-c", WORKED_OUT],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    forgotten, ready = said.stdout.split("\n")[:2]
    assert forgotten == ""
    assert int(ready) >= 8
