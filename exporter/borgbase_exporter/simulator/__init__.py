"""A BorgBase account that behaves, behind a real GraphQL server on loopback.

with SimulatedApi([account := SimulatedAccount()]) as api:
    requests.post(api.url, json={"query": "{ repoList { name } }"},
                  headers={"Authorization": f"Bearer {account.token}"})
"""

from borgbase_exporter.simulator.account import SimulatedAccount
from borgbase_exporter.simulator.cast import Trouble
from borgbase_exporter.simulator.server import SimulatedApi

__all__ = ["SimulatedAccount", "SimulatedApi", "Trouble"]
