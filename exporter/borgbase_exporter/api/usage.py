"""The history that BorgBase keeps: what each repo used, and what was billed, day by day.

A query asks for several repos, each under an alias: `u0: repoUsageList(repoId: "a1b2") { … }`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date

import msgspec

from borgbase_exporter.api.client import Answer
from borgbase_exporter.api.decode import GIGABYTE, Entries, Size, readable
from borgbase_exporter.api.documents import AUTHENTICATED, Document, Field

Days = dict[int, float]
"""Values by UTC day, counted from 1 January 1970."""

EPOCH = date(1970, 1, 1).toordinal()

BILLED = Document(
    "Billed", (AUTHENTICATED, Field("overageList", "OverageType", (Field("date"), Field("usedGb"))))
)


@dataclass(frozen=True, slots=True)
class _UsageOf(Field):
    """The daily usage of one repo."""

    repo_id: str = ""
    alias: str = ""

    def text(self, missing: Collection[str], owner: str) -> str:
        """Return the field as GraphQL, whose strings are written like those of JSON."""
        plain = Field.text(self, missing, owner)
        argument = f"(repoId: {json.dumps(self.repo_id)})"
        return plain and f"{self.alias}: {plain.replace(self.name, self.name + argument, 1)}"


_ROW = (Field("date"), Field("diskUsage"))
_FLOOR = frozenset({"Query.repoUsageList", "RepoUsageType.date", "RepoUsageType.diskUsage"})


def usage(repo_ids: Sequence[str]) -> Document:
    """Return the query for the daily usage of some repos."""
    fields = (
        _UsageOf("repoUsageList", "RepoUsageType", _ROW, repo_id=repo_id, alias=_alias(number))
        for number, repo_id in enumerate(repo_ids)
    )
    return Document("Usage", (AUTHENTICATED, *fields), _FLOOR)


def usage_days(answer: Answer, number: int) -> Days:
    """Decode the answer to the query above for one of its repos, in the API's own unit.

    Rows that cannot be read are left out. Raises a PollError when there is no list.
    """
    rows, _ = readable(answer.root(_alias(number), Entries), _Usage, lambda row: row, id)
    return {_day(row.date): row.disk_usage for row in rows}


def billed_days(answer: Answer) -> Days:
    """Decode the answer to BILLED, in bytes, in the same way."""
    rows, _ = readable(answer.root("overageList", Entries), _Billed, lambda row: row, id)
    return {_day(row.date): row.used_gb * GIGABYTE for row in rows}


def _alias(number: int) -> str:
    return f"u{number}"


def _day(day: date) -> int:
    return day.toordinal() - EPOCH


class _Usage(msgspec.Struct, rename="camel"):
    date: date
    disk_usage: Size


class _Billed(msgspec.Struct, rename="camel"):
    date: date
    used_gb: Size


# msgspec works a type out when it first meets it; two threads that do so at once crash the process.
for _kind in (_Usage, _Billed):
    msgspec.json.Decoder(_kind)
