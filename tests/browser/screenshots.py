"""Take the pictures of the status page in docs/images: `python -m tests.browser.screenshots`.

They show the simulated account with all its troubles, at a moment that is always the same.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from playwright.sync_api import sync_playwright

from borgbase_exporter.api.areas import AREAS
from borgbase_exporter.api.client import Client
from borgbase_exporter.demo import SimulatedAccount, SimulatedApi
from borgbase_exporter.model import AccountStatus
from borgbase_exporter.polling.poller import Poller
from borgbase_exporter.settings import load
from borgbase_exporter.settings.options import Poll
from borgbase_exporter.tokens import GivenToken
from tests.browser.conftest import Site, launched
from tests.programs import program

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
MOMENT = 1_793_520_000.0  # 1 November 2026, 08:00 UTC
LATER = 180.0
SHOTS = {  # name: width, repos in sight, colours
    "light": (1200, 7, "light"),
    "dark": (1200, 7, "dark"),
    "phone": (390, 2, "light"),
}


def polled() -> AccountStatus:
    """Poll the simulated account once."""
    account = SimulatedAccount(clock=lambda: MOMENT, start=MOMENT)
    steps = itertools.count(0.0, 0.02)
    with SimulatedApi([account]) as api:
        poller = Poller(
            AccountStatus("demo", {}, simulated=True),
            GivenToken("the simulated account", account.token),
            Client(load(["--api.url", api.url], {"BORGBASE_TOKEN": account.token}).api),
            AREAS,
            Poll(interval=900.0, timeout=30.0, max_age=21_600.0),
            clock=lambda: MOMENT,
            monotonic=lambda: next(steps),
            jitter=lambda: 1.0,
        )
        return poller.poll()


def main() -> None:
    """Write the pictures."""
    chromium = program("chromium")
    site = Site({"demo": polled()}, clock=lambda: MOMENT + LATER)
    with sync_playwright() as playwright:
        # Coloured fringes would enlarge the files.
        browser = launched(playwright, chromium, "--disable-lcd-text")
        for name, (width, repos, colours) in SHOTS.items():
            page = browser.new_page(
                viewport={"width": width, "height": 2000},
                color_scheme=colours,  # type: ignore[arg-type]  # light or dark
            )
            page.goto(site.url)
            last = page.locator("tbody tr").nth(repos - 1).bounding_box()
            assert last
            height = last["y"] + last["height"]
            page.screenshot(
                path=IMAGES / f"status-{name}.png",
                clip={"x": 0, "y": 0, "width": width, "height": height},
            )
        browser.close()
    site.stop()


if __name__ == "__main__":
    main()
