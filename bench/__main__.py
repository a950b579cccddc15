"""Run the experiments and print the results; see the package."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from bench import trials
from bench.contenders import NGINX, OURS, PUSH, STOCK, Field, everybody, polled
from bench.figures import UNKNOWN, megabytes, number, percentile, ratio, table
from borgbase_exporter.errors import PollError
from tests.programs import UnavailableError


@dataclass(frozen=True)
class Scale:
    """How much to measure."""

    sizes: tuple[int, ...]
    """Numbers of repos for comparing all contenders; the goals apply to the last one."""
    curve: tuple[int, ...]
    """Numbers of repos for measuring the exporter alone."""
    rounds: int
    polls: int
    starts: int
    stalled: int
    interval: int
    """Seconds between two scrapes of the real Prometheus."""
    samples: int


FULL = Scale((10, 1_000, 10_000), (10, 100, 1_000, 10_000, 100_000), 25, 7, 12, 500, 10, 8)
QUICK = Scale((10,), (10,), 2, 1, 1, 10, 1, 1)
READERS = 20


@dataclass
class Report:
    """The printed report, and the figures of its goals by name."""

    goals: list[tuple[str, str, str, bool | None]] = field(default_factory=list)

    def section(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table."""
        print(f"\n## {title}\n\n{table(header, rows)}", flush=True)  # noqa: T201

    def goal(self, name: str, limit: float, value: float | None, unit: str) -> None:
        """Record a goal: at most the limit, or at least the limit if the unit begins with `>`."""
        more = unit.startswith(">")
        unit = unit.removeprefix(">").strip()
        met = None if value is None else value >= limit if more else value <= limit
        wanted = f"{'≥' if more else '≤'} {number(limit)} {unit}"
        self.goals.append(
            (name, wanted, UNKNOWN if value is None else f"{number(value)} {unit}", met)
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run: all tables, few figures")
    scale = QUICK if parser.parse_args().quick else FULL
    report = Report()
    begun = time.monotonic()
    print(_machine())  # noqa: T201
    for size in scale.sizes:
        with (
            tempfile.TemporaryDirectory() as folder,
            everybody(size, Path(folder)) as found,
        ):
            for reason in found.missing:
                print(f"\nMissing: {reason}")  # noqa: T201
            compare(report, found, size, scale)
            if size in {scale.sizes[0], scale.sizes[-1]}:
                poll(report, found, size, scale)
            if size == scale.sizes[-1]:
                _with_prometheus(report, found, Path(folder), size, scale)
                besiege(report, found, size)
            if size == scale.sizes[len(scale.sizes) // 2]:
                stall(report, found, size, scale)
    start(report, scale)
    curve(report, scale)
    report.section(
        f"Goals (N = {scale.sizes[-1]:,})",
        ("goal", "wanted", "measured", "met"),
        [(*g, {None: UNKNOWN, True: "yes", False: "no"}[met]) for *g, met in report.goals],
    )
    print(f"\n{_machine()}; it took {(time.monotonic() - begun) / 60:.1f} min")  # noqa: T201


def _machine() -> str:
    return (
        f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"{trials.load():.1f} processes wanting a core"
    )


def compare(report: Report, found: Field, size: int, scale: Scale) -> None:
    """Scrape all contenders."""
    for gzip in (True, False):
        contenders = found.all if gzip else [c for c in found.all if c.name in {OURS, NGINX}]
        results = dict(
            zip((c.name for c in contenders), trials.scrapes(contenders, scale.rounds, gzip=gzip),
                strict=True)
        )  # fmt: skip
        medians = {name: median(result.times) for name, result in results.items()}
        worst = {name: percentile(result.times, 0.99) for name, result in results.items()}
        kilobytes = results[OURS].bytes / 1000
        report.section(
            f"A scrape, {'gzip' if gzip else 'plain'}, N = {size:,} ({number(kilobytes)} kB)",
            ("", "median ms", "p99 ms", "to nginx", "to ours", "CPU ms", "MB after", "scrapes"),
            [
                (
                    name,
                    number(medians[name]),
                    number(worst[name]),
                    ratio(medians[name], medians.get(NGINX)),
                    ratio(medians[name], medians[OURS]),
                    number(result.cpu),
                    number(result.memory),
                    str(len(result.times)),
                )
                for name, result in results.items()
            ],
        )
        if gzip and size == scale.sizes[-1]:
            times = partial(_times, report)
            times("scrape, median, to nginx", 2, medians[OURS], medians.get(NGINX), "x")
            times("scrape, p99, to nginx", 3, worst[OURS], worst.get(NGINX), "x")
            times("faster than prometheus_client", 500, medians.get(STOCK), medians[OURS], "> x")
            times("faster than pushgateway", 200, medians.get(PUSH), medians[OURS], "> x")
            report.goal("CPU per scrape", 1, results[OURS].cpu, "ms")


def _times(
    report: Report, name: str, limit: float, value: float | None, base: float | None, unit: str
) -> None:
    report.goal(name, limit, value / base if value and base else None, unit)


def _with_prometheus(report: Report, found: Field, folder: Path, size: int, scale: Scale) -> None:
    try:
        durations = trials.scrape_durations(found, folder, scale.interval, scale.samples)
    except UnavailableError as reason:
        print(f"\nMissing: {reason}")  # noqa: T201
        return
    by_name = dict(zip((c.name for c in found.all), durations, strict=True))
    base = by_name.get(NGINX)
    report.section(
        f"scrape_duration_seconds of a real Prometheus, N = {size:,}",
        ("", "median ms", "to nginx"),
        [(name, number(value), ratio(value, base)) for name, value in by_name.items()],
    )
    _times(report, "scrape_duration_seconds, to nginx", 1.1, by_name[OURS], base, "x")


def poll(report: Report, found: Field, size: int, scale: Scale) -> None:
    """Measure polls, and scrapes during polls."""
    other = next((c for c in found.all if c.name == NGINX), None)
    result = trials.polling(found.ours, other, scale.polls)
    over = [worst - result.quiet for worst in result.worst]
    report.section(
        f"Polls, N = {size:,}",
        ("", "median", "worst"),
        [
            ("CPU of a poll, ms", number(result.cpu), UNKNOWN),
            ("a scrape without a poll, ms", number(result.quiet), UNKNOWN),
            ("the worst scrape of a poll, over that, ms", number(median(over)), number(max(over))),
            (
                "the worst of nginx meanwhile, ms",
                number(median(result.worst_beside)) if other else UNKNOWN,
                number(max(result.worst_beside)) if other else UNKNOWN,
            ),
            ("peak memory, MB", number(result.peak), UNKNOWN),
        ],
    )
    report.goal(
        f"peak memory, N = {size:,}", 45 if size == FULL.sizes[0] else 150, result.peak, "MB"
    )
    if size == scale.sizes[-1]:
        report.goal(
            "worst scrape of a poll, over a quiet one (median of polls)", 25, median(over), "ms"
        )


def besiege(report: Report, found: Field, size: int) -> None:
    """Let clients request the whole page and not read it."""
    request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    siege = trials.besieged(found.ours, READERS, request, 50, small_window=True)
    report.section(
        f"{READERS} readers that stop reading, N = {size:,}",
        ("", "scrape before, ms", "meanwhile", "worst", "memory they cost, MB"),
        [(OURS, *_siege(siege))],
    )
    report.goal(f"memory of {READERS} slow readers", 10, siege.memory, "MB")


def stall(report: Report, found: Field, size: int, scale: Scale) -> None:
    """Open connections that send half a request."""
    rows = []
    for target in found.all:
        if target.name in {OURS, STOCK}:
            siege = trials.besieged(target, scale.stalled, trials.HALF_A_REQUEST, 20)
            rows.append((target.name, *_siege(siege)))
    report.section(
        f"{scale.stalled} stalled connections, N = {size:,}",
        ("", "scrape before, ms", "meanwhile", "worst", "memory they cost, MB"),
        rows,
    )


def _siege(siege: trials.Siege) -> tuple[str, ...]:
    values = (median(siege.before), median(siege.meanwhile), max(siege.meanwhile), siege.memory)
    return tuple(map(number, values))


def start(report: Report, scale: Scale) -> None:
    """Measure starts."""
    with tempfile.TemporaryDirectory() as folder:
        times = trials.starts(Path(folder), scale.starts)
    report.section(
        "From start to the first answered scrape",
        ("", "median ms", "fastest", "slowest"),
        [
            (name, *(number(of(values)) for of in (median, min, max)))
            for name, values in times.items()
        ],
    )
    report.goal("start to first scrape", 400, median(times[OURS]), "ms")


def curve(report: Report, scale: Scale) -> None:
    """Measure how the exporter grows."""
    rows = []
    per_repo: dict[int, float] = {}
    memory: dict[int, float] = {}
    for size in scale.curve:
        try:
            row, per_repo[size], memory[size] = _point(size, scale)
        except (UnavailableError, PollError) as reason:
            print(f"\nMissing: {size:,} repos: {reason}")  # noqa: T201
        else:
            rows.append(row)
    columns = ("decode µs", "render µs", "compress µs", "poll CPU µs", "scrape ms", "idle MB")
    report.section("Growth; microseconds are per repo", ("repos", *columns, "peak MB"), rows)
    sizes = sorted(memory)[-3:]
    if len(sizes) > 1:
        slope = (memory[sizes[-1]] - memory[sizes[0]]) / (sizes[-1] - sizes[0]) * 1000
        print(f"\nPeak memory per 1,000 repos: {number(slope)} MB")  # noqa: T201
        _times(
            report, "poll per repo, largest to a hundredth of it", 1.5,
            per_repo[sizes[-1]], per_repo[sizes[0]], "x",
        )  # fmt: skip


def _point(size: int, scale: Scale) -> tuple[list[str], float, float]:
    staged = trials.stages(size, 3)
    with tempfile.TemporaryDirectory() as folder, polled(size, Path(folder)) as ours:
        (scraped,) = trials.scrapes([ours], 3)
        idle = megabytes(ours.pid)
        result = trials.polling(ours, None, 3 if scale is FULL else 1)
        cost = result.cpu * 1000 / size
    figures = (staged.decode, staged.render, staged.compress, cost, median(scraped.times))
    row = [f"{size:,}", *map(number, (*figures, idle, result.peak))]
    return row, sum((staged.decode, staged.render, staged.compress)), result.peak


if __name__ == "__main__":
    main()
