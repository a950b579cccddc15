"""What we ask: four static queries, and how they shrink when the API loses a field.

Only queries, never a mutation, and never a field that holds a secret or a person's data.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a query; `of` is the type of what it returns, if that has fields itself.

    `otherwise` is another spelling, asked for when the API does not know the first.
    """

    name: str
    of: str = ""
    fields: tuple[Field, ...] = ()
    otherwise: str = ""

    def text(self, missing: Collection[str], owner: str) -> str:
        """Return the field as GraphQL, or nothing if the API does not have it."""
        if f"{owner}.{self.name}" in missing:
            if not self.otherwise or f"{owner}.{self.otherwise}" in missing:
                return ""
            return self.otherwise
        if not self.fields:
            return self.name
        inner = " ".join(filter(None, (f.text(missing, self.of) for f in self.fields)))
        return f"{self.name} {{ {inner} }}" if inner else ""

    def names(self, owner: str) -> Iterator[str]:
        """Yield `Type.field` for this field, its other spelling, and all below it."""
        yield f"{owner}.{self.name}"
        if self.otherwise:
            yield f"{owner}.{self.otherwise}"
        for child in self.fields:
            yield from child.names(self.of)

    def gaps(self, missing: Collection[str], owner: str) -> Iterator[str]:
        """Yield `Type.field` for what is missing and has no other spelling that works."""
        names = {f"{owner}.{name}" for name in (self.name, self.otherwise) if name}
        if names <= set(missing):
            yield f"{owner}.{self.name}"
        for child in self.fields:
            yield from child.gaps(missing, self.of)


@dataclass(frozen=True, slots=True)
class Document:
    """A query by name; `floor` is what BorgBase documents and must work to the last."""

    name: str
    fields: tuple[Field, ...]
    floor: frozenset[str] = frozenset()

    def text(self, missing: Collection[str] = ()) -> str:
        """Return the query without the missing fields."""
        inner = " ".join(filter(None, (field.text(missing, "Query") for field in self.fields)))
        return f"query {self.name} {{ {inner} }}"

    @property
    def names(self) -> frozenset[str]:
        """`Type.field` of everything selected, other spellings included."""
        return frozenset(name for field in self.fields for name in field.names("Query"))

    def gaps(self, missing: Collection[str]) -> frozenset[str]:
        """Return the missing fields that leave a gap: those without a working other spelling."""
        return frozenset(n for field in self.fields for n in field.gaps(missing, "Query"))


def _leaves(names: str) -> tuple[Field, ...]:
    return tuple(Field(name) for name in names.split())


AUTHENTICATED = Field("isAuthenticated")

REPOS = Document(
    "Repos",
    (
        AUTHENTICATED,
        Field(
            "repoList",
            "RepoType",
            (
                *_leaves(
                    "id name currentUsage quota quotaEnabled alertDays lastModified createdAt"
                ),
                *_leaves("appendOnly compactionEnabled sftpEnabled"),
                *_leaves("fullAccessKeys appendOnlyKeys rsyncKeys"),
                *_leaves("region format borgVersion encryption accessMode"),
                Field("server", "ServerType", _leaves("hostname")),
            ),
        ),
    ),
    floor=frozenset({"Query.repoList", "RepoType.id", "RepoType.name", "RepoType.currentUsage"}),
)

ACCOUNT = Document(
    "Account",
    (
        AUTHENTICATED,
        Field(
            "me",
            "UserType",
            (
                Field(
                    "activePlan",
                    "PlanType",
                    (
                        *_leaves("name maxRepos"),
                        Field("maxSize", otherwise="maxSizeGb"),
                        Field("includedSize", otherwise="includedGb"),
                    ),
                ),
                Field("currentSubscription", "SubscriptionType", _leaves("endDate active")),
                Field("autoRenew"),
            ),
        ),
        Field("overageList", "OverageType", _leaves("date usedGb excessGb")),
        Field("accruedOverage"),
    ),
)

SSH_KEYS = Document(
    "SSHKeys",
    (
        AUTHENTICATED,
        Field("sshList", "PublicSSHKeyType", _leaves("id name addedAt lastUsedAt")),
    ),
    floor=frozenset({"Query.sshList", "PublicSSHKeyType.id", "PublicSSHKeyType.name"}),
)

TOKENS = Document(
    "Tokens",
    (
        AUTHENTICATED,
        Field(
            "me",
            "UserType",
            (
                Field(
                    "jwttokenSet", "JWTTokenType", _leaves("id name permission lastUsed expiration")
                ),
            ),
        ),
    ),
)
