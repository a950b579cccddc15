"""A Prometheus data folder: written without a scrape, and read by a real Prometheus."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import IO

from tests.end_to_end.processes import ANYWHERE, Prometheus, environment, started, until
from tests.programs import require


@contextmanager
def lines_to(data: Path) -> Iterator[IO[str]]:
    """Take samples as OpenMetrics lines with times, and add them to a Prometheus' data folder."""
    data.mkdir(parents=True, exist_ok=True)
    file = data.with_name(f"{data.name}.openmetrics")
    with file.open("w", encoding="utf-8") as lines:
        yield lines
        lines.write("# EOF\n")
    command: list[str | Path] = [
        *(require("promtool"), "tsdb", "create-blocks-from", "--quiet"),
        # The file is read once per block: of two hours if this did not say otherwise.
        *("--max-block-duration=1458h", "openmetrics", file, data),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    file.unlink()


@contextmanager
def serve(data: Path, *flags: str) -> Iterator[Prometheus]:
    """Run a Prometheus that only answers queries from a data folder, however old."""
    config = data.with_name(f"{data.name}.yml")
    config.write_text("")
    command: list[str | Path] = [
        require("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address={ANYWHERE}",
        *flags,
    ]
    log = data.with_name(f"{data.name}.log")
    with started(command, environment(), log, 'msg="Listening on"') as running:
        until(lambda: running.get("/-/ready").status == HTTPStatus.OK, "Prometheus is ready")
        prometheus = Prometheus(running.process, running.address, running.log_file)
        yield prometheus
        # Data from several writes may overlap.
        assert [line for line in prometheus.complaints if "Overlapping blocks" not in line] == []
