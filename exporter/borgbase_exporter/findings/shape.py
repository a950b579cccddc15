"""The shape of the API's answers without their content, for a maintainer who cannot ask the API.

Field names, JSON types, ranges of numbers and lengths; of texts only what is no name, id, address
or secret: dates with each digit as 9, and the values of a few fields that are enumerations.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

ENUMERATIONS = frozenset(
    {"accessMode", "borgVersion", "encryption", "format", "permission", "region"}
)
_VALUE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,23}")
_DATE = re.compile(r"[\d:.TZ +-]{8,40}")
_WORD = re.compile(r"\w+")
VOCABULARY = frozenset(
    """a access action an and answer api are argument at authenticated authentication authorized be
    been by cannot character connection could credentials data decoding denied did do does error
    exceeded expected expired failed field for forbidden found got has have http in internal invalid
    is later limit limited line log login many mean must no non not null nullable of on or over
    perform permission provided query quota rate reached reading refused repos request required
    resource selection server service session signature subfields syntax temporarily the this to
    token too try type unavailable unauthenticated unauthorized unexpected unknown user value
    variable was with without you your""".split()  # noqa: SIM905  # a paragraph reads best
)
"""The words of an error that cannot be anybody's; others are left out."""


@dataclass
class _Field:
    """What was seen of one field."""

    types: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    numbers: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def add(self, name: str, value: object) -> None:
        """Note one value of the field."""
        self.types[_type(value)] += 1
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "id":
            self.numbers.append(value)
        elif isinstance(value, str | list):
            self.lengths.append(len(value))
        if isinstance(value, str) and _DATE.fullmatch(value) and name != "id":
            self.values[re.sub(r"\d", "9", value)] += 1
        elif isinstance(value, str) and name in ENUMERATIONS:
            self.values[value if _VALUE.fullmatch(value) else "(other)"] += 1

    def __str__(self) -> str:
        words = [f"{count} {kind}" for kind, count in self.types.items()]
        if self.numbers:
            words.append(f"{min(self.numbers)} to {max(self.numbers)}")
        if self.lengths:
            words.append(f"length {min(self.lengths)} to {max(self.lengths)}")
        words += [f"{count} {value}" for value, count in self.values.items()]
        return ", ".join(words)


def of_answer(data: Any, asked: str) -> dict[str, str]:
    """Return an answer's fields by path; of its keys only those that the query asks for are named.

    `12 integer, 0 to 15` are twelve integers.
    """
    fields: dict[str, _Field] = {}
    for path, name, value in _walk(data, "", "", frozenset(_WORD.findall(asked))):
        fields.setdefault(path, _Field()).add(name, value)
    return {path: str(seen) for path, seen in fields.items()}


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


def of_error(message: str, asked: Collection[str]) -> str:
    """Return an error without its unknown words: those of the queries and of errors stay."""
    identifiers = {word for query in asked for word in _WORD.findall(query)}

    def shown(match: re.Match[str]) -> str:
        word = match[0]
        return word if word in identifiers or word.lower() in VOCABULARY else "…"

    return _WORD.sub(shown, message)
