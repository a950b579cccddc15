"""What axe-core finds: WCAG 2.2 A and AA, and its best practices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.conftest import Site, Visit
from tests.web.casts import STATES, cast, narrow, well

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
LOOKS = {"phone, light": (360, "light"), "desktop, dark": (1280, "dark")}
MORE_LOOKS = {"phone, dark": (360, "dark"), "desktop, light": (1280, "light")}
SIMULATED = cast(*(replace(one, simulated=True) for one in (narrow("shop"), well("home"))))
# Together they cover the markup: each severity, few and many accounts, no repos, no accounts.
SHOWN = {name: STATES[name] for name in ("well", "troubled", "unpolled", "nobody")}
SHOWN["simulated"] = SIMULATED


@pytest.mark.parametrize("state", SHOWN)
def test_axe_finds_nothing(visit: Visit, site: Callable[..., Site], state: str) -> None:
    page = visit(site(SHOWN[state], "--web.grafana-url", "https://grafana.example"))
    for look, (width, scheme) in (LOOKS | (MORE_LOOKS if state == "troubled" else {})).items():
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # light or dark
        found = Axe().run(page, options={"runOnly": list(RULES), "resultTypes": ["violations"]})
        assert found.violations_count == 0, f"{look}\n{found.generate_report()}"
        assert {"color-contrast", "region"} <= {rule["id"] for rule in found.response["passes"]}
