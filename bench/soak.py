"""Run the real exporter against an API that fails in every way, and check it all the time.

`python -m bench.soak --minutes 3`; exit status 1 for any wrong value, failed scrape, leak or exit.
"""

# ruff: noqa: D102, D103, S101, S603  # a tool
from __future__ import annotations

import argparse
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import requests
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from borgbase_exporter.metrics.exposition import OPENMETRICS, TEXT, Format
from tests.canary import CANARY, betrays, masked
from tests.lab.account import MEGABYTE, bodies, http
from tests.lab.wire import Lab, Script, Wire
from tests.test_faults import FAULTS

ROOT = Path(__file__).resolve().parent.parent
ACCOUNTS = 24
HEALTHY = 0.5
"""The share of connections without a fault."""
FIRST = 1000
"""The first usage returned; the usage in faulty answers is less, and must never be shown."""
SPARE_FILES, SPARE_THREADS, SPARE_MEMORY = 16, 16, 24 << 10
"""How much more the last third may use than the first; memory in KiB."""


SCRIPTS: dict[str, Script] = {
    fault.name: fault.place.args[0]
    for fault in FAULTS
    if isinstance(fault.place, partial)
    and fault.place.func is Lab
    and not any(fault.place.keywords.values())
}
"""What a plain HTTP server can do, by its name."""
assert SCRIPTS


class Chaos:
    """An API that at random answers correctly or causes a fault."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311  # has to be repeatable
        self._deck: list[tuple[str, Script]] = []
        self._values = itertools.count(FIRST)
        self._lock = threading.Lock()
        self.done: Counter[str] = Counter()
        self.handed_out: defaultdict[str, set[float]] = defaultdict(set)

    def __call__(self, wire: Wire) -> None:
        with self._lock:
            name, script = self._choice()
            self.done[name] += 1
        script(wire)

    def _choice(self) -> tuple[str, Script]:
        if self._chance.random() < HEALTHY:
            return "", self._answer
        if not self._deck:
            self._deck = [*SCRIPTS.items()]
            self._chance.shuffle(self._deck)
        return self._deck.pop()

    def _answer(self, wire: Wire) -> None:
        while request := wire.request():
            account = request.headers["authorization"].removeprefix(f"Bearer {CANARY}.")
            usage = float(next(self._values))
            self.handed_out[account].add(usage * MEGABYTE)
            wire.send(http(bodies(usage)[request.name]))

    @property
    def faults(self) -> int:
        return sum(count for name, count in self.done.items() if name)


@dataclass
class Watch:
    """The results of scrapes and of reading /proc."""

    chaos: Chaos
    url: str
    pid: int
    scrapes: int = 0
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    leaks: int = 0
    values: int = 0
    shown: dict[str, float] = field(default_factory=dict)
    use: list[tuple[int, int, int]] = field(default_factory=list)
    """Files, threads and KiB of memory."""

    def look(self, session: requests.Session) -> None:
        """Scrape in the next format, request another page, and record the process's resources."""
        format_ = (TEXT, OPENMETRICS)[self.scrapes % 2]
        encoding = ("gzip", "identity")[self.scrapes // 2 % 2]
        headers = {"Accept": format_.content_type, "Accept-Encoding": encoding}
        page = ("/", "/-/healthy", "/-/ready")[self.scrapes % 3]
        self.scrapes += 1
        try:
            scrape = session.get(f"{self.url}/metrics", headers=headers, timeout=5)
            scrape.raise_for_status()
            self._judge(parsed(format_, scrape.text))
            other = session.get(f"{self.url}{page}", timeout=5)
            other.raise_for_status()
            self.leaks += betrays(scrape.text) + betrays(other.text)
        except (requests.RequestException, ValueError, AssertionError) as error:
            self.failed.append(f"{type(error).__name__}: {error}")
        process = Path(f"/proc/{self.pid}")
        status = process.joinpath("status").read_text()
        threads, memory = (re.search(rf"{n}:\s+(\d+)", status) for n in ("Threads", "VmRSS"))
        assert threads
        assert memory
        self.use.append(
            (len(list(process.joinpath("fd").iterdir())), int(threads[1]), int(memory[1]))
        )

    def _judge(self, families: Iterable[Metric]) -> None:
        """Check every usage: the API returned it for that account, and it is never an older one."""
        samples = [sample for family in families for sample in family.samples]
        for sample in samples:
            if sample.name != "borgbase_repo_usage_bytes":
                continue
            account, value = sample.labels["account"], sample.value
            self.values += 1
            if value not in self.chaos.handed_out[account] or value < self.shown.get(account, 0):
                self.wrong.append(f"{account}: {value:.0f} after {self.shown.get(account)}")
            self.shown[account] = value

    def growth(self) -> list[tuple[int, int]]:
        """Return the peak of each resource in the first and in the last third."""
        third = max(1, len(self.use) // 3)
        first, last = (
            list(zip(*part, strict=True)) for part in (self.use[:third], self.use[-third:])
        )
        return [(max(a), max(b)) for a, b in zip(first, last, strict=True)]


def parsed(format_: Format, text: str) -> Iterable[Metric]:
    """Parse an exposition like Prometheus."""
    return (parse_openmetrics if format_ is OPENMETRICS else parse_text)(text)


@contextmanager
def exporter(url: str) -> Iterator[tuple[subprocess.Popen[str], str, Path]]:
    """Start the exporter; yield its process, address and log file."""
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name, "tokens"), Path(name, "log")
        folder.mkdir()
        for account in range(ACCOUNTS):
            token = folder / f"account-{account}"
            token.touch(0o600)
            token.write_text(f"{CANARY}.account-{account}")
        command = [sys.executable, "-m", "borgbase_exporter", "serve"]
        command += ["--api.url", url, "--token.dir", str(folder), "--api.max-response", "1MiB"]
        command += ["--poll.interval", "1s", "--poll.timeout", "1s"]
        command += ["--web.listen-address", "127.0.0.1:0"]
        environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT / "exporter")}
        with (
            log.open("w") as output,
            subprocess.Popen(
                command, stdout=output, stderr=output, env=environment, text=True
            ) as process,
        ):
            try:
                yield process, f"http://{address(process, log)}", log
            finally:
                process.kill()


