"""A real browser, and an exporter's web server for it to open."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Playwright, sync_playwright

from borgbase_exporter.settings import Serve, load
from borgbase_exporter.web.page import StatusPage
from tests.facts import NOW
from tests.programs import require, settings
from tests.web.casts import Accounts, Stage
from tests.web.serving import Running

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
Visit = Callable[..., Page]


class Site(Stage):
    """The pages of an exporter whose accounts a test decides, served by a thread."""

    def __init__(
        self, accounts: Accounts, *flags: str, clock: Callable[[], float] = lambda: NOW
    ) -> None:
        super().__init__(accounts)
        arguments = ["--web.listen-address", "127.0.0.1:0", *flags]
        serve = load(arguments, {"BORGBASE_TOKEN": "x.y.z"})
        assert isinstance(serve, Serve)
        page = StatusPage(self, serve, clock=clock)
        page.kept.monotonic = itertools.count(step=3600).__next__  # each visit finds a new page
        self._running = Running(self, serve.web, page)
        self.url = f"http://localhost:{self._running.address[1]}/"
        self.stop = self._running.stop


@pytest.fixture
def site() -> Iterator[Callable[..., Site]]:
    """Return a function that serves accounts."""
    made: list[Site] = []

    def serve(accounts: Accounts, *flags: str) -> Site:
        made.append(Site(accounts, *flags))
        return made[-1]

    yield serve
    for one in made:
        one.stop()


def launched(playwright: Playwright, program: Path, *more: str) -> Browser:
    """Start a Chromium; its profile is a new folder, deleted at the end."""
    return playwright.chromium.launch(
        executable_path=program, args=[*ARGUMENTS, *more], env={**os.environ, **settings(program)}
    )


# Not for the session: while it runs, asyncio finds a running event loop in this thread.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = launched(playwright, require("chromium"))
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def tab(browser: Browser) -> Page:
    """A tab for all tests that need no options of their own: a new one takes a second."""
    return browser.new_page()


@pytest.fixture
def visit(browser: Browser, tab: Page, site: object) -> Iterator[Visit]:
    """Return a function that opens a site.

    Browser warnings other than the `expected` one, and requests to other hosts fail the test.
    It needs `site`, so that it closes first: a server that stops waits for its readers.
    """
    complaints: list[str] = []
    asked: list[str] = []
    sites: list[str] = []
    expectations: list[str] = []
    pages: list[Page] = []

    def said(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(message.text)

    def warned(dialog: Dialog) -> None:
        complaints.append(dialog.message)
        dialog.dismiss()

    listeners: dict[Any, Callable[[Any], None]] = {
        "console": said,
        "dialog": warned,
        "pageerror": lambda error: complaints.append(str(error)),
        "request": lambda request: asked.append(request.url),
    }

    def open_(place: Site, *, expected: str = "", query: str = "", **options: Any) -> Page:
        sites.append(place.url)
        expectations.append(expected)
        page = browser.new_page(**options) if options else tab
        pages.append(page)
        page.set_default_timeout(20_000)
        for event, listener in listeners.items():
            page.on(event, listener)
        page.goto(f"{place.url}{query}")
        return page

    yield open_
    for page in pages:
        for event, listener in listeners.items():
            page.remove_listener(event, listener)
        if page is tab:
            page.goto("about:blank")
            page.set_viewport_size({"width": 1280, "height": 720})
            page.emulate_media(color_scheme="light")
        else:
            page.close()
    unexpected = [c for c in complaints if not any(e and e in c for e in expectations)]
    assert not unexpected, "\n".join(unexpected)
    foreign = [url for url in asked if not url.startswith((*sites, "data:image/svg+xml,"))]
    assert foreign == []
