"""A real browser, and an exporter's web server that it looks at."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Playwright, sync_playwright

from borgbase_exporter.settings import Serve, load
from borgbase_exporter.web.app import App
from borgbase_exporter.web.page import StatusPage
from borgbase_exporter.web.server import Server
from tests.facts import NOW
from tests.programs import require, settings
from tests.web.casts import Accounts, Stage

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
        self._web, self._page = serve.web, StatusPage(self, serve, clock=clock)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    async def _run(self) -> None:
        try:
            self._server = Server(App(self, self._web, self._page), self._web)
        finally:
            self._ready.set()
        await self._server.serve()

    def start(self) -> None:
        """Serve in the background."""
        self._thread.start()
        self._ready.wait()
        scheme, port = "https" if self._web.config.tls else "http", self._server.addresses[0]
        self.url = f"{scheme}://localhost:{port.rpartition(':')[2]}/"

    def stop(self) -> None:
        """Stop serving."""
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def site() -> Iterator[Callable[..., Site]]:
    """Return a function that serves accounts."""
    made: list[Site] = []

    def serve(accounts: Accounts, *flags: str) -> Site:
        one = Site(accounts, *flags)
        made.append(one)
        one.start()
        return one

    yield serve
    for one in made:
        one.stop()


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
    """Return a function that opens a site.

    Complaints of the browser, but for the `expected` one, and requests to elsewhere fail the test.
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

    def open_(place: Site, *, expected: str = "", query: str = "", **options: Any) -> Page:
        sites.append(place.url)
        expectations.append(expected)
        context = browser.new_context(**options)
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", warned)
        page.goto(f"{place.url}{query}")
        return page

    yield open_
    for context in browser.contexts:
        context.close()
    unexpected = [c for c in complaints if not any(e and e in c for e in expectations)]
    assert not unexpected, "\n".join(unexpected)
    foreign = [url for url in asked if not url.startswith((*sites, "data:image/svg+xml,"))]
    assert foreign == []
