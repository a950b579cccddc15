"""The history that BorgBase keeps: what each repo used, and what was billed, day by day.

A query asks for several repos, each under an alias: `u0: repoUsageList(repoId: "a1b2") { … }`.
"""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Sequence
from datetime import date

from borgbase_exporter.api.areas import DAY, GIGABYTE, MEGABYTE, Overage, Size
from borgbase_exporter.api.client import Answer
from borgbase_exporter.api.query import Node, Query, Root, selection
from borgbase_exporter.api.reading import Skipped, reader
from borgbase_exporter.errors import PollError
from borgbase_exporter.model import Repo

Days = dict[int, float]  # values by UTC day, counted from 1 January 1970

EPOCH = date(1970, 1, 1).toordinal()
BATCH = 50  # repos in a query; two years of theirs are about 2 MB


class _Usage(Node):
    graphql = "RepoUsageType"
    date: date
    disk_usage: Size


class _History(Root):
    repo_usage_list: list[_Usage]


class _Bill(Root):
    overage_list: list[Overage]


reader(_History)
reader(_Bill)
_FLOOR = frozenset({"Query.repoUsageList", "RepoUsageType.date", "RepoUsageType.diskUsage"})
BILLED = Query("Billed", _Bill)


def usage(repo_ids: Sequence[str]) -> Query:
    """Return the query for the daily usage of some repos."""
    fields = selection(_Usage)
    lists = (
        # A JSON string is also a valid GraphQL string.
        f"u{number}: repoUsageList(repoId: {json.dumps(repo_id)}) {{ {fields} }}"
        for number, repo_id in enumerate(repo_ids)
    )
    return Query("Usage", _History, _FLOOR, fixed=" ".join(lists))


def usage_days(answer: Answer, number: int) -> Days:
    """Decode the answer to the query above for one of its repos, in the API's own unit.

    Rows that cannot be read are left out. Raises a PollError when there is no list.
    """
    rows = answer.root(f"u{number}", list[_Usage], Skipped())
    return {row.date.toordinal() - EPOCH: row.disk_usage for row in rows}


def recent(answer: Answer, repos: Sequence[Repo], now: float) -> dict[str, array[float]]:
    """Decode the answer for these repos: times and bytes of their last 30 days, by id.

    Scaled from megabytes to end with the current usage; repos in other units are left out.
    """
    found = {}
    for number, repo in enumerate(repos):
        with contextlib.suppress(PollError, IndexError, ZeroDivisionError):
            days = sorted(usage_days(answer, number).items())[-30:]
            scale = (repo.usage or 0) / days[-1][1]
            if MEGABYTE / 2 <= scale <= MEGABYTE * 2:
                pairs = ((min(now, DAY * (day + 1)), round(size * scale)) for day, size in days)
                found[repo.id] = array("d", [value for pair in pairs for value in pair])
    return found


def billed_days(answer: Answer) -> Days:
    """Decode the answer to BILLED, in bytes, in the same way."""
    rows = answer.read(_Bill, Skipped()).overage_list
    used = {row.date.toordinal() - EPOCH: row.billed_usage for row in rows}
    return {day: size * GIGABYTE for day, size in used.items() if size is not None}
