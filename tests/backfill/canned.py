"""An API with accounts of any size: canned answers, without a GraphQL server."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from tests.lab.account import http
from tests.lab.wire import Wire

DAY = 86_400
TODAY = 20_000  # the day that it is for the API: 4 October 2024
NOON = (TODAY + 0.5) * DAY
MB = 1_000_000

Usage = Mapping[str, Sequence[int | None] | None]
"""By repo id, a value for each day up to today, None for a missing one; or no list at all."""

_ALIAS = re.compile(r'(\w+): repoUsageList\(repoId: "(\w+)"\)')


@dataclass
class Canned:
    """A script for a `Lab`."""

    usage: Usage
    unit: float = MB  # what the daily values count, in bytes
    billed: Sequence[float] | None = (1.5,)  # GB for each day up to today
    fault: Callable[[Wire, Sequence[str]], bool] = lambda _wire, _repo_ids: False
    """Answers a query for some repos in place of the script, if it returns true."""
    asked: list[list[str]] = field(default_factory=list)  # the repos of each such query
    today: int = TODAY

    def __call__(self, wire: Wire) -> None:
        while request := wire.request():
            if request.name != "Usage":
                wire.send(http(self._lists()))
                continue
            aliases = dict(_ALIAS.findall(request.query))
            self.asked.append([*aliases.values()])
            if not self.fault(wire, self.asked[-1]):
                wire.send(http(self._usage_of(aliases)))

    def _lists(self) -> bytes:
        repos = [
            {
                "id": repo_id,
                "name": f"host-{repo_id}",
                "currentUsage": (values[-1] or 0) * self.unit / MB if values else 1,
                "createdAt": f"{_date(self.today - 2)}T12:00:00Z",
            }
            for repo_id, values in self.usage.items()
        ]
        billed = zip(_dates(self.today, len(self.billed or ())), self.billed or (), strict=True)
        rows = [{"date": day, "usedGb": used} for day, used in billed]
        overage = None if self.billed is None else rows[::-1]
        data = {"isAuthenticated": True, "repoList": repos, "overageList": overage}
        return msgspec.json.encode({"data": data})

    def _usage_of(self, aliases: Mapping[str, str]) -> bytes:
        lists = [f'"{alias}":{self._rows(id_)}' for alias, id_ in aliases.items()]
        return f'{{"data":{{"isAuthenticated":true,{",".join(lists)}}}}}'.encode()

    def _rows(self, repo_id: str) -> str:
        if (values := self.usage[repo_id]) is None:
            return "null"
        days = zip(_dates(self.today, len(values)), values, strict=True)
        rows = (f'{{"date":"{day}","diskUsage":{used}}}' for day, used in days if used is not None)
        return f"[{','.join(rows)}]"


@lru_cache
def _dates(today: int, count: int) -> list[str]:
    return [_date(today - count + 1 + number) for number in range(count)]


def _date(day: int) -> str:
    return f"{datetime.fromtimestamp(day * DAY, UTC):%Y-%m-%d}"
