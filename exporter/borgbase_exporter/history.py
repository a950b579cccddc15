"""Daily values made into the samples that a running exporter would have left in Prometheus.

borgbase_repo_usage_bytes{account="default",repo_id="a1b2",…} 123456000000 1700000100
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from borgbase_exporter.exposition import OPENMETRICS, escaped
from borgbase_exporter.metrics import ACCOUNT, REPO, Metric

DAY = 86_400
STEP = 300
"""Seconds between two samples. For the value at a moment Prometheus looks back that far: with any
more between them, graphs have holes wherever their own steps miss a sample."""
SPARSE_STEP = 3600
"""The same for long ago, which would be too many samples: it will do for averages, and for graphs
whose steps are whole hours."""
UNITS = {
    "bytes": 1,
    "kB": 1000,
    "KiB": 1024,
    "MB": 1000**2,
    "MiB": 1024**2,
    "GB": 1000**3,
    "GiB": 1024**3,
}
TOLERANCE = 0.01
"""How far a daily value may be off to still speak for a unit: kB and KiB are 2.4 % apart."""
TELLING = 100
"""The least daily value that can speak for a unit: what is smaller was rounded by too much."""

Series = Iterable[tuple[int, float]]
"""Days, counted from 1 January 1970 in UTC, and their values in order of time."""

METRICS: dict[str, Metric[Any]] = {
    metric.name: metric for scope in (REPO, ACCOUNT) for metric in scope.metrics
}


class Calibration(NamedTuple):
    """The unit of daily values that fits the most repos: so many of those that can be compared."""

    unit: str
    fits: int
    compared: int

    @property
    def convincing(self) -> bool:
        """Whether the unit fits most repos."""
        return 2 * self.fits > self.compared


def calibrate(pairs: Iterable[tuple[float, float]]) -> Calibration:
    """Find the unit by repos' newest daily values and their current usage in bytes."""
    ratios = [now / value for value, now in pairs if value >= TELLING]
    fits = Counter(dict.fromkeys(UNITS, 0))
    for ratio in ratios:
        fits.update(name for name, size in UNITS.items() if abs(ratio / size - 1) <= TOLERANCE)
    ((unit, most),) = fits.most_common(1)
    return Calibration(unit, most, len(ratios))


def held(days: Mapping[int, float]) -> Series:
    """Give each day's value, and to a day without one that of the day before.

    So one missed recording leaves no hole, nor does a day that has not been recorded yet; but what
    stays unknown for longer stays unknown.
    """
    for day, value in sorted(days.items()):
        yield day, value
        if day + 1 not in days:
            yield day + 1, value


class Total:
    """The daily sum of several series, known for the days when all that had begun are known."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()
        self._known: Counter[int] = Counter()
        self._sums: defaultdict[int, float] = defaultdict(float)

    def add(self, days: Mapping[int, float]) -> None:
        """Add a series, which begins with the first of its days."""
        if days:
            self.begin(min(days))
        for day, value in held(days):
            self._known[day] += 1
            self._sums[day] += value

    def begin(self, day: int) -> None:
        """Have another series begin at a day; of one that is not added, nothing is known."""
        self._begun[day] += 1

    def series(self) -> Series:
        """Give the sums."""
        begun = 0
        for day in sorted({*self._begun, *self._known}):
            begun += self._begun[day]
            if self._known[day] == begun:
                yield day, self._sums[day]


class Grid:
    """The moments that get a sample, from `since` until just before `until` (Unix seconds).

    They are STEP apart in the last `dense` seconds, and SPARSE_STEP before that.
    """

    def __init__(self, since: float, until: float, dense: float) -> None:
        self._since = since
        self._until = until
        self._dense_from = until - dense
        self.stamps = lru_cache(maxsize=None)(self._stamps)

    def _stamps(self, day: int) -> tuple[bytes, ...]:
        """Return the ends of the lines of a day's samples, each to be preceded by the rest."""
        moments = (
            moment
            for moment in range(day * DAY, (day + 1) * DAY, STEP)
            if self._since <= moment < self._until
            and (moment >= self._dense_from or not moment % SPARSE_STEP)
        )
        return (b"", *(b" %d\n" % moment for moment in moments))


def header(name: str) -> bytes:
    """Return the lines that introduce a metric."""
    return OPENMETRICS.header(METRICS[name]).encode()


def lines(
    name: str, labels: Mapping[str, str], series: Series, unit: float, grid: Grid
) -> Iterator[bytes]:
    """Give the samples of a series, a day at a time."""
    pairs = ",".join(f'{label}="{escaped(value)}"' for label, value in labels.items() if value)
    for day, value in series:
        # Joining is what makes hundreds of samples as cheap as one.
        yield f"{name}{{{pairs}}} {round(value * unit)}".encode().join(grid.stamps(day))
