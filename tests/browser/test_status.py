"""The status page as people use it: by mouse, by keyboard, on a phone, without JavaScript."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import bcrypt
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site, Visit
from tests.web.casts import (
    FULL,
    HOSTILE,
    STATES,
    ailing,
    cast,
    failing,
    many,
    narrow,
    repo,
    well,
    with_repos,
)

Serve = Callable[..., Site]
# The first row after one click on a column's header, and after a second one.
SORTED = {
    "Status": ("quiet", "silent"),
    "Repo": ("fine", "unused"),
    "Account": ("fine", "silent"),
    "Stored": ("full", "unused"),
    "Quota": ("full", "fine"),
    "Last write": ("silent", "full"),
    "Format": ("silent", "silent"),
    "Region": ("full", "silent"),
    "Flags": ("silent", "silent"),
}
COLUMNS = tuple(SORTED)
DESKTOP, PHONE = (1280, 800), (390, 844)


def names(page: Page) -> list[str]:
    """Return the repos that are shown, from top to bottom."""
    shown: list[str] = page.eval_on_selector_all(
        "tbody tr",
        "rows => rows.filter(r => !r.hidden).map(r => r.cells[1].children[0].textContent)",
    )
    return shown


def head(page: Page, column: str) -> str:
    return (
        page.get_by_role("columnheader", name=column, exact=True).get_attribute("aria-sort") or ""
    )


@pytest.fixture
def work(site: Serve) -> Site:
    return site(cast(well("home"), ailing("work")))


def test_search(visit: Visit, site: Serve) -> None:
    page = visit(site(cast(well("home"), ailing("Wörk"))))
    search, matches = page.get_by_role("searchbox", name="Search"), page.get_by_role("status")
    expect(matches).to_have_text("")
    search.fill("  SILENT work ")  # without regard to accents, case and spaces
    expect(matches).to_have_text("1 of 7 repos")
    assert names(page) == ["silent"]
    search.fill("hömé")
    expect(matches).to_have_text("2 of 7 repos")
    search.fill("no such thing")
    expect(matches).to_have_text("0 of 7 repos")
    assert names(page) == []
    expect(page.get_by_role("table")).to_be_hidden()
    expect(page.get_by_text("No repo matches.")).to_be_visible()
    search.fill("")
    expect(matches).to_have_text("")
    assert len(names(page)) == 7
    expect(page.get_by_role("table")).to_be_visible()
    expect(page.get_by_text("No repo matches.")).to_be_hidden()


def test_each_column_sorts_both_ways_by_mouse_and_keyboard(visit: Visit, work: Site) -> None:
    page = visit(work)
    assert head(page, "Status") == "descending"
    for column, (first, second) in SORTED.items():
        button = page.get_by_role("button", name=column, exact=True)
        button.click()
        assert names(page)[0] == first, column
        page.keyboard.press("Enter")
        assert names(page)[0] == second, column
        expect(button).to_be_focused()
        assert head(page, column) in {"ascending", "descending"}
        assert page.locator("[aria-sort]").count() == 1


def test_what_is_unknown_is_sorted_last_either_way(visit: Visit, site: Serve) -> None:
    page = visit(site(cast(with_repos(well(), repo("a", usage=None), FULL, repo("z")))))
    for _ in range(2):
        page.get_by_role("button", name="Stored").click()
        assert names(page)[-1] == "a"


def unfolded(page: Page) -> list[str]:
    """Return the accounts that are unfolded."""
    found: list[str] = page.locator("details[open] h3").all_inner_texts()
    return found


def test_a_refresh_keeps_search_order_and_focus(visit: Visit, work: Site) -> None:
    page = visit(work)
    search = page.get_by_role("searchbox")
    page.get_by_role("button", name="Repo", exact=True).click()
    search.fill("work")
    expect(page.get_by_role("status")).to_have_text("5 of 7 repos")
    work.accounts = cast(failing("home"), with_repos(well("work"), repo("b"), repo("a")), well("x"))
    search.focus()
    refreshed(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("1 critical problem")
    expect(page).to_have_title("1 critical problem – borgbase-exporter")
    assert names(page) == ["a", "b"]
    assert unfolded(page) == ["home"]
    expect(search).to_be_focused()
    expect(search).to_have_value("work")
    assert head(page, "Repo") == "ascending"


def test_a_refresh_keeps_what_is_unfolded_and_the_place(visit: Visit, work: Site) -> None:
    page = visit(work)
    summary = page.locator("summary", has_text="home")
    assert unfolded(page) == []
    summary.click()
    page.evaluate("scrollTo({top: 120, behavior: 'instant'})")
    work.accounts = cast(well("home"), with_repos(well("work"), FULL, *map(repo, "abcdefghij")))
    refreshed(page)
    assert page.evaluate("scrollY") == 120
    expect(page.get_by_role("heading", level=1)).to_have_text("1 critical problem")
    expect(summary).to_be_focused()
    assert unfolded(page) == ["home"]


def test_problems_only(visit: Visit, work: Site) -> None:
    page = visit(work)
    page.get_by_role("checkbox", name="Problems only").check()
    expect(page.get_by_role("status")).to_have_text("4 of 7 repos")
    assert names(page) == ["silent", "full", "late", "unused"]
    work.accounts = cast(well("home"), well("work"))
    refreshed(page)
    expect(page.get_by_role("status")).to_have_text("All is well")
    assert names(page) == []
    expect(page.get_by_text("No repo matches.")).to_be_visible()


def test_the_address_holds_search_filter_and_order(visit: Visit, work: Site) -> None:
    page = visit(work)
    page.get_by_role("searchbox").fill("work 2 d")
    page.get_by_role("checkbox", name="Problems only").check()
    page.get_by_role("button", name="Stored").click()
    expect(page).to_have_url(f"{work.url}?search=work+2+d&problems=1&sort=-stored")
    page.get_by_role("searchbox").fill("work")
    expect(page).to_have_url(f"{work.url}?search=work&problems=1&sort=-stored")
    page.reload()
    expect(page.get_by_role("status")).to_have_text("4 of 7 repos")
    assert names(page) == ["full", "silent", "late", "unused"]
    assert head(page, "Stored") == "descending"
    expect(page.get_by_role("searchbox")).to_have_value("work")


def test_an_odd_address_does_no_harm(visit: Visit, work: Site) -> None:
    page = visit(work, query="?sort=nothing&search=%3Cimg%20src=x%3E")
    expect(page.get_by_role("status")).to_have_text("0 of 7 repos")
    assert page.locator("[aria-sort]").all_text_contents() == ["Status"]


def test_a_slash_leads_to_the_search(visit: Visit, work: Site) -> None:
    page = visit(work)
    page.keyboard.press("/")
    search = page.get_by_role("searchbox")
    expect(search).to_be_focused()
    page.keyboard.type("a/b")
    expect(search).to_have_value("a/b")


def test_times_are_local_too(visit: Visit, work: Site) -> None:
    page = visit(work, timezone_id="Asia/Kolkata", locale="en-GB")
    made = page.locator("#made")
    expect(made).to_contain_text("2023-11-14 22:13 UTC (")
    expect(made).to_contain_text("3:43 GMT+5:30)")
    page.locator("tbody time").first.hover()
    title = page.locator("tbody time").first.get_attribute("title") or ""
    assert title.startswith("2023-11-05 22:13 UTC, 06/11/2023, ")


@pytest.mark.parametrize(("accounts", "each"), [(1, 40), (3, 4), (30, 2)])
def test_repos_are_on_the_first_screen(visit: Visit, site: Serve, accounts: int, each: int) -> None:
    page = visit(site(many(accounts, each)))
    for width, height in (DESKTOP, PHONE):
        page.set_viewport_size({"width": width, "height": height})
        page.reload()
        row = page.locator("tbody tr").first.bounding_box()
        assert row
        assert row["y"] < height


def test_a_page_that_cannot_be_refreshed_says_so(visit: Visit, work: Site) -> None:
    page = visit(work, expected="net::ERR_FAILED")
    page.route("**/*", lambda route: route.abort())
    alert = page.get_by_role("alert")
    expect(alert).to_be_hidden()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(alert).to_contain_text("out of date")
    page.evaluate("scrollTo({top: document.body.scrollHeight, behavior: 'instant'})")
    assert page.evaluate("scrollY") > 0
    expect(alert).to_be_in_viewport(ratio=1)
    page.unroute_all()
    refreshed(page)
    expect(alert).to_be_hidden()


def refreshed(page: Page) -> None:
    """Make the page refresh itself, as it does when it becomes visible again."""
    with page.expect_response("**/"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_the_refresh_can_be_switched_off(visit: Visit, work: Site) -> None:
    page = visit(work)
    page.get_by_role("checkbox", name="Refresh every minute").uncheck()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.evaluate("new Promise(requestAnimationFrame)")
    assert asked == []


@pytest.mark.parametrize("state", STATES)
def test_nothing_overflows_at_any_width(visit: Visit, site: Serve, state: str) -> None:
    page = visit(site(STATES[state]))
    for width in (320, 360, 640, 768, 960, 1280):
        page.set_viewport_size({"width": width, "height": 4000})  # all rows are in sight
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_on_a_phone_it_is_still_a_table_and_cells_have_labels(visit: Visit, work: Site) -> None:
    page = visit(work, viewport={"width": 320, "height": 640}, has_touch=True)
    page.get_by_role("button", name="Stored").tap()
    assert names(page)[0] == "full"
    labels = page.locator("tbody tr").first.evaluate(
        "row => [...row.cells].map(cell => getComputedStyle(cell, '::before').content)"
    )
    shown = [label.split('"')[1].strip() for label in labels if label.startswith('"')]
    assert shown == ["Account", "Stored", "Quota", "Last write", "Format", "Region", "Flags"]
    # What Chromium reports to a screen reader, for visible rows and others.
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    roles = Counter(node["role"]["value"] for node in nodes if not node["ignored"])
    columns = len(COLUMNS)
    table = {"table": 1, "row": 8, "rowheader": 7, "cell": 7 * (columns - 1)}
    assert roles.items() >= (table | {"columnheader": columns}).items()


def test_hostile_names_do_nothing(visit: Visit, site: Serve) -> None:
    page = visit(site(STATES["hostile"]))
    shown = names(page)
    for name in ("markup", "attribute", "entity", "template", "long", "arabic"):
        assert HOSTILE[name] in shown
    assert page.locator("img, script:not(body > script), style:not(head > style)").count() == 0
    for column in ("Repo", "Format"):
        page.get_by_role("button", name=column, exact=True).click()
    page.get_by_role("searchbox").fill("gnp.EXE <img")
    expect(page.get_by_role("status")).to_have_text("1 of 12 repos")
    page.mouse.move(200, 400)


def test_without_javascript_it_is_complete(visit: Visit, work: Site) -> None:
    page = visit(work, java_script_enabled=False)
    assert page.get_by_role("table").get_by_role("row").count() == 8
    assert page.get_by_role("rowheader").first.inner_text().startswith("silent")
    expect(page.get_by_role("search")).to_be_hidden()
    assert page.get_by_role("columnheader").get_by_role("button").count() == 0
    assert head(page, "Status") == "descending"


def test_the_keyboard_reaches_everything_in_order(visit: Visit, work: Site) -> None:
    page = visit(work)
    stops = []
    for _ in range(13 + len(COLUMNS)):
        page.keyboard.press("Tab")
        stops.append(
            page.evaluate(
                "(e => [e.tagName, getComputedStyle(e).outlineStyle, e.innerText])"
                "(document.activeElement)"
            )
        )
    assert [tag for tag, *_ in stops] == ["A"] * 8 + ["SUMMARY"] * 2 + ["INPUT"] * 3 + [
        "BUTTON"
    ] * 9
    assert {outline for _, outline, _ in stops} == {"solid"}
    assert stops[0][2] == "Skip to the repos"
    page.get_by_role("link", name="Skip to the repos").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Repos", exact=True)).to_be_focused()


def test_it_looks_as_the_system_prefers(visit: Visit, work: Site) -> None:
    page = visit(work, color_scheme="dark", reduced_motion="reduce", forced_colors="active")
    behaviour = "getComputedStyle(document.documentElement).scrollBehavior"
    stroke = "getComputedStyle(document.querySelector('tbody .bar path')).stroke"
    colour = "getComputedStyle(document.body)."
    assert page.evaluate(behaviour) == "auto"
    assert page.evaluate(stroke) == page.evaluate(f"{colour}color")
    page.emulate_media(forced_colors="none", reduced_motion="no-preference")
    assert page.evaluate(behaviour) == "smooth"
    assert page.evaluate(f"{colour}backgroundColor") == "rgb(15, 18, 22)"
    page.emulate_media(color_scheme="light")
    assert page.evaluate(f"{colour}backgroundColor") == "rgb(246, 247, 249)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(f"{colour}backgroundColor") == "rgb(255, 255, 255)"
    expect(page.get_by_role("search")).to_be_hidden()


def test_two_thousand_repos(visit: Visit, site: Serve) -> None:
    page = visit(site(many(80, 25)))

    def found(text: str) -> None:
        # `expect` first takes a snapshot of the page, which is slow for such a large one.
        page.wait_for_function(
            "text => document.getElementById('matches').textContent === text", arg=text
        )

    assert page.evaluate("document.querySelectorAll('tbody tr').length") == 2000
    search = page.locator("#search")
    search.fill("-000-0010")
    found("1 of 2,000 repos")
    assert names(page) == ["host-000-0010"]
    search.fill("")
    found("")
    page.locator("thead button", has_text="Repo").click()
    shown = names(page)
    assert len(shown) == 2000
    assert shown == sorted(shown)
    assert page.locator("details.card").count() == 80


def test_behind_a_password(visit: Visit, site: Serve, tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()
    file = tmp_path / "web.yml"
    file.write_text(f"basic_auth_users: {{anna: {hashed}}}")
    place = site(cast(narrow()), "--web.config.file", str(file))
    page = visit(place, http_credentials={"username": "anna", "password": "open sesame"})
    expect(page.get_by_role("heading", level=1)).to_have_text("1 warning")
    place.accounts = cast(well())
    refreshed(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("All is well")
