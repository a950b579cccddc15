"""A planted token, which must never appear in the output of a test or a process."""

from collections.abc import Generator

import pytest

CANARY = "canary.c3VwZXItc2VjcmV0LWRvLW5vdC1sZWFr.token-0123456789abcdef"

TRACES = (CANARY.split(".")[1], "super-secret-do-not-leak", CANARY.split(".")[2])
"""Texts that reveal the token, also in part or decoded."""

MASK = "[the planted token]"


def betrays(text: str) -> bool:
    """Return whether a text contains the planted token, or a part of it."""
    return any(trace in text for trace in TRACES)


def assert_kept_secret(text: str, where: str) -> None:
    """Fail if the planted token appears in the output of a process under test."""
    __tracebackhide__ = True
    if betrays(text):
        pytest.fail(f"the planted token shows in {where}:\n{masked(text)}")


def masked(text: str) -> str:
    """Return a text without the planted token."""
    for trace in (CANARY, *TRACES):
        text = text.replace(trace, MASK)
    return text


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test whose output, log or failure shows the token, and keep it out of the report."""
    report = yield
    failure = report.longreprtext
    # The report repeats the sections of earlier phases, which were checked then.
    output = [(place, text) for place, text in report.sections if place.endswith(report.when)]
    if places := [p for p, text in (("the failure itself", failure), *output) if betrays(text)]:
        report.outcome = "failed"
        report.longrepr = f"the planted token shows in: {', '.join(places)}\n{masked(failure)}"
    report.sections = [(place, masked(text)) for place, text in report.sections]
    return report
