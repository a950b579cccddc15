from __future__ import annotations

import asyncio
import gc
import gzip
import html.parser
import re
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from borgbase_exporter.exposition import Renderer
from borgbase_exporter.model import AccountStatus, APIToken, APITokenList
from borgbase_exporter.web import page
from borgbase_exporter.web.app import App, Health, Response
from borgbase_exporter.web.page import FRESH, StatusPage
from borgbase_exporter.web.status import Overview, overview
from tests.facts import NOW, collector
from tests.web.casts import DAY, HOSTILE, MAX_AGE, STATES, Accounts, Stage, cast, many, well
from tests.web.test_server import get, serving


class Rig(Stage):
    """A status page whose accounts and clocks a test decides."""

    def __init__(self, accounts: Accounts, telemetry_path: str = "/metrics") -> None:
        super().__init__(accounts)
        self.now = 0.0
        self.troubles: list[str] = []
        self.page = StatusPage(
            lambda: self.view,
            lambda: self.troubles,
            telemetry_path,
            MAX_AGE,
            clock=lambda: NOW + self.now,
            monotonic=lambda: self.now,
        )
        pages = Renderer(MAX_AGE).render({}, NOW)
        health = Health(ok=True, words="OK")
        self.app = App(
            lambda: pages,
            lambda: health,
            lambda: health,
            telemetry_path,
            status_page=self.page,
        )

    def get(self, **headers: str) -> Response:
        async def answer() -> Response:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            found = self.app.respond("GET", "/", named)
            return found if isinstance(found, Response) else await found

        return asyncio.run(answer())

    @property
    def text(self) -> str:
        return b"".join(self.get().body).decode()


