"""What holds for all tests."""

from tests.canary import pytest_runtest_makereport

__all__ = ["pytest_runtest_makereport"]
