"""A dataclass field as a setting: its flag, its variable, and how its text is read."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, get_origin, get_type_hints

from borgbase_exporter.settings.readers import boolean

T = TypeVar("T")


class Setting(NamedTuple):
    """What a field declares."""

    read: Callable[[str], Any]
    help: str
    default: str | None = None
    flag: str = ""  # the flag; without one, the variable, or the name of a positional argument
    absent: Any = None  # the value when there is neither a text nor a default
    required: bool = False
    repeatable: bool = False
    secret: bool = False  # it may contain a password, so that no message may quote it
    only: tuple[str, ...] = ()  # the commands that take it, if not all; others use its default
    shorthands: Mapping[str, str] = {}  # flags that take no value, and the text that each gives

    @property
    def variable(self) -> str:
        """The environment variable: `--poll.max-age` is BORGBASE_POLL_MAX_AGE."""
        if self.flag.startswith("--"):
            return "BORGBASE_" + re.sub(r"\W", "_", self.flag[2:]).upper()
        return self.flag if self.flag.startswith("BORGBASE_") else ""


def setting(*declared: Any, **more: Any) -> Any:
    """Return a field that is a setting; the arguments are those of Setting."""
    own = Setting(*declared, **more)
    return dataclasses.field(repr=not own.secret, metadata={"setting": own})


def switches(prefix: str, names: Mapping[str, str]) -> Any:
    """Return a field that is a set of names, with a switch for each, which is on by default."""
    own = {
        name: _named(Setting(boolean, f"collect {what}", "true"), f"--{prefix}.{name}", bool)
        for name, what in names.items()
    }
    return dataclasses.field(metadata={"switches": own})


def build(group: type[T], value: Callable[[Setting], Any], above: str = "--") -> T:
    """Return a dataclass, and the groups in it, with the values of their settings."""
    hints = get_type_hints(group)
    content: dict[str, Any] = {}
    for field in dataclasses.fields(group):  # type: ignore[arg-type]  # a dataclass
        name, hint, declared = field.name, hints[field.name], field.metadata
        if "setting" in declared:
            flag = f"{above}{name}".replace("_", "-")
            content[name] = value(_named(declared["setting"], flag, hint))
        elif "switches" in declared:
            own = declared["switches"]
            content[name] = frozenset(one for one in own if value(own[one]))
        elif dataclasses.is_dataclass(hint):
            content[name] = build(hints[name], value, f"{above}{name}.")
    return group(**content)


def _named(own: Setting, flag: str, hint: object) -> Setting:
    """Return a setting with what follows from the name and the type of its field."""
    flag = own.flag or flag
    pair = {flag: "true", f"--no-{flag[2:]}": "false"} if hint is bool else {}
    repeatable = get_origin(hint) is tuple
    return own._replace(flag=flag, shorthands=own.shorthands or pair, repeatable=repeatable)


def settings_of(group: type) -> list[Setting]:
    """Return the settings of a dataclass and of the groups in it."""
    found: list[Setting] = []
    build(group, found.append)
    return found
