"""The catalogue and the accounts' status, made into the bytes that Prometheus scrapes.

Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ (text 0.0.4) and
OpenMetrics 1.0. All of it is made once per poll and kept, compressed as well; only the
process's own metrics, which move all the time, are added at the scrape.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
class Page:
    """The part of an exposition that polls decide, as it is and compressed."""

    format: Format
    plain: bytes
    deflated: bytes
    crc: int

    def body(self) -> tuple[bytes, ...]:
        """Return the whole exposition in pieces."""
        return self.plain, self.format.tail()

    def gzipped(self) -> tuple[bytes, ...]:
        """Return the whole exposition as one gzip member in pieces.

        The kept part ends on a byte and refers to nothing before it, so the rest can follow,
        compressed by itself; some readers stop after a first member.
        """
        tail = self.format.tail()
        trailer = struct.pack(
            "<II", zlib.crc32(tail, self.crc), (len(self.plain) + len(tail)) & 0xFFFFFFFF
        )
        return GZIP_HEADER, self.deflated, _deflated(tail, zlib.Z_FINISH), trailer


Pages = Mapping[Format, Page]


def _deflated(data: bytes, flush: int) -> bytes:
    compressor = zlib.compressobj(LEVEL, wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush(flush)


class Renderer:
    """Renders accounts, remembering each account's share until it is polled again.

    Parts older than `max_age` seconds are left out.
    """

    def __init__(self, max_age: float) -> None:
        self._max_age = max_age
        self._shares: dict[str, tuple[AccountStatus, float | None, dict[str, str]]] = {}

    def render(self, accounts: Mapping[str, AccountStatus], now: float) -> Pages:
        """Return all formats of the exposition."""
        since = now - self._max_age
        self._shares = {
            name: self._share(status, since) for name, status in sorted(accounts.items())
        }
        shares = [lines for _, _, lines in self._shares.values()]
        return {format_: _page(format_, shares) for format_ in FORMATS}

    def expiry(self, accounts: Mapping[str, AccountStatus], now: float) -> float:
        """Return when the next part will be too old."""
        taken = (status.oldest_part(now - self._max_age) for status in accounts.values())
        return min((t + self._max_age for t in taken if t is not None), default=float("inf"))

    def _share(
        self, status: AccountStatus, since: float
    ) -> tuple[AccountStatus, float | None, dict[str, str]]:
        oldest = status.oldest_part(since)
        kept = self._shares.get(status.name)
        if kept and kept[0] is status and kept[1] == oldest:
            return kept
        return status, oldest, dict(_account_lines(status, since))


def _page(format_: Format, shares: list[dict[str, str]]) -> Page:
    pieces = [format_.header(BUILD), *_lines(BUILD, "", None)]
    for scope in SCOPES:
        for metric in scope.metrics:
            pieces.append(format_.header(metric))
            pieces += (share[metric.name] for share in shares)
    plain = "".join(pieces).encode()
    return Page(format_, plain, _deflated(plain, zlib.Z_SYNC_FLUSH), zlib.crc32(plain))


def _account_lines(status: AccountStatus, since: float) -> Iterator[tuple[str, str]]:
    """Yield the name of each metric and its lines for an account."""
    snapshot = status.snapshot(since)
    for scope in SCOPES:
        lines: dict[str, list[str]] = {metric.name: [] for metric in scope.metrics}
        for values, subject in scope.subjects(status, snapshot):
            labels = _labels(scope.labels, values)
            for metric in scope.metrics:
                lines[metric.name] += _lines(metric, labels, subject)
        for name, collected in lines.items():
            yield name, "".join(collected)


def _lines(metric: Metric[S], labels: str, subject: S) -> Iterator[str]:
    for values, value in metric.samples(subject):
        if value is not None:
            all_labels = ",".join(filter(None, (labels, _labels(metric.labels, values))))
            yield f"{metric.name}{{{all_labels}}} {_number(value)}\n"


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(
        f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)
    )


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    """Spell a number so that a person can read it: sizes and times without an exponent."""
    return str(int(value)) if value == int(value) and abs(value) < EXACT else repr(value)