class Outline(html.parser.HTMLParser):
    """The page's elements and text, by a parser that is not ours."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def tags(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


@pytest.mark.parametrize("state", STATES)
def test_every_state_makes_a_whole_page(state: str) -> None:
    rig = Rig(STATES[state])
    outline = Outline(rig.text)
    assert [tag for tag, _ in outline.elements].count("h1") == 1
    assert len(outline.tags("table")) == len(outline.tags("style")) == 1
    assert len(outline.tags("script")) == 1
    repos = sum(
        len(r.repos) for s in STATES[state].values() if (r := s.snapshot(NOW - MAX_AGE).repos)
    )
    assert len(outline.tags("tr")) == repos + 1


def test_nothing_is_loaded_from_anywhere() -> None:
    outline = Outline(Rig(STATES["hostile"]).text)
    assert not {"img", "iframe", "object", "embed", "form", "base"} & {
        t for t, _ in outline.elements
    }
    assert all("src" not in attributes for _, attributes in outline.elements)
    (icon,) = outline.tags("link")
    assert (icon["href"] or "").startswith("data:image/svg+xml,")
    assert not any(name.startswith("on") for _, a in outline.elements for name in a)
    assert all("style" not in attributes for _, attributes in outline.elements)


def test_hostile_names_are_text() -> None:
    outline = Outline(Rig(STATES["hostile"]).text)
    for name in ("markup", "attribute", "entity", "template", "long", "arabic", "mended"):
        assert HOSTILE[name] in outline.words
    for character in "\u202e\u200b\u2066\u00ad\x00\x1b":
        assert character not in Rig(STATES["hostile"]).text
    assert "safe\N{REPLACEMENT CHARACTER}gnp.exe" in outline.words
    assert HOSTILE["markup"] in [a.get("data-key") for a in outline.tags("details")]


def test_the_policy_allows_this_script_and_style_alone() -> None:
    response = Rig(STATES["well"]).get()
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert response.content_type == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"


def test_links_lead_to_the_pages_also_behind_a_prefix() -> None:
    links = [a["href"] or "" for a in Outline(Rig(STATES["well"], "/other").text).tags("a")]
    assert {"./other", "./-/healthy", "./-/ready"} <= set(links)
    for link in links:
        assert link.startswith(("./", "#", "https://github.com/borgbase-exporter/"))


def test_no_accounts_and_where_to_get_them() -> None:
    assert "configuration.md#tokens" in Rig({}).text


def test_it_is_compressed_for_who_accepts_it() -> None:
    rig = Rig(STATES["troubled"])
    plain, packed = rig.get(), rig.get(accept_encoding="gzip, br")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(b"".join(packed.body)) == b"".join(plain.body)


def test_a_page_is_kept_until_a_poll_or_time_changes_it() -> None:
    rig = Rig(STATES["well"])
    first = rig.get()
    rig.now += FRESH - 0.1
    assert rig.get().body is first.body
    rig.now += 0.2
    assert "is well" in rig.text
    assert rig.get().body is not first.body
    rig.accounts = STATES["ailing"]
    rig.now += 5  # longer than it rests after such a small page
    assert "4 repos need a look" in rig.text


def test_however_much_changes_a_page_is_kept_ten_times_as_long_as_it_took() -> None:
    rig = Rig(STATES["well"])
    page = asyncio.run(rig.page.current())
    assert page.took > 0
    rig.accounts = STATES["ailing"]
    rig.now = page.took * 9.9
    assert asyncio.run(rig.page.current()) is page
    rig.now = page.took * 10.1
    assert asyncio.run(rig.page.current()) is not page


def test_what_is_made_only_once_does_not_count_as_work(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = 0.0
    real = page._look

    def look() -> Any:
        nonlocal spent
        spent += 100
        return real()

    monkeypatch.setattr(page, "_look", look)
    monkeypatch.setattr(time, "thread_time", lambda: spent)
    assert Rig(STATES["well"]).page.render().took == 0


def test_a_page_is_fresh_from_when_it_was_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(STATES["well"])

    def slow(*seen: Any) -> Overview:
        rig.now += 3 * FRESH
        return overview(*seen)

    async def two() -> tuple[page.Rendered, page.Rendered]:
        return await asyncio.gather(rig.page.current(), rig.page.current())

    monkeypatch.setattr("borgbase_exporter.web.status.overview", slow)
    first, second = asyncio.run(two())
    assert first is second
    assert (first.made, rig.now) == (3 * FRESH, 3 * FRESH)


class Known(dict[str, AccountStatus]):
    """Accounts of which one can tell whether anything holds on to them."""


def test_what_was_known_is_not_kept() -> None:
    rig = Rig(Known(cast(well())))
    known = weakref.ref(rig.view.accounts)
    rig.get()
    rig.accounts = {}
    gc.collect()
    assert known() is None


def test_the_names_of_tokens_are_spelt_as_they_are() -> None:
    token = APIToken("1", "ci_deploy_key", "read_only", expires=NOW + DAY)
    base = well()
    listed = collector(APITokenList((token,), complete=True))
    skipping = replace(base.collectors["ssh_keys"], skipped=2)
    parts = {**base.collectors, "tokens": listed, "ssh_keys": skipping}
    text = Outline(Rig(cast(replace(base, collectors=parts))).text).words
    assert "API token ci_deploy_key: expires" in text
    assert "ssh keys: 2 of the entries" in text


def test_many_at_once_share_one_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(many(2, 50))
    made: list[str] = []
    render = rig.page.render

    def counted() -> Any:
        made.append(threading.current_thread().name)
        return render()

    monkeypatch.setattr(rig.page, "render", counted)

    async def crowd() -> set[int]:
        return {id(page) for page in await asyncio.gather(*(rig.page.current() for _ in range(50)))}

    assert len(asyncio.run(crowd())) == 1
    assert made == ["status page"]  # and not in the event loop's thread


def test_a_failed_rendering_is_told_and_tried_again() -> None:
    rig = Rig(STATES["well"])
    good, rig.view = rig.view, None  # type: ignore[assignment]  # a defect
    with pytest.raises(AttributeError):
        rig.get()
    rig.view = good
    assert "All is well" in rig.text


@pytest.fixture
def served() -> Iterator[Any]:
    with serving(app=Rig(STATES["troubled"]).app) as server:
        yield server


def test_over_http(served: Any) -> None:
    status, body = get(served, "/")
    assert status == 200
    assert b"3 accounts failing" in body
    assert get(served, "/", "HEAD") == (200, b"")
    assert get(served, "/", "POST")[0] == 405
    assert get(served, "/metrics")[0] == 200


def test_without_the_page_there_are_the_links_alone() -> None:
    pages = Renderer(MAX_AGE).render(cast(well("secret-name")), NOW)
    health = Health(ok=True, words="OK")
    response = App(lambda: pages, lambda: health, lambda: health, "/metrics").respond(
        "GET", "/", {}
    )
    assert isinstance(response, Response)
    assert not re.search(rb"secret-name|table|script", b"".join(response.body))
