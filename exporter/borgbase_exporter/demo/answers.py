"""What the API answers about an account at one moment; units of the API are known only here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from math import ceil
from typing import Any

from borgbase_exporter.demo.cast import SSH_KEYS, Repo, Trouble
from borgbase_exporter.demo.curves import DAY, GB
from borgbase_exporter.demo.tokens import Token

JSON = dict[str, Any]
Resolvers = dict[str, Callable[[], Any]]

MB = 1_000_000
DENIED = "You do not have permission to perform this action"

_QUERY = re.compile(r"\s*query (\w+)")
_USAGE = re.compile(r'(\w+): repoUsageList\(repoId: "(\w+)"\)')
_CREATE_ONLY = ("Repos", "SSHKeys")
_AS_STORED = (
    *("id", "name", "quotaEnabled", "alertDays", "format", "borgVersion", "encryption"),
    *("accessMode", "appendOnly", "compactionEnabled", "sftpEnabled"),
    *("fullAccessKeys", "appendOnlyKeys", "rsyncKeys"),
)
_TERM = 365 * DAY
_USD_PER_GB_AND_DAY = 0.01 * 12 / 365  # a cent a month


@dataclass(frozen=True, kw_only=True)
class Moment:
    """An account at one moment, and its answers to the exporter's own queries."""

    now: float
    start: float
    troubles: frozenset[Trouble]
    all_repos: Mapping[str, Repo]
    """By id, deleted ones too."""
    tokens: Mapping[str, Token]
    """By secret."""
    included_gb: int
    past_sums: dict[float, int] = field(default_factory=dict)
    """Bytes stored at the ends of past days, shared by the moments between two changes."""

    @property
    def repos(self) -> tuple[Repo, ...]:
        """The repos that exist."""
        return tuple(repo for repo in self.all_repos.values() if repo.exists(self.now))

    def find(self, repo_id: str) -> Repo:
        """Return a repo that exists. LookupError when there is none."""
        if (repo := self.all_repos.get(repo_id)) and repo.exists(self.now):
            return repo
        raise LookupError(f"Repo matching query does not exist: {repo_id}")

    def answer(self, query: str, permission: str | None) -> JSON:
        """Answer one of the exporter's queries for a token's permission; None: no valid token.

        ValueError for any other query.
        """
        name, resolvers = self._resolvers(query)
        data: JSON = {"isAuthenticated": permission is not None}
        errors = []
        for key, resolve in resolvers.items():
            try:
                if permission is None or (permission == "CO" and name not in _CREATE_ONLY):
                    raise PermissionError(DENIED)  # noqa: TRY301
                data[key] = resolve()
            except (PermissionError, LookupError) as error:
                data[key] = None
                errors.append({"message": str(error), "path": [key]})
        return {"data": data, "errors": errors} if errors else {"data": data}

    def _resolvers(self, query: str) -> tuple[str, Resolvers]:
        """Return a query's name, and what answers each of its fields."""
        bill: Resolvers = {"overageList": self.bill, "accruedOverage": self.accrued_overage}
        queries: dict[str, Resolvers] = {
            "Repos": {"repoList": self.repo_list},
            "Account": {"me": self.me} | bill,
            "SSHKeys": {"sshList": self.ssh_list},
            "Tokens": {"me": lambda: {"jwttokenSet": self.api_tokens()}},
            "Usage": {alias: partial(self.usage, id_) for alias, id_ in _USAGE.findall(query)},
            "Billed": {"overageList": partial(self.bill, excess=False)},
        }
        if (found := _QUERY.match(query)) and found[1] in queries:
            return found[1], queries[found[1]]
        raise ValueError("The simulated account answers the exporter's own queries only.")

    def repo_list(self) -> list[JSON]:
        """List the repos."""
        return [
            {name: getattr(repo, _snake(name)) for name in _AS_STORED}
            | {
                "currentUsage": repo.usage(self.now) / MB,
                "quota": repo.quota // MB,
                "lastModified": _time(repo.last_write(self.now)),
                "createdAt": _time(repo.curve.born),
                "region": repo.server[:2],
                "server": {"hostname": repo.server},
            }
            for repo in self.repos
        ]

    def usage(self, repo_id: str) -> list[JSON]:
        """List what a repo held at the end of each day and holds now. LookupError as above."""
        repo = self.find(repo_id)
        return [
            {"date": _date(day), "diskUsage": round(repo.usage(moment) / MB)}
            for day, moment in self._ends_of_days(repo.curve.born)
        ]

    def ssh_list(self) -> list[JSON]:
        """List the SSH keys."""
        used: dict[str, float] = {}
        for repo in self.repos:
            for key in repo.keys:
                used[key] = max(used.get(key, 0), repo.last_write(self.now) or 0)
        added = {key: _time(self.start - age * DAY) for key, (_, age) in SSH_KEYS.items()}
        return [
            {"id": key, "name": name, "addedAt": added[key], "lastUsedAt": _time(used.get(key))}
            for key, (name, _) in SSH_KEYS.items()
        ]

    def me(self) -> JSON:
        """Return the plan, the subscription, and what the account itself counts."""
        begin, end = self._term()
        sizes = {"maxSizeGb": 4 * self.included_gb, "includedGb": self.included_gb}
        return {
            "activePlan": {"name": "Business", "maxRepos": 1_000_000, **sizes},
            "currentSubscription": {"endDate": _time(end), "active": begin <= self.now < end},
            "autoRenew": Trouble.SUBSCRIPTION_ENDING not in self.troubles,
            "diskUsage": sum(repo.usage(self.now) for repo in self.repos) / MB,
            "repoCount": len(self.repos),
        }

    def api_tokens(self) -> list[JSON]:
        """List the API tokens."""
        return [
            {
                "id": token.id,
                "name": token.name,
                "permission": token.permission,
                "lastUsed": _time(token.last_used(self.now)),
                "expiration": _time(token.expires),
            }
            for token in self.tokens.values()
        ]

    def bill(self, *, excess: bool = True) -> list[JSON]:
        """List what the account used by the day, newest first; the newest is as of now."""
        return [
            {"date": _date(day), "usedGb": round(used, 3)}
            | ({"excessGb": round(beyond, 3)} if excess else {})
            for day, used, beyond in self._days()
        ]

    def accrued_overage(self) -> float:
        """Sum up the US dollars that the excess costs since the subscription (re)started."""
        begin = self._term()[0] // DAY
        excess = sum(excess for day, _, excess in self._days() if day >= begin)
        return round(excess * _USD_PER_GB_AND_DAY, 2)

    def _term(self) -> tuple[float, float]:
        """Return when the current subscription began and when it ends."""
        ending = Trouble.SUBSCRIPTION_ENDING in self.troubles
        end = self.start + (9 if ending else 230) * DAY
        if not ending and self.now > end:
            end += ceil((self.now - end) / _TERM) * _TERM
        return end - _TERM, end

    def _ends_of_days(self, since: float) -> Iterator[tuple[int, float]]:
        """Yield the days up to today, each with its last moment, which today is now."""
        today = int(self.now // DAY)
        for day in range(int(since // DAY), today):
            yield day, (day + 1) * DAY - 1
        yield today, self.now

    def _days(self) -> list[tuple[int, float, float]]:
        """List each day, the GB stored and the GB in excess of the plan, newest first."""
        since = min((repo.curve.born for repo in self.all_repos.values()), default=self.now)
        days = [(day, self._stored(moment) / GB) for day, moment in self._ends_of_days(since)]
        return [(day, gb, max(0.0, gb - self.included_gb)) for day, gb in reversed(days)]

    def _stored(self, moment: float) -> int:
        if moment in self.past_sums:
            return self.past_sums[moment]
        stored = sum(repo.usage(moment) for repo in self.all_repos.values())
        if moment < self.now:
            self.past_sums[moment] = stored
        return stored


def _snake(name: str) -> str:
    return re.sub("([A-Z])", r"_\1", name).lower()


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY, UTC).date().isoformat()
