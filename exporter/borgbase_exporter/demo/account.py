"""The account: its repos, its tokens, and their secrets, which look like JWTs."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from borgbase_exporter.demo.answers import Moment, Token
from borgbase_exporter.demo.cast import Trouble, cast
from borgbase_exporter.demo.curves import DAY, GB


class SimulatedAccount:
    """An account whose answers follow from its seed, start and clock (Unix seconds) alone.

    The `troubles` are timed for `start`, by default now. The first twelve repos are written by
    hand, further ones are generated; with fewer `repos`, the troubles of the others are absent.
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
        self.all_repos = tuple(cast(seed, index, start, self.troubles) for index in range(repos))
        share = 9 if Trouble.OVERAGE in self.troubles else 15
        self.included_gb = self.stored(start) // GB * share // 10
        self.tokens: Mapping[str, Token] = {}  # every token by its secret, expired ones too
        self._token_ids = itertools.count(1000 * seed + 1)
        begin = int(start)
        self.token = self._issue("exporter", "RO", begin - 90 * DAY, begin + 700 * DAY, 900)
        soon = 6 if Trouble.TOKEN_EXPIRING in self.troubles else 400
        self._issue("terraform", "FA", begin - 300 * DAY, begin + soon * DAY, DAY)
        self._issue("provisioning", "CO", begin - 45 * DAY)
        self._issue("old-dashboard", "RO", begin - 700 * DAY, begin - 335 * DAY, 3600)

    def moment(self) -> Moment:
        """Return the account as it is now: all answers of one moment agree."""
        return Moment(self)

    def stored(self, moment: float) -> int:
        """Return the bytes that all repos stored at a moment."""
        return sum(repo.usage(moment) for repo in self.all_repos)

    def token_for(self, secret: str) -> Token | None:
        """Return the token with this secret, None when it is unknown or expired."""
        token = self.tokens.get(secret)
        return token if token and (token.expires is None or self.now() < token.expires) else None

    def _issue(self, *fields: Any) -> str:
        """Create a token by its fields after the id; return its secret."""
        token = Token(str(next(self._token_ids)), *fields)
        claims = {"jti": token.id} | ({"exp": int(token.expires)} if token.expires else {})
        parts = [json.dumps(part).encode() for part in ({"typ": "JWT", "alg": "HS256"}, claims)]
        signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts).decode()
        secret = f"{signed}.{hashlib.sha256(f'{self.seed}.{signed}'.encode()).hexdigest()}"
        self.tokens = {**self.tokens, secret: token}
        return secret
