"""Daily values as the samples that a running exporter would have left in Prometheus.

borgbase_repo_usage_bytes{account="default",repo_id="a1b2",…} 123456000000 1700000100
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO, NamedTuple

from borgbase_exporter.metrics.exposition import METRICS, OPENMETRICS, escaped

DAY = 86_400
STEP = 300  # seconds between samples: Prometheus looks back that far, else graphs have holes
SPARSE_STEP = 3600  # the same for long ago: enough for averages and steps of whole hours
UNITS = {"bytes": 1, "kB": 1000, "KiB": 1024, "MB": 1000**2, "MiB": 1024**2}
UNITS |= {"GB": 1000**3, "GiB": 1024**3}
TOLERANCE = 0.01  # how far off a value may be to fit a unit: kB and KiB are 2.4 % apart
TELLING = 100  # the least daily value that is compared: a smaller one was rounded by too much

Series = Iterable[tuple[int, float]]  # days since 1 January 1970 in UTC, in order, and values


def calibrate(pairs: Iterable[tuple[float, float]]) -> tuple[str | None, int, int]:
    """Return the unit that fits most repos, or None; how many the best unit fits, of how many."""
    # A pair is a repo's newest daily value and its current usage in bytes.
    ratios = [now / value for value, now in pairs if value >= TELLING]
    fits = {
        name: sum(abs(ratio / size - 1) <= TOLERANCE for ratio in ratios)
        for name, size in UNITS.items()
    }
    unit = max(fits, key=fits.__getitem__)
    return unit if 2 * fits[unit] > len(ratios) else None, fits[unit], len(ratios)


def held(days: Mapping[int, float]) -> Series:
    """Yield each day's value, and repeat it on the next day if that has none."""
    for day, value in sorted(days.items()):
        yield day, value
        if day + 1 not in days:
            yield day + 1, value


class Total:
    """The daily sum of series; known on days when all series begun by then have a value."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()
        self._known: Counter[int] = Counter()
        self._sums: defaultdict[int, float] = defaultdict(float)

    def add(self, days: Mapping[int, float]) -> None:
        """Add a series, which begins with the first of its days."""
        self.begin(min(days))
        for day, value in held(days):
            self._known[day] += 1
            self._sums[day] += value

    def begin(self, day: int) -> None:
        """Record the day a series begins; without `add`, none of its values is known."""
        self._begun[day] += 1

    def series(self) -> Series:
        """Yield the sums."""
        begun = 0
        for day in sorted({*self._begun, *self._known}):
            begun += self._begun[day]
            if self._known[day] == begun:
                yield day, self._sums[day]


class Grid(NamedTuple):
    """The moments that get a sample: STEP apart in the last `dense` seconds, else SPARSE_STEP."""

    since: float
    until: float
    dense: float


@cache
def stamps(grid: Grid, day: int) -> tuple[bytes, ...]:
    """Return the ends of the lines of a day's samples; the first is empty, for `join`."""
    moments = (
        moment
        for moment in range(day * DAY, (day + 1) * DAY, STEP)
        if grid.since <= moment < grid.until
        and (moment >= grid.until - grid.dense or not moment % SPARSE_STEP)
    )
    return (b"", *(b" %d\n" % moment for moment in moments))


@dataclass(slots=True)
class Writer:
    """Writes metrics to a file, and counts their series and samples."""

    file: BinaryIO
    grid: Grid
    labels: Mapping[str, str]  # added to those of each series
    metric: str = ""
    series: int = 0
    samples: int = 0

    def begin(self, metric: str) -> None:
        """Introduce the metric that is written next."""
        self.metric = metric
        self.file.write(OPENMETRICS.header(next(m for m in METRICS if m.name == metric)).encode())

    def write(self, labels: Mapping[str, str], series: Series, unit: int = 1) -> None:
        """Write the samples of a series, whose values are in units of this many bytes."""
        all_labels, before = {**labels, **self.labels}.items(), self.samples
        pairs = ",".join(f'{name}="{escaped(value)}"' for name, value in all_labels if value)
        for day, value in series:
            # `join` makes hundreds of samples as cheap as one.
            ends = stamps(self.grid, day)
            self.file.write(f"{self.metric}{{{pairs}}} {round(value * unit)}".encode().join(ends))
            self.samples += len(ends) - 1
        self.series += self.samples > before
