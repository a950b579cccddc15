"""Take the pictures of the status page in docs/images: `python -m tests.browser.screenshots`.

They show the simulated account with all its troubles, at a moment that is always the same.
"""

from __future__ import annotations

import functools
import itertools
import sys
from pathlib import Path

from borgbase_exporter.collectors import COLLECTORS
from borgbase_exporter.credentials import GivenToken
from borgbase_exporter.poller import Poller, Schedule
from borgbase_exporter.simulator import SimulatedAccount, SimulatedApi
from playwright.sync_api import sync_playwright

from borgbase_exporter.api.client import connect
from borgbase_exporter.model import AccountStatus
from tests.browser.conftest import Site, launched
from tests.lab.bench import endpoint
from tests.programs import UnavailableError, program

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
    steps = itertools.count(0.0, 0.4)
    with SimulatedApi([account]) as api:
        poller = Poller(
            "default",
            GivenToken("the simulated account", account.token),
            COLLECTORS,
            functools.partial(connect, endpoint(api.url), 30.0),
            lambda _: None,
            Schedule(900.0, 30.0),
            clock=lambda: MOMENT,
            monotonic=lambda: next(steps),
            jitter=lambda: 1.0,
        )
        poller.poll()
    return poller.status


def main() -> None:
    """Write the pictures."""
    try:
        chromium = program("chromium")
    except UnavailableError as fault:
        sys.exit(str(fault))
    site = Site({"default": polled()}, clock=lambda: MOMENT + LATER)
    site.server.start()
    with sync_playwright() as playwright:
        # Their coloured fringes take space.
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
    site.server.stop()


if __name__ == "__main__":
    main()
