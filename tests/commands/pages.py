"""What the pages hold: their fenced blocks, and the commands in them."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt

from tests.commands import ROOT

SHELL = {"sh", "console"}
BASH = shutil.which("bash") or "/bin/bash"


def pages() -> list[str]:
    """Return the pages for users, relative to the project's folder."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
    return sorted(page.relative_to(ROOT).as_posix() for page in found)


@dataclass(frozen=True)
class Block:
    """A block of code; `line` is that of its first line, `file` the name it may have."""

    page: str
    line: int
    language: str
    file: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Step:
    """A command, however many lines it takes, or a `file` to write."""

    place: str
    text: str
    printed: str = ""
    """What the page says the command prints, if it does."""
    file: str = ""

    @property
    def status(self) -> int:
        """The exit status that a comment beside the command announces."""
        told = re.search(r"#.*\bexit status (\d+)", self.text)
        return int(told[1]) if told else 0


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page, those without a language included."""
    for token in MarkdownIt().parse((ROOT / page).read_text("utf-8")):
        if token.type in {"fence", "code_block"} and token.map:
            language, _, file = token.info.strip().partition(" ")
            fence = int(token.type == "fence")
            yield Block(page, token.map[0] + 1 + fence, language, file.strip(), token.content)


def spans(page: str) -> Iterator[tuple[int, str]]:
    """Yield the line of each span of code in the text (that of its paragraph), and what it says."""
    for token in MarkdownIt().enable("table").parse((ROOT / page).read_text("utf-8")):
        for child in token.children or ():
            if child.type == "code_inline":
                yield (token.map or [0])[0] + 1, child.content


def steps(block: Block) -> Iterator[Step]:
    """Yield the commands of a block, or the file that it is."""
    if block.language == "sh":
        for start, text in _whole(block.text.splitlines()):
            yield Step(f"{block.page}:{block.line + start}", text)
    elif block.language == "console":
        yield from _dialogue(block)
    elif block.file:
        yield Step(block.place, block.text, file=block.file)


def _dialogue(block: Block) -> Iterator[Step]:
    head, *parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    assert not head.strip(), f"{block.place}: a block of console begins with `$ ` and a command"
    line = block.line + head.count("\n")
    for part in parts:
        first, *rest = part.splitlines()
        more = next((n for n, text in enumerate(rest) if not text.startswith("> ")), len(rest))
        command = "\n".join([first, *(text[2:] for text in rest[:more])])
        yield Step(f"{block.page}:{line}", command, "\n".join(rest[more:]))
        line += 1 + len(rest)


def _whole(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Put together the lines that make a command each: as many as bash needs to understand it."""
    start = 0
    for end in range(1, len(lines) + 1):
        text = "\n".join(lines[start:end])
        if end == len(lines) or _understood(text):
            if text.strip():
                yield start, text
            start = end


def _understood(text: str) -> bool:
    if re.search(r"(\\|\||&&)\s*$", text):
        return False
    if not re.search(r"""['"(){}`]|<<|\b(if|for|while|case|do)\b""", text):
        return True  # spare the process
    done = subprocess.run(
        [BASH, "-n"], input=text, text=True, capture_output=True, check=False
    )  # a here-document without an end is no more than a warning
    return not done.returncode and not done.stderr


PAGES = pages()
BLOCKS = [block for page in PAGES for block in blocks(page)]
