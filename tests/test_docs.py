from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from borgbase_exporter.metrics import BUILD, SCOPES

ROOT = Path(__file__).parent.parent
PAGES: dict[str, str] = runpy.run_path(str(ROOT / "docs" / "generate.py"))["pages"]()


@pytest.mark.parametrize("name", PAGES)
def test_generated_pages_are_fresh(name: str) -> None:
    written = (ROOT / "docs" / name).read_text("utf-8")
    assert written == PAGES[name], "stale: run `make docs`"


def test_the_metrics_page_names_every_metric_once() -> None:
    listed = re.findall(r"^\| `(borgbase_\w+)` \|", PAGES["metrics.md"], re.MULTILINE)
    assert listed == [m.name for scope in SCOPES for m in scope.metrics] + [BUILD.name]


def test_links_between_the_pages_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}{anchor}"
        for page in pages
        for target, anchor in re.findall(
            r"\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]+)?\)", page.read_text("utf-8")
        )
        if not _leads_somewhere(page.parent / target if target else page, anchor)
    ]
    assert broken == []


def _leads_somewhere(page: Path, anchor: str) -> bool:
    if not anchor:
        return page.exists()
    return page.is_file() and anchor[1:] in _anchors(page.read_text("utf-8"))


def _anchors(text: str) -> set[str]:
    """Return what GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
