"""Text from outside, made fit to be shown."""

from __future__ import annotations

import re

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
