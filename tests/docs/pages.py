"""The documentation's pages and their blocks of code.

Every block is marked with its language:

- ```sh is a script. If all of its programs are in RUNNABLE, a test runs it; otherwise bash checks
  its syntax. ```console has prompts: lines after `$ ` (and `> `) are run, the others are what they
  print, in which `…` stands for anything, and a line of it alone for any lines.
  A script that fails on purpose says so in a comment: `# exit status 1`.
- ```yaml, ```promql, ```ini and so on are checked by the program that reads them.
- ```text is everything else: what is printed, or sketched.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
)
_RUNNABLE = """
    .venv/bin/python amtool base64 borgbase-exporter cat cd chmod cp curl cut echo export grep gzip
    head install jq ls mkdir printf promtool rm sed set sort tail tee test touch true umask wc
    """
RUNNABLE = frozenset(_RUNNABLE.split())
"""The programs that the tests run: the exporter, Prometheus' tools, and standard ones."""


@dataclass(frozen=True)
class Block:
    """A block of code; `line` is that of its first line."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def script(self) -> str:
        """The commands of the block, without prompts and without what they print."""
        if self.language != "console":
            return self.text
        lines = re.findall(r"^[$>] (.*)$", self.text, re.MULTILINE)
        return "\n".join([*lines, ""])

    @property
    def programs(self) -> set[str]:
        """The words where the shell expects a command; nested quotes may add wrong ones."""
        text = re.sub(r"'[^']*'|(?<!\S)#.*|\\\n", " ", self.script)
        start = r"(?:^|[;|&(`]|\$\()[ \t]*(?:\w+=\S*[ \t]+)*([^\s;|&()]+)"
        words = re.findall(start, text, re.MULTILINE)
        return {word for word in words if not re.match(r"\w+=", word)}

    @property
    def status(self) -> int:
        """The exit status that a comment announces."""
        announced = re.search(r"#.*\bexit status (\d+)", self.text)
        return int(announced[1]) if announced else 0


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page, those without a language included."""
    for token in MarkdownIt().parse(page.read_text("utf-8")):
        if token.type in {"fence", "code_block"} and token.map:
            language = token.info.partition(" ")[0]
            yield Block(page, token.map[0] + 1 + (token.type == "fence"), language, token.content)


def missing_line(text: str, printed: str) -> str | None:
    """Return the first line of a dialogue that is missing from the output, or out of order.

    `…` matches anything, and alone in a line any lines; column widths may differ.
    """
    lines = iter([" ".join(line.split()) for line in printed.splitlines()])
    skip = False
    for line in re.findall(r"^(?![$>] )(.+)$", text, re.MULTILINE):
        if line.strip() == "…":
            skip = True
            continue
        wanted = re.compile(".*".join(map(re.escape, " ".join(line.split()).split("…"))))
        if not any(map(wanted.fullmatch, lines if skip else islice(lines, 1))):
            return str(line)
        skip = False
    return None


BLOCKS = [block for page in PAGES for block in blocks(page)]
