"""The catalogue and the accounts' status, made into the bytes that Prometheus scrapes.

Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ (text 0.0.4) and
OpenMetrics 1.0. All of it is made once per poll and kept, compressed as well; only the
process's own metrics, which move all the time, are added at the scrape.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

from prometheus_client import (
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from borgbase_exporter.metrics import BUILD, SCOPES, Metric
from borgbase_exporter.model import AccountStatus

GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""Deflate, no flags, no time, no system: RFC 1952, 2.3."""
LEVEL = 6
EXACT = 2**53
"""Whole numbers up to here are exact in the 64-bit floats that Prometheus keeps."""

METRICS = (BUILD, *(metric for scope in SCOPES for metric in scope.metrics))

S = TypeVar("S")

_REGISTRY = CollectorRegistry()
ProcessCollector(registry=_REGISTRY)
PlatformCollector(registry=_REGISTRY)


@dataclass(frozen=True, slots=True)
class Format:
    """An exposition format: its media type, and how it differs from the other one."""

    content_type: str
    openmetrics: bool

    def header(self, metric: Metric[Any]) -> str:
        """Return the lines that introduce a metric."""
        name, text = metric.name, metric.help.replace("\\", r"\\").replace("\n", r"\n")
        if self.openmetrics:
            name = name.removesuffix("_total") if metric.type == "counter" else name
            text = text.replace('"', r"\"")
        return f"# HELP {name} {text}\n# TYPE {name} {metric.type}\n"

    def tail(self) -> bytes:
        """Return the metrics of the process, as they are now, and the end."""
        return (generate_openmetrics if self.openmetrics else generate_latest)(_REGISTRY)


TEXT = Format("text/plain; version=0.0.4; charset=utf-8", openmetrics=False)
OPENMETRICS = Format("application/openmetrics-text; version=1.0.0; charset=utf-8", openmetrics=True)
FORMATS = (TEXT, OPENMETRICS)


@dataclass(frozen=True, slots=True)
class Run:
    """Families in a row, in pieces, and the same compressed."""

    pieces: tuple[bytes, ...]
    deflated: bytes
    """Ends on a byte and refers to nothing before it, so anything can follow."""


@dataclass(frozen=True, slots=True)
class Page:
    """The part of an exposition that polls decide, in runs that other pages may share."""

    format: Format
    runs: tuple[Run, ...]
    length: int
    crc: int

    @property
    def plain(self) -> bytes:
        """The part in one piece."""
        return b"".join(piece for run in self.runs for piece in run.pieces)

    def body(self) -> tuple[bytes, ...]:
        """Return the whole exposition in pieces."""
        return (*(piece for run in self.runs for piece in run.pieces), self.format.tail())

    def gzipped(self) -> tuple[bytes, ...]:
        """Return the whole exposition in pieces of one gzip member.

        The process's metrics follow, compressed by themselves, within the same member: some
        readers stop after the first one.
        """
        tail = self.format.tail()
        trailer = struct.pack(
            "<II", zlib.crc32(tail, self.crc), (self.length + len(tail)) & 0xFFFFFFFF
        )
        runs = (run.deflated for run in self.runs)
        return GZIP_HEADER, *runs, _deflated((tail,), zlib.Z_FINISH), trailer


Pages = Mapping[Format, Page]


def _deflated(pieces: Iterable[bytes], flush: int) -> bytes:
    compressor = zlib.compressobj(LEVEL, wbits=-zlib.MAX_WBITS)
    return b"".join([*map(compressor.compress, pieces), compressor.flush(flush)])


class Renderer:
    """Renders accounts, remembering each account's share until it is polled again.

    Parts older than `max_age` seconds are left out.
    """

    def __init__(self, max_age: float) -> None:
        self._max_age = max_age
        self._shares: dict[str, tuple[AccountStatus, float | None, dict[str, bytes]]] = {}

    def render(self, accounts: Mapping[str, AccountStatus], now: float) -> Pages:
        """Return all formats of the exposition."""
        since = now - self._max_age
        self._shares = {
            name: self._share(status, since) for name, status in sorted(accounts.items())
        }
        return _pages([_BUILD, *(families for _, _, families in self._shares.values())])

    def expiry(self, accounts: Mapping[str, AccountStatus], now: float) -> float:
        """Return when the next part will be too old."""
        taken = (status.oldest_part(now - self._max_age) for status in accounts.values())
        return min((t + self._max_age for t in taken if t is not None), default=float("inf"))

    def _share(
        self, status: AccountStatus, since: float
    ) -> tuple[AccountStatus, float | None, dict[str, bytes]]:
        oldest = status.oldest_part(since)
        kept = self._shares.get(status.name)
        if kept and kept[0] is status and kept[1] == oldest:
            return kept
        return status, oldest, dict(_account_lines(status, since))


def _pages(shares: list[dict[str, bytes]]) -> Pages:
    """Put the accounts' shares together; what all formats spell alike is compressed once."""
    runs: dict[Format, list[Run]] = {format_: [] for format_ in FORMATS}
    for alike, group in groupby(METRICS, lambda m: len({f.header(m) for f in FORMATS}) == 1):
        metrics = tuple(group)
        shared = _run(TEXT, metrics, shares) if alike else None
        for format_ in FORMATS:
            runs[format_].append(shared or _run(format_, metrics, shares))
    return {format_: _page(format_, tuple(runs[format_])) for format_ in FORMATS}


def _run(format_: Format, metrics: Iterable[Metric[Any]], shares: list[dict[str, bytes]]) -> Run:
    pieces = []
    for metric in metrics:
        pieces.append(format_.header(metric).encode())
        pieces += filter(None, (share.get(metric.name) for share in shares))
    return Run(tuple(pieces), _deflated(pieces, zlib.Z_SYNC_FLUSH))


def _page(format_: Format, runs: tuple[Run, ...]) -> Page:
    length = crc = 0
    for run in runs:
        for piece in run.pieces:
            length += len(piece)
            crc = zlib.crc32(piece, crc)
    return Page(format_, runs, length, crc)


def _account_lines(status: AccountStatus, since: float) -> Iterator[tuple[str, bytes]]:
    """Yield the name of each metric and its lines for an account.

    A metric at a time: joining all of them at once would keep a scrape waiting meanwhile.
    """
    snapshot = status.snapshot(since)
    for scope in SCOPES:
        subjects = [
            (_labels(scope.labels, values), subject)
            for values, subject in scope.subjects(status, snapshot)
        ]
        for metric in scope.metrics:
            yield metric.name, "".join(_lines(metric, subjects)).encode()


def _lines(metric: Metric[S], subjects: Iterable[tuple[str, S]]) -> Iterator[str]:
    for labels, subject in subjects:
        for values, value in metric.samples(subject):
            if value is not None:
                extra = _labels(metric.labels, values) if values else ""
                all_labels = f"{labels},{extra}" if labels and extra else labels or extra
                yield f"{metric.name}{{{all_labels}}} {_number(value)}\n"


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{escaped(value)}"' for name, value in zip(names, values, strict=True))


def escaped(value: str) -> str:
    """Return a label's value as it stands between quotes."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    """Spell a number so that a person can read it: sizes and times without an exponent."""
    return str(int(value)) if abs(value) < EXACT and value == int(value) else repr(value)


_BUILD = {BUILD.name: "".join(_lines(BUILD, [("", None)])).encode()}
