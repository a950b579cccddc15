"""Daily values as the samples that a running exporter would have left in Prometheus.

borgbase_repo_usage_bytes{account="default",repo_id="a1b2",…} 123456000000 1700000100
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from borgbase_exporter.metrics.exposition import METRICS, OPENMETRICS, escaped

DAY = 86_400
STEP = 300
"""Seconds between two samples. Prometheus looks back that far for the value at a moment: graphs
would have holes where there is no sample in that time."""
SPARSE_STEP = 3600
"""The same for long ago, to save space: enough for averages, and for graphs whose steps are whole
hours."""
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
"""How far a daily value may be off and still fit a unit: kB and KiB are 2.4 % apart."""
TELLING = 100
"""The least daily value that is compared: a smaller one was rounded by too much."""

Series = Iterable[tuple[int, float]]
"""Days, counted from 1 January 1970 in UTC, and their values in order of time."""


class Calibration(NamedTuple):
    """The unit of daily values that fits the most repos."""

    unit: str
    fits: int
    compared: int

    @property
    def convincing(self) -> bool:
        """Whether the unit fits most repos."""
        return 2 * self.fits > self.compared


def calibrate(pairs: Iterable[tuple[float, float]]) -> Calibration:
    """Find the unit by pairs of repos' newest daily value and current usage in bytes."""
    ratios = [now / value for value, now in pairs if value >= TELLING]
    fits = Counter(dict.fromkeys(UNITS, 0))
    for ratio in ratios:
        fits.update(name for name, size in UNITS.items() if abs(ratio / size - 1) <= TOLERANCE)
    ((unit, most),) = fits.most_common(1)
    return Calibration(unit, most, len(ratios))


def held(days: Mapping[int, float]) -> Series:
    """Yield each day's value, for a day without one that of the day before, and no longer.

    So neither a missed recording nor a day that is not recorded yet leaves a hole.
    """
    for day, value in sorted(days.items()):
        yield day, value
        if day + 1 not in days:
            yield day + 1, value


class Total:
    """The daily sum of series; known on a day if every series that has begun by then is."""

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
        """Note that a series begins at a day; without `add`, none of its values is known."""
        self._begun[day] += 1

    def series(self) -> Series:
        """Yield the sums."""
        begun = 0
        for day in sorted({*self._begun, *self._known}):
            begun += self._begun[day]
            if self._known[day] == begun:
                yield day, self._sums[day]


class Grid:
    """The moments that get a sample, from `since` until just before `until` (Unix seconds).

    STEP apart in the last `dense` seconds, SPARSE_STEP before that.
    """

    def __init__(self, since: float, until: float, dense: float) -> None:
        self._since = since
        self._until = until
        self._dense_from = until - dense
        self.stamps = lru_cache(maxsize=None)(self._stamps)

    def _stamps(self, day: int) -> tuple[bytes, ...]:
        """Return what ends the lines of a day's samples; the first one is empty, for joining."""
        moments = (
            moment
            for moment in range(day * DAY, (day + 1) * DAY, STEP)
            if self._since <= moment < self._until
            and (moment >= self._dense_from or not moment % SPARSE_STEP)
        )
        return (b"", *(b" %d\n" % moment for moment in moments))


def header(name: str) -> bytes:
    """Return the lines that introduce a metric."""
    return OPENMETRICS.header(next(m for m in METRICS if m.name == name)).encode()


def lines(
    name: str, labels: Mapping[str, str], series: Series, unit: float, grid: Grid
) -> Iterator[bytes]:
    """Yield the samples of a series, a day at a time."""
    pairs = ",".join(f'{label}="{escaped(value)}"' for label, value in labels.items() if value)
    for day, value in series:
        # Joining is what makes hundreds of samples as cheap as one.
        yield f"{name}{{{pairs}}} {round(value * unit)}".encode().join(grid.stamps(day))
