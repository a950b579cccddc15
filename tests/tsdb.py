"""A Prometheus data folder: written without a scrape, and read by a real Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.end_to_end.processes import Prometheus, accepted
from tests.programs import require
from tests.servers import serving


@contextmanager
def lines_to(data: Path) -> Iterator[IO[str]]:
    """Take samples as OpenMetrics lines with times, and add them to a Prometheus' data folder."""
    data.mkdir(parents=True, exist_ok=True)
    file = data.with_name(f"{data.name}.openmetrics")
    with file.open("w", encoding="utf-8") as lines:
        yield lines
        lines.write("# EOF\n")
    # The file is read once per block: of two hours if this did not say otherwise.
    options = ("--quiet", "--max-block-duration=1458h", "openmetrics")
    accepted(require("promtool"), "tsdb", "create-blocks-from", *options, file, data)
    file.unlink()


@contextmanager
def serve(data: Path, *flags: str) -> Iterator[Prometheus]:
    """Run a Prometheus that only answers queries from a data folder, however old."""
    config = data.with_name(f"{data.name}.yml")
    config.write_text("")
    own = "--storage.tsdb.retention.time=100y"
    with serving("prometheus", data, config, own, *flags) as running:
        prometheus = Prometheus(**vars(running))
        yield prometheus
        # Data from several writes may overlap.
        assert [line for line in prometheus.complaints if "Overlapping blocks" not in line] == []
