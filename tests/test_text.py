"""Foreign text made safe to show, and the format of sizes, times and shares."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from borgbase_exporter.text import (
    DAY,
    MAX_MESSAGE,
    MAX_RUN,
    ago,
    count,
    encodable,
    percent,
    printable,
    redacted,
    size,
    span,
    when,
)

TOKEN = "hdr.c3VwZXItc2VjcmV0-MTIzNDU2Nzg5MA.sig-0123456789abcdef"
PASSWORD = "p@ss word/100%+of the proxy"


def broken(between: str, every: int = 1) -> str:
    return between.join(TOKEN[i : i + every] for i in range(0, len(TOKEN), every))


def encoded(before: bytes, secret: str = TOKEN) -> str:
    return base64.b64encode(before + secret.encode() + b"!!!!").decode()


LEAKS = {
    "whole": TOKEN,
    "twice": TOKEN * 2,
    "with a line break": f"{TOKEN[:9]}\r\n {TOKEN[9:]}",
    **{
        f"broken by {between!r}": broken(between, every)
        for every, characters in ((1, "\n\u200b\u034f\x00"), (3, "\xad"), (5, " "))
        for between in characters
    },
    "quotes": broken('" + "', 7),
    "colours": broken("\x1b[", 2),
    "the first character cut off": TOKEN[1:],
    "the last character cut off": TOKEN[:-1],
    "the middle": TOKEN[9:40],
    "one character changed": f"{TOKEN[:20]}?{TOKEN[21:]}",
    "lower case": TOKEN.lower(),
    "upper case": TOKEN.upper(),
    **{f"base64 after {n} bytes": encoded(b"B" * n) for n in range(4)},
    "base64 of an url": base64.urlsafe_b64encode(f"Bearer {TOKEN}".encode()).decode(),
    "base64 with line breaks": "\n".join(encoded(b"Bearer ")[i : i + 19] for i in range(0, 80, 19)),
    "percent-encoded": quote(f"Bearer {TOKEN}"),
}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS.keys())
def test_no_long_run_of_a_secret_is_shown(leak: str) -> None:
    shown = redacted(f"denied: {leak} (401)", "another secret", TOKEN)

    assert shown.startswith("denied: ")
    assert shown.endswith(" (401)")
    assert "[secret]" in shown
    dense = "".join(c for c in shown if c.isalnum() or c in ".-_").lower()
    forms = (TOKEN, *(encoded(b"B" * n)[4:-8] for n in range(3)))
    for form in (form.lower() for form in forms):
        runs = (form[i : i + MAX_RUN] for i in range(len(form) - MAX_RUN + 1))
        assert not any(run in dense for run in runs)


@pytest.mark.parametrize(
    "leak",
    [
        *(PASSWORD, PASSWORD[1:], PASSWORD.replace(" ", "\n")),
        *(quote(PASSWORD, safe=""), quote(PASSWORD, safe="").lower()),
        base64.b64encode(f"user:{PASSWORD}".encode()).decode(),
    ],
)
def test_a_secret_may_hold_any_character(leak: str) -> None:
    shown = redacted(f"407 {leak}", TOKEN, PASSWORD)

    assert shown.startswith("407 ")
    assert len(shown) < 30
    assert "[secret]" in shown


@pytest.mark.parametrize(
    ("secret", "text", "shown"),
    [
        *(
            (s, f"({s})", "([secret])")
            for s in ("x", "xyz", "s3cret", "\ud800abcdefgh", "geheimniß")
        ),
        *(
            (TOKEN, s, s)
            for s in ("permission denied for the token", TOKEN[:11], "a b c d e f 0 1")
        ),
        ("", "anything", "anything"),
        ("s3cret", "bad\r\n\x1b[31m\u202e s3cret!", "bad   [31m  [secret]!"),
        (TOKEN, "x" * 21_000_000, "x" * (MAX_MESSAGE - 1) + "…"),
    ],
)
def test_odd_secrets_go_and_other_text_stays(secret: str, text: str, shown: str) -> None:
    assert redacted(text, secret) == shown


def test_a_secret_at_the_cut_is_not_shown() -> None:
    for start in (*range(MAX_MESSAGE - 70, MAX_MESSAGE + 5), *range(2340, 2405)):
        shown = redacted("," * start + TOKEN, TOKEN)
        assert not any(TOKEN[i : i + MAX_RUN] in shown for i in range(len(TOKEN))), start


def test_text_without_control_characters_or_unencodable_ones() -> None:
    assert printable("Zoë 📱") == encodable("Zoë 📱") == "Zoë 📱"
    assert printable("a\x7f\x9b\u202e\u2028\u200bb") == "a" + "\N{REPLACEMENT CHARACTER}" * 5 + "b"
    assert encodable("caf\udce9") == "caf\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((-79_200, "0 s"), (59.9, "59 s"), (119.9, "119 s"), (120, "2 min"), (7199, "119 min")),
        *((DAY - 1, "23 h"), (10.6 * DAY, "10 d"), (float("inf"), "11574074074074 d")),
    ],
)
def test_a_span_is_rounded_down(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_a_moment_is_shown_with_the_time_until_or_since() -> None:
    assert (ago(5.0, 10.5), ago(20.0, 10.0)) == ("5 s ago", "0 s ago")
    assert when(1.9 * DAY, 0.0) == "1970-01-02 (in 1 d)"
    assert when(0.0, 10.9 * DAY) == "1970-01-01 (10 d ago)"
    assert when(float("inf"), 0.0).startswith("at an impossible time (in ")


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        *((0, "0 bytes"), (999, "999 bytes"), (999_949, "999.9 kB"), (999_951, "1.0 MB")),
        *((388_500_000_000, "388.5 GB"), (5e18, "5,000.0 PB"), (-1500, "-1.5 kB")),
    ],
)
def test_a_size_is_shown_in_decimal_units(amount: float, words: str) -> None:
    assert size(amount) == words


def test_shares_and_counts() -> None:
    assert (percent(0.7649), percent(2.605), percent(0)) == ("76%", "260%", "0%")
    assert (count(1, "repo"), count(1200, "repo")) == ("1 repo", "1,200 repos")
