"""An exporter of several simulated accounts, seen through a real Prometheus."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.end_to_end.facts import MOVING
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
    def polls(self) -> dict[str, float]:
        """The number of polls by account, as of the newest scrape."""
        counts = self.prometheus.query(f'borgbase_polls_total{{job="{self.job}"}}')
        return {dict(labels)["account"]: n for (_, labels), n in counts.items()}

    @property
    def polled(self) -> set[str]:
        """The accounts that have been polled."""
        return {account for account, n in self.polls.items() if n}

    def read(self, account: str) -> dict[Series, float]:
        """Return an account's series."""
        return {key: value for key, value in self.all().items() if ("account", account) in key[1]}

    def facts(self, account: str) -> dict[Series, float]:
        """Return the account's series that change only with the account."""
        return {key: value for key, value in self.read(account).items() if key[0] not in MOVING}

    def wait(self, *accounts: str, polls: int = 3) -> None:
        """Wait for polls to end: one may not be shown yet, one have begun; the third has not."""
        page = self.house.exporter.get("/metrics").text  # Prometheus' value is up to a second old
        so_far = re.findall(r'^borgbase_polls_total\{account="(.+)"\} (\d+)$', page, re.MULTILINE)
        enough = {name: int(count) + polls for name, count in so_far if name in accounts}
        assert len(enough) == len(accounts)

        def polled() -> bool:
            known = self.polls
            return all(known.get(name, 0) >= count for name, count in enough.items())

        until(polled, f"{', '.join(accounts)} have been polled {polls} times")


def put_token(folder: Path, account: str, token: str) -> None:
    """Write a token file atomically, readable by its owner only."""
    draft = folder / ".draft"
    draft.write_text(f"{token}\n")
    draft.chmod(0o600)
    draft.rename(folder / account)
