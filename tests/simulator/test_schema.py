import re

import pytest
from graphql import GraphQLEnumType, GraphQLObjectType, get_named_type

from borgbase_exporter.simulator.schema import Drift, load_schema

# The table of the API's documentation; `enum` stands for any enumeration.
DOCUMENTED = """
Query: isAuthenticated Boolean, repoList(name String) [RepoType], repo(repoId String!) RepoType,
  repoUsageList(repoId String!) [RepoUsageType], repoEventList(repoId String!) [RepoEventType],
  sshList(name String, hashMd5 String) [PublicSSHKeyType], me UserType, overageList [OverageType],
  accruedOverage Float, planList [PlanType]
RepoType: id String!, name String!, server ServerType!, quota Int!, quotaEnabled Boolean!,
  alertDays Int!, region String!, format String, borgVersion enum!, resticVersion enum!,
  appendOnly Boolean!, appendOnlyKeys [String], fullAccessKeys [String], rsyncKeys [String],
  accessMode String!, sftpEnabled Boolean!, encryption String!, createdAt DateTime,
  lastModified DateTime, compactionEnabled Boolean!, compactionInterval Int!,
  compactionIntervalUnit String!, compactionHour Int!, compactionHourTimezone String!,
  repoPath String, currentUsage Float, htpasswd String
ServerType: id ID!, hostname String!, region String!, public Boolean!, location String
RepoUsageType: id ID!, date Date!, repo String!, diskUsage BigInt!
RepoEventType: id ID!, datetime DateTime!, slug String!, ip String, sshKeyName String,
  details String
OverageType: id ID!, date Date!, plan PlanType!, usedGb Float!, excessGb Float!,
  excessUsd Decimal!
PlanType: id ID!, name String!, maxRepos Int!, maxSize BigInt, includedSize BigInt!,
  billingPeriodDays Int!, billingExtraGb Decimal!, billingPeriodUsd Decimal!
UserType: activePlan PlanType, currentSubscription SubscriptionType, autoRenew Boolean!,
  jwttokenSet [JWTTokenType!]!, email String!, password String!, address String,
  repoSet [RepoType!]!, repousageSet [RepoUsageType!]!
SubscriptionType: startDate DateTime!, endDate DateTime!, active Boolean!, plan PlanType!
JWTTokenType: id ID!, name String!, permission enum!, createdAt DateTime!, lastUsed DateTime,
  expiration DateTime
PublicSSHKeyType: id ID!, name String!, keyType String!, bits Int!, addedAt DateTime,
  lastUsedAt DateTime, keyData String!
"""


def _documented() -> dict[str, set[str]]:
    types = re.split(r"\n(?=\w)", DOCUMENTED.strip())
    return {
        name: set(re.split(r",\s+(?![^(]*\))", fields))
        for name, fields in (type_.split(": ", 1) for type_ in types)
    }


def _shipped() -> dict[str, set[str]]:
    types = load_schema().type_map.values()
    return {
        type_.name: {
            name + _arguments(field.args) + " " + _spelled(field.type)
            for name, field in type_.fields.items()
        }
        for type_ in types
        if isinstance(type_, GraphQLObjectType) and not type_.name.startswith("__")
    }


def _arguments(arguments: dict[str, object]) -> str:
    listed = ", ".join(f"{name} {argument.type}" for name, argument in arguments.items())  # type: ignore[attr-defined]
    return f"({listed})" if listed else ""


def _spelled(type_: object) -> str:
    named = get_named_type(type_)  # type: ignore[call-overload]
    return re.sub(r"\w+", "enum", str(type_)) if isinstance(named, GraphQLEnumType) else str(type_)


def test_the_schema_is_the_documented_one() -> None:
    assert _shipped() == _documented()


def test_the_schema_reads_only() -> None:
    schema = load_schema()

    assert schema.mutation_type is None
    assert schema.subscription_type is None


@pytest.mark.parametrize("field", ["RepoType.color", "NoType.id", "repoList"])
def test_a_drift_of_an_undocumented_field_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"not in the documented schema: {field}"):
        Drift(without=frozenset({field}))
