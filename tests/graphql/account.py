"""A simulated account that can be changed, as its owner would."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import inf
from typing import Any

from borgbase_exporter import demo
from borgbase_exporter.demo.answers import JSON, Moment
from borgbase_exporter.demo.cast import Repo, repo_id
from borgbase_exporter.demo.curves import DAY, GB, Curve


@dataclass(frozen=True, kw_only=True)
class ChangedRepo(Repo):
    """A repo whose usage a test set, or that was deleted."""

    shifts: tuple[tuple[float, float], ...] = ()
    """(moment, bytes): added to the curve from that moment on, in order of time."""
    deleted: float = inf

    def exists(self, now: float) -> bool:
        return super().exists(now) and now < self.deleted

    def usage(self, now: float) -> int:
        if not self.exists(now):
            return 0
        added = [bytes_ for moment, bytes_ in self.shifts if moment <= now]
        return max(0, round(self.curve.size(now) + sum(added[-1:])))

    def last_write(self, now: float) -> float | None:
        times = [super().last_write(now), *(at for at, _ in self.shifts if at <= now)]
        return max((time for time in times if time is not None), default=None)


class _Moment(Moment):
    """A moment of an account that lists only the newest billed days."""

    def __init__(self, account: SimulatedAccount) -> None:
        super().__init__(account)
        self._billed = account.billed

    def bill(self, days: int | None = None) -> list[JSON]:
        return super().bill(days or self._billed)


class SimulatedAccount(demo.SimulatedAccount):
    """The account of `--demo`; any thread may read it while one changes it.

    The API lists its newest `billed` days, by default all, which takes most of an answer's time.
    LookupError for repos that do not exist now, KeyError for unknown names and tokens.
    """

    def __init__(self, *, billed: int | None = None, **options: Any) -> None:
        self.billed = billed
        self._sums: dict[float, int] = {}
        super().__init__(**options)
        self.all_repos = tuple(
            ChangedRepo(**{field.name: getattr(repo, field.name) for field in fields(Repo)})
            for repo in self.all_repos
        )

    @property
    def repos(self) -> tuple[Repo, ...]:
        """The repos that exist now, in order of creation."""
        return self.moment().repos

    def moment(self) -> Moment:
        return _Moment(self)

    def stored(self, moment: float) -> int:
        """Return the bytes stored at a moment; past values come from a cache."""
        if moment not in self._sums or moment >= self.now():
            self._sums[moment] = super().stored(moment)
        return self._sums[moment]

    def id_of(self, name: str) -> str:
        """Return the id of the repo with this name."""
        return {repo.name: repo.id for repo in self.repos}[name]

    def add_token(self, name: str, permission: str, expires: float | None = None) -> str:
        """Create a token (RO, FA or CO; `expires` in Unix seconds) and return its secret."""
        return self._issue(name, permission, self.now(), expires)

    def revoke(self, secret: str) -> None:
        """Remove a token."""
        token = self.tokens[secret]
        self.tokens = {key: value for key, value in self.tokens.items() if value is not token}

    def add_repo(self, name: str, **fields: Any) -> str:
        """Create a repo, first written to a day later, and return its id. Fields as in `update`."""
        now, id_ = self.now(), repo_id(self.seed, len(self.all_repos))
        curve = Curve(born=now, first=now + DAY, plateau=10 * GB, churn=GB // 100)
        self._put(*self.all_repos, ChangedRepo(id=id_, name=name, curve=curve, **fields))
        return id_

    def update(self, repo_id: str, **fields: Any) -> None:
        """Change fields of a repo, named like `Repo`'s: sizes in bytes, times in Unix seconds."""
        changed = {repo.id: repo for repo in self.repos}[repo_id]
        new = replace(changed, **fields)
        self._put(*(new if repo is changed else repo for repo in self.all_repos))

    def rename(self, repo_id: str, name: str) -> None:
        """Rename a repo."""
        self.update(repo_id, name=name)

    def delete(self, repo_id: str) -> None:
        """Delete a repo; the account's history keeps its share."""
        self.update(repo_id, deleted=self.now())

    def set_usage(self, repo_id: str, bytes_: int) -> None:
        """Write to a repo: it holds this many bytes now, and continues to grow."""
        (repo,) = (repo for repo in self.all_repos if repo.id == repo_id)
        assert isinstance(repo, ChangedRepo)
        now = self.now()
        self.update(repo_id, shifts=(*repo.shifts, (now, bytes_ - repo.curve.size(now))))

    def _put(self, *repos: Repo) -> None:
        self.all_repos, self._sums = repos, {}
