"""BorgBase's API as documented: a real GraphQL server that serves simulated accounts."""

from __future__ import annotations

from tests.graphql.account import SimulatedAccount
from tests.graphql.schema import Drift, Edition, load_schema
from tests.graphql.server import GraphQLApi, root

__all__ = ["Drift", "Edition", "GraphQLApi", "SimulatedAccount", "load_schema", "root"]
