"""What the API answers about an account at one moment: the only place that knows wire units."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cached_property, partial
from math import ceil
from typing import Any

from borgbase_exporter.simulator.cast import SERVERS, SSH_KEYS, Repo, Trouble
from borgbase_exporter.simulator.curves import DAY, GB
from borgbase_exporter.simulator.tokens import TokenRecord

Wire = dict[str, Any]

MB = 1_000_000

_QUERIES = (
    *("repo_list", "repo", "repo_usage_list", "repo_event_list", "ssh_list"),
    *("me", "overage_list", "accrued_overage", "plan_list"),
)
_ALLOWED: dict[str | None, Collection[str]] = {None: (), "CO": ("repoList", "sshList")}
_TERM = 365 * DAY
_USD_PER_GB_AND_DAY = 0.01 * 12 / 365  # a cent a month


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


_AS_THEY_ARE = {
    _camel(field.name): field.name
    for field in fields(Repo)
    if field.name not in {"curve", "shifts", "deleted", "server", "quota"}
}


@dataclass(frozen=True, kw_only=True)
class Moment:
    """An account at one moment."""

    now: float
    start: float
    revision: int
    troubles: frozenset[Trouble]
    all_repos: tuple[Repo, ...]
    """Deleted ones too."""
    tokens: tuple[TokenRecord, ...]
    included_gb: int
    daily_sums: dict[int, int]
    """Bytes stored at the end of past days, shared by the moments between two changes."""

    @cached_property
    def repos(self) -> tuple[Repo, ...]:
        """The repos that exist."""
        return tuple(repo for repo in self.all_repos if repo.exists(self.now))

    def root(self, permission: str | None) -> Wire:
        """Give the answers to the root fields, as far as a token's permission (or none) goes."""
        answers = {_camel(name): getattr(self, name) for name in _QUERIES}
        allowed = _ALLOWED.get(permission, answers.keys())
        return {"isAuthenticated": permission is not None} | {
            field: partial(_answer, answer) if field in allowed else _deny
            for field, answer in answers.items()
        }

    def repo_list(self, name: str | None = None) -> list[Wire]:
        """List the repos, all or those of one name."""
        return [self._repo(repo) for repo in self.repos if name in (None, repo.name)]

    def repo(self, repo_id: str) -> Wire:
        """Answer for one repo. LookupError when there is none."""
        return self._repo(self._find(repo_id))

    def repo_usage_list(self, repo_id: str) -> list[Wire]:
        """List what a repo held at the end of each day and holds now. LookupError as above."""
        return self._usage(self._find(repo_id))

    def repo_event_list(self, repo_id: str) -> list[Wire]:
        """List what happened to a repo, newest first. LookupError as above."""
        repo = self._find(repo_id)
        curve = repo.curve
        key = next(iter((repo.full_access_keys or ()) + (repo.append_only_keys or ())), None)
        events = [(curve.born, "repo-created")]
        events += [(moment, "backup") for moment, _ in repo.shifts if moment <= self.now]
        events += [
            (curve.written(write), "prune" if curve.prunes(write) else "backup")
            for write in range(1, curve.writes(self.now) + 1)
        ]
        return [
            {
                "id": f"{repo.id}{number:06}",
                "datetime": _time(moment),
                "slug": slug,
                "ip": "2001:db8::7" if key else None,
                "sshKeyName": SSH_KEYS[key][0] if key else None,
                "details": None,
            }
            for number, (moment, slug) in reversed([*enumerate(sorted(events))])
        ]

    def ssh_list(self, name: str | None = None, hash_md5: str | None = None) -> list[Wire]:
        """List the SSH keys, all or those of one name or MD5 hash."""
        used: dict[str, float] = {}
        for repo in self.repos:
            for key in (repo.full_access_keys or ()) + (repo.append_only_keys or ()):
                used[key] = max(used.get(key, 0), repo.last_write(self.now) or 0)
        return [
            {
                "id": key,
                "name": label,
                "keyType": kind,
                "bits": bits,
                "addedAt": _time(self.start - age * DAY),
                "lastUsedAt": _time(used.get(key) or None),
                "keyData": f"ssh-{kind} SIMULATED-KEY-DATA-{key}",
            }
            for key, (label, kind, bits, age) in SSH_KEYS.items()
            if name in (None, label) and hash_md5 in (None, f"{int(key):032x}")
        ]

    def me(self) -> Wire:
        """Answer for the account's owner, the fields never to be selected included."""
        begin, end = self._term()
        return {
            "activePlan": (plan := self._plan()),
            "currentSubscription": {
                "startDate": _time(begin),
                "endDate": _time(end),
                "active": begin <= self.now < end,
                "plan": plan,
            },
            "autoRenew": Trouble.SUBSCRIPTION_ENDING not in self.troubles,
            "jwttokenSet": [self._token(record) for record in self.tokens],
            "email": "anna@simulated.example",
            "password": "SIMULATED-PASSWORD-HASH",
            "address": "1 Simulated Street",
            "repoSet": lambda _info: self.repo_list(),
            "repousageSet": lambda _info: [row for repo in self.repos for row in self._usage(repo)],
        }

    def overage_list(self) -> list[Wire]:
        """List what the account used by the day, newest first; the newest is as of now."""
        plan = self._plan()
        return [
            {
                "id": str(day),
                "date": _date(day),
                "plan": plan,
                "usedGb": round(used, 3),
                "excessGb": round(excess, 3),
                "excessUsd": f"{excess * _USD_PER_GB_AND_DAY:.4f}",
            }
            for day, used, excess in self._days()
        ]

    def accrued_overage(self) -> float:
        """Sum up the US dollars that the excess costs since the subscription (re)started."""
        begin = self._term()[0] // DAY
        excess = sum(excess for day, _, excess in self._days() if day >= begin)
        return round(excess * _USD_PER_GB_AND_DAY, 2)

    def plan_list(self) -> list[Wire]:
        """List the plans that can be bought, and the account's own."""
        return [
            _plan(1, "Free", 10, 10, "0.00"),
            _plan(2, "Small", 250, None, "80.00"),
            self._plan(),
        ]

    def _find(self, repo_id: str) -> Repo:
        for repo in self.repos:
            if repo.id == repo_id:
                return repo
        raise LookupError("Repo matching query does not exist.")

    def _repo(self, repo: Repo) -> Wire:
        server = SERVERS[repo.server]
        return {field: getattr(repo, name) for field, name in _AS_THEY_ARE.items()} | {
            "server": server,
            "region": server["region"],
            "quota": repo.quota // MB,
            "currentUsage": repo.usage(self.now) / MB,
            "createdAt": _time(repo.curve.born),
            "lastModified": _time(repo.last_write(self.now)),
            "repoPath": f"{repo.id}@{repo.id}.repo.example:repo",
            "htpasswd": f"{repo.id}:SIMULATED-HTPASSWD" if repo.format == "restic" else None,
        }

    def _usage(self, repo: Repo) -> list[Wire]:
        return [
            {
                "id": f"{repo.id}{day}",
                "date": _date(day),
                "repo": repo.id,
                "diskUsage": round(repo.usage(moment) / MB),
            }
            for day, moment in self._ends_of_days(repo.curve.born)
        ]

    def _token(self, record: TokenRecord) -> Wire:
        return {
            "id": record.id,
            "name": record.name,
            "permission": record.permission,
            "createdAt": _time(record.created),
            "lastUsed": _time(record.last_used(self.now)),
            "expiration": _time(record.expires),
        }

    def _plan(self) -> Wire:
        return _plan(9, "Business", self.included_gb, 4 * self.included_gb, "580.00")

    def _term(self) -> tuple[float, float]:
        """When the current subscription began and when it ends."""
        ending = Trouble.SUBSCRIPTION_ENDING in self.troubles
        end = self.start + (9 if ending else 230) * DAY
        if not ending and self.now > end:
            end += ceil((self.now - end) / _TERM) * _TERM
        return end - _TERM, end

    def _ends_of_days(self, since: float) -> Iterator[tuple[int, float]]:
        """Give the days up to today, each with its last moment, which today is now."""
        today = int(self.now // DAY)
        for day in range(int(since // DAY), today):
            yield day, (day + 1) * DAY - 1
        yield today, self.now

    def _days(self) -> list[tuple[int, float, float]]:
        """List each day, the GB stored and the GB in excess of the plan, newest first."""
        since = min((repo.curve.born for repo in self.all_repos), default=self.now)
        used = [(day, self._stored(day, end) / GB) for day, end in self._ends_of_days(since)]
        return [(day, gb, max(0.0, gb - self.included_gb)) for day, gb in reversed(used)]

    def _stored(self, day: int, moment: float) -> int:
        if day not in self.daily_sums or moment == self.now:
            stored = sum(repo.usage(moment) for repo in self.all_repos)
            if moment == self.now:
                return stored
            self.daily_sums[day] = stored
        return self.daily_sums[day]


def _answer(answer: Callable[..., Any], _info: Any, **args: Any) -> Any:
    return answer(**args)


def _deny(_info: Any, **_args: Any) -> None:
    raise PermissionError("You do not have permission to perform this action")


def _plan(number: int, name: str, included_gb: int, max_gb: int | None, usd: str) -> Wire:
    return {
        "id": str(number),
        "name": name,
        "maxRepos": 10 ** (2 + number // 2),
        "maxSize": max_gb and max_gb * GB // MB,
        "includedSize": included_gb * GB // MB,
        "billingPeriodDays": 365,
        "billingExtraGb": "0.01",
        "billingPeriodUsd": usd,
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY, UTC).date().isoformat()
