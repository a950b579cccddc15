"""The status page: made from the report in a thread, one at a time, and kept for a while."""

from __future__ import annotations

import base64
import functools
import hashlib
import time
import zlib
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

from borgbase_exporter import __version__, text
from borgbase_exporter.findings import facts
from borgbase_exporter.findings.problems import Problem
from borgbase_exporter.findings.report import Report, rank, report
from borgbase_exporter.metrics.exposition import Pages
from borgbase_exporter.model import AccountStatus
from borgbase_exporter.polling.board import View
from borgbase_exporter.settings import Serve
from borgbase_exporter.web.kept import Clock, Kept, Source

CHUNK = 2000  # pieces of the template that are encoded and compressed together
POINTS = 24  # points of a repo's usage; every second one is dropped when there are twice as many
NOTHING = array("d"), array("d")
OPEN = 3  # up to this many accounts, the worst is unfolded; otherwise each takes a line
MANY = 1000  # beyond, only the worst repos have a curve, and only visible ones a layout


class Rendered(NamedTuple):
    """The page made from one view."""

    plain: tuple[bytes, ...]
    gzipped: tuple[bytes, ...]
    policy: str  # for Content-Security-Policy


class Usage:
    """How the usage of repos has changed: day by day if known, then since the process began."""

    def __init__(self) -> None:
        self._points: dict[tuple[str, str], tuple[array[float], array[float]]] = {}

    def note(self, accounts: Mapping[str, AccountStatus]) -> None:
        """Keep what is new in accounts; forget repos that are gone."""
        known = {}
        for name, status in accounts.items():
            listed = status.snapshot.repos
            for repo in listed.repos if listed else ():
                taken = status.collectors["repos"].taken
                _, points = self._points.get((name, repo.id), NOTHING)
                if repo.usage is not None and taken is not None and taken not in points[-2:-1]:
                    points = points + array("d", (taken, repo.usage))  # a page may be reading it
                if len(points) > 2 * POINTS:  # pairs of time and usage
                    points = array("d", chain(*zip(points[::4], points[1::4], strict=True)))
                known[name, repo.id] = status.daily.get(repo.id, array("d")), points
        self._points = known

    def path(self, account: str, repo_id: str) -> str:
        """Return a repo's usage as a path in SVG, 60 wide and 12 high; "" if it never changed."""
        daily, seen = self._points.get((account, repo_id), NOTHING)
        points = daily + seen[2 * sum(at <= daily[-2] for at in seen[::2] if daily) :]
        times, sizes = points[::2], points[1::2]
        if len(set(sizes)) < 2:  # noqa: PLR2004
            return ""
        across, up = 60 / ((times[-1] - times[0]) or 1), 12 / (max(sizes) - min(sizes))
        return "M" + " ".join(
            f"{(at - times[0]) * across:.0f} {(max(sizes) - used) * up:.0f}"
            for at, used in zip(times, sizes, strict=True)
        )


class StatusPage:
    """The status page of what `source` knows."""

    def __init__(self, source: Source, settings: Serve, clock: Clock = time.time) -> None:
        self._web, self._clock, self.usage = settings.web, clock, Usage()
        self.kept = Kept("status page", source, self._render)

    def _render(self, view: View[Pages], troubles: Sequence[str]) -> Rendered:
        template, policy = _look()
        found = report(view.accounts.values(), self._clock(), troubles=troubles)
        accounts = sorted(found.accounts, key=lambda one: facts.LEVELS.index(facts.level(one)))
        rows = self._rows(found)
        pieces = template.generate(report=found, accounts=accounts, rows=rows, web=self._web)
        # In chunks: one string of many megabytes would keep others from the interpreter for long.
        plain = tuple(iter(lambda: "".join(islice(pieces, CHUNK)).encode(), b""))
        packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
        gzipped = b"".join([*map(packer.compress, plain), packer.flush()])
        return Rendered(plain, (gzipped,), policy)

    def _rows(self, found: Report) -> Iterator[tuple[Any, ...]]:
        """Yield each repo of all accounts, worst first, and what is shown of it."""
        problems: dict[tuple[str, str | None], list[Problem]] = defaultdict(list)
        for account in found.accounts:
            for problem in account.problems:
                problems[account.name, problem.repo_id].append(problem)
        pairs = sorted(found.repos, key=lambda pair: (rank(pair[1]), pair[0].name))
        for place, (account, repo) in enumerate(pairs):
            trend = self.usage.path(account.name, repo.id) if place < MANY else ""
            of_repo, bad = facts.of_repo(repo, found.at), problems[account.name, repo.id]
            yield account.name, repo, of_repo, bad, trend


@functools.cache
def _look() -> tuple[Any, str]:
    """Return the template, and the policy that allows its script and style and no others."""
    # Imported late: it delays neither the start nor an exporter whose page nobody opens.
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415
    from markupsafe import Markup  # noqa: PLC0415

    loader = PackageLoader("borgbase_exporter.web")
    environment = Environment(autoescape=True, loader=loader, lstrip_blocks=True, trim_blocks=True)
    environment.undefined = StrictUndefined
    environment.finalize = lambda value: text.printable(value) if type(value) is str else value
    known = {"version": __version__, "facts": facts, "text": text, "OPEN": OPEN, "MANY": MANY}
    environment.globals |= known
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    )
    for directive, name in (("style-src", "css"), ("script-src", "js")):
        source = loader.get_source(environment, f"status.{name}")[0]
        environment.globals[name] = Markup(source)  # noqa: S704  # our own file
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        policy += f"; {directive} 'sha256-{digest}'"
    return environment.get_template("status.html"), policy
