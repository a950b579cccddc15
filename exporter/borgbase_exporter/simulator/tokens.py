"""API tokens: what the account knows of them, and their secrets, which look like JWTs."""

import base64
import hashlib
import json
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRecord:
    """A token without its secret. Times in Unix seconds."""

    id: str
    name: str
    permission: str
    """RO, FA or CO: read only, full access, create only."""
    created: float
    expires: int | None = None
    used_every: float | None = None
    """Seconds between two uses; None for a token that is never used."""

    def valid(self, now: float) -> bool:
        """Tell whether the token opens anything at this moment."""
        return self.expires is None or now < self.expires

    def last_used(self, now: float) -> float | None:
        """Tell the time of the last use up to this moment, None when there was none."""
        if self.used_every is None:
            return None
        until = now if self.expires is None else min(now, self.expires)
        return max(self.created, until // self.used_every * self.used_every)


def secret_of(record: TokenRecord, seed: int) -> str:
    """Make the token's secret: header, payload and signature; `exp` only when it expires."""
    claims = {"jti": record.id, "exp": record.expires}
    payload = {name: value for name, value in claims.items() if value is not None}
    head, body = _part({"typ": "JWT", "alg": "HS256"}), _part(payload)
    signature = hashlib.sha256(f"{seed}.{head}.{body}".encode()).digest()
    return f"{head}.{body}.{_base64(signature)}"


def _part(claims: dict[str, str | int]) -> str:
    return _base64(json.dumps(claims, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
