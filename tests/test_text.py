from __future__ import annotations

import pytest

from borgbase_exporter.text import DAY, MAX_MESSAGE, ago, redacted, shown, span, when


def test_a_foreign_message_becomes_one_short_line_without_the_secret() -> None:
    assert redacted("bad\r\n\x1b[31m s3cret!", "s3cret") == "bad   [31m [token]!"
    long = redacted("x" * 1000, "s3cret")
    assert len(long) == MAX_MESSAGE
    assert long.endswith("…")


def test_undecodable_bytes_of_a_name_are_shown() -> None:
    assert shown("caf\udce9") == "caf\N{REPLACEMENT CHARACTER}"
    assert shown("Zoë 📱") == "Zoë 📱"
    assert shown("\ud800").isprintable()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-79_200, "0 s"),
        (59.9, "59 s"),
        (119.9, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (DAY - 1, "23 h"),
        (10.6 * DAY, "10 d"),
        (float("inf"), "11574074074074 d"),
    ],
)
def test_of_a_span_what_has_passed_is_told(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_a_moment_is_told_by_how_far_off_it_is() -> None:
    assert (ago(5.0, 10.5), ago(20.0, 10.0)) == ("5 s ago", "0 s ago")
    assert when(1.9 * DAY, 0.0) == "1970-01-02 (in 1 d)"
    assert when(0.0, 10.9 * DAY) == "1970-01-01 (10 d ago)"
    assert when(float("inf"), 0.0).startswith("at an odd time (in ")
