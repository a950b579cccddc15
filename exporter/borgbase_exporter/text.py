"""Text from outside, made fit to be shown."""

from __future__ import annotations

import re
from datetime import UTC, datetime

DAY = 86_400
ENDLESS = 1e18
"""Seconds, beyond any date, but not beyond arithmetic."""

MAX_MESSAGE = 300
_SURROGATES = re.compile(r"[\ud800-\udfff]")


def redacted(text: str, secret: str) -> str:
    """Return a foreign message fit for a log: one line, of bounded length, without the secret."""
    text = text.replace(secret, "[token]") if secret else text
    text = "".join(char if char.isprintable() else " " for char in text)
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 1]}…"


def shown(text: str) -> str:
    """Return text that UTF-8 can carry: undecodable bytes of a file's name become U+FFFD."""
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def when(moment: float, now: float) -> str:
    """Spell a Unix timestamp as its date and how far off it is."""
    try:
        date = f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        date = "at an odd time"
    return f"{date} (in {span(moment - now)})" if moment >= now else f"{date} ({ago(moment, now)})"


def ago(moment: float, now: float) -> str:
    """Spell how long ago something was; if a clock says that it is to come, it was just now."""
    return f"{span(now - moment)} ago"


def span(seconds: float) -> str:
    """Spell a span in its largest fitting unit, rounded down; a negative one is none."""
    seconds = min(max(0.0, seconds), ENDLESS)
    for unit, name in ((DAY, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit or (unit == DAY and seconds >= unit):
            return f"{seconds // unit:.0f} {name}"
    return f"{seconds // 1:.0f} s"
