"""The queries: valid against the schema in every form, never a mutation, never a secret."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from graphql import (
    FieldNode,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    build_schema,
    parse,
    print_schema,
    validate,
    visit,
)

from borgbase_exporter.api.areas import AREAS
from borgbase_exporter.api.history import BILLED, usage
from borgbase_exporter.api.query import Query
from borgbase_exporter.model import COLLECTORS
from tests.graphql import load_schema

REPOS, ACCOUNT, SSH_KEYS, TOKENS = (area.query for area in AREAS)
QUERIES = (*(area.query for area in AREAS), BILLED, usage(["a1", "b2"]))
UNTOUCHABLE = {
    "RepoType.htpasswd",
    "RepoType.vgerToken",
    "UserType.password",
    "UserType.email",
    "UserType.address",
    "UserType.repoSet",
    "UserType.repousageSet",
    "PublicSSHKeyType.keyData",
}

OLDER = {"maxSizeGb": "maxSize", "includedGb": "includedSize"}
"""The fields of PlanType with their older spellings."""


def documented() -> GraphQLSchema:
    """Return the documented schema, with the older spellings beside the newer ones."""
    older = "\n".join(f"{name}: Float" for name in OLDER.values())
    text = print_schema(load_schema())
    return build_schema(text.replace("type PlanType {", f"type PlanType {{\n{older}\n"))


SCHEMA = documented()


def selected(query: str) -> frozenset[str]:
    """Return `Type.field` of everything that a query selects."""
    found = set()
    types = TypeInfo(SCHEMA)

    class Collect(Visitor):
        def enter_field(self, node: FieldNode, *_: object) -> None:
            parent = types.get_parent_type()
            assert parent
            found.add(f"{parent.name}.{node.name.value}")

    visit(parse(query), TypeInfoVisitor(types, Collect()))
    return frozenset(found)


def forms(query: Query) -> Iterator[frozenset[str]]:
    """Yield sets of missing fields: none, any one or two, all but the floor."""
    names = sorted(query.names - query.floor - {"Query.isAuthenticated", "Query.me"})
    yield from map(
        frozenset, itertools.chain([()], *(itertools.combinations(names, n) for n in (1, 2)))
    )
    if query.floor:
        yield query.names - query.floor


every_query = pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)


@every_query
def test_every_form_is_one_valid_query_of_known_fields(query: Query) -> None:
    for missing in forms(query):
        parsed = parse(query.text(missing))
        assert validate(SCHEMA, parsed) == [], missing
        (operation,) = parsed.definitions
        assert isinstance(operation, OperationDefinitionNode)
        assert operation.operation is OperationType.QUERY
        assert operation.name
        assert operation.name.value == query.name
        asked = selected(query.text(missing))
        assert not asked & (UNTOUCHABLE | missing - {"Query.isAuthenticated"})
        assert asked <= query.names


def test_the_untouchable_fields_are_spelled_as_in_the_schema() -> None:
    assert {
        f"{type_.name}.{field}"
        for type_ in SCHEMA.type_map.values()
        for field in getattr(type_, "fields", ())
    } >= UNTOUCHABLE


@every_query
def test_every_field_is_requested_from_a_complete_api(query: Query) -> None:
    older = {f"PlanType.{name}" for name in OLDER.values()}
    assert selected(query.text()) == query.names - older
    assert "Query.isAuthenticated" in selected(query.text())
    assert query.gaps(()) == frozenset()


def test_there_is_an_area_for_each_collector() -> None:
    assert [area.name for area in AREAS] == list(COLLECTORS)


def test_the_floor_is_what_borgbase_documents() -> None:
    repos, keys = (query.text(query.names - query.floor) for query in (REPOS, SSH_KEYS))
    assert repos == "query Repos { repoList { id name currentUsage } }"
    assert keys == "query SSHKeys { sshList { id name } }"


def test_a_field_of_two_spellings_is_asked_for_by_the_one_that_works() -> None:
    for new, old in OLDER.items():
        drifted = {f"PlanType.{new}"}
        asked = selected(ACCOUNT.text(drifted))
        assert f"PlanType.{old}" in asked
        assert f"PlanType.{new}" not in asked
        assert ACCOUNT.gaps(drifted) == frozenset()
        assert ACCOUNT.gaps(drifted | {f"PlanType.{old}"}) == drifted
    # The counts in the account are optional.
    assert ACCOUNT.gaps({"UserType.diskUsage", "UserType.repoCount"}) == frozenset()


def test_a_field_without_anything_left_below_it_is_left_out() -> None:
    assert "server" not in REPOS.text({"ServerType.hostname"})
    assert REPOS.gaps({"ServerType.hostname"}) == {"ServerType.hostname"}
