import pytest

from tests.commands.pages import Block, Step, steps
from tests.commands.sandbox import missing_line


def test_commands_are_told_apart() -> None:
    text = 'a && \\\n  b  # c\nx="1\n2"\ncat <<E\nfoo\nE\nif a; then\n b\nfi | c\n\nd |\n e\n'
    block = Block("page.md", 10, "sh", "", text)

    assert [(s.place, s.text) for s in steps(block)] == [
        ("page.md:10", "a && \\\n  b  # c"),
        ("page.md:12", 'x="1\n2"'),
        ("page.md:14", "cat <<E\nfoo\nE"),
        ("page.md:17", "if a; then\n b\nfi | c"),
        ("page.md:21", "d |\n e"),
    ]


def test_a_dialogue_has_commands_and_what_they_print() -> None:
    block = Block("page.md", 3, "console", "", "$ a \\\n> b\none\ntwo\n$ c\n")

    assert list(steps(block)) == [
        Step("page.md:3", "a \\\nb", "one\ntwo"),
        Step("page.md:7", "c"),
    ]


@pytest.mark.parametrize(
    ("expected", "printed", "missing"),
    [
        ("a  b\nc", "a b\nc\nd", None),
        ("a…c\n…\nz", "abc\nd\ne\nz", None),
        ("a\nc", "a\nb\nc", "c"),
        ("a\n…\nz", "a\nb", "z"),
    ],
)
def test_dots_stand_for_anything(expected: str, printed: str, missing: str | None) -> None:
    assert missing_line(expected, printed) == missing
