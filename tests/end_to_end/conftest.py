"""One Prometheus for all stages, since its start takes seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.canary import CANARY
from tests.end_to_end.facts import new_account
from tests.end_to_end.processes import Prometheus, exporter, until
from tests.end_to_end.stage import HOME, WORK, House, Stage, put_token
from tests.graphql import GraphQLApi, SimulatedAccount
from tests.lab.wire import Lab, Wire
from tests.servers import prometheus


@dataclass(frozen=True)
class Theatre:
    """Two stages, because a change of the schema affects all the accounts of an API."""

    prometheus: Prometheus
    steady: Stage
    drifting: Stage
    scraped_with: dict[str, str]  # the headers of Prometheus's scrapes


def _steady_cast() -> dict[str, SimulatedAccount]:
    """Make an account for each test that changes one, so that no test depends on another."""
    actors = ("deleting", "renaming", "rotating", "revoked", "arriving", "leaving", "create-only")
    return {
        HOME: new_account(1, repos=12, well=False),
        WORK: new_account(2),
        **{name: new_account(seed) for seed, name in enumerate(actors, 3)},
    }


@pytest.fixture(scope="package")
def theatre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    make = tmp_path_factory.mktemp
    actors, others = _steady_cast(), {"drifting": new_account(1)}
    tokens = {name: account.token for name, account in actors.items() if name != "arriving"}
    tokens |= {"create-only": actors["create-only"].add_token("narrow", "CO"), "impostor": CANARY}
    with (
        _house(make("steady"), actors, tokens) as steady,
        _house(make("drifting"), others, {"drifting": others["drifting"].token}) as drifting,
        _listener() as (listening, heard),
    ):
        targets = {
            "steady": steady.exporter.address,
            "drifting": drifting.exporter.address,
            "listener": listening,
        }
        with prometheus(make("prometheus"), targets) as scraping:
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

    def answer(wire: Wire) -> None:
        while request := wire.request():
            heard.update(request.headers)
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n")
            wire.send(b"Content-Length: 0\r\n\r\n")

    with Lab(answer) as lab:
        yield f"127.0.0.1:{lab.port}", heard
