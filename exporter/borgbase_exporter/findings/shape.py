"""The shape of the API's answers without their content, for a maintainer who cannot ask the API.

Field names, JSON types, ranges of numbers and lengths; of texts only what is no name, id, address
or secret: dates with each digit as 9, and the values of a few fields that are enumerations.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import msgspec

ENUMERATIONS = frozenset(
    {"accessMode", "borgVersion", "encryption", "format", "permission", "region"}
)
_VALUE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,23}")
_DATE = re.compile(r"[\d:.TZ +-]{8,40}")
_WORD = re.compile(r"\w+")
VOCABULARY = frozenset(
    """a access action an and answer api are argument at authenticated authentication authorized be
    been by cannot character connection could credentials data decoding denied did does error
    exceeded expected expired failed field for forbidden found got has have http in internal invalid
    is later limit limited line log login many mean must no non not null nullable of on or over
    perform permission provided query quota rate reached reading refused repos request required
    resource selection server service session signature subfields syntax temporarily the this to
    token too try type unavailable unauthenticated unauthorized unexpected unknown user value
    variable was with without you your""".split()  # noqa: SIM905  # a paragraph reads best
)
"""The words of an error that cannot be anybody's; others are left out."""


class Field(msgspec.Struct):
    """What was seen of one field."""

    types: Counter[str] = msgspec.field(default_factory=Counter)
    numbers: tuple[float, float] | None = None
    """The least and the greatest."""
    lengths: tuple[int, int] | None = None
    """The same, of texts and lists."""
    values: Counter[str] = msgspec.field(default_factory=Counter)
    """Of enumerations and dates only."""

    def add(self, name: str, value: object) -> None:
        """Note one value of the field."""
        self.types[_type(value)] += 1
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "id":
            self.numbers = _range(self.numbers, value)
        if isinstance(value, str | list):
            self.lengths = _range(self.lengths, len(value))
        if isinstance(value, str) and _DATE.fullmatch(value) and name != "id":
            self.values[re.sub(r"\d", "9", value)] += 1
        elif name in ENUMERATIONS and isinstance(value, str):
            self.values[value if _VALUE.fullmatch(value) else "(other)"] += 1


def of_answer(data: Any, asked: str) -> dict[str, Field]:
    """Return the fields of an answer by path; `asked` is the query, whose words alone are keys."""
    fields: dict[str, Field] = {}
    for path, name, value in _walk(data, "", "", frozenset(_WORD.findall(asked))):
        fields.setdefault(path, Field()).add(name, value)
    return fields


def _walk(
    value: Any, path: str, name: str, known: Collection[str]
) -> Iterator[tuple[str, str, Any]]:
    if path:
        yield path, name, value
    if isinstance(value, dict):
        for key, inner in value.items():
            shown = key if key in known else "(other)"
            yield from _walk(inner, f"{path}.{shown}" if path else shown, shown, known)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner, f"{path}[]", name, known)


def _type(value: object) -> str:
    names = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string"}
    return names.get(type(value), "list" if isinstance(value, list) else "object")


def _range(known: tuple[Any, Any] | None, value: float) -> tuple[Any, Any]:
    return (min(known[0], value), max(known[1], value)) if known else (value, value)


def of_error(message: str, asked: Collection[str]) -> str:
    """Return an error without its unknown words: those of the queries and of errors stay."""
    identifiers = {word for query in asked for word in _WORD.findall(query)}

    def shown(match: re.Match[str]) -> str:
        word = match[0]
        return word if word in identifiers or word.lower() in VOCABULARY else "…"

    return _WORD.sub(shown, message)
