"""Data flows one way through the code, and so do the imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "exporter" / "borgbase_exporter"
FILES = {file.relative_to(PACKAGE).with_suffix(""): file for file in PACKAGE.rglob("*.py")}

# Each room (a module or folder) and the rooms that it may use, which are listed before it.
ROOMS = {
    "__init__": "",
    "model": "",
    "errors": "",
    "text": "",
    "threads": "",
    "logs": "text",
    "demo": "",
    "tokens": "errors text",
    "settings": "model errors text tokens",
    "api": "model errors text settings",
    "polling": "model errors text threads tokens settings api",
    "metrics": "model",
    "findings": "model text",
    "web": "model text threads settings polling metrics findings",
    "commands": "all",
    "__main__": "commands",
}
LONGEST_FUNCTION = 45


@pytest.mark.parametrize("module", sorted(FILES), ids=str)
def test_a_module_uses_only_what_its_room_may(module: Path) -> None:
    room = module.parts[0]
    above = set(list(ROOMS)[: list(ROOMS).index(room)])
    allowed = above if ROOMS[room] == "all" else set(ROOMS[room].split())

    assert allowed <= above
    assert set(_used(FILES[module])) <= allowed | {room}


@pytest.mark.parametrize("module", sorted(FILES), ids=str)
def test_functions_are_short(module: Path) -> None:
    lengths = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(ast.parse(FILES[module].read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}


def _used(file: Path) -> Iterator[str]:
    """Yield the rooms that a module imports, including imports for types and late ones."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file.name}: a relative import hides which room it means"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for package, *rooms in (name.split(".") for name in names):
            if package == PACKAGE.name and rooms != ["__version__"]:
                yield rooms[0] if rooms else "all"
