"""The bench's own arithmetic, and that it runs: its figures are nobody's pass or fail."""

import math
import re
import subprocess
import sys

import pytest

from tests.bench.contenders import OURS, STOCK
from tests.bench.figures import number, parsed_cpu, parsed_megabytes, percentile, ratio, table
from tests.end_to_end.processes import ROOT, environment

SECTIONS = (
    "A scrape, gzip",
    "A scrape, plain",
    "Polls",
    "20 readers that stop reading",
    "10 stalled connections",
    "From start to the first answered scrape",
    "Growth",
    "Goals",
)


@pytest.mark.parametrize(
    ("share", "expected"), [(0, 1), (0.01, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1, 100)]
)
def test_percentiles(share: float, expected: float) -> None:
    assert percentile(range(100, 0, -1), share) == expected
    assert percentile([7.0], share) == 7


@pytest.mark.parametrize(
    ("value", "spelt"),
    [
        (None, "–"),
        (0, "0.00"),
        (0.01234, "0.012"),
        (0.1234, "0.123"),
        (1.234, "1.23"),
        (-12.34, "-12.3"),
        (123.4, "123"),
        (12345.6, "12,346"),
    ],
)
def test_figures_have_three_digits(value: float | None, spelt: str) -> None:
    assert number(value) == spelt


def test_ratios() -> None:
    assert ratio(3, 2) == "1.50 x"
    assert ratio(3, None) == ratio(None, 3) == ratio(3, 0) == "–"


def test_tables_are_markdown_with_figures_to_the_right() -> None:
    assert table(("name", "ms"), [("a", "1.00"), ("longer", "2")]).splitlines() == [
        "| name   |   ms |",
        "| ------ | ---: |",
        "| a      | 1.00 |",
        "| longer |    2 |",
    ]


def test_what_the_kernel_tells() -> None:
    stat = "7 (a) b (c) S 1 7 7 0 -1 0 0 0 0 0 150 50 9 9 20 0 1 0 5 0 0"
    assert parsed_cpu(stat) == pytest.approx(200 * parsed_cpu("7 (x) S" + " 0" * 10 + " 1 0 0 0"))
    status = "Name:\tVmRSS: 9 kB\nVmHWM:\t   2000 kB\nVmRSS:\t   1000 kB\n"
    assert parsed_megabytes(status, "VmRSS") == 1.024
    assert parsed_megabytes(status, "VmHWM") == 2.048
    assert math.isnan(parsed_megabytes(status, "VmSwap"))


def test_a_quick_run_prints_complete_tables() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--quick"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sections = dict(re.findall(r"^## (.+)\n\n((?:\|.*\n)+)", done.stdout, re.MULTILINE))
    for title in SECTIONS:
        (rows,) = (t.splitlines() for name, t in sections.items() if name.startswith(title))
        assert len(rows) > 2, title
        assert len({row.count("|") for row in rows}) == 1
    compared = next(rows for name, rows in sections.items() if name.startswith("A scrape, gzip"))
    assert {OURS, STOCK} <= {row.split()[1] for row in compared.splitlines()}
