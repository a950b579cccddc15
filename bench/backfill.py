"""Measure a backfill of many repos: `python -m bench.backfill REPOS DAYS [FLAG ...]`.

It uses some GB in the current folder, and deletes its files.
"""

# ruff: noqa: D103, S106, S603, T201  # a tool, with an invented token
from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.backfill.canned import DAY, Canned
from tests.end_to_end.processes import EXPORTER, environment
from tests.lab.wire import Lab
from tests.programs import program


def main(repos: int, days: int, *flags: str) -> None:
    usage = {f"r{number:07}": range(1000 + number, 1000 + number + days) for number in range(repos)}
    canned = Canned(usage, billed=range(days), today=int(time.time() // DAY))
    with tempfile.TemporaryDirectory(dir=".") as folder, Lab(canned) as lab:
        output = Path(folder) / "history.om"
        words = ("backfill", "--output", output, "--since", f"{days}d", "--api.url", lab.url)
        measure("backfill", *EXPORTER, *words, *flags)
        print(f"{len(lab.requests)} requests, {output.stat().st_size / 1e9:.2f} GB")
        command = (program("promtool"), "tsdb", "create-blocks-from", "--quiet")
        data = Path(folder) / "data"
        measure("promtool", *command, "--max-block-duration=4400h", "openmetrics", output, data)
        size = sum(file.stat().st_size for file in data.rglob("*") if file.is_file())
        print(f"{size / 1e6:.0f} MB of blocks")


def measure(name: str, *command: str | Path) -> None:
    """Run a command and print its time and the peak of its memory."""
    begun = time.monotonic()
    process = subprocess.Popen(command, env=environment(BORGBASE_TOKEN="of-nobody"))
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds, cpu = time.monotonic() - begun, used.ru_utime + used.ru_stime
    print(
        f"{name}: exit status {process.returncode}, {seconds:.0f} s ({cpu:.0f} s of processor), "
        f"peak of {used.ru_maxrss / 1024:.0f} MiB"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
