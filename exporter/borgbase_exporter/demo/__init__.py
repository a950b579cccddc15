"""A simulated BorgBase account, and its API over HTTP on loopback.

with SimulatedApi([account := SimulatedAccount()]) as api:
    requests.post(api.url, json={"query": "query Repos { repoList { name } }"},
                  headers={"Authorization": f"Bearer {account.token}"})
"""

from borgbase_exporter.demo.account import SimulatedAccount
from borgbase_exporter.demo.cast import Trouble
from borgbase_exporter.demo.server import SimulatedApi

__all__ = ["SimulatedAccount", "SimulatedApi", "Trouble"]
