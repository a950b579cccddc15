"""A real browser, and an exporter's web server that it looks at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Playwright, sync_playwright

from borgbase_exporter.exposition import Renderer
from borgbase_exporter.web.app import App, Health
from borgbase_exporter.web.page import StatusPage
from borgbase_exporter.web.server import Server
from borgbase_exporter.webconfig import TLS
from tests.facts import NOW
from tests.programs import require, settings
from tests.web.casts import MAX_AGE, Accounts, Stage

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
    """The pages of an exporter whose accounts a test decides."""

    def __init__(
        self,
        accounts: Accounts,
        tls: TLS | None = None,
        clock: Callable[[], float] = lambda: NOW,
    ) -> None:
        super().__init__(accounts)
        pages = Renderer(MAX_AGE).render(accounts, clock())
        well = Health(ok=True, words="OK")
        page = StatusPage(lambda: self.view, lambda: (), "/metrics", MAX_AGE, clock=clock)
        self.app = App(lambda: pages, lambda: well, lambda: well, "/metrics", status_page=page)
        self.server = Server(self.app, [("127.0.0.1", 0)], tls)
        port = self.server.addresses[0][1]
        self.url = f"https://localhost:{port}/" if tls else f"http://127.0.0.1:{port}/"


@pytest.fixture
def site() -> Iterator[Callable[..., Site]]:
    """Give a function that serves accounts."""
    made: list[Site] = []

    def serve(accounts: Accounts, tls: TLS | None = None) -> Site:
        one = Site(accounts, tls)
        made.append(one)
        one.server.start()
        return one

    yield serve
    for one in made:
        one.server.stop()


def launched(playwright: Playwright, program: Path, *more: str) -> Browser:
    """Start a Chromium; its profile is a new folder that goes with it."""
    return playwright.chromium.launch(
        executable_path=program, args=[*ARGUMENTS, *more], env={**os.environ, **settings(program)}
    )


# No wider: while it lives, asyncio takes this thread for one with a running event loop.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = launched(playwright, require("chromium"))
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Browser, site: object) -> Iterator[Visit]:
    """Give a function that opens a site; complaints and requests to elsewhere fail the test,

    but for the complaint that is `expected`.

    It comes after `site`, and so goes before it: a server that stops waits for its readers.
    """
    complaints: list[str] = []
    asked: list[str] = []
    sites: list[str] = []
    expectations: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(message.text)

    def warned(dialog: Dialog) -> None:
        complaints.append(dialog.message)
        dialog.dismiss()

    def open_(place: Site, *, expected: str = "", **options: Any) -> Page:
        sites.append(place.url)
        expectations.append(expected)
        context = browser.new_context(**options)
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", warned)
        page.goto(place.url)
        return page

    yield open_
    for context in browser.contexts:
        context.close()
    unexpected = [c for c in complaints if not any(e and e in c for e in expectations)]
    assert not unexpected, "\n".join(unexpected)
    foreign = [url for url in asked if not url.startswith((*sites, "data:image/svg+xml,"))]
    assert foreign == []
