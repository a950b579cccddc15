"""Take the pictures of docs/dashboards.md: `python -m tests.dashboards.pictures`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.dashboards.browser import ROOT, browsing, build
from tests.dashboards.world import END, MAIN, world
from tests.history import DAY
from tests.programs import UnavailableError, program

IMAGES = ROOT / "docs" / "images"
CHOSEN: dict[str, dict[str, Any]] = {
    "overview": {},
    "repository": {"account": "home", "repo": "mail.example.org"},
    "exporter": {},
}


def main() -> None:
    """Write the pictures."""
    try:
        chromium, bundle = program("chromium"), build()
    except UnavailableError as fault:
        sys.exit(str(fault))
    with (
        tempfile.TemporaryDirectory() as folder,
        world(Path(folder)) as days,
        browsing(chromium, bundle) as grafana,
    ):
        for name, values in CHOSEN.items():
            address, chosen = days.prometheus.address, {"job": MAIN} | values
            with grafana.open(f"borgbase-{name}", address, END - 30 * DAY, END, **chosen) as page:
                page.picture(IMAGES / f"dashboard-{name}.png")


if __name__ == "__main__":
    main()
