"""The status page's bytes: made beside the event loop, at most one at a time, and kept a while."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import re
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from borgbase_exporter import __version__
from borgbase_exporter.model import AccountStatus
from borgbase_exporter.web.aside import aside

if TYPE_CHECKING:
    from jinja2 import Template

FRESH = 10.0
"""Seconds after which times such as "3 min ago" are made anew."""
REST = 10
"""How many times as long as it took to make it a page is kept, however much changes meanwhile:
whoever asks for it all the time has the processor for a tenth of the time at most."""
CHUNK = 2000
"""Bits of the template that are encoded and compressed together."""
LEVEL = 6
DATE = re.compile(r"\d{4}-\d\d-\d\d")
GZIP = zlib.MAX_WBITS | 16


class View(Protocol):
    """The accounts as they are known at a moment."""

    @property
    def accounts(self) -> Mapping[str, AccountStatus]:
        """The accounts by their names."""

    @property
    def revision(self) -> int:
        """Another one once anything has changed."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The page as it was made from some view."""

    plain: tuple[bytes, ...]
    gzipped: tuple[bytes, ...]
    policy: str
    """Its Content-Security-Policy."""
    revision: int
    """The view's, which itself is not kept: it would hold on to all that was known."""
    made: float
    """When it was ready, by the monotonic clock."""
    took: float
    """Seconds of the processor."""


class StatusPage:
    """The status page of what `view` gives; values older than `max_age` seconds are left out.

    `troubles` tells in words what is wrong with the exporter itself.
    """

    def __init__(
        self,
        view: Callable[[], View],
        troubles: Callable[[], Sequence[str]],
        telemetry_path: str,
        max_age: float,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._view = view
        self._troubles = troubles
        self._telemetry_path = telemetry_path
        self._max_age = max_age
        self._clock = clock
        self._monotonic = monotonic
        self._turn = asyncio.Lock()
        self._kept: Rendered | None = None

    async def current(self) -> Rendered:
        """Return the page, made anew where it is due; whoever comes meanwhile waits for it."""
        if (page := self._good()) is None:
            async with self._turn:
                if (page := self._good()) is None:
                    page = self._kept = await aside("status page", self.render)
        return page

    def _good(self) -> Rendered | None:
        """Return the page that is kept if it will do."""
        page = self._kept
        if page is None:
            return None
        age = self._monotonic() - page.made
        same = page.revision == self._view().revision
        return page if age < page.took * REST or (same and age < FRESH) else None

    def render(self) -> Rendered:
        """Make the page."""
        # Imported late, with the templates: the start, and who never looks, do not pay for it.
        from borgbase_exporter.web.status import FEW, overview  # noqa: PLC0415

        look = _look()  # which takes longer than a page, but once only
        begun = time.thread_time()
        view, now = self._view(), self._clock()
        bits = look.template.generate(
            look.parts,
            overview=overview(view.accounts, self._troubles(), now, self._max_age),
            few=FEW,
            metrics=f".{self._telemetry_path}",
            version=__version__,
        )
        # In pieces: one of many megabytes would keep others from Python's lock for long.
        plain = tuple(iter(lambda: "".join(islice(bits, CHUNK)).encode(), b""))
        compressor = zlib.compressobj(LEVEL, wbits=GZIP)
        gzipped = b"".join([*map(compressor.compress, plain), compressor.flush()])
        took = time.thread_time() - begun
        made = self._monotonic()
        return Rendered(plain, (gzipped,), look.policy, view.revision, made, took)


@dataclass(frozen=True, slots=True)
class _Look:
    """The template, its script and style, and the policy that allows these two and no others."""

    template: Template
    parts: Mapping[str, Any]
    policy: str


@functools.cache
def _look() -> _Look:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415
    from markupsafe import Markup, escape  # noqa: PLC0415

    def visible(value: object) -> object:
        """Leave no foreign character that hides, or turns the text around."""
        if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
            return value
        return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value)

    def capitalized(text: str) -> str:
        return text[:1].upper() + text[1:]

    def unbroken(text: str) -> Markup:
        """Keep dates in one piece."""
        plain = str(escape(visible(text)))
        return Markup(DATE.sub(r'<span class="date">\g<0></span>', plain))  # noqa: S704  # escaped

    environment = Environment(
        autoescape=True,
        auto_reload=False,
        finalize=visible,
        loader=PackageLoader("borgbase_exporter.web"),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"capitalized": capitalized, "unbroken": unbroken}
    assert environment.loader  # noqa: S101  # just given
    sources = {
        name: environment.loader.get_source(environment, f"status.{name}")[0]
        for name in ("css", "js")
    }
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
