"""Daily values as samples."""

from __future__ import annotations

import io

import pytest

from borgbase_exporter.metrics.samples import UNITS, Grid, Total, Writer, calibrate, held, stamps

DAY = 86_400
HOUR = 3600
MIDNIGHT = 20_000 * DAY
NAME = "borgbase_repo_usage_bytes"


def moments(grid: Grid, *days: int) -> list[int]:
    return [int(stamp) for day in days for stamp in stamps(grid, day)[1:]]


def text(days: dict[int, float], grid: Grid, unit: int = 1, **labels: str) -> str:
    writer = Writer(io.BytesIO(), grid, {}, NAME)
    writer.write(labels, days.items(), unit)
    assert isinstance(writer.file, io.BytesIO)
    return writer.file.getvalue().decode()


def test_lines_are_those_of_openmetrics() -> None:
    grid = Grid(MIDNIGHT + DAY - 600, MIDNIGHT + DAY + 300, dense=900)

    days = {19_999: 1, 20_000: 2, 20_001: 3.5, 20_002: 4}  # the first and last are out of range
    assert text(days, grid, 1_000_000, account="home", job="b") == (
        'borgbase_repo_usage_bytes{account="home",job="b"} 2000000 1728085800\n'
        'borgbase_repo_usage_bytes{account="home",job="b"} 2000000 1728086100\n'
        'borgbase_repo_usage_bytes{account="home",job="b"} 3500000 1728086400\n'
    )


def test_labels_are_escaped_and_none_is_empty() -> None:
    grid = Grid(MIDNIGHT, MIDNIGHT + 1, dense=DAY)

    assert text({20_000: 0}, grid, repo='a"b\\c\nd', instance="") == (
        'borgbase_repo_usage_bytes{repo="a\\"b\\\\c\\nd"} 0 1728000000\n'
    )


def test_wherever_a_graph_steps_lately_there_is_a_sample_in_the_lookback() -> None:
    grid = Grid(MIDNIGHT - 40 * DAY, until=MIDNIGHT + 1234, dense=2 * DAY)
    found = moments(grid, 19_998, 19_999, 20_000)

    lately = [moment for moment in found if moment >= MIDNIGHT + 1234 - 2 * DAY]
    assert lately == list(range(lately[0], lately[-1] + 1, 300))
    assert lately[0] < MIDNIGHT + 1234 - 2 * DAY + 300
    assert MIDNIGHT + 1234 - 300 <= lately[-1] < MIDNIGHT + 1234


def test_long_ago_the_hours_have_a_sample() -> None:
    grid = Grid(MIDNIGHT - 5 * HOUR, until=MIDNIGHT + DAY, dense=DAY)

    assert moments(grid, 19_999) == [MIDNIGHT - hour * HOUR for hour in (5, 4, 3, 2, 1)]


def test_a_missed_day_has_the_value_of_the_day_before_and_two_have_a_hole() -> None:
    days = {1: 10, 2: 10, 3: 30, 4: 30, 6: 60, 7: 60}

    assert list(held({1: 10, 3: 30, 6: 60})) == [*days.items()]


def test_a_sum_is_known_when_all_that_have_begun_are() -> None:
    total = Total()
    total.add({1: 10, 2: 20, 3: 30, 4: 40, 5: 50, 6: 60})
    total.add({3: 1, 6: 1})  # day 4 is held, day 5 is a hole

    assert dict(total.series()) == {1: 10, 2: 20, 3: 31, 4: 41, 6: 61, 7: 61}


def test_a_sum_ends_where_something_unknown_begins() -> None:
    total = Total()
    total.add({1: 10, 2: 20, 4: 40})
    total.begin(3)

    assert dict(total.series()) == {1: 10, 2: 20}


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_is_found_by_the_current_usage(unit: str) -> None:
    pairs = [
        (value, value * UNITS[unit] * growth) for value in (100, 4321) for growth in (1, 1.009)
    ]

    assert calibrate(pairs) == (unit, 4, 4)


def test_a_unit_must_fit_most_repos() -> None:
    pairs = [(1000.0, 1000e6), (2000.0, 2000e6), (500.0, 700e6), (300.0, 0.0)]

    assert calibrate(pairs) == (None, 2, 4)
    assert calibrate([*pairs, (800.0, 800e6)]) == ("MB", 3, 5)
    assert calibrate([(1000.0, 12_000.0)]) == (None, 0, 1)
    assert calibrate([]) == (None, 0, 0)
    # Values of two digits are rounded too much.
    assert calibrate([(99.0, 99e6), (1000.0, 1000e3)]) == ("kB", 1, 1)
