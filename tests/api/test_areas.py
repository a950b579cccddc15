"""What the answers mean: units, dates, nulls, and entries that cannot be read."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from borgbase_exporter.api.areas import AREAS
from borgbase_exporter.api.client import Answer
from borgbase_exporter.errors import PollError, Reason
from borgbase_exporter.model import (
    Account,
    APIToken,
    APITokenList,
    CollectorStatus,
    Failure,
    Plan,
    Repo,
    RepoList,
    SSHKey,
    SSHKeyList,
)
from tests.lab.account import REPO

MOMENT = 1_706_933_106.0  # 2024-02-03 04:05:06 UTC
BARE = {"id": "b", "name": "bare"}
NAMES = ['it\'s "quoted" \\ back', "two\nlines\r\n\ttabbed", "\U0001f4be π 名前", "x" * 300, ""]
NAMES += ["<script>alert(1)</script> &amp;", "\x00\x1b[31m\u202e"]


def decode(area: str, answer: Answer) -> CollectorStatus:
    client: Any = SimpleNamespace(run=lambda *_, **__: answer)
    return {one.name: one for one in AREAS}[area].collect(client, "token", seconds=1)


def collect(area: str, error: str = "", *, denied: bool = False, **data: Any) -> CollectorStatus:
    """Collect from an answer; values that are bytes are the JSON itself."""
    raw = {
        name: msgspec.Raw(value if isinstance(value, bytes) else msgspec.json.encode(value))
        for name, value in data.items()
    }
    return decode(area, Answer(raw, error, denied))


def repo(**fields: Any) -> Repo:
    """Decode a repo of these fields; it must be readable."""
    found = collect("repos", repoList=[BARE | fields])
    assert isinstance(found.part, RepoList)
    assert (found.skipped, found.fields_skipped) == (0, 0)
    return found.part.repos[0]


EVERYTHING = Repo(
    id="a1b2c3d4",
    name="laptop",
    usage=1_000_000,
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


def test_a_repo_with_everything_or_nothing() -> None:
    nulls = dict.fromkeys(REPO.keys() - BARE.keys())

    assert repo(**REPO) == EVERYTHING
    assert repo() == Repo("b", "bare")
    assert repo(**nulls) == Repo("b", "bare", never_written=True)


@pytest.mark.parametrize(
    ("fields", "known"),
    [
        *(({"quota": 5, "quotaEnabled": on}, {}) for on in (False, None)),
        *(({"quota": mb, "quotaEnabled": True}, {}) for mb in (0, -5, None)),
        ({"quota": "5", "quotaEnabled": True}, {"quota": 5_000_000}),
        *(({"alertDays": days}, {}) for days in (0, -1)),
        ({"alertDays": 0.5}, {"inactivity_limit": 43_200}),
        ({"currentUsage": 0}, {"usage": 0}),
        ({"currentUsage": "1.5"}, {"usage": 1_500_000}),
        ({"currentUsage": 9_007_199_255}, {"usage": 9_007_199_255_000_000}),
        # Whether it was never written, where the API says so
        ({"lastModified": None}, {"never_written": True}),
        ({"lastModified": None, "currentUsage": 0}, {"never_written": True, "usage": 0}),
        ({"lastModified": None, "currentUsage": 0.5}, {"usage": 500_000}),
        *(({"name": name}, {"name": name}) for name in NAMES),
    ],
)
def test_what_a_field_of_a_repo_means(fields: dict[str, Any], known: dict[str, Any]) -> None:
    expected: dict[str, Any] = {"quota_enabled": fields.get("quotaEnabled"), **known}

    assert repo(**fields) == replace(Repo("b", "bare"), **expected)


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "XXX+11")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *((f"2024-02-03T04:05:06{zone}", MOMENT) for zone in ("", "Z", "+00:00")),
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


@pytest.mark.parametrize(
    "entry",
    [
        *b'null {} [] 1 "x" {"id":"x"} {"name":"x"} {"id":null,"name":"x"}'.split(),
        *b'{"id":5,"name":"x"} {"id":"x","name":"\xff"} {"id":"x","name":"\xed\xa0\x80"}'.split(),
        b'{"id":"x","name":"%b"}' % (b"x" * 1001),
        b'{"id":"b","name":"the first again"}',
        b'null,1,{},{"id":"x"}',
    ],
)
def test_an_entry_that_cannot_be_read_costs_only_itself(entry: bytes) -> None:
    listed = b"[%b,%b]" % (msgspec.json.encode(BARE), entry)

    found = collect("repos", repoList=listed)

    assert found.part == RepoList((Repo("b", "bare"),), complete=False)
    assert (found.skipped, found.fields_skipped) == (4 if entry.startswith(b"null,") else 1, 0)


@pytest.mark.parametrize(
    ("fields", "unknown"),
    [
        *(
            (b'"currentUsage":' + value, ["usage"])
            for value in (
                *b'-1 1e19 1e999 -1e999 true "NaN" "inf" "-Infinity" "1e999" "much" [] {}'.split(),
                *(b"1" * 5000, b"[" * 99 + b"]" * 99),
            )
        ),
        *(
            (b'"lastModified":' + value, ["last_modified", "never_written"])
            for value in (
                # 253402300800 is the year 10000
                *b'253402300800 "253402300800" "10000-01-01T00:00:00Z" "-99999999999999"'.split(),
                *b'"yesterday" "2024-02-30T00:00:00Z" true 1e300'.split(),
            )
        ),
        # Beside an unreadable usage, no last write means nothing.
        (b'"currentUsage":-1,"lastModified":null', ["usage", "last_modified", "never_written"]),
        (b'"quota":1e300', ["quota"]),
        (b'"quota":false', ["quota"]),
        (b'"alertDays":1e300', ["inactivity_limit"]),
        (b'"quotaEnabled":2', ["quota_enabled", "quota"]),
        (b'"appendOnly":"perhaps"', ["append_only"]),
        (b'"fullAccessKeys":7', ["full_access_keys"]),
        (b'"createdAt":"soon"', ["created"]),
        (b'"server":"host"', ["server"]),
        (b'"server":{"hostname":7}', ["server"]),
        (b'"region":1', ["region"]),
        (b'"region":"%b"' % (b"x" * 1001), ["region"]),
        (b'"format":"\xff"', ["format"]),
    ],
)
def test_an_unreadable_field_is_left_out(fields: bytes, unknown: list[str]) -> None:
    good = msgspec.json.encode(REPO)
    listed = b'[%b,%b,%b,"id":"x"}]' % (msgspec.json.encode(BARE), good[:-1], fields)

    found = collect("repos", repoList=listed)

    nothing: dict[str, Any] = dict.fromkeys(unknown)
    expected = replace(EVERYTHING, id="x", **nothing)
    assert found.part == RepoList((Repo("b", "bare"), expected), complete="usage" not in unknown)
    assert (found.skipped, found.fields_skipped) == (0, 1)


@pytest.mark.parametrize("spelled", ["borg1", "borg2", "BORG", "", None, "restic", "vykar", "new"])
def test_keys_are_counted_where_ssh_reaches(spelled: str | None) -> None:
    keys = {"fullAccessKeys": ["1", "2"], "appendOnlyKeys": ["3", "4"], "rsyncKeys": ["5", "6"]}

    found = repo(format=spelled, **keys)

    count = None if spelled in {"restic", "vykar", "new"} else 2
    assert (found.full_access_keys, found.append_only_keys, found.rsync_keys) == (count,) * 3


def test_errors_beside_the_data_make_it_incomplete() -> None:
    found = collect("repos", "boom", repoList=[BARE])

    assert found.part == RepoList((Repo("b", "bare"),), complete=False)
    assert (found.failure, found.success, found.skipped) == (Failure("graphql", "boom"), True, 0)
    assert not collect("account", "boom", me={}, overageList=None).success


def test_an_empty_list_counts_only_if_the_api_confirms_the_token() -> None:
    nobody = Answer({"repoList": msgspec.Raw(b"[]")})

    assert decode("repos", nobody).part == RepoList((), complete=True)
    with pytest.raises(PollError, match="does not confirm the token"):
        decode("repos", replace(nobody, missing=frozenset({"Query.isAuthenticated"})))


def test_a_guess_is_not_remembered_but_reported() -> None:
    missing = AREAS[0].query.names - AREAS[0].query.floor
    answer = Answer({"repoList": msgspec.Raw(b'[{"id":"b","name":"bare"}]')}, missing=missing)

    certain, guessed = decode("repos", answer), decode("repos", replace(answer, guessed=True))

    assert guessed.gaps == certain.gaps == certain.missing == missing
    assert guessed.missing == frozenset()


@pytest.mark.parametrize(
    ("area", "data", "reason"),
    [
        *(("repos", {"repoList": value}, Reason.GRAPHQL) for value in (b"{}", b"1", b"[" * 9999)),
        *(("repos", data, Reason.AUTH) for data in ({}, {"repoList": None})),
        ("account", {"me": None, "accruedOverage": 1}, Reason.AUTH),
        ("tokens", {"me": {}}, Reason.GRAPHQL),
    ],
)
def test_without_a_list_an_error_is_raised(area: str, data: Any, reason: Reason) -> None:
    with pytest.raises(PollError) as denied:
        collect(area, "no permission", denied=True, **data)
    with pytest.raises(PollError) as other:
        collect(area, **data)
    assert (denied.value.reason, other.value.reason) == (reason, Reason.GRAPHQL)


def account(**data: Any) -> Account:
    found = collect("account", **{"me": {}, **data})
    assert isinstance(found.part, Account)
    assert (found.skipped, found.fields_skipped) == (0, 0)
    return found.part


def test_an_account_with_everything_or_nothing() -> None:
    nothing = {"activePlan": None, "currentSubscription": None, "autoRenew": None}

    assert account(me=nothing, overageList=None, accruedOverage=None) == account() == Account()
    assert account(
        me={
            "activePlan": {"name": "Small", "maxRepos": 10, "maxSizeGb": 500, "includedGb": 250},
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


@pytest.mark.parametrize(
    ("rows", "usage", "excess", "skipped"),
    [
        ([("2023-12-31", 1, None), ("2024-01-31", "2.5", 2), ("2024-01-05", 3, 0)], 2.5e9, 2e9, 0),
        ([("2024-01-31", 2, None), ("2024-01-31", 1, 0)], 2e9, None, 0),
        ([("tomorrow", 1, 1), ("2024-01-31", -1, 2), ("2024-01-01", 3, 3)], None, 2e9, 1),
    ],
)
def test_the_newest_row_counts(
    rows: list[Any], usage: float | None, excess: float | None, skipped: int
) -> None:
    listed = [dict(zip(("date", "usedGb", "excessGb"), row, strict=True)) for row in rows]

    found = collect("account", me={}, overageList=listed)

    assert found.part == Account(billed_usage=usage, billed_excess=excess)
    assert (found.skipped, found.fields_skipped) == (skipped, skipped)


@pytest.mark.parametrize(
    ("plan", "overage"),
    [
        (b'"maxRepos":1.5', '"NaN"'),
        (b'"maxSizeGb":"inf"', '"inf"'),
        (b'"maxSizeGb":1e30', "1e19"),
        (b'"maxSize":[]', "true"),
        (b'"maxRepos":1%b' % (b"0" * 4000), '"much"'),
    ],
)
def test_unreadable_numbers_of_an_account_are_left_out(plan: bytes, overage: str) -> None:
    me = b'{"activePlan":{"name":"Small","includedGb":9,%b},"repoCount":-1}' % plan
    bad = overage.encode()

    found = collect("account", me=me, accruedOverage=bad, overageList=bad)

    assert found.part == Account(plan=Plan("Small", 9_000_000_000))
    assert found.fields_skipped == 4


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


@pytest.mark.parametrize(
    ("last", "skipped"),
    [
        ({"id": "5", "name": "e"}, (1, 0)),
        ({"id": "1", "name": "the first again", "permission": "FA"}, (1, 0)),
        ({"id": "5", "name": "e", "permission": "RO", "expiration": "soon"}, (0, 1)),
    ],
)
def test_tokens(last: dict[str, Any], skipped: tuple[int, int]) -> None:
    held = [
        {"id": "1", "name": "a", "permission": "RO", "expiration": "2024-02-03T04:05:06Z"},
        {"id": 2, "name": "b", "permission": "FA", "lastUsed": "2024-02-03T04:05:06Z"},
        {"id": "3", "name": "c", "permission": "CO"},
        {"id": "4", "name": "d", "permission": "New_Kind"},
    ]

    found = collect("tokens", me={"jwttokenSet": [*held, last]})

    known = (
        APIToken("1", "a", "read_only", expires=MOMENT),
        APIToken("2", "b", "full_access", last_used=MOMENT),
        APIToken("3", "c", "create_only"),
        APIToken("4", "d", "new_kind"),
        *([APIToken("5", "e", "read_only")] if skipped == (0, 1) else []),
    )
    assert found.part == APITokenList(known, complete=False)
    assert (found.skipped, found.fields_skipped) == skipped


WORKED_OUT = """
from contextlib import suppress
from msgspec import Raw
from borgbase_exporter.api import history
from borgbase_exporter.api.areas import AREAS
from borgbase_exporter.api.client import Answer
from borgbase_exporter.api.reading import Skipped, reader
from borgbase_exporter.errors import PollError

known = reader.cache_info().misses
lists = Answer(dict.fromkeys(["repoList", "sshList", "overageList", "u0"], Raw(b"[]")))
account = Answer({"me": Raw(b"{}")})
for area in AREAS:
    for answer in (lists, account):
        with suppress(PollError):
            area.decode(answer, Skipped())
history.usage_days(lists, 0)
history.billed_days(lists)
print(known, reader.cache_info().misses - known)
"""


def test_every_type_is_worked_out_before_there_are_threads() -> None:
    # Two threads that meet a type for the first time at once crash the process within msgspec.
    command, path = (sys.executable, "-c", WORKED_OUT), os.pathsep.join(sys.path)
    said = subprocess.check_output(command, env=os.environ | {"PYTHONPATH": path})
    known, late = map(int, said.split())
    assert (known > 20, late) == (True, 0)
