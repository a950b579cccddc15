"""The catalogue and the accounts' status as the bytes that Prometheus scrapes.

Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ (text 0.0.4) and
OpenMetrics 1.0. Everything is rendered once per poll and kept, compressed as well; only the
process's own metrics, which change all the time, are added at the scrape.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from borgbase_exporter.metrics.catalogue import BUILD, SCOPES, Metric
from borgbase_exporter.model import AccountStatus

log = logging.getLogger(__name__)

LEVEL = 6
GZIP = 16 | 13  # a window of 8 KiB, as good as 32 here: each page keeps its compressor's 64 KiB
EXACT = 2**53  # whole numbers up to here are exact in the 64-bit floats that Prometheus keeps

METRICS = (BUILD, *(metric for scope in SCOPES for metric in scope.metrics))

Share = Mapping[str, bytes]  # the lines of one account, by metric

_REGISTRY = CollectorRegistry()
ProcessCollector(registry=_REGISTRY)
PlatformCollector(registry=_REGISTRY)


@dataclass(frozen=True, slots=True)
class Format:
    """An exposition format: its media type, and how it differs from the other one."""

    content_type: str
    openmetrics: bool

    def header(self, metric: Metric[Any]) -> str:
        """Return the lines that introduce a metric; no help text needs to be escaped."""
        name = metric.name.removesuffix("_total") if self.openmetrics else metric.name
        return f"# HELP {name} {metric.help}\n# TYPE {name} {metric.type}\n"

    def tail(self) -> bytes:
        """Return the current metrics of the process, and the end of the exposition."""
        return (generate_openmetrics if self.openmetrics else generate_latest)(_REGISTRY)


TEXT = Format("text/plain; version=0.0.4; charset=utf-8", openmetrics=False)
OPENMETRICS = Format("application/openmetrics-text; version=1.0.0; charset=utf-8", openmetrics=True)


@dataclass(frozen=True, slots=True)
class Page:
    """The part of an exposition that changes only with polls, in pieces and compressed."""

    format: Format
    pieces: tuple[bytes, ...]
    compressed: bytes
    compressor: Any = field(repr=False)  # zlib's, after `pieces`; a copy compresses the rest

    @classmethod
    def of(cls, format_: Format, pieces: tuple[bytes, ...]) -> Page:
        """Compress the pieces to a whole byte."""
        compressor = zlib.compressobj(LEVEL, wbits=GZIP, memLevel=6)
        compressed = [*map(compressor.compress, pieces), compressor.flush(zlib.Z_SYNC_FLUSH)]
        return cls(format_, pieces, b"".join(compressed), compressor)

    def body(self) -> tuple[bytes, ...]:
        """Return the whole exposition in pieces."""
        return (*self.pieces, self.format.tail())

    def gzipped(self) -> tuple[bytes, ...]:
        """Return the whole exposition in pieces of one gzip member."""
        rest = self.compressor.copy()
        return self.compressed, rest.compress(self.format.tail()) + rest.flush()


Pages = Mapping[Format, Page]


class Renderer:
    """Renders accounts, and remembers each account's lines until its status changes."""

    def __init__(self) -> None:
        self._shares: dict[str, tuple[AccountStatus, Share]] = {}
        self.failed: frozenset[str] = frozenset()  # not rendered; their previous lines remain

    def render(self, accounts: Mapping[str, AccountStatus]) -> Pages:
        """Return all formats of the exposition; an account that fails does not affect others."""
        shares: dict[str, tuple[AccountStatus, Share]] = {}
        failed: set[str] = set()
        for name, status in sorted(accounts.items()):
            kept = self._shares.get(name)
            try:
                same = kept if kept and kept[0] is status else None
                shares[name] = same or (status, dict(_account_lines(status)))
            except Exception:
                failed.add(name)
                if name not in self.failed:
                    what = "a defect, please report it: the account cannot be rendered"
                    log.exception("%s", what, extra={"account": name})
                if kept:
                    shares[name] = kept
        self._shares, self.failed = shares, frozenset(failed)
        lines = [_BUILD, *(share for _, share in shares.values())]
        return {form: Page.of(form, _pieces(form, lines)) for form in (TEXT, OPENMETRICS)}


def _pieces(format_: Format, shares: Sequence[Share]) -> tuple[bytes, ...]:
    pieces = []
    for metric in METRICS:
        pieces.append(format_.header(metric).encode())
        pieces += filter(None, (share.get(metric.name) for share in shares))
    return tuple(pieces)


def _account_lines(status: AccountStatus) -> Iterator[tuple[str, bytes]]:
    """Yield the name of each metric and its lines for an account."""
    # A metric at a time: joining all of them at once would keep a scrape waiting meanwhile.
    snapshot = status.snapshot
    for scope in SCOPES:
        found = scope.subjects(status, snapshot)
        subjects = [(_labels(scope.labels, values), subject) for values, subject in found]
        for metric in scope.metrics:
            yield metric.name, "".join(_lines(metric, subjects)).encode()


def _lines(metric: Metric[Any], subjects: Iterable[tuple[str, Any]]) -> Iterator[str]:
    for labels, subject in subjects:
        for values, value in metric.samples(subject):
            if value is not None:
                extra = _labels(metric.labels, values) if values else ""
                all_labels = f"{labels},{extra}" if labels and extra else labels or extra
                yield f"{metric.name}{{{all_labels}}} {_number(value)}\n"


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{escaped(value)}"' for name, value in zip(names, values, strict=True))


def escaped(value: str) -> str:
    """Return a label's value as it is written between quotes."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    """Spell a number so that a person can read it: sizes and times without an exponent."""
    return str(int(value)) if abs(value) < EXACT and value == int(value) else repr(value)


_BUILD = {BUILD.name: "".join(_lines(BUILD, [("", None)])).encode()}
