"""The account: its repos, tokens and plan, and the changes that can be made to them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from borgbase_exporter.demo.answers import Moment
from borgbase_exporter.demo.cast import Repo, Trouble, cast, repo_id
from borgbase_exporter.demo.curves import DAY, GB, Curve
from borgbase_exporter.demo.tokens import Token


class SimulatedAccount:
    """An account whose answers follow from its seed, start, clock and explicit changes alone.

    `clock` returns Unix seconds; `start` (default: the clock's time at construction) is the moment
    that the `troubles` are timed for. The first twelve repos have a character, further ones are
    generated; with fewer `repos`, the troubles of the others are absent. Any thread may read it
    while one changes it.
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
        made = [cast(seed, index, start, self.troubles) for index in range(repos)]
        stored = sum(repo.usage(start) for repo in made) // GB
        self._state = Moment(
            now=start,
            start=start,
            troubles=self.troubles,
            all_repos={repo.id: repo for repo in made},
            tokens={},
            included_gb=stored * (9 if Trouble.OVERAGE in self.troubles else 15) // 10,
        )
        self._token_ids = itertools.count(1000 * seed + 1)
        self.token = self._issue("exporter", "RO", start - 90 * DAY, start + 700 * DAY, 900)
        """The secret of the exporter's own token, which is read-only."""
        soon = 6 if Trouble.TOKEN_EXPIRING in self.troubles else 400
        self._issue("terraform", "FA", start - 300 * DAY, start + soon * DAY, DAY)
        self._issue("provisioning", "CO", start - 45 * DAY, None, None)
        self._issue("old-dashboard", "RO", start - 700 * DAY, start - 335 * DAY, 3600)

    def moment(self) -> Moment:
        """Return the account as it is now: all answers of one moment agree."""
        return replace(self._state, now=self.now())

    @property
    def repos(self) -> tuple[Repo, ...]:
        """The repos that exist now, in order of creation."""
        return self.moment().repos

    def id_of(self, name: str) -> str:
        """Return the id of the repo with this name. KeyError when there is none."""
        return {repo.name: repo.id for repo in self.repos}[name]

    @property
    def tokens(self) -> Mapping[str, Token]:
        """Every token by its secret, expired ones too, revoked ones not."""
        return self._state.tokens

    def token_for(self, secret: str) -> Token | None:
        """Return the token with this secret, None when it is unknown, revoked or expired."""
        token = self.tokens.get(secret)
        return token if token and (token.expires is None or self.now() < token.expires) else None

    def add_token(self, name: str, permission: str, expires: float | None = None) -> str:
        """Create a token (RO, FA or CO; `expires` in Unix seconds) and return its secret."""
        return self._issue(name, permission, self.now(), expires, None)

    def revoke(self, secret: str) -> None:
        """Remove a token. KeyError when there is none."""
        tokens = dict(self.tokens)
        del tokens[secret]
        self._state = replace(self._state, tokens=tokens)

    def add_repo(self, name: str, **fields: Any) -> str:
        """Create a repo, first written to a day later, and return its id. Fields as in `update`."""
        now = self.now()
        curve = Curve(born=now, first=now + DAY, plateau=10 * GB, churn=GB // 100)
        id_ = repo_id(self.seed, len(self._state.all_repos))
        self._put(replace(Repo(id=id_, name=name, curve=curve), **fields))
        return id_

    def update(self, repo_id: str, **fields: Any) -> None:
        """Change fields of a repo, named like `Repo`'s: sizes in bytes, times in Unix seconds.

        LookupError when there is no such repo now, TypeError when there is no such field.
        """
        self._put(replace(self.moment().find(repo_id), **fields))

    def rename(self, repo_id: str, name: str) -> None:
        """Rename a repo. LookupError as above."""
        self.update(repo_id, name=name)

    def delete(self, repo_id: str) -> None:
        """Delete a repo; the account's history keeps its share. LookupError as above."""
        self.update(repo_id, deleted=self.now())

    def set_usage(self, repo_id: str, bytes_: int) -> None:
        """Write to a repo: it holds this much now, and grows on. LookupError as above."""
        repo, now = self.moment().find(repo_id), self.now()
        shift = (now, bytes_ - repo.curve.size(now))
        self.update(repo_id, shifts=(*repo.shifts, shift))

    def _put(self, repo: Repo) -> None:
        repos = {**self._state.all_repos, repo.id: repo}
        self._state = replace(self._state, all_repos=repos, past_sums={})

    def _issue(
        self, name: str, permission: str, created: float, expires: float | None, every: float | None
    ) -> str:
        until = None if expires is None else int(expires)
        token = Token(str(next(self._token_ids)), name, permission, created, until, every)
        secret = token.secret(self.seed)
        self._state = replace(self._state, tokens={**self.tokens, secret: token})
        return secret
