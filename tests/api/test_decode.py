"""What the answers mean: units, dates, nulls, and entries that cannot be read."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from borgbase_exporter.api import decode
from borgbase_exporter.api.client import Answer
from borgbase_exporter.errors import AuthError, GraphQLError
from borgbase_exporter.model import Account, APIToken, Plan, Repo, RepoList, SSHKey
from tests.lab.account import REPO

MOMENT = 1_706_933_106.0
"""2024-02-03 04:05:06 UTC"""
BARE = {"id": "b", "name": "bare"}


def answer(errors: tuple[str, ...] = (), **data: Any) -> Answer:
    """Return an answer; values that are bytes are the JSON itself."""
    raw = {
        name: msgspec.Raw(value if isinstance(value, bytes) else msgspec.json.encode(value))
        for name, value in data.items()
    }
    return Answer(raw, errors)


def repo(**fields: Any) -> Repo:
    """Decode a repo of these fields; it must be readable."""
    found, skipped = decode.repos(answer(repoList=[BARE | fields]))
    assert skipped == 0
    return found.repos[0]


def skips(*entries: bytes) -> None:
    """Assert that these entries are skipped and counted, and the one beside them is shown."""
    listed = b",".join([msgspec.json.encode(BARE), *entries])
    found, skipped = decode.repos(answer(repoList=b"[%b]" % listed))
    assert found == RepoList((Repo("b", "bare"),), complete=False)
    assert skipped == len(entries)


def test_a_repo_with_everything() -> None:
    assert repo(**REPO | {"currentUsage": 123_456.75}) == Repo(
        id="a1b2c3d4",
        name="laptop",
        usage=123_456_750_000,
        quota=50_000_000_000,
        quota_enabled=True,
        last_modified=MOMENT + 0.123456,
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

    assert repo(**nulls) == repo() == Repo("b", "bare")


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
        b"null",
        b"{}",
        b"[]",
        b"1",
        b'"x"',
        b'{"id":"x"}',
        b'{"name":"x"}',
        b'{"id":null,"name":"x"}',
        b'{"id":5,"name":"x"}',
        b'{"id":"x","name":"\xff"}',
        b'{"id":"x","name":"\xed\xa0\x80"}',
        b'{"id":"x","name":"%b"}' % (b"x" * 1001),
    ],
)
def test_an_entry_that_cannot_be_read_costs_only_itself(entry: bytes) -> None:
    skips(entry)


@pytest.mark.parametrize(
    "value",
    [
        b"-1",
        b"1e19",
        b"1e999",
        b"-1e999",
        b"1" * 5000,
        b"true",
        b'"NaN"',
        b'"inf"',
        b'"-Infinity"',
        b'"1e999"',
        b'"much"',
        b"[]",
        b"{}",
        b"[" * 99 + b"]" * 99,
    ],
)
def test_a_usage_that_is_none(value: bytes) -> None:
    skips(b'{"id":"x","name":"x","currentUsage":%b}' % value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("quota", b"1e300"),
        ("quota", b"false"),
        ("alertDays", b"1e300"),
        ("quotaEnabled", b"2"),
        ("appendOnly", b'"perhaps"'),
        ("fullAccessKeys", b"7"),
        ("lastModified", b'"yesterday"'),
        ("lastModified", b'"2024-02-30T00:00:00Z"'),
        ("lastModified", b"true"),
        ("server", b'"host"'),
        ("region", b"1"),
    ],
)
def test_a_field_of_another_shape(field: str, value: bytes) -> None:
    skips(b'{"id":"x","name":"x","%b":%b}' % (field.encode(), value))


def test_a_number_may_come_as_a_string() -> None:
    assert repo(currentUsage="1.5", quota="7", quotaEnabled=True) == replace(
        repo(), usage=1_500_000, quota=7_000_000, quota_enabled=True
    )


def test_many_bad_entries_are_all_counted() -> None:
    skips(b"null", b"1", b"{}", b'{"id":"x","name":"x","currentUsage":-1}')


def test_of_two_repos_with_one_id_the_first_is_shown() -> None:
    skips(b'{"id":"b","name":"other"}')


def test_errors_beside_the_list_make_it_incomplete() -> None:
    found, skipped = decode.repos(answer(("boom",), repoList=[BARE]))

    assert not found.complete
    assert skipped == 0


def test_no_repos_are_believed_of_an_api_that_says_who_asks_only() -> None:
    nobody = answer(repoList=[])

    assert decode.repos(nobody) == (RepoList((), complete=True), 0)
    with pytest.raises(GraphQLError, match="does not say who asks"):
        decode.repos(replace(nobody, missing=frozenset({"Query.isAuthenticated"})))


PLAN = {"name": "Small", "maxRepos": 10, "maxSize": 500_000, "includedSize": 250_000}


def account(**data: Any) -> Account:
    found, skipped = decode.account(answer(**{"me": {}, **data}))
    assert skipped == 0
    return found


def test_an_account_with_everything() -> None:
    assert account(
        me={
            "activePlan": PLAN,
            "currentSubscription": {"endDate": "2024-02-03T04:05:06Z", "active": True},
            "autoRenew": False,
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
    )


def test_an_account_with_nothing() -> None:
    nothing = {"activePlan": None, "currentSubscription": None, "autoRenew": None}

    assert account(me=nothing, overageList=None, accruedOverage=None) == account() == Account()


@pytest.mark.parametrize(
    ("fields", "plan"),
    [
        ({"includedGb": 250, "maxSizeGb": 500}, Plan("", 250_000_000_000, 500_000_000_000)),
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
        {"date": "2024-01-31", "usedGb": -1},
        {"date": "2024-01-01"},
    ]

    found, skipped = decode.account(answer(me={}, overageList=rows))

    assert (found, skipped) == (Account(), 3)


@pytest.mark.parametrize("value", ["NaN", "inf", "-inf", 1e19, True, [], "much"])
def test_overage_that_is_no_number_is_unknown(value: object) -> None:
    assert account(accruedOverage=value).accrued_overage_usd is None


@pytest.mark.parametrize(
    "plan",
    [b'"maxRepos":1%b' % (b"0" * 4000), b'"maxRepos":1.5', b'"maxSize":"inf"', b'"maxSizeGb":1e30'],
)
def test_a_plan_that_cannot_be_read_is_an_error(plan: bytes) -> None:
    with pytest.raises(GraphQLError, match='the "me" of the API is not readable'):
        decode.account(answer(me=b'{"activePlan":{%b}}' % plan))


def test_an_account_that_is_withheld_is_an_error() -> None:
    with pytest.raises(AuthError, match='may not ask for "me"'):
        decode.account(answer(("You do not have permission",), me=None, accruedOverage=1))


def test_ssh_keys() -> None:
    keys = [
        {"id": 7, "name": "a", "addedAt": "2024-02-03T04:05:06Z", "lastUsedAt": None},
        {"id": "007", "name": "b", "lastUsedAt": "2024-02-03T04:05:06Z"},
        {"id": "7", "name": "the first again"},
        None,
    ]

    found, skipped = decode.ssh_keys(answer(sshList=keys))

    assert found.keys == (SSHKey("7", "a", MOMENT), SSHKey("007", "b", None, MOMENT))
    assert (found.length, skipped) == (4, 2)


def test_tokens() -> None:
    held = [
        {"id": "1", "name": "a", "permission": "RO", "expiration": "2024-02-03T04:05:06Z"},
        {"id": 2, "name": "b", "permission": "FA", "lastUsed": "2024-02-03T04:05:06Z"},
        {"id": "3", "name": "c", "permission": "CO"},
        {"id": "4", "name": "d", "permission": "New_Kind"},
        {"id": "5", "name": "e"},
    ]

    found, skipped = decode.tokens(answer(me={"jwttokenSet": held}))

    assert found.tokens == (
        APIToken("1", "a", "read_only", expires=MOMENT),
        APIToken("2", "b", "full_access", last_used=MOMENT),
        APIToken("3", "c", "create_only"),
        APIToken("4", "d", "new_kind"),
    )
    assert (found.complete, skipped) == (False, 1)


def test_no_list_of_tokens_is_an_error() -> None:
    with pytest.raises(GraphQLError, match='the "me" of the API is not readable'):
        decode.tokens(answer(me={}))


WORKED_OUT = """
import msgspec, msgspec.inspect
real, given = msgspec.json.Decoder, []
def decoder(kind, **options):
    given.append(kind)
    return real(kind, **options)
msgspec.json.Decoder = decoder
import borgbase_exporter.poller, borgbase_exporter.api.usage

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
        [sys.executable, "-c", WORKED_OUT], capture_output=True, text=True, check=True
    )
    forgotten, ready = said.stdout.split("\n")[:2]
    assert forgotten == ""
    assert int(ready) >= 8
