"""API tokens: what the account knows of them, and their secrets, which look like JWTs."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret. Times in Unix seconds."""

    id: str
    name: str
    permission: str
    """RO, FA or CO: read only, full access, create only."""
    created: float
    expires: int | None
    used_every: float | None
    """Seconds between two uses; None for a token that is never used."""

    def last_used(self, now: float) -> float | None:
        """Return the time of the last use up to this moment, None when there was none."""
        if self.used_every is None:
            return None
        until = now if self.expires is None else min(now, self.expires)
        return max(self.created, until // self.used_every * self.used_every)

    def secret(self, seed: int) -> str:
        """Return header, payload and signature; `exp` only when it expires."""
        claims = {"jti": self.id} | ({} if self.expires is None else {"exp": self.expires})
        signed = ".".join(
            _base64(json.dumps(part, separators=(",", ":")).encode())
            for part in ({"typ": "JWT", "alg": "HS256"}, claims)
        )
        return f"{signed}.{_base64(hashlib.sha256(f'{seed}.{signed}'.encode()).digest())}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
