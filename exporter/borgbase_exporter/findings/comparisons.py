"""What the repo list adds up to, compared with what BorgBase counts elsewhere.

Sizes that agree show that units are understood; counts that agree, that the list is complete.
What exactly BorgBase counts is not documented, so that only a large difference is a problem.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from borgbase_exporter.findings.problems import ADVICE, Problem
from borgbase_exporter.model import AccountStatus
from borgbase_exporter.text import count, size

FACTOR = 2.0
"""How many times one size may be the other: usage changes by the day, units are 1000 apart."""
REPOS = 1
"""How many repos may come or go between two queries."""
COMPARABLE = 1e8
"""Bytes below which sizes are too small, and rounded too much, to be compared."""
COUNT = "repos by account"
FIGURES = {
    COUNT: ("own count", "reported_repos"),
    "usage by account": ("own sum", "reported_usage"),
    "usage by bill": ("last bill", "billed_usage"),
}
"""BorgBase's figures in words, and as fields of an account."""


class Comparison(msgspec.Struct, frozen=True):
    """A sum over the listed repos, and BorgBase's figure."""

    subject: str
    listed: float
    other: float
    agrees: bool


def of_account(status: AccountStatus) -> Iterator[Comparison]:
    """Yield what can be compared: nothing unless every repo could be read."""
    repos, account = status.snapshot.repos, status.snapshot.account
    if repos is None or not repos.complete or account is None:
        return
    for subject, (_, field) in FIGURES.items():
        listed = len(repos.repos) if subject == COUNT else repos.usage
        other: float | None = getattr(account, field)
        if listed is None or other is None:
            continue
        if subject == COUNT:
            yield Comparison(subject, listed, other, abs(listed - other) <= REPOS)
        elif min(listed, other) >= COMPARABLE:
            yield Comparison(subject, listed, other, 1 / FACTOR <= listed / other <= FACTOR)


def agreement(found: Iterable[Comparison]) -> str:
    """Return with what the list agrees; the differences are problems."""
    names = ", ".join(FIGURES[one.subject][0] for one in found if one.agrees)
    names = " and ".join(names.replace(", own", ",").rsplit(", ", 1))
    return f"agrees with BorgBase's {names}" if names else ""


def problem(found: Comparison) -> Problem:
    """Return the warning about a large difference."""
    listed, other = size(found.listed), size(found.other)
    suspicion = "sizes may be wrong unless much was written or deleted since"
    if found.subject == COUNT:
        listed, other = count(int(found.listed), "repo"), f"{found.other:,.0f}"
        suspicion = "the list may be incomplete"
    what = f"{listed} listed, but BorgBase's {FIGURES[found.subject][0]} is {other}: {suspicion}"
    return Problem("warning", "comparison", what, f"if it stays so, {ADVICE['internal']}")
