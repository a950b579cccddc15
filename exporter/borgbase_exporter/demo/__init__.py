"""A simulated BorgBase account, and its API over HTTP on loopback."""

from borgbase_exporter.demo.account import SimulatedAccount
from borgbase_exporter.demo.cast import Trouble
from borgbase_exporter.demo.server import SimulatedApi

__all__ = ["SimulatedAccount", "SimulatedApi", "Trouble"]
