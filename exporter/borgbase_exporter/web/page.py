"""The status page: made from the report in a thread, one at a time, and kept for a while."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import re
import time
import zlib
from array import array
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlencode

from borgbase_exporter import __version__
from borgbase_exporter.findings import facts
from borgbase_exporter.findings.problems import Problem
from borgbase_exporter.findings.report import RepoReport, Report, rank, report
from borgbase_exporter.model import AccountStatus
from borgbase_exporter.settings import Serve
from borgbase_exporter.text import ago, printable, span, when
from borgbase_exporter.threads import in_thread

if TYPE_CHECKING:
    from jinja2 import Template

FRESH = 10.0
"""Seconds after which times such as "3 min ago" are made anew."""
REST = 10
"""A page is kept at least that many times as long as it took to make it."""
CHUNK = 2000
"""Pieces of the template that are encoded and compressed together."""
POINTS = 24
"""Points of a repo's usage that are kept; of older ones every second is dropped again and again."""
OPEN = 3
"""Up to this many accounts, the worst is unfolded; of more, each takes a line."""
MANY = 1000
"""Of more repos, the browser lays out only those in sight, and only the worst have a curve."""
DATE = re.compile(r"\d{4}-\d\d-\d\d")


class View(Protocol):
    """The accounts as they may be shown at a moment."""

    @property
    def accounts(self) -> Mapping[str, AccountStatus]:
        """The accounts by their names."""

    @property
    def revision(self) -> int:
        """Grows with each view."""


class Source(Protocol):
    """What the page is made from; asked in the event loop only."""

    def view(self) -> Awaitable[View]:
        """Return the newest view."""

    def troubles(self) -> Sequence[str]:
        """Return in words what is wrong with the exporter itself."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The page as it was made of some view."""

    plain: tuple[bytes, ...]
    gzipped: tuple[bytes, ...]
    policy: str
    """Its Content-Security-Policy."""
    revision: int
    made: float
    """When it was ready, by the monotonic clock."""
    took: float
    """Seconds of the processor."""


class Row(NamedTuple):
    """A repo in the table."""

    account: str
    repo: RepoReport
    facts: facts.RepoFacts
    problems: Sequence[Problem]
    written: str
    """When it was written to last, as ISO 8601."""
    quota_bar: int
    limit_bar: int
    trend: str
    """Its usage as a path in SVG, 60 wide and 12 high; "" while there is nothing to draw."""
    graphs: str
    """The address of its dashboard in Grafana, if that is known."""


class Usage:
    """How the usage of repos has changed since the process began."""

    def __init__(self) -> None:
        self._taken: dict[str, float] = {}
        self._points: dict[str, dict[str, array[float]]] = {}

    def note(self, accounts: Mapping[str, AccountStatus]) -> None:
        """Keep what is new in accounts; forget repos and accounts that are gone."""
        for gone in self._points.keys() - accounts.keys():
            del self._points[gone], self._taken[gone]
        for name, status in accounts.items():
            repos = status.snapshot.repos
            taken = status.collectors["repos"].taken if repos else None
            if repos is None or taken is None or taken == self._taken.get(name):
                continue
            before, self._taken[name] = self._points.get(name, {}), taken
            self._points[name] = {repo.id: before.get(repo.id, array("d")) for repo in repos.repos}
            for repo in repos.repos:
                if repo.usage is not None:
                    points = self._points[name][repo.id]
                    points.extend((taken, repo.usage))
                    if len(points) > 2 * POINTS:  # pairs of time and usage
                        del points[2::4], points[2::3]

    def path(self, account: str, repo_id: str) -> str:
        """Return a repo's usage as a path in SVG; "" where it has not changed."""
        points = self._points.get(account, {}).get(repo_id, array("d"))
        times, sizes = points[::2], points[1::2]
        if len(sizes) < 2 or (low := min(sizes)) == (high := max(sizes)):  # noqa: PLR2004
            return ""
        across, up = 60 / ((times[-1] - times[0]) or 1), 12 / (high - low)
        steps = zip(times, sizes, strict=True)
        return "M" + " ".join(
            f"{(at - times[0]) * across:.0f} {(high - used) * up:.0f}" for at, used in steps
        )


