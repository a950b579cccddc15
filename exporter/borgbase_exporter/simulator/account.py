"""The account: its repos, tokens and plan, and the changes that tests make to them."""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from borgbase_exporter.simulator.answers import Moment
from borgbase_exporter.simulator.cast import Repo, Trouble, cast, repo_id
from borgbase_exporter.simulator.curves import DAY, GB, Curve
from borgbase_exporter.simulator.tokens import TokenRecord, secret_of


class SimulatedAccount:
    """An account whose answers follow from its seed, start, clock and explicit changes alone.

    `clock` gives Unix seconds and may be driven at will; `start` (default: the clock's time at
    construction) is the moment the `troubles` are timed for. The first twelve repos have a
    character, further ones are generated; with fewer `repos` the first ones are there, and the
    troubles of the others are not. Accounts behind one server need different seeds.
    Thread safe.
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        clock: Callable[[], float] = time.time,
        start: float | None = None,
        repos: int = 12,
        troubles: Collection[Trouble] = frozenset(Trouble),
    ) -> None:
        self.seed = seed
        self.now = clock
        self.start = start = clock() if start is None else start
        self.troubles = frozenset(troubles)
        self._lock = threading.Lock()
        self._revision = 0
        self._created = repos
        made = [cast(seed, index, start, self.troubles) for index in range(repos)]
        self._repos = {repo.id: repo for repo in made}
        stored = sum(repo.usage(start) for repo in made) // GB
        self._included_gb = stored * (9 if Trouble.OVERAGE in self.troubles else 15) // 10
        self._daily_sums: dict[int, int] = {}
        self._tokens: dict[str, TokenRecord] = {}
        self._minted = 0
        soon = 6 if Trouble.TOKEN_EXPIRING in self.troubles else 400
        self.token = self._mint("exporter", "RO", start - 90 * DAY, start + 700 * DAY, 900)
        """The secret of the exporter's own token, which is read-only."""
        self._mint("terraform", "FA", start - 300 * DAY, start + soon * DAY, DAY)
        self._mint("provisioning", "CO", start - 45 * DAY)
        self._mint("old-dashboard", "RO", start - 700 * DAY, start - 335 * DAY, 3600)

    @property
    def repos(self) -> tuple[Repo, ...]:
        """The repos that exist now, in order of creation."""
        return self.moment().repos

    def id_of(self, name: str) -> str:
        """Find the id of the repo with this name. KeyError when there is none."""
        return {repo.name: repo.id for repo in self.repos}[name]

    @property
    def tokens(self) -> Mapping[str, TokenRecord]:
        """Every token by its secret, expired ones too, revoked ones not."""
        with self._lock:
            return MappingProxyType(dict(self._tokens))

    def token_for(self, secret: str) -> TokenRecord | None:
        """Find the token with this secret, None when it is unknown, revoked or expired."""
        record = self.tokens.get(secret)
        return record if record and record.valid(self.now()) else None

    def add_token(self, name: str, permission: str, expires: float | None = None) -> str:
        """Make a token (RO, FA or CO; `expires` in Unix seconds) and return its secret."""
        with self._change():
            return self._mint(name, permission, self.now(), expires)

    def revoke(self, secret: str) -> None:
        """Take a token away. KeyError when there is none."""
        with self._change():
            del self._tokens[secret]

    def add_repo(self, name: str, **fields: Any) -> str:
        """Create a repo, first written to a day later, and return its id. Fields as in `update`."""
        with self._change() as now:
            curve = Curve(born=now, first=now + DAY, plateau=10 * GB, churn=GB // 100)
            repo = Repo(id=repo_id(self.seed, self._created), name=name, curve=curve)
            self._repos[repo.id] = replace(repo, **fields)
            self._created += 1
            return repo.id

    def update(self, repo_id: str, **fields: Any) -> None:
        """Change fields of a repo, named like `Repo`'s: sizes in bytes, times in Unix seconds.

        KeyError when there is no such repo now, TypeError when there is no such field.
        """
        with self._change() as now:
            self._repos[repo_id] = replace(self._existing(repo_id, now), **fields)

    def rename(self, repo_id: str, name: str) -> None:
        """Give a repo another name. KeyError when there is no such repo now."""
        self.update(repo_id, name=name)

    def delete(self, repo_id: str) -> None:
        """Delete a repo; the account's history keeps its share. KeyError as above."""
        with self._change() as now:
            self._repos[repo_id] = replace(self._existing(repo_id, now), deleted=now)

    def set_usage(self, repo_id: str, bytes_: int) -> None:
        """Write to a repo, so that it holds this much and grows on from there. KeyError as above.

        The past stays as it was.
        """
        with self._change() as now:
            repo = self._existing(repo_id, now)
            shift = (now, bytes_ - repo.curve.size(now))
            self._repos[repo_id] = replace(repo, shifts=(*repo.shifts, shift))

    def _existing(self, repo_id: str, now: float) -> Repo:
        repo = self._repos[repo_id]
        if not repo.exists(now):
            raise KeyError(repo_id)
        return repo

    def moment(self) -> Moment:
        """Take the account as it is now: everything read off it agrees."""
        with self._lock:
            return Moment(
                now=self.now(),
                start=self.start,
                revision=self._revision,
                troubles=self.troubles,
                all_repos=tuple(self._repos.values()),
                tokens=tuple(self._tokens.values()),
                included_gb=self._included_gb,
                daily_sums=self._daily_sums,
            )

    @contextmanager
    def _change(self) -> Iterator[float]:
        with self._lock:
            yield self.now()
            self._revision += 1
            self._daily_sums = {}  # a new one: moments already taken go on with theirs

    def _mint(
        self,
        name: str,
        permission: str,
        created: float,
        expires: float | None = None,
        used_every: float | None = None,
    ) -> str:
        self._minted += 1
        record = TokenRecord(
            id=str(1000 * self.seed + self._minted),
            name=name,
            permission=permission,
            created=created,
            expires=None if expires is None else int(expires),
            used_every=used_every,
        )
        secret = secret_of(record, self.seed)
        self._tokens[secret] = record
        return secret
