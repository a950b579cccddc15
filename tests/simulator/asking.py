"""What the simulator's tests share: a clock that is driven, and questions without HTTP."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from borgbase_exporter.simulator import SimulatedAccount
from borgbase_exporter.simulator.curves import DAY
from borgbase_exporter.simulator.schema import Drift, Edition

START = 1_750_000_000.0  # 2025-06-15 15:06:40 UTC

_EDITION = Edition(Drift())


@dataclass
class Clock:
    now: float = START

    def __call__(self) -> float:
        return self.now

    def forward(self, days: float) -> None:
        self.now += days * DAY


def ask(account: SimulatedAccount, query: str, permission: str = "RO", **variables: Any) -> Any:
    """Answer like the server does, but raise what it would put into `errors`."""
    answer = _EDITION.execute(query, account.moment().root(permission), variables)
    assert "errors" not in answer, answer["errors"]
    return answer["data"]


def seconds(text: str) -> float:
    moment = datetime.fromisoformat(text)
    assert moment.tzinfo is not None
    return moment.timestamp()
