"""What the API answers about an account at one moment; units of the API are known only here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice, takewhile
from math import ceil
from typing import TYPE_CHECKING, Any

from borgbase_exporter.demo.cast import SSH_KEYS, Trouble
from borgbase_exporter.demo.curves import DAY, GB

if TYPE_CHECKING:
    from borgbase_exporter.demo.account import SimulatedAccount

JSON = dict[str, Any]
Resolvers = dict[str, Callable[[], Any]]

MB = 1_000_000
DENIED = "You do not have permission to perform this action"

_QUERY = re.compile(r"\s*query (\w+)")
_USAGE = re.compile(r'(\w+): repoUsageList\(repoId: "(\w+)"\)')
_AS_STORED = (
    *("id", "name", "quotaEnabled", "alertDays", "format", "borgVersion", "encryption"),
    *("accessMode", "appendOnly", "compactionEnabled", "sftpEnabled"),
    *("fullAccessKeys", "appendOnlyKeys", "rsyncKeys"),
)
_TERM = 365 * DAY
_USD_PER_GB_AND_DAY = 0.01 * 12 / 365  # a cent a month


@dataclass(frozen=True, slots=True)
class Token:
    """An API token without its secret. Times in Unix seconds."""

    id: str
    name: str
    permission: str  # RO, FA or CO: read only, full access, create only
    created: float
    expires: float | None = None
    used_every: float | None = None  # seconds between two uses; None: never used

    def last_used(self, now: float) -> float | None:
        """Return the time of the last use up to this moment, None when there was none."""
        every, until = self.used_every, min(now, self.expires or now)
        return max(self.created, until // every * every) if every else None


class Moment:
    """An account as it is now, and its answers to the exporter's own queries."""

    def __init__(self, account: SimulatedAccount) -> None:
        self.account = account
        self.now = account.now()
        self.repos = tuple(repo for repo in account.all_repos if repo.exists(self.now))

    def answer(self, query: str, permission: str | None) -> JSON:
        """Answer an exporter's query, or raise ValueError; without a permission, refuse it."""
        name, resolvers = self._resolvers(query)
        may = permission in {"RO", "FA"} or (permission == "CO" and name in {"Repos", "SSHKeys"})
        data: JSON = {"isAuthenticated": permission is not None}
        errors = []
        for key, resolve in resolvers.items():
            try:
                if not may:
                    raise PermissionError(DENIED)  # noqa: TRY301
                data[key] = resolve()
            except (PermissionError, LookupError) as error:
                data[key] = None
                errors.append({"message": str(error), "path": [key]})
        return {"data": data, "errors": errors} if errors else {"data": data}

    def _resolvers(self, query: str) -> tuple[str, Resolvers]:
        """Return a query's name, and a resolver for each of its fields."""
        bill: Resolvers = {"overageList": self.bill, "accruedOverage": self.accrued_overage}
        queries: dict[str, Resolvers] = {
            "Repos": {"repoList": self.repo_list},
            "Account": {"me": self.me} | bill,
            "SSHKeys": {"sshList": self.ssh_list},
            "Tokens": {"me": lambda: {"jwttokenSet": self.api_tokens()}},
            "Usage": {alias: partial(self.usage, id_) for alias, id_ in _USAGE.findall(query)},
            "Billed": {"overageList": self.bill},
        }
        if (found := _QUERY.match(query)) and found[1] in queries:
            return found[1], queries[found[1]]
        raise ValueError("The simulated account answers the exporter's own queries only.")

    def repo_list(self) -> list[JSON]:
        """List the repos."""
        return [
            {name: getattr(repo, re.sub("(?=[A-Z])", "_", name).lower()) for name in _AS_STORED}
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
        """List a repo's usage at the end of each day and now; LookupError if it is unknown."""
        repo = next((repo for repo in self.repos if repo.id == repo_id), None)
        if not repo:
            raise LookupError(f"Repo matching query does not exist: {repo_id}")
        return [
            {"date": _date(day), "diskUsage": round(repo.usage(self._end(day)) / MB)}
            for day in self._since(repo.curve.born)
        ]

    def ssh_list(self) -> list[JSON]:
        """List the SSH keys."""
        writes = [(repo.keys, repo.last_write(self.now) or 0) for repo in self.repos]
        return [
            {
                "id": key,
                "name": name,
                "addedAt": _time(self.account.start - age * DAY),
                "lastUsedAt": _time(max((at for keys, at in writes if key in keys), default=None)),
            }
            for key, (name, age) in SSH_KEYS.items()
        ]

    def me(self) -> JSON:
        """Return the plan, the subscription, and what the account itself counts."""
        begin, end = self._term()
        sizes = {"maxSizeGb": 4 * self.account.included_gb, "includedGb": self.account.included_gb}
        return {
            "activePlan": {"name": "Business", "maxRepos": 1_000_000, **sizes},
            "currentSubscription": {"endDate": _time(end), "active": begin <= self.now < end},
            "autoRenew": Trouble.SUBSCRIPTION_ENDING not in self.account.troubles,
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
            for token in self.account.tokens.values()
        ]

    def bill(self, days: int | None = None) -> list[JSON]:
        """List the account's daily usage, all or the newest, newest first; today's is as of now."""
        return [
            {"date": _date(day), "usedGb": round(used, 3), "excessGb": round(beyond, 3)}
            for day, used, beyond in islice(self._days(), days)
        ]

    def accrued_overage(self) -> float:
        """Return the cost of the excess in US dollars since the subscription (re)started."""
        begin = self._term()[0] // DAY
        days = takewhile(lambda day: day[0] >= begin, self._days())
        excess = sum(excess for _, _, excess in days)
        return round(excess * _USD_PER_GB_AND_DAY, 2)

    def _term(self) -> tuple[float, float]:
        """Return when the current subscription began and when it ends."""
        ending = Trouble.SUBSCRIPTION_ENDING in self.account.troubles
        end = self.account.start + (9 if ending else 230) * DAY
        renewals = 0 if ending else max(0, ceil((self.now - end) / _TERM))
        return end + (renewals - 1) * _TERM, end + renewals * _TERM

    def _since(self, moment: float) -> range:
        """Return the days up to today."""
        return range(int(moment // DAY), int(self.now // DAY) + 1)

    def _end(self, day: int) -> float:
        """Return the last second of a day; for today that is now."""
        return min(self.now, (day + 1) * DAY - 1)

    def _days(self) -> Iterator[tuple[int, float, float]]:
        """Yield each day, the GB stored and the GB in excess of the plan, newest first."""
        since = min((repo.curve.born for repo in self.account.all_repos), default=self.now)
        for day in reversed(self._since(since)):
            gb = self.account.stored(self._end(day)) / GB
            yield day, gb, max(0.0, gb - self.account.included_gb)


def _time(seconds: float | None) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else None


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY, UTC).date().isoformat()
