"""A dataclass's field as a setting: its flag, its variable, and how its text is read."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from borgbase_exporter.settings import readers
from borgbase_exporter.settings.readers import Reader

T = TypeVar("T")


class Setting(NamedTuple):
    """What a field declares."""

    path: tuple[str, ...]
    """The names of its groups, and its own."""
    flag: str
    """The flag; else the variable of what has no flag, or the name of a positional argument."""
    reader: Reader
    help: str
    default: str | None = None
    absent: object = None
    """The value when there is neither a text nor a default."""
    required: bool = False
    repeatable: bool = False
    secret: bool = False
    """Whether the value may contain a password, so that no message may quote it."""
    shorthands: Mapping[str, str] = {}
    """Flags that take no value, and the text that each gives."""

    @property
    def variable(self) -> str:
        """The environment variable: `--poll.max-age` is BORGBASE_POLL_MAX_AGE."""
        if self.flag.startswith("--"):
            return "BORGBASE_" + re.sub(r"\W", "_", self.flag[2:]).upper()
        return self.flag if self.flag.startswith("BORGBASE_") else ""

    @property
    def is_switch(self) -> bool:
        """Whether there are only flags that take no value."""
        return self.reader is SWITCH


def setting(help: str, default: str | None = None, **metadata: Any) -> Any:  # noqa: A002
    """Return a field that is a setting; the keywords are attributes of Setting."""
    metadata |= {"help": help, "default": default}
    return dataclasses.field(repr=not metadata.get("secret"), metadata=metadata)


def switches(prefix: str, names: Mapping[str, str]) -> Any:
    """Return a field that is a set of names, with a switch for each, which is on by default."""
    return dataclasses.field(metadata={"prefix": prefix, "switches": names})


def settings_of(group: type, above: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Yield the settings of a dataclass and of the groups in it."""
    hints = get_type_hints(group, include_extras=True)
    for field in dataclasses.fields(group):
        path, hint, metadata = (*above, field.name), hints[field.name], field.metadata
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from settings_of(hint, path)
        elif "help" in metadata:
            yield _setting(path, hint, **metadata)
        for name, what in metadata.get("switches", {}).items():
            flag = f"--{metadata['prefix']}.{name}"
            yield _setting((*path, name), bool, flag=flag, help=f"collect {what}", default="true")


def _setting(path: tuple[str, ...], hint: Any, *, off: str = "", **metadata: Any) -> Setting:
    flag = metadata.setdefault("flag", "--" + ".".join(path).replace("_", "-"))
    repeatable = get_origin(hint) is tuple
    if optional := repeatable or NoneType in get_args(hint):
        hint = get_args(hint)[0]
    if get_origin(hint) is Literal:
        reader = Reader(partial(readers.one_of, get_args(hint)), path[-1].upper())
    elif hint is bool:
        reader = SWITCH
        metadata["shorthands"] = {flag: "true", off or f"--no-{flag[2:]}": "false"}
    else:
        extras = getattr(hint, "__metadata__", ())
        reader = next((extra for extra in extras if isinstance(extra, Reader)), FILE)
    metadata.setdefault("absent", () if repeatable else None)
    metadata["required"] = not optional and metadata["default"] is metadata["absent"] is None
    return Setting(path, reader=reader, repeatable=repeatable, **metadata)


SWITCH = Reader(readers.switch, "")
FILE = Reader(Path, "FILE")


def build(group: type[T], values: Mapping[tuple[str, ...], Any], above: tuple[str, ...] = ()) -> T:
    """Return a dataclass, and the groups in it, of values by the paths of their fields."""
    hints = get_type_hints(group)
    content = {}
    for field in dataclasses.fields(group):  # type: ignore[arg-type]  # a dataclass
        path = (*above, field.name)
        if path in values:
            content[field.name] = values[path]
        elif dataclasses.is_dataclass(hints[field.name]):
            content[field.name] = build(hints[field.name], values, path)
        elif names := field.metadata.get("switches"):
            content[field.name] = frozenset(name for name in names if values[*path, name])
    return group(**content)
