"""An exporter of several simulated accounts, seen through a real Prometheus."""

import time
from dataclasses import dataclass
from pathlib import Path

from tests.end_to_end.facts import MOVING, series
from tests.end_to_end.processes import Prometheus, Running, Series, until
from tests.graphql import GraphQLApi, SimulatedAccount

HOME, WORK = "personal", 'Acme "EU" \\ übrig'


@dataclass(frozen=True)
class House:
    """One API with its accounts, and an exporter that polls those with a token file."""

    api: GraphQLApi
    accounts: dict[str, SimulatedAccount]
    tokens: Path
    exporter: Running


@dataclass(frozen=True)
class Stage:
    """A house, seen through the Prometheus job that scrapes its exporter."""

    job: str
    house: House
    prometheus: Prometheus

    def all(self) -> dict[Series, float]:
        """Return all series as of the newest scrape."""
        return self.prometheus.query(f'{{job="{self.job}"}}')

    @property
    def polled(self) -> set[str]:
        """The accounts that have been polled."""
        counts = self.prometheus.query(f'borgbase_polls_total{{job="{self.job}"}}')
        return {dict(labels)["account"] for (_, labels), n in counts.items() if n}

    def read(self, account: str) -> dict[Series, float]:
        """Return an account's series."""
        return {key: value for key, value in self.all().items() if ("account", account) in key[1]}

    def facts(self, account: str) -> dict[Series, float]:
        """Return the account's series that change only with the account."""
        return {key: value for key, value in self.read(account).items() if key[0] not in MOVING}

    def wait(self, *accounts: str) -> None:
        """Wait until Prometheus has the end of a poll of each that began later than now."""
        now = time.time()
        ended, took = "borgbase_last_poll_timestamp_seconds", "borgbase_last_poll_duration_seconds"

        def polled() -> bool:
            known = self.prometheus.query(f'{{__name__=~"{ended}|{took}",job="{self.job}"}}')
            return all(
                known[series(ended, account=name)] - known[series(took, account=name)] > now
                for name in accounts
            )

        until(polled, f"{', '.join(accounts)} have been polled")


def put_token(folder: Path, account: str, token: str) -> None:
    """Write a token file atomically, readable by its owner only."""
    draft = folder / ".draft"
    draft.write_text(f"{token}\n")
    draft.chmod(0o600)
    draft.rename(folder / account)
