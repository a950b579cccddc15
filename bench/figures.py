"""The arithmetic: percentiles, ratios, tables, and the kernel's figures about a process."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

UNKNOWN = "–"
TICK = 1 / os.sysconf("SC_CLK_TCK")


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def number(value: float | None) -> str:
    """Format a figure with three significant digits: noise makes more meaningless."""
    if value is None:
        return UNKNOWN
    digits = 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 3)}f}"


def ratio(value: float | None, base: float | None) -> str:
    """Format how many times as large as the base a value is."""
    return UNKNOWN if value is None or not base else f"{number(value / base)} x"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table in Markdown: words left-aligned, figures right-aligned."""
    cells = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = ["-" * width if not n else "-" * (width - 1) + ":" for n, width in enumerate(widths)]
    return "\n".join(
        "| " + " | ".join(_aligned(row, widths)) + " |" for row in (cells[0], rule, *cells[1:])
    )


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *rest = (
        f"{cell:<{w}}" if not n else f"{cell:>{w}}"
        for n, (cell, w) in enumerate(zip(row, widths, strict=True))
    )
    return [first, *rest]


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used so far, to a hundredth of a second."""
    return parsed_cpu(Path(f"/proc/{pid}/stat").read_text())


def parsed_cpu(stat: str) -> float:
    """Read user and system time from /proc/PID/stat; the name in it may hold anything."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def megabytes(pid: int, field: str = "VmRSS") -> float:
    """Return the memory of a process: VmRSS now, VmHWM at its peak."""
    return parsed_megabytes(Path(f"/proc/{pid}/status").read_text(), field)


def parsed_megabytes(status: str, field: str) -> float:
    """Read a size from /proc/PID/status."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else math.nan
