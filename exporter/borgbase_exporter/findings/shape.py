"""The shape of the API's answers without their content, for a maintainer without an account.

Field names, JSON types, ranges of numbers and lengths. The only texts are dates, with each digit as
9, and the values of enumerations: any other text may be a name, an id, an address or a secret.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from typing import Any

ENUMERATIONS = {"accessMode", "borgVersion", "encryption", "format", "permission", "region"}
TYPES = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string"}
_VALUE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,23}")
_DATE = re.compile(r"[\d:.TZ +-]{8,40}")
_WORD = re.compile(r"\w+")


def of_answer(data: Any, asked: str) -> dict[str, str]:
    """Return fields by path, such as `12 integer, 0 to 15`; only keys of the query are named."""
    seen: dict[str, list[Any]] = defaultdict(list)
    for path, value in _walk(data, "", frozenset(_WORD.findall(asked))):
        seen[path].append(value)
    return {path: ", ".join(_described(path, values)) for path, values in seen.items() if path}


def _walk(value: Any, path: str, known: Collection[str]) -> Iterator[tuple[str, Any]]:
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            name = key if key in known else "(other)"
            yield from _walk(inner, f"{path}.{name}".lstrip("."), known)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner, f"{path}[]", known)


def _described(path: str, values: list[Any]) -> Iterator[str]:
    name = path.rpartition(".")[2].removesuffix("[]")
    types = Counter(TYPES.get(type(one), type(one).__name__) for one in values)
    yield from (f"{number} {kind.replace('dict', 'object')}" for kind, number in types.items())
    numbers = [one for one in values if type(one) in {int, float}]
    if numbers and name != "id":
        yield f"{min(numbers)} to {max(numbers)}"
    if lengths := [len(one) for one in values if isinstance(one, str | list)]:
        yield f"length {min(lengths)} to {max(lengths)}"
    texts = [one for one in values if isinstance(one, str)]
    shown = [re.sub(r"\d", "9", one) for one in texts if name != "id" and _DATE.fullmatch(one)]
    if name in ENUMERATIONS:
        shown = [one if _VALUE.fullmatch(one) else "(other)" for one in texts]
    yield from (f"{number} {text}" for text, number in Counter(shown).items())


def of_error(message: str, asked: Collection[str]) -> str:
    """Return an error's text, reduced to the words that the queries contain."""
    known = {word for query in asked for word in _WORD.findall(query)}
    return _WORD.sub(lambda match: match[0] if match[0] in known else "…", message)
