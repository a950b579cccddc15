"""From the command line to a command: settings, log, the simulated account."""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from borgbase_exporter import settings
from borgbase_exporter.api.areas import AREAS
from borgbase_exporter.api.client import Client
from borgbase_exporter.logs import Log
from borgbase_exporter.model import AccountStatus
from borgbase_exporter.polling.poller import Poller
from borgbase_exporter.settings import PROGRAM, Backfill, Check, Command, Serve, SettingsError
from borgbase_exporter.tokens import GivenToken, OneToken, TokenSource

log = logging.getLogger(__name__)


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the program; return its exit status."""
    try:
        given = settings.load(arguments, environment)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201  # for a person
        # As a plugin's status, 2 means critical and 3 unknown.
        words = *arguments, environment.get("BORGBASE_FORMAT", "")
        return 3 if any(word.endswith(("nagios", "checkmk")) for word in words) else 2
    # `check` and `backfill` report on the terminal instead of in the log.
    for_people = isinstance(given, Check | Backfill)
    quiet = "error" if for_people else "warning"
    written = Log(given.log.level if isinstance(given, Serve) else quiet, given.log.format)
    for warning in given.warnings:
        if for_people:
            print(f"{PROGRAM}: {warning}", file=sys.stderr)  # noqa: T201  # for a person
        else:
            log.warning("%s", warning)
    try:
        with simulated(given) as real:
            # Each command is imported when it runs, so that no other loads its libraries.
            command = importlib.import_module(f"borgbase_exporter.commands.{real.command}")
            return int(command.run(real))
    finally:
        written.end()


@contextlib.contextmanager
def simulated(given: Command) -> Iterator[Command]:
    """With --demo, start the simulated account and return settings that use it."""
    if not given.demo:
        yield given
        return
    from borgbase_exporter.demo import SimulatedAccount, SimulatedApi  # noqa: PLC0415

    account = SimulatedAccount()
    with SimulatedApi([account]) as api:
        log.warning("SIMULATED DATA: the account and its repos are invented, no token is used")
        token = GivenToken("the simulated account", account.token)
        yield replace(
            given,
            api=replace(given.api, url=api.url, proxy=None, ca_file=None),
            tokens=OneToken(given.account, token),
        )


def make_poller(given: Command, account: str, source: TokenSource) -> Poller:
    """Return the poller of an account."""
    interval = given.poll.interval if isinstance(given, Serve) else None
    status = AccountStatus(account, {}, interval=interval, simulated=given.demo)
    areas = [area for area in AREAS if area.name in given.collectors]
    shown = isinstance(given, Serve) and given.web.status_page
    daily = Client(given.api, account) if shown else None
    return Poller(status, source, Client(given.api, account), areas, given.poll, daily)