class StatusPage:
    """The status page of what `source` knows."""

    def __init__(
        self,
        source: Source,
        settings: Serve,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._web = settings.web
        self._clock = clock
        self._monotonic = monotonic
        self._turn = asyncio.Lock()
        self._kept: Rendered | None = None
        self._usage = Usage()

    def note(self, view: View) -> None:
        """Keep the repos' usage for the page's curves; cheap when nothing is new."""
        self._usage.note(view.accounts)

    async def current(self) -> Rendered:
        """Return the page, made anew if it is due; who comes meanwhile waits for it."""
        view = await self._source.view()
        if (page := self._good(view)) is None:
            async with self._turn:
                view = await self._source.view()
                if (page := self._good(view)) is None:
                    self.note(view)
                    work = functools.partial(self.render, view, self._source.troubles())
                    page = self._kept = await in_thread("status page", work)
        return page

    def _good(self, view: View) -> Rendered | None:
        """Return the page that is kept if it will do."""
        if (page := self._kept) is None:
            return None
        age = self._monotonic() - page.made
        recent = age < FRESH and page.revision == view.revision
        return page if recent or age < page.took * REST else None

    def render(self, view: View, troubles: Sequence[str]) -> Rendered:
        """Make the page."""
        look = _look()  # before the watch starts: it takes longer than a page, but once only
        begun, now = time.thread_time(), self._clock()
        found = report(view.accounts.values(), now, troubles=troubles)
        level, verdict = facts.verdict(found)
        pieces = look.template.generate(
            look.parts,
            report=found,
            level=level,
            verdict=verdict,
            accounts=sorted(found.accounts, key=lambda one: facts.LEVELS.index(facts.level(one))),
            rows=self._rows(found),
            repos=sum(len(one.repos or ()) for one in found.accounts),
            metrics=f".{self._web.telemetry_path}",
            ago=lambda moment: ago(moment, now),
            when=lambda moment: when(moment, now),
            until=lambda moment: f"in {span(moment - now)}" if moment > now else "now",
        )
        # In chunks: one string of many megabytes would keep others from the interpreter for long.
        plain = tuple(iter(lambda: "".join(islice(pieces, CHUNK)).encode(), b""))
        compressor = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
        gzipped = b"".join([*map(compressor.compress, plain), compressor.flush()])
        took = time.thread_time() - begun
        made = self._monotonic()
        return Rendered(plain, (gzipped,), look.policy, view.revision, made, took)

    def _rows(self, found: Report) -> Iterator[Row]:
        """Yield the repos of all accounts, worst first."""
        pairs = [(account, repo) for account in found.accounts for repo in account.repos or ()]
        by_repo: dict[tuple[str, str], list[Problem]] = {}
        for account in found.accounts:
            for problem in account.problems:
                if problem.repo_id is not None:
                    by_repo.setdefault((account.name, problem.repo_id), []).append(problem)
        pairs.sort(key=lambda pair: (rank(pair[1]), pair[0].name))
        for place, (account, repo) in enumerate(pairs):
            yield Row(
                account.name,
                repo,
                facts.of_repo(repo, found.at),
                by_repo.get((account.name, repo.id), ()),
                "" if repo.last_modified is None else _iso(repo.last_modified),
                _bar(repo.quota_used),
                _bar(repo.limit_used),
                self._usage.path(account.name, repo.id) if place < MANY else "",
                self._graphs(account.name, repo.name),
            )

    def _graphs(self, account: str, repo: str) -> str:
        if not self._web.grafana_url:
            return ""
        variables = urlencode({"var-account": account, "var-repo": repo})
        return f"{self._web.grafana_url.rstrip('/')}/d/borgbase-repository?{variables}"


@dataclass(frozen=True, slots=True)
class _Look:
    """The template, its script and style, and the policy that allows these two and no others."""

    template: Template
    parts: Mapping[str, Any]
    policy: str


@functools.cache
def _look() -> _Look:
    # Imported late: the start, and who never looks, do not pay for it.
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415
    from markupsafe import Markup, escape  # noqa: PLC0415

    loader = PackageLoader("borgbase_exporter.web")
    environment = Environment(
        autoescape=True,
        auto_reload=False,
        finalize=lambda value: printable(value) if type(value) is str else value,
        loader=loader,
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )

    def unbroken(text: str) -> Markup:
        """Keep dates in one piece."""
        plain = str(escape(printable(text)))
        return Markup(DATE.sub(r'<span class="date">\g<0></span>', plain))  # noqa: S704  # escaped

    environment.filters |= {"bar": _bar, "iso": _iso, "unbroken": unbroken}
    environment.globals |= {"version": __version__, "facts": facts, "OPEN": OPEN, "MANY": MANY}
    sources = {n: loader.get_source(environment, f"status.{n}")[0] for n in ("css", "js")}
    hashes = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in sources.items()
    }
    return _Look(
        environment.get_template("status.html"),
        {name: Markup(text) for name, text in sources.items()},  # noqa: S704  # our own files
        "default-src 'none'; "
        f"style-src 'sha256-{hashes['css']}'; script-src 'sha256-{hashes['js']}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    )


def _bar(share: float | None) -> int:
    """Return the length of a bar, which ends at 100."""
    return int(min(max(0.0, share or 0.0), 1.0) * 100)


def _iso(moment: float) -> str:
    """Return a moment as ISO 8601; "" for one that no calendar has."""
    try:
        return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return ""
