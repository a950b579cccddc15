"""A clock that tests set."""

from __future__ import annotations

from dataclasses import dataclass

from borgbase_exporter.text import DAY

START = 1_750_000_000.0  # 2025-06-15 15:06:40 UTC


@dataclass
class Clock:
    now: float = START

    def __call__(self) -> float:
        return self.now

    def forward(self, days: float) -> None:
        self.now += days * DAY
