"""Hooks of all tests: they watch for the planted token, and mark tests that need programs."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from functools import cache
from types import ModuleType

import pytest

from tests.canary import pytest_runtest_makereport

__all__ = ["pytest_collection_modifyitems", "pytest_runtest_makereport"]

MARKERS = {"tests.programs": "programs", "tests.gotools": "go"}
"""Markers for tests by the module, fetching or building external programs, that they use."""

# In scripts, `nohup` and `&` ignore SIGINT, which the processes under test would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what a command has configured."""
    root, urllib3 = logging.getLogger(), logging.getLogger("urllib3")
    levels, handlers = (root.level, urllib3.level), root.handlers[:]
    yield
    root.setLevel(levels[0])
    urllib3.setLevel(levels[1])
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run three more than there are cores, as many tests wait for programs."""
    return (os.cpu_count() or 1) + 3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test whose module, or a fixture's module, uses external programs; begin with those.

    They take longest, those of the rules above all, which are not in folders: at the end, one would
    keep a single core busy.
    """
    for item in items:
        for name in {name for module in _modules(item) for name in _used(module)}:
            if name in MARKERS:
                item.add_marker(MARKERS[name])
    items.sort(key=lambda item: (not item.get_closest_marker("programs"), len(item.path.parts)))


def _modules(item: pytest.Item) -> Iterator[str]:
    """Yield the modules of a test and of its fixtures."""
    if isinstance(item, pytest.Function):
        yield item.function.__module__
        for definitions in item._fixtureinfo.name2fixturedefs.values():
            yield from (definition.func.__module__ for definition in definitions)


@cache
def _used(name: str) -> frozenset[str]:
    """Return the modules of the tests that a module of the tests uses, itself included."""
    found, pending = set[str](), [name]
    while pending:
        current = pending.pop()
        if current.startswith("tests.") and current != __name__ and current not in found:
            found.add(current)
            for value in vars(sys.modules[current]).values():
                where = "__name__" if isinstance(value, ModuleType) else "__module__"
                if (used := getattr(value, where, None)) in sys.modules:
                    pending.append(used)
    return frozenset(found)
