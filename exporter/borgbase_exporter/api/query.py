"""What is asked: queries derived from the structs that read their answers.

Only queries, never a mutation, and never a field that holds a secret or a person's data.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, get_args

import msgspec


class Node(msgspec.Struct, rename="camel"):
    """What is read of one type of the API's schema; each field of the struct is asked for."""

    graphql: ClassVar[str]
    """The type's name in the schema."""
    older: ClassVar[Mapping[str, str]] = {}
    """By a field's name, its older spelling: asked for when the API does not know the first."""
    optional: ClassVar[frozenset[str]] = frozenset()
    """Fields that the API may lack without a loss worth reporting."""


class Root(Node):
    """The fields of one query beside `isAuthenticated`, which every query asks for."""

    graphql = "Query"


def node_of(annotation: Any) -> type[Node] | None:
    """Return the struct in an annotation such as `list[Struct] | None`, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, Node):
        return annotation
    return next(filter(None, map(node_of, get_args(annotation))), None)


@dataclass(frozen=True, slots=True)
class Field:
    """A selected field; `of` is the type of what it returns, if that has fields itself."""

    name: str
    of: str = ""
    fields: tuple[Field, ...] = ()
    older: str = ""
    optional: bool = False
    alias: str = ""
    arguments: str = ""

    def text(self, missing: Collection[str], owner: str) -> str:
        """Return the field as GraphQL, or nothing if the API does not have it."""
        if f"{owner}.{self.name}" in missing:
            return "" if not self.older or f"{owner}.{self.older}" in missing else self.older
        name = f"{self.alias}: {self.name}{self.arguments}" if self.alias else self.name
        if not self.fields:
            return name
        inner = " ".join(filter(None, (f.text(missing, self.of) for f in self.fields)))
        return f"{name} {{ {inner} }}" if inner else ""

    def names(self, owner: str) -> Iterator[str]:
        """Yield `Type.field` for this field, its older spelling, and all below it."""
        yield f"{owner}.{self.name}"
        if self.older:
            yield f"{owner}.{self.older}"
        for child in self.fields:
            yield from child.names(self.of)

    def gaps(self, missing: Collection[str], owner: str) -> Iterator[str]:
        """Yield `Type.field` for what is missing in every spelling and matters."""
        names = {f"{owner}.{name}" for name in (self.name, self.older) if name}
        if names <= set(missing) and not self.optional:
            yield f"{owner}.{self.name}"
        for child in self.fields:
            yield from child.gaps(missing, self.of)


def fields_of(kind: type[Node]) -> tuple[Field, ...]:
    """Return the fields to select for a struct."""
    spelled_elsewhere = set(kind.older.values())
    found = []
    for field in msgspec.structs.fields(kind):
        name = field.encode_name
        if name in spelled_elsewhere:
            continue
        inner = node_of(field.type)
        found.append(
            Field(
                name,
                of=inner.graphql if inner else "",
                fields=fields_of(inner) if inner else (),
                older=kind.older.get(name, ""),
                optional=name in kind.optional,
            )
        )
    return tuple(found)


AUTHENTICATED = Field("isAuthenticated")


@dataclass(frozen=True, slots=True)
class Query:
    """A query by name; `floor` is what BorgBase documents, and is never left out."""

    name: str
    fields: tuple[Field, ...]
    floor: frozenset[str] = frozenset()

    @classmethod
    def of(cls, name: str, root: type[Root], floor: Collection[str] = ()) -> Self:
        """Return the query that asks for the fields of a struct."""
        return cls(name, (AUTHENTICATED, *fields_of(root)), frozenset(floor))

    def text(self, missing: Collection[str] = ()) -> str:
        """Return the query as GraphQL without the missing fields."""
        inner = " ".join(filter(None, (field.text(missing, Root.graphql) for field in self.fields)))
        return f"query {self.name} {{ {inner} }}"

    @property
    def names(self) -> frozenset[str]:
        """`Type.field` of everything selected, older spellings included."""
        return frozenset(name for field in self.fields for name in field.names(Root.graphql))

    def gaps(self, missing: Collection[str]) -> frozenset[str]:
        """Return the missing fields that leave a gap: no other spelling of theirs works."""
        return frozenset(n for field in self.fields for n in field.gaps(missing, Root.graphql))
