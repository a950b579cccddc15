"""The status page's bytes: complete, safe, and made no more often than needed."""

from __future__ import annotations

import asyncio
import gzip
import html.parser
import re
import threading
from array import array
from dataclasses import replace
from typing import Any

import pytest

from borgbase_exporter import settings
from borgbase_exporter.findings import facts
from borgbase_exporter.findings.report import report
from borgbase_exporter.model import RepoList
from borgbase_exporter.polling.board import View
from borgbase_exporter.web import page as under_test
from borgbase_exporter.web.kept import FRESH
from borgbase_exporter.web.page import Rendered, StatusPage, Usage
from tests.facts import NOW, collector
from tests.web.casts import HOSTILE, STATES, Accounts, Stage, cast, many, repo, well, with_repos


class Rig(Stage):
    """A status page whose accounts and clocks a test controls."""

    def __init__(self, accounts: Accounts, *flags: str) -> None:
        super().__init__(accounts)
        self.now = 0.0
        given = settings.load(flags, {"BORGBASE_TOKEN": "x.y.z"})
        assert isinstance(given, settings.Serve)
        self.page = StatusPage(self, given, clock=lambda: NOW + self.now)
        self.page.kept.monotonic = lambda: self.now

    def get(self) -> Rendered:
        return asyncio.run(self.page.kept.current())

    @property
    def text(self) -> str:
        return b"".join(self.get().plain).decode()


class Outline(html.parser.HTMLParser):
    """The page's elements and text, by Python's own HTML parser."""

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
    assert gzip.decompress(b"".join(rig.get().gzipped)).decode() == rig.text
    assert [tag for tag, _ in outline.elements].count("h1") == 1
    assert len(outline.tags("table")) == len(outline.tags("style")) == 1
    assert len(outline.tags("script")) == 1
    repos = sum(len(r.repos) for s in STATES[state].values() if (r := s.snapshot.repos))
    assert len(outline.tags("tr")) == repos + 1
    assert len(outline.tags("details")) == len(STATES[state])


def test_nothing_is_loaded_from_anywhere() -> None:
    outline = Outline(Rig(STATES["hostile"]).text)
    assert not {"img", "iframe", "object", "embed", "form", "base"} & {
        tag for tag, _ in outline.elements
    }
    assert all("src" not in attributes for _, attributes in outline.elements)
    (icon,) = outline.tags("link")
    assert (icon["href"] or "").startswith("data:image/svg+xml,")
    assert not any(name.startswith("on") for _, a in outline.elements for name in a)
    assert all("style" not in attributes for _, attributes in outline.elements)


def test_hostile_names_are_text() -> None:
    text = Rig(STATES["hostile"]).text
    outline = Outline(text)
    for name in ("markup", "attribute", "entity", "template", "long", "arabic", "replaced"):
        assert HOSTILE[name] in outline.words
    for character in "\u202e\u200b\u2066\u00ad\x00\x1b":
        assert character not in text
    assert "safe\N{REPLACEMENT CHARACTER}gnp.exe" in outline.words
    assert HOSTILE["markup"] in [a.get("data-key") for a in outline.tags("details")]


def test_the_policy_allows_this_script_and_style_alone() -> None:
    policy = Rig(STATES["well"]).get().policy
    assert policy.startswith("default-src 'none'; connect-src 'self'; ")
    assert re.search(r"; style-src 'sha256-\S+'; script-src 'sha256-\S+'$", policy)
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy


def test_links_lead_to_the_pages_also_behind_a_prefix() -> None:
    rig = Rig(STATES["well"], "--web.telemetry-path", "/other")
    links = {a["href"] or "" for a in Outline(rig.text).tags("a")}
    assert {"./other", "./status.json", "./-/healthy", "./-/ready"} <= links
    assert "https://www.borgbase.com/repositories" in links
    known = ("./", "#", "https://github.com/borgbase-exporter/", "https://www.borgbase.com/")
    assert all(link.startswith(known) for link in links)


def test_repos_lead_to_grafana_where_its_address_is_known() -> None:
    odd = cast(with_repos(well("a&b"), repo("Zoë's phone?")))
    assert "borgbase-repository" not in Rig(odd).text
    rig = Rig(odd, "--web.grafana-url", "https://grafana.example/sub/")
    links = {a["href"] for a in Outline(rig.text).tags("a")}
    assert (
        "https://grafana.example/sub/d/borgbase-repository"
        "?var-account=a%26b&var-repo=Zo%C3%AB%27s+phone%3F" in links
    )


def test_simulated_data_has_a_banner() -> None:
    demo = cast(replace(STATES["ailing"]["default"], simulated=True))
    outline = Outline(Rig(demo).text)
    assert "Simulated data. These accounts and repos are invented" in outline.words
    assert "Simulated: 2 critical problems and 2 warnings – borgbase-exporter" in outline.words
    assert "Simulated" not in Rig(STATES["ailing"]).text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("nobody", "No repos are known."),
        ("no-repos", "There are no repos."),
        ("unpolled", "No repos are known."),
        ("well", ""),
    ],
)
def test_why_there_are_no_repos(state: str, words: str) -> None:
    text = Rig(STATES[state]).text
    assert ("configuration.md#tokens" in text) is (state == "nobody")
    found = re.search(r'<p id="nothing"( hidden)?>(.*?)</p>', text)
    assert found
    assert (bool(found[1]), found[2]) == (not words, words)


