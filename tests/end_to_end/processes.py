"""The programs under test, as users run them: as processes, queried over HTTP."""

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import pytest

from tests.canary import assert_kept_secret

ROOT = Path(__file__).resolve().parents[2]
EXPORTER = (sys.executable, "-m", "borgbase_exporter")
ANYWHERE = "127.0.0.1:0"  # any free port; the process logs which

RETRY_SECONDS = 0.02
PATIENCE = 30.0
"""Seconds to wait for a condition: far more than it takes on a busy machine."""

T = TypeVar("T")
Series = tuple[str, frozenset[tuple[str, str]]]  # a metric's name and its labels


def until(condition: Callable[[], T | None], what: str) -> T:
    """Wait for a condition to give something true, and return that."""
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {PATIENCE:.0f} s, but not {what}; the last was {result!r}")
        time.sleep(RETRY_SECONDS)
    return result


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def ask(address: str, path: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Send a request without added headers; return the answer without decoding it."""
    with closing(http.client.HTTPConnection(address, timeout=PATIENCE)) as connection:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a process under test: of the settings, only these."""
    foreign = {k: v for k, v in os.environ.items() if not k.startswith("BORGBASE_")}
    own = {"PYTHONPATH": str(ROOT / "exporter"), "GOGC": "400"}  # rather memory than time, in Go
    return foreign | own | variables


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the exporter to its end; fail if its output contains the planted token."""
    __tracebackhide__ = True  # the arguments may contain the planted token
    done = subprocess.run(
        [*EXPORTER, *arguments],
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert_kept_secret(done.stdout + done.stderr, "what the exporter printed")
    return done


def accepted(*command: str | Path, folder: Path = ROOT, **variables: str) -> str:
    """Run a program that must succeed, within five minutes; return its output and errors."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(**variables),
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@dataclass(frozen=True)
class Running:
    """A process that serves HTTP."""

    process: subprocess.Popen[bytes]
    address: str
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def get(self, path: str, **headers: str) -> Answer:
        """Ask for a page; underscores in a header's name stand for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = ask(self.address, path, named)
        assert_kept_secret(f"{answer.headers}{answer.body.decode(errors='replace')}", path)
        return answer


@contextmanager
def started(
    command: Sequence[str | Path],
    env: Mapping[str, str],
    log_file: Path,
    listening: str,
    folder: Path = Path("/"),
    status: int = 0,
) -> Iterator[Running]:
    """Start a process, whose log has its address after the words `listening`; SIGTERM ends it."""
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command,
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def address() -> str | None:
        assert process.poll() is None, f"it ended instead of serving:\n{log_file.read_text()}"
        found = re.search(rf"{listening} (?:\w+=\S+ )*address=(\S+)\s", log_file.read_text())
        return found[1] if found else None

    try:
        yield Running(process, until(address, f"{command[0]} listens"), log_file)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert process.returncode == status


@contextmanager
def exporter(folder: Path, *flags: str | Path, **variables: str) -> Iterator[Running]:
    """Run the exporter at level debug; its log must contain no token and no traceback."""
    command = (*EXPORTER, "serve", "--web.listen-address", ANYWHERE, "--log.level", "debug", *flags)
    log_file = folder / "exporter.log"
    with started(command, environment(**variables), log_file, "msg=listening") as running:
        yield running
    assert_kept_secret(running.log, "the exporter's log")
    assert "Traceback" not in running.log


@dataclass(frozen=True)
class Prometheus(Running):
    """A Prometheus, asked by its HTTP API."""

    def api(self, path: str) -> Any:
        answer = json.loads(self.get(f"/api/v1/{path}").body)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, selector: str) -> dict[Series, float]:
        """Return the newest sample of the series of one scrape, without the target's labels."""
        return {
            (
                sample["metric"]["__name__"],
                frozenset(
                    (name, value)
                    for name, value in sample["metric"].items()
                    if name not in {"__name__", "instance", "job"}
                ),
            ): float(sample["value"][1])
            for sample in self.api(f"query?query={quote(selector)}")["result"]
        }

    def targets(self) -> dict[str, tuple[str, str]]:
        """Return by job the health of its target, and the error of the last scrape."""
        targets = self.api("targets")["activeTargets"]
        return {t["labels"]["job"]: (t["health"], t["lastError"]) for t in targets}

    @property
    def complaints(self) -> list[str]:
        """Its warnings, and its messages about scrapes (at level debug)."""
        trouble = re.compile(
            "level=(?:warn|error)|Scrape failed|Append failed|Error on ingesting", re.IGNORECASE
        )
        return [line for line in self.log.splitlines() if trouble.search(line)]
