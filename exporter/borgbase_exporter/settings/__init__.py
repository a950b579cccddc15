"""The settings: one frozen object per command, from flags, environment and files."""

from borgbase_exporter.settings.loading import PROGRAM, SettingsError, load
from borgbase_exporter.settings.options import API, Backfill, Check, Command, Serve, Textfile, Web
from borgbase_exporter.settings.readers import Address

__all__ = ["API", "PROGRAM", "Address", "Backfill", "Check", "Command", "Serve", "SettingsError"]
__all__ += ["Textfile", "Web", "load"]
