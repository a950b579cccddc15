from __future__ import annotations

import pytest

from tests.browser import screenshots
from tests.programs import UnavailableError


def test_without_a_browser_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(name: str) -> None:
        raise UnavailableError(f"{name} is not to be had")

    monkeypatch.setattr(screenshots, "program", program)
    with pytest.raises(SystemExit, match=r"^chromium is not to be had$"):
        screenshots.main()
