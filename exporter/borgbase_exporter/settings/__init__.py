"""The settings: one frozen object per command, from flags, environment and files."""

from borgbase_exporter.settings.loading import PROGRAM, SettingsError, load
from borgbase_exporter.settings.options import Backfill, Check, Command, Serve, Textfile, Web

__all__ = [
    "PROGRAM",
    "Backfill",
    "Check",
    "Command",
    "Serve",
    "SettingsError",
    "Textfile",
    "Web",
    "load",
]
