"""Data walks one way through the code, and so do the imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "exporter" / "borgbase_exporter"
FILES = {file.relative_to(PACKAGE).with_suffix(""): file for file in PACKAGE.rglob("*.py")}

# Each room (a module, or a folder of them) and the rooms that it may use, which stand above it.
ROOMS = {
    "__init__": "",
    "model": "",
    "errors": "",
    "text": "",
    "logs": "",
    "simulator": "",
    "credentials": "errors text",
    "webconfig": "text",
    "config": "errors credentials text webconfig",
    "api": "model errors text",
    "diagnosis": "model text",
    "collectors": "model errors api",
    "poller": "model errors credentials api collectors",
    "state": "model",
    "metrics": "model",
    "exposition": "model metrics",
    "web": "model text diagnosis webconfig exposition",
    "textfile": "model exposition",
    "loops": "model errors credentials poller",
    "history": "metrics exposition",
    "checkup": "model errors credentials api poller history diagnosis",
    "report": "model text diagnosis",
    "backfill": "model errors text credentials config api history diagnosis",
    "cli": "all",
    "__main__": "cli",
}


@pytest.mark.parametrize("module", sorted(FILES), ids=str)
def test_a_module_uses_only_what_its_room_may(module: Path) -> None:
    room = module.parts[0]
    above = set(list(ROOMS)[: list(ROOMS).index(room)])
    allowed = above if ROOMS[room] == "all" else set(ROOMS[room].split())

    assert allowed <= above
    assert set(_used(FILES[module])) <= allowed | {room}


def _used(file: Path) -> Iterator[str]:
    """Yield the rooms that a module imports, also where only for types or late."""
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
