"""What is asked: valid against the schema in every form, only queries, never a secret."""

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

from borgbase_exporter.api.documents import ACCOUNT, REPOS, SSH_KEYS, TOKENS, Document
from borgbase_exporter.simulator.schema import load_schema

DOCUMENTS = (REPOS, ACCOUNT, SSH_KEYS, TOKENS)
UNTOUCHABLE = {
    "RepoType.htpasswd",
    "UserType.password",
    "UserType.email",
    "UserType.address",
    "UserType.repoSet",
    "UserType.repousageSet",
    "PublicSSHKeyType.keyData",
}

NEWER = {"maxSize": ("maxSizeGb", "Float"), "includedSize": ("includedGb", "Float")}
"""The fields of PlanType that newer clients spell differently."""


def documented() -> GraphQLSchema:
    """Return the documented schema, with the newer spellings beside the older ones."""
    text = print_schema(load_schema())
    newer = "\n".join(f"{name}: {kind}" for name, kind in NEWER.values())
    return build_schema(text.replace("type PlanType {", f"type PlanType {{\n{newer}\n"))


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


def forms(document: Document) -> Iterator[frozenset[str]]:
    """Yield what may be missing: nothing, any one or two fields, all but the floor."""
    names = sorted(document.names - document.floor - {"Query.isAuthenticated", "Query.me"})
    yield from map(
        frozenset, itertools.chain([()], *(itertools.combinations(names, n) for n in (1, 2)))
    )
    if document.floor:
        yield document.names - document.floor


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_form_is_one_valid_query(document: Document) -> None:
    for missing in forms(document):
        parsed = parse(document.text(missing))
        assert validate(SCHEMA, parsed) == [], missing
        (operation,) = parsed.definitions
        assert isinstance(operation, OperationDefinitionNode)
        assert operation.operation is OperationType.QUERY
        assert operation.name
        assert operation.name.value == document.name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_no_form_asks_for_what_is_missing_or_not_ours(document: Document) -> None:
    for missing in forms(document):
        asked = selected(document.text(missing))
        assert not asked & missing
        assert not asked & UNTOUCHABLE
        assert asked <= document.names


def test_the_untouchable_fields_are_spelt_as_in_the_schema() -> None:
    assert {
        f"{type_.name}.{field}"
        for type_ in SCHEMA.type_map.values()
        for field in getattr(type_, "fields", ())
    } >= UNTOUCHABLE


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_everything_is_asked_of_an_api_that_has_everything(document: Document) -> None:
    newer = {f"PlanType.{name}" for name, _ in NEWER.values()}
    assert selected(document.text()) == document.names - newer
    assert "Query.isAuthenticated" in selected(document.text())
    assert document.gaps(()) == frozenset()


@pytest.mark.parametrize(
    ("document", "query"),
    [
        (REPOS, "query Repos { repoList { id name currentUsage } }"),
        (SSH_KEYS, "query SSHKeys { sshList { id name } }"),
    ],
)
def test_the_floor_is_what_borgbase_documents(document: Document, query: str) -> None:
    assert document.text(document.names - document.floor) == query


def test_a_field_of_two_spellings_is_asked_for_by_the_one_that_works() -> None:
    for old, (new, _) in NEWER.items():
        drifted = {f"PlanType.{old}"}
        asked = selected(ACCOUNT.text(drifted))
        assert f"PlanType.{new}" in asked
        assert f"PlanType.{old}" not in asked
        assert ACCOUNT.gaps(drifted) == frozenset()
        assert ACCOUNT.gaps(drifted | {f"PlanType.{new}"}) == drifted


def test_a_field_without_anything_left_below_it_is_left_out() -> None:
    assert "server" not in REPOS.text({"ServerType.hostname"})
    assert REPOS.gaps({"ServerType.hostname"}) == {"ServerType.hostname"}
