"""Opens dashboards in a headless browser, drawn by Grafana's own packages (dashboards/render)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, Route, sync_playwright

from dashboards.model import Json
from tests.programs import UnavailableError, settings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "dashboards"
SOURCES = FOLDER / "render"
CACHE = ROOT / ".cache" / "render"  # where npm installs its packages (700 MB)

ROW_HEIGHT = 38  # pixels of a row of Grafana's grid, with its margin
ORIGIN = "http://localhost"  # answered by this module, never by the network
PATIENCE = 120_000
"""Milliseconds to wait for a page: far more than it takes on a busy machine."""
PAGE = """<!doctype html><meta charset="utf-8"><style>
@font-face { font-family: Inter; font-weight: 400; src: url(/inter-latin-400-normal.woff2) }
@font-face { font-family: Inter; font-weight: 500; src: url(/inter-latin-500-normal.woff2) }
* { box-sizing: border-box } body { margin: 0 }
</style><link rel="stylesheet" href="/page.css">
<div id="root"></div><script src="/page.js"></script>"""
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-web-security", "--disable-lcd-text")


def build() -> Path:
    """Install the locked packages if they changed, bundle the page, and return its folder."""
    if not shutil.which("npm"):
        raise UnavailableError("npm is not on PATH")
    CACHE.mkdir(parents=True, exist_ok=True)
    shutil.copytree(SOURCES, CACHE, dirs_exist_ok=True)
    lock = hashlib.sha256((SOURCES / "package-lock.json").read_bytes()).hexdigest()
    stamp = CACHE / "installed"
    if not stamp.is_file() or stamp.read_text() != lock:
        _run("npm", "ci")
        stamp.write_text(lock)
    _run("npm", "run", "--silent", "build")
    return CACHE / "dist"


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"{' '.join(command)} fails: {(done.stderr or done.stdout)[-2000:]}")


@dataclass(frozen=True)
class Opened:
    """A dashboard in the browser, after all of its queries."""

    page: Page
    report: Json

    def panel(self, title: str) -> Json:
        """Return the data and the text of a panel."""
        (found,) = (panel for panel in self.report["panels"] if panel["title"] == title)
        panel: Json = found
        return panel

    def shown(self, title: str) -> Any:
        """Return the values of a panel: of a tile, the rows of a table, or series."""
        return self.panel(title)["shown"]

    def picture(self, path: Path) -> None:
        """Save a picture of the whole page."""
        self.page.screenshot(path=path, full_page=True)


@dataclass
class Grafana:
    """A browser, and the page that draws the dashboards of a folder."""

    browser: Browser
    bundle: Path
    dashboards: Path = FOLDER

    @contextmanager
    def open(
        self,
        uid: str,
        prometheus: str,
        start: float,
        end: float,
        *,
        width: int = 1600,
        theme: str = "dark",
        **chosen: str | list[str],
    ) -> Iterator[Opened]:
        """Open a dashboard from `start` to `end` (Unix seconds) with values of its variables."""
        model = json.loads((self.dashboards / f"{uid}.json").read_text("utf-8"))
        rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in model["panels"])
        # Tables draw only visible rows.
        height = rows * ROW_HEIGHT + 80
        page = self.browser.new_page(viewport={"width": width, "height": height})
        page.clock.set_fixed_time(end)
        page.route(f"{ORIGIN}/**", self._fulfil)
        asked: dict[str, str | list[str]] = {
            "dashboard": uid, "prometheus": f"http://{prometheus}", "theme": theme,
            "from": f"{start * 1000:.0f}", "to": f"{end * 1000:.0f}",
        }  # fmt: skip
        asked |= {f"var-{name}": value for name, value in chosen.items()}
        page.goto(f"{ORIGIN}/?{urlencode(asked, doseq=True)}")
        page.wait_for_function("window.opened?.settled()", timeout=PATIENCE)
        page.evaluate("() => new Promise(done => setTimeout(done, 500))")
        yield Opened(page, page.evaluate("window.opened.report()"))
        page.close()

    def _fulfil(self, route: Route) -> None:
        path = route.request.url.removeprefix(ORIGIN).partition("?")[0]
        folders = {
            "/dashboards/": self.dashboards,
            "/page.": self.bundle,
            "/inter-": self.bundle.parent / "node_modules/@fontsource/inter/files",
        }
        if path == "/":
            route.fulfill(body=PAGE, content_type="text/html")
        elif folder := next((f for start, f in folders.items() if path.startswith(start)), None):
            route.fulfill(path=folder / Path(path).name)
        else:
            route.fulfill(status=404)


@contextmanager
def browsing(chromium: Path, bundle: Path) -> Iterator[Grafana]:
    """Start a browser for the page in the folder `bundle`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=ARGUMENTS, env={**os.environ, **settings(chromium)}
        )
        yield Grafana(browser, bundle)
        browser.close()
