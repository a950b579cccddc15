from __future__ import annotations

from borgbase_exporter.text import MAX_MESSAGE, redacted, shown


def test_a_foreign_message_becomes_one_short_line_without_the_secret() -> None:
    assert redacted("bad\r\n\x1b[31m s3cret!", "s3cret") == "bad   [31m [token]!"
    long = redacted("x" * 1000, "s3cret")
    assert len(long) == MAX_MESSAGE
    assert long.endswith("…")


def test_undecodable_bytes_of_a_name_are_shown() -> None:
    assert shown("caf\udce9") == "caf\N{REPLACEMENT CHARACTER}"
    assert shown("Zoë 📱") == "Zoë 📱"
    assert shown("\ud800").isprintable()