def test_the_worst_comes_first() -> None:
    text = Rig(STATES["troubled"]).text
    accounts = re.findall(r"<h3><bdi>(\w+)</bdi>", text)
    assert accounts == ["club", "new", "school", "shop", "next", "home", "work"]
    repos = re.findall(r'class="name"><bdi>(\w+)</bdi>', text)
    assert repos[:5] == ["silent", "full", "late", "unused", "fine"]


@pytest.mark.parametrize(("accounts", "open_"), [(1, 1), (3, 1), (4, 0)])
def test_only_the_worst_of_a_few_accounts_is_unfolded(accounts: int, open_: int) -> None:
    bad = replace(well("bad"), token_problem="unreadable")
    rig = Rig(cast(bad, *(well(str(n)) for n in range(accounts - 1))))
    outline = Outline(rig.text)
    assert sum("open" in one for one in outline.tags("details")) == open_
    # Scrolling areas can be reached by the keyboard.
    assert ("0" in [one.get("tabindex") for one in outline.tags("section")]) is (accounts > 3)


def test_the_same_words_as_check() -> None:
    rig = Rig(STATES["ailing"])
    rig.problems = ["account x: its polls hang"]
    found = report(STATES["ailing"].values(), NOW, troubles=rig.problems)
    words = Outline(rig.text).words
    assert facts.verdict(found)[1] in words
    for problem in (*found.problems, *found.accounts[0].problems):
        assert problem.what in words
    for fact in facts.of_account(found.accounts[0], NOW):
        assert fact.text in words


def test_a_page_is_kept_until_a_poll_or_time_changes_it() -> None:
    rig = Rig(STATES["well"])
    first = rig.get()
    rig.now += FRESH - 0.1
    assert rig.get() is first
    rig.now += 0.2
    assert rig.get() is not first
    rig.accounts = STATES["ailing"]
    rig.now += 5  # longer than such a small page is kept in any case
    assert "2 critical problems and 2 warnings" in rig.text


def test_however_much_changes_a_page_is_kept_ten_times_as_long_as_it_took() -> None:
    rig = Rig(STATES["well"])
    made = rig.get()
    assert rig.page.kept.took > 0
    rig.accounts = STATES["ailing"]
    rig.now = rig.page.kept.took * 9.9
    assert rig.get() is made
    rig.now = rig.page.kept.took * 10.1
    assert rig.get() is not made


def test_many_at_once_share_a_page_made_in_a_thread_and_fresh_from_when_it_was_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(many(2, 50))
    threads: list[str] = []

    def slow(*args: Any, **named: Any) -> Any:
        threads.append(threading.current_thread().name)
        rig.now += 3 * FRESH
        return report(*args, **named)

    async def crowd() -> set[int]:
        pages = await asyncio.gather(*(rig.page.kept.current() for _ in range(50)))
        return {id(page) for page in pages}

    monkeypatch.setattr(under_test, "report", slow)
    assert len(asyncio.run(crowd())) == 1
    assert threads == ["status page"]
    assert (rig.page.kept.made, rig.now) == (3 * FRESH, 3 * FRESH)


def test_a_failed_rendering_is_raised_and_tried_again() -> None:
    rig = Rig(STATES["well"])
    good, rig.latest = rig.latest, View({"x": None}, {}, 1)  # type: ignore[dict-item]  # a defect
    with pytest.raises(AttributeError):
        rig.get()
    rig.latest = good
    assert "All is well" in rig.text


def polled_at(moment: float, **usages: float | None) -> Accounts:
    repos = tuple(repo(name, usage=usage) for name, usage in usages.items())
    part = collector(RepoList(repos, complete=True), moment)
    return cast(replace(well("a"), collectors={"repos": part}))


def test_a_curve_shows_what_the_process_has_seen() -> None:
    usage = Usage()
    usage.note(polled_at(0, x=100.0, flat=5.0, unknown=None))
    assert usage.path("a", "id-x") == ""
    for moment, size in ((10, 150.0), (10, 999.0), (20, 200.0)):  # the second is no new poll
        usage.note(polled_at(moment, x=size, flat=5.0, unknown=None))
    assert usage.path("a", "id-x") == "M0 12 30 6 60 0"
    assert usage.path("a", "id-flat") == usage.path("a", "id-unknown") == ""
    usage.note(polled_at(30, other=1.0))
    usage.note(polled_at(40, x=7.0))
    assert usage.path("a", "id-x") == "", "it was gone meanwhile"
    daily = {"id-x": array("d", (30, 0.0, 40, 7.0))}
    usage.note(cast(replace(polled_at(50, x=14.0)["a"], daily=daily)))
    assert usage.path("a", "id-x") == "M0 12 30 6 60 0"
    usage.note({})
    usage.note(polled_at(50, x=8.0))
    assert usage.path("a", "id-x") == ""


def test_a_curve_is_bounded_and_keeps_its_ends() -> None:
    usage = Usage()
    for moment in range(1000):
        usage.note(polled_at(moment, x=float(moment)))
    points = usage.path("a", "id-x")[1:].split(" ")
    assert len(points) <= 2 * under_test.POINTS
    assert points[:2] == ["0", "12"]
    assert points[-2:] == ["60", "0"]


def test_an_account_without_the_repo_list_has_no_curves() -> None:
    base = well("a")
    only = replace(base, collectors={"tokens": base.collectors["tokens"]})
    assert "No repos are known." in Rig(cast(only)).text


def test_the_page_draws_the_curves() -> None:
    rig = Rig(polled_at(NOW - 20, x=1.0))
    rig.page.usage.note(rig.accounts)
    rig.accounts = polled_at(NOW - 10, x=2.0)
    rig.page.usage.note(rig.accounts)
    assert '<path d="M0 12 60 0"/>' in rig.text
