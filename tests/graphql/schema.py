"""The GraphQL schema, as documented or with drift, and the execution of queries."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    execute_sync,
    parse,
    validate,
)


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How a schema differs from the documented one, its fields written like `RepoType.quota`.

    ValueError when a field is not in the documented schema.
    """

    without: frozenset[str] = frozenset()
    nulls: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """The indices of the entries that are null in a list."""

    def __post_init__(self) -> None:
        if unknown := {*self.without, *self.nulls} - _documented_fields():
            raise ValueError(f"not in the documented schema: {', '.join(sorted(unknown))}")


class Edition:
    """The schema with a drift, ready to answer queries; it never changes."""

    def __init__(self, drift: Drift | None = None) -> None:
        self._schema = _drifted(drift or Drift())
        self._compiled = lru_cache(maxsize=256)(self._compile)

    def execute(self, query: str, root: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a query; without `data` when it cannot be executed at all."""
        document, errors = self._compiled(query)
        if document:
            result = execute_sync(self._schema, document, root)
            errors = result.errors or []
            if result.data is not None or any(error.path for error in errors):
                return dict(result.formatted)
        return {"errors": [error.formatted for error in errors]}

    def _compile(self, query: str) -> tuple[DocumentNode | None, list[GraphQLError]]:
        try:
            document = parse(query)
        except GraphQLError as error:
            return None, [error]
        errors = validate(self._schema, document)
        return (None if errors else document), errors


def load_schema() -> GraphQLSchema:
    """Build the documented schema."""
    return build_schema(Path(__file__).with_name("schema.graphql").read_text("utf-8"))


@cache
def _documented_fields() -> frozenset[str]:
    types = _types(load_schema())
    return frozenset(f"{type_.name}.{name}" for type_ in types for name in type_.fields)


def _types(schema: GraphQLSchema) -> list[GraphQLObjectType]:
    return [
        type_
        for type_ in schema.type_map.values()
        if isinstance(type_, GraphQLObjectType) and not type_.name.startswith("__")
    ]


def _drifted(drift: Drift) -> GraphQLSchema:
    schema = load_schema()
    for type_ in _types(schema):
        for name, field_ in tuple(type_.fields.items()):
            coordinate = f"{type_.name}.{name}"
            for argument, definition in field_.args.items():
                definition.out_name = re.sub("([A-Z])", r"_\1", argument).lower()
            if gaps := drift.nulls.get(coordinate):
                field_.resolve = partial(_with_gaps, name, gaps)
            if coordinate in drift.without:
                del type_.fields[name]
    return schema


def _with_gaps(name: str, gaps: Collection[int], source: Mapping[str, Any], info: Any) -> Any:
    entries = source[name](info)
    return [None if index in gaps else entry for index, entry in enumerate(entries)]
