"""Write the blocks of pages that follow from the code; the rest of a page is prose.

`make docs` writes them; a test fails when they are stale. A block is between the lines
`<!-- NAME: begin -->` and `<!-- NAME: end -->`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from borgbase_exporter.errors import REASONS
from borgbase_exporter.metrics.catalogue import BUILD, SCOPES, Metric
from borgbase_exporter.settings.loading import ALL, SETTINGS
from borgbase_exporter.settings.options import COMMANDS

FOLDER = Path(__file__).parent


def commands() -> str:
    """Return the list of commands."""
    return "".join(
        f"- `borgbase-exporter {name}`: {options.summary}\n" for name, options in COMMANDS.items()
    )


def settings() -> str:
    """Return the table of settings."""
    rows = []
    for flag, setting in ALL.items():
        flags = dict.fromkeys([flag, *setting.shorthands])
        named = ", ".join(f"`{name}`" for name in flags if name != setting.variable)
        takers = [command for command, own in SETTINGS.items() if flag in own]
        only = f" ({', '.join(takers)})" if len(takers) < len(COMMANDS) else ""
        variable = f"`{setting.variable}`" if setting.variable else ""
        default = f"`{setting.default}`" if setting.default else ""
        rows.append((named, variable, default, setting.help + only))
    return table(("flag", "variable", "default", "meaning"), rows)


def metrics() -> str:
    """Return a section for each group of metrics."""
    sections = [
        f"## {scope.title}\n\nEvery series carries "
        f"{', '.join(f'`{name}`' for name in scope.labels)}.\n\n{metric_table(scope.metrics)}\n"
        for scope in SCOPES
    ]
    return "".join([*sections, f"## The exporter itself\n\n{metric_table([BUILD])}"])


def metric_table(rows: Iterable[Metric[Any]]) -> str:
    """Return the table of some metrics."""
    return table(
        ("metric", "more labels", "meaning"),
        (
            (f"`{row.name}`", ", ".join(f"`{name}`" for name in row.labels), row.help)
            for row in rows
        ),
    )


def reasons() -> str:
    """Return the list of reasons of failed polls."""
    return f"{', '.join(f'`{reason}`' for reason in sorted(REASONS))}\n"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


BLOCKS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "configuration.md": {"commands": commands, "settings": settings},
    "metrics.md": {"metrics": metrics, "reasons": reasons},
}
"""What writes the blocks of each page."""


def pages() -> dict[str, str]:
    """Return the text of each page with fresh blocks."""
    return {name: _page(name, blocks) for name, blocks in BLOCKS.items()}


def _page(name: str, blocks: Mapping[str, Callable[[], str]]) -> str:
    text = (FOLDER / name).read_text("utf-8")
    for block, write in blocks.items():
        begin, end = f"<!-- {block}: begin -->\n", f"<!-- {block}: end -->\n"
        head, found, rest = text.partition(begin)
        if not found or end not in rest:
            raise ValueError(f"{name} has no block {block}")
        text = head + begin + write() + end + rest.partition(end)[2]
    return text


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")