def address(process: subprocess.Popen[str], log: Path) -> str:
    """Wait until the exporter listens; return its address."""
    ends = time.monotonic() + 30
    while time.monotonic() < ends and process.poll() is None:
        if found := re.search(r"msg=listening address=(\S+)", log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"the exporter does not listen: {masked(log.read_text())}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--faults", type=int, default=100_000, help="stop after so many")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    given = parser.parse_args()
    chaos = Chaos(given.seed)
    with Lab(chaos) as lab, exporter(lab.url) as (process, url, log), requests.Session() as session:
        session.trust_env = False
        watch = Watch(chaos, url, process.pid)
        ends = time.monotonic() + 60 * given.minutes
        # The first poll of each account may take a second; until then /-/ready fails.
        while session.get(f"{url}/-/ready", timeout=5).status_code != requests.codes.ok:
            time.sleep(0.05)
        while time.monotonic() < ends and chaos.faults < given.faults and process.poll() is None:
            watch.look(session)
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        status = process.wait(10)
        said = log.read_text()
    return report(watch, status, said, given.seed)


def report(watch: Watch, status: int, said: str, seed: int) -> int:
    """Print the results; return 1 if anything is wrong."""
    files, threads, memory = watch.growth()
    leaks = watch.leaks + sum(map(betrays, said.splitlines()))
    chaos = watch.chaos
    faults = {
        "failed scrapes": len(watch.failed),
        "wrong values": len(watch.wrong),
        "leaks of the token": leaks,
        "defects in the log": said.count("a defect"),
        "more files": max(0, files[1] - files[0] - SPARE_FILES),
        "more threads": max(0, threads[1] - threads[0] - SPARE_THREADS),
        "more memory": max(0, memory[1] - memory[0] - SPARE_MEMORY),
        "exit status": status,
        "kinds of fault not met": sum(not chaos.done[name] for name in SCRIPTS),
        "accounts never shown": ACCOUNTS - len(watch.shown),
    }
    lines = [
        (
            f"seed {seed}: {chaos.faults} faults of {len(chaos.done) - 1} kinds,"
            f" {chaos.done['']} good connections"
        ),
        f"{watch.scrapes} scrapes, {watch.values} values judged",
        (
            f"files {files[0]} -> {files[1]}, threads {threads[0]} -> {threads[1]},"
            f" memory {memory[0]} -> {memory[1]} KiB (most of the first and of the last third)"
        ),
        *(f"{name}: {count}" for name, count in faults.items()),
        *map(masked, watch.failed[:5] + watch.wrong[:5]),
        *[masked(line) for line in said.splitlines() if betrays(line)][:5],
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(any(faults.values()))


if __name__ == "__main__":
    sys.exit(main())
