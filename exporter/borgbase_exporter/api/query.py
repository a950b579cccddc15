"""The queries, derived from the structs that decode their answers.

Only queries, never a mutation, and never a field that holds a secret or a person's data.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, get_args

import msgspec

AUTHENTICATED = "isAuthenticated"

fields_of = cache(msgspec.structs.fields)  # msgspec evaluates annotations at each call


class Node(msgspec.Struct, rename="camel"):
    """The fields to read of one type of the API's schema; a query selects all of them."""

    graphql: ClassVar[str]  # the type's name in the schema
    newer: ClassVar[Mapping[str, str]] = {}  # a field's newer spelling, by the older one
    optional: ClassVar[frozenset[str]] = frozenset()  # whose lack is not worth reporting


class Root(Node):
    """The root fields of one query; every query also selects `isAuthenticated`."""

    graphql = "Query"


@cache
def node_of(annotation: Any) -> type[Node] | None:
    """Return the struct in an annotation such as `list[Struct] | None`, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, Node):
        return annotation
    return next(filter(None, map(node_of, get_args(annotation))), None)


def selection(kind: type[Node], missing: Collection[str] = ()) -> str:
    """Return the fields of a struct as GraphQL, without those that the API does not have."""
    found = []
    for field in fields_of(kind):
        name, inner = field.encode_name, node_of(field.type)
        newer = kind.newer.get(name)
        replaced = newer and f"{kind.graphql}.{newer}" not in missing
        if replaced or f"{kind.graphql}.{name}" in missing:
            continue
        below = selection(inner, missing) if inner else ""
        if below or not inner:
            found.append(f"{name} {{ {below} }}" if inner else name)
    return " ".join(found)


def _fields(kind: type[Node]) -> Iterator[tuple[type[Node], str]]:
    """Yield each field of a struct and of the structs nested in it: its struct and name."""
    for field in fields_of(kind):
        yield kind, field.encode_name
        if inner := node_of(field.type):
            yield from _fields(inner)


@dataclass(frozen=True, slots=True)
class Query:
    """A named query; the fields in `floor` are documented and never left out."""

    name: str
    root: type[Root]
    floor: frozenset[str] = frozenset()
    fixed: str = ""  # the selection where the struct does not give it: with aliases

    def text(self, missing: Collection[str] = ()) -> str:
        """Return the query as GraphQL without the missing fields."""
        asks = "" if f"{Root.graphql}.{AUTHENTICATED}" in missing else f"{AUTHENTICATED} "
        return f"query {self.name} {{ {asks}{self.fixed or selection(self.root, missing)} }}"

    @property
    def names(self) -> frozenset[str]:
        """`Type.field` of everything selected, older spellings included."""
        below = (f"{kind.graphql}.{name}" for kind, name in _fields(self.root))
        return frozenset({f"{Root.graphql}.{AUTHENTICATED}", *below})

    def gaps(self, missing: Collection[str]) -> frozenset[str]:
        """Return the missing fields that are not available under another name either."""
        if not missing:
            return frozenset()
        fields, gaps = list(_fields(self.root)), self.names & frozenset(missing)
        for kind, name in fields:
            if name in kind.newer and f"{kind.graphql}.{name}" not in missing:
                gaps -= {f"{kind.graphql}.{kind.newer[name]}"}
        excused = (f"{k.graphql}.{n}" for k, n in fields if n in k.optional | k.newer.keys())
        return gaps.difference(excused)
