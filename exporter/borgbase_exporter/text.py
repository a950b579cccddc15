"""Text for people: makes foreign text safe to show, and formats numbers and times."""

from __future__ import annotations

import base64
import contextlib
import re
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime

DAY = 86_400
LONGEST_SPAN = 1e18  # seconds, beyond any date, but not beyond arithmetic

MAX_MESSAGE = 300
MAX_READ = 8 * MAX_MESSAGE  # characters to look at: a foreign message may be megabytes long
MAX_RUN = 12  # characters of a secret in a row that are too many to show
SHORT_SECRET = 4  # secrets of up to this many characters are removed only as a whole
_SURROGATES = re.compile(r"[\ud800-\udfff]")


def redacted(text: str, *secrets: str) -> str:
    """Return a foreign message fit for a log: one line, of bounded length, without the secrets.

    Every long part of a secret is removed, even if it is interrupted by characters that no secret
    has, written in another case, in base64 or percent-encoded.
    """
    text = text[:MAX_READ]
    hidden: set[int] = set()
    for form in {form.lower() for secret in secrets if secret for form in _forms(secret)}:
        alphabet = set(form)
        places = [i for i, char in enumerate(text) if char.lower() in alphabet]
        dense = "".join(text[i] for i in places).lower()
        size = min(MAX_RUN, len(form), max(len(form) - 1, SHORT_SECRET))
        runs = {form[i : i + size] for i in range(len(form) - size + 1)}
        for start in range(len(dense) - size + 1):
            if dense[start : start + size] in runs:
                hidden.update(range(places[start], places[start + size - 1] + 1))
    # NUL marks a secret: it is not printable.
    marked = ("\0" if i in hidden else c if c.isprintable() else " " for i, c in enumerate(text))
    text = re.sub("\0+", "[secret]", "".join(marked))
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 1]}…"


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret and its common encodings."""
    yield secret
    yield urllib.parse.quote(secret, safe="", errors="replace")
    for shift in range(3):  # base64 depends on where in a group of three bytes the secret begins
        encoded = base64.b64encode(b" " * shift + secret.encode(errors="replace")).decode()
        inner = encoded[4 if shift else 0 : -4]
        if len(inner) >= MAX_RUN:
            yield inner
            yield inner.replace("+", "-").replace("/", "_")


def printable(text: str) -> str:
    """Return text without invisible, terminal-control and text-direction characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def encodable(text: str) -> str:
    """Return text that UTF-8 can carry: undecodable bytes of a file's name become U+FFFD."""
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def size(amount: float) -> str:
    """Format bytes in decimal units: `388.5 GB`."""
    value, units = float(amount), ["bytes", "kB", "MB", "GB", "TB", "PB"]
    while abs(value) >= 999.95 and len(units) > 1:  # noqa: PLR2004  # what rounds to 1000.0
        value /= 1000
        del units[0]
    return f"{value:.0f} bytes" if units[0] == "bytes" else f"{value:,.1f} {units[0]}"


def percent(share: float) -> str:
    """Format a share, 1 being all, in whole per cent; the program rounds shares only here."""
    return f"{share:.0%}"


def count(number: int, noun: str) -> str:
    """Format a number of things."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def iso(moment: float | None) -> str:
    """Format a Unix timestamp as ISO 8601; "" for None or a year beyond 9999."""
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return "" if moment is None else f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return ""


def when(moment: float, now: float) -> str:
    """Format a Unix timestamp as its date and the time until or since then."""
    date = iso(moment).partition("T")[0] or "at an impossible time"
    return f"{date} (in {span(moment - now)})" if moment >= now else f"{date} ({ago(moment, now)})"


def ago(moment: float, now: float) -> str:
    """Format how long ago something was; 0 s if it is in the future."""
    return f"{span(now - moment)} ago"


def span(seconds: float) -> str:
    """Format a duration in its largest fitting unit, rounded down; 0 s if it is negative."""
    seconds = min(max(0.0, seconds), LONGEST_SPAN)
    for unit, name in ((DAY, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit or (unit == DAY and seconds >= unit):
            return f"{seconds // unit:.0f} {name}"
    return f"{seconds // 1:.0f} s"
