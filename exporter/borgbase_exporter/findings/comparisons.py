"""What the repo list adds up to, compared with what BorgBase says elsewhere.

Sizes that are alike show that units are understood; counts that are alike, that the list is whole.
What exactly BorgBase counts is not documented, so that only a plain difference is a problem.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from borgbase_exporter.findings.problems import Problem
from borgbase_exporter.model import AccountStatus
from borgbase_exporter.text import count, size

FACTOR = 2.0
"""How many times one size may be the other: usage changes by the day, units are 1000 apart."""
REPOS = 1
"""How many repos may come or go between two queries."""
COMPARABLE = 1e8
"""Bytes below which sizes are too small, and rounded too much, to be compared."""


class Comparison(msgspec.Struct, frozen=True):
    """A sum over the listed repos, and BorgBase's figure."""

    subject: Literal["usage by account", "usage by bill", "repos by account"]
    listed: float
    other: float
    agrees: bool


class DailyUnit(msgspec.Struct, frozen=True):
    """The unit in which repos' newest daily values equal their current usage."""

    unit: str | None = None
    """None where none fits most of them."""
    fits: int = 0
    compared: int = 0


def of_account(status: AccountStatus) -> Iterator[Comparison]:
    """Yield what can be compared: nothing unless every repo could be read."""
    repos, account = status.snapshot.repos, status.snapshot.account
    if repos is None or account is None or not repos.complete:
        return
    if account.reported_repos is not None:
        listed, other = len(repos.repos), account.reported_repos
        yield Comparison("repos by account", listed, other, abs(listed - other) <= REPOS)
    usage = repos.usage
    if usage is None or usage < COMPARABLE:
        return
    if (other_usage := account.reported_usage) is not None and other_usage >= COMPARABLE:
        yield Comparison("usage by account", usage, other_usage, _alike(usage, other_usage))
    if (other_usage := account.billed_usage) is not None and other_usage >= COMPARABLE:
        yield Comparison("usage by bill", usage, other_usage, _alike(usage, other_usage))


def _alike(one: float, other: float) -> bool:
    return 1 / FACTOR <= one / other <= FACTOR


def in_words(comparison: Comparison) -> str:
    """Return what was compared, with which tolerance, and what follows."""
    if comparison.subject == "repos by account":
        listed, other = count(int(comparison.listed), "repo"), f"{comparison.other:,.0f}"
        meaning = "the list is whole" if comparison.agrees else "the list may not be whole"
        return f"{listed} listed, {other} by BorgBase's count: {meaning} (tolerance {REPOS})"
    source = "BorgBase's sum" if comparison.subject == "usage by account" else "the last bill"
    meaning = "sizes are in the right unit" if comparison.agrees else "sizes may be wrong"
    listed, other = size(comparison.listed), size(comparison.other)
    return f"{listed} listed, {other} by {source}: {meaning} (tolerance: a factor of {FACTOR:.0f})"


def daily_in_words(daily: DailyUnit) -> str:
    """Return which unit the daily values are in, and what shows it."""
    repos = count(daily.compared, "repo")
    if daily.unit is None:
        return f"daily values of {repos} fit no unit (tolerance: 1%)"
    return f"daily values are in {daily.unit}: {daily.fits} of {repos} fit (tolerance: 1%)"


def problem(comparison: Comparison) -> Problem:
    """Return the warning about a plain difference."""
    advice = "unless much was written or deleted since, please report it"
    if comparison.subject == "repos by account":
        advice = "if it stays so, please report it"
    return Problem("warning", "comparison", in_words(comparison), advice)
