"""One Prometheus for all stages, since its start takes seconds."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.canary import CANARY
from tests.end_to_end.facts import new_account
from tests.end_to_end.processes import Prometheus, exporter, prometheus, until
from tests.end_to_end.stage import (
    ARRIVING,
    CREATE_ONLY,
    DELETING,
    DRIFTING,
    HOME,
    IMPOSTOR,
    LEAVING,
    RENAMING,
    REVOKED,
    ROTATING,
    WORK,
    House,
    Stage,
    put_token,
)
from tests.graphql import GraphQLApi, SimulatedAccount
from tests.programs import require


@dataclass(frozen=True)
class Theatre:
    """Two stages, because a change of the schema affects all the accounts of an API."""

    prometheus: Prometheus
    steady: Stage
    drifting: Stage
    scraped_with: dict[str, str]  # the headers of Prometheus's scrapes


def _steady_cast() -> dict[str, SimulatedAccount]:
    """Make an account for each test that changes one, so that no test depends on another."""
    actors = (DELETING, RENAMING, ROTATING, REVOKED, ARRIVING, LEAVING, CREATE_ONLY)
    return {
        HOME: new_account(1, repos=12, well=False),
        WORK: new_account(2),
        **{name: new_account(seed) for seed, name in enumerate(actors, 3)},
    }


@pytest.fixture(scope="package")
def theatre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    program = require("prometheus")
    make = tmp_path_factory.mktemp
    actors, others = _steady_cast(), {DRIFTING: new_account(1)}
    tokens = {name: account.token for name, account in actors.items() if name != ARRIVING}
    tokens |= {CREATE_ONLY: actors[CREATE_ONLY].add_token("narrow", "CO"), IMPOSTOR: CANARY}
    with (
        _house(make("steady"), actors, tokens) as steady,
        _house(make("drifting"), others, {DRIFTING: others[DRIFTING].token}) as drifting,
        _listener() as (listening, heard),
    ):
        targets = {
            "steady": steady.exporter.address,
            "drifting": drifting.exporter.address,
            "listener": listening,
        }
        with prometheus(program, make("prometheus"), targets) as scraping:
            stages = Stage("steady", steady, scraping), Stage("drifting", drifting, scraping)
            until(lambda: stages[0].polled == tokens.keys(), "all accounts have been polled")
            until(lambda: stages[1].polled == others.keys(), "the drifting one, too")
            until(lambda: scraping.targets()["listener"][0] == "up", "the listener is heard")
            yield Theatre(scraping, *stages, heard)


@contextmanager
def _house(
    folder: Path, accounts: dict[str, SimulatedAccount], tokens: dict[str, str]
) -> Iterator[House]:
    files = folder / "tokens"
    files.mkdir()
    for name, token in tokens.items():
        put_token(files, name, token)
    with GraphQLApi(list(accounts.values())) as api:
        flags = ("--api.url", api.url, "--token.dir", files, "--poll.interval", "1s")
        with exporter(folder, *flags) as running:
            yield House(api, accounts, files, running)


@contextmanager
def _listener() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the address of a target that exposes nothing, and the headers of its scrapes."""
    heard: dict[str, str] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.update(self.headers)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}", heard
        finally:
            server.shutdown()
            thread.join()
