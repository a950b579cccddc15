"""How the size of a repo changes: a closed formula, so that every moment costs the same."""

from __future__ import annotations

import math
from dataclasses import dataclass

DAY = 86_400.0
GB = 1_000_000_000

_FIRST_UPLOAD = 40 * GB  # bytes a day, at most, while a new repo is filled for the first time
_UNEVENNESS = 0.8  # below 1, so that a repo that only grows never shrinks
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Sizes in bytes, times in Unix seconds, rates in bytes per day."""

    born: float
    first: float  # the first write; infinite for a repo that is never used
    last: float = math.inf  # no write after this moment
    every: int = 1  # days from one write to the next
    plateau: float = 0  # where the first upload ends
    growth: float = 0  # permanent growth: what retention never removes
    churn: float = 0  # added per write, removed by the prune of every seventh
    surge: float = 0
    surge_from: float = math.inf  # extra growth from a moment on
    ceiling: float = math.inf
    phase: float = 0  # between 0 and 1: makes the unevenness this repo's own

    def writes(self, now: float) -> int:
        """Count the writes up to and including this moment."""
        until = min(now, self.last)
        return int((until - self.first) // (self.every * DAY)) + 1 if until >= self.first else 0

    def written(self, write: int) -> float:
        """Return the time of a write, counted from 1."""
        return self.first + (write - 1) * self.every * DAY

    def size(self, now: float) -> float:
        """Return the bytes stored at this moment."""
        write = self.writes(now)
        if not write:
            return 0
        days = write * self.every
        uneven = _UNEVENNESS * ((self.phase + write * write * _GOLDEN) % 1)
        settled = 1 - math.exp(-days / (3 + self.plateau / _FIRST_UPLOAD))
        size = (
            self.plateau * settled
            + self.growth * (days + uneven * self.every)
            + self.churn * (write % 7 + uneven)
            + self.surge * max(0, self.written(write) - self.surge_from) / DAY
        )
        return min(size, self.ceiling)
