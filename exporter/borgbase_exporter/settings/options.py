"""The settings of each command. A field is the whole setting, see `fields`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from borgbase_exporter.model import COLLECTORS
from borgbase_exporter.settings import readers as of
from borgbase_exporter.settings.fields import setting, switches
from borgbase_exporter.settings.webfile import WebConfig
from borgbase_exporter.tokens import AccountTokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """How to serve."""

    listen_addresses: tuple[of.ListenAddress, ...] = setting(
        "address to serve on; repeatable", ":10133", flag="--web.listen-address"
    )
    telemetry_path: of.URLPath = setting("path of the metrics", "/metrics")
    config: of.WebConfigFile = setting(
        "file of TLS, users, headers and rate limit, as the Prometheus exporter toolkit's",
        flag="--web.config.file",
        absent=WebConfig(),
    )
    open_probes: bool = setting("answer /-/healthy and /-/ready without a password", "false")
    status_page: bool = setting(
        "show the accounts and their repos at /", "true", off="--web.no-status-page"
    )
    allowed_hosts: tuple[of.HostName, ...] = setting(
        "host name that requests may use, against DNS rebinding; repeatable; any by default",
        flag="--web.allowed-host",
    )
    grafana_url: of.URL | None = setting("address of Grafana, for links from the status page")

    @property
    def config_file(self) -> Path | None:
        """The file that the configuration was read from."""
        return self.config.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What to log, and how."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        "least severe messages to log: debug, info, warning, error", "info"
    )
    format: Literal["logfmt", "json"] = setting("logfmt or json", "logfmt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """When to poll; in seconds."""

    interval: of.Interval = setting("time between polls", "15m")
    timeout: of.Duration = setting("longest time that a poll may take", "30s")
    max_age: of.Duration = setting("how long the last good values stay while polls fail", "6h")


@dataclass(frozen=True, slots=True, kw_only=True)
class SinglePoll(Poll):
    """The same for a command that polls once and keeps values."""

    interval: of.Interval = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshPoll(SinglePoll):
    """The same for a command that polls once and keeps nothing."""

    max_age: of.Duration = 21_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class API:
    """Where the API is and how to get there."""

    url: of.APIURL = setting(
        "the API; https, or http to a loopback address", "https://api.borgbase.com/graphql"
    )
    ca_file: of.CAFile | None = setting(
        "PEM file of the authorities to trust instead of the public ones"
    )
    proxy: of.ProxyURL | None = setting("HTTP proxy to reach the API by", secret=True)
    max_response: of.Size = setting("largest answer to read, decoded", "64MiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Where the tokens are."""

    value: of.Token | None = setting(
        "the API token itself; there is no flag, because other users can read flags",
        flag="BORGBASE_TOKEN",
        secret=True,
    )
    file: of.File | None = setting("file that contains the API token, read at each poll")
    dir: of.Folder | None = setting("folder of token files; a file's name is its account's")


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What all commands have."""

    command: ClassVar[str]
    summary: ClassVar[str]
    poll: Poll
    collectors: frozenset[str] = switches("collector", COLLECTORS)
    api: API
    token: Token
    account: of.Name = setting("name of the one account", "default")
    demo: bool = setting("use the built-in simulated account in place of the API", "false")
    log: Log
    tokens: AccountTokens | None = None
    """The accounts' tokens; None where none is needed."""
    warnings: tuple[str, ...] = ()
    """What is allowed but unwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve(Common):
    """Settings of `serve`."""

    command: ClassVar[str] = "serve"
    summary: ClassVar[str] = "poll and serve the metrics (the default)"
    web: Web


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Common):
    """Settings of `check`."""

    command: ClassVar[str] = "check"
    summary: ClassVar[str] = "poll once and print what was found"
    poll: FreshPoll
    format: Literal["text", "json", "nagios", "checkmk"] = setting(
        "text, json, nagios or checkmk; --json is short for --format json",
        "text",
        shorthands={"--json": "json"},
    )
    source: of.SecretURL | None = setting(
        "address of a running exporter to ask instead of the API", flag="--from", secret=True
    )
    report: Path | None = setting("file to write the report to")


@dataclass(frozen=True, slots=True, kw_only=True)
class Textfile(Common):
    """Settings of `textfile`."""

    command: ClassVar[str] = "textfile"
    summary: ClassVar[str] = "poll once and write the metrics, for node_exporter to read"
    poll: SinglePoll
    path: of.Textfile = setting("file to write", flag="PATH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill(Common):
    """Settings of `backfill`."""

    command: ClassVar[str] = "backfill"
    summary: ClassVar[str] = "write the usage of past days as OpenMetrics, for promtool to import"
    poll: FreshPoll
    output: Path = setting("file to write")
    since: of.Moment = setting("oldest moment to write, or how long ago", "90d")
    until: of.Moment = setting(
        "latest moment to write, or how long ago: not after the first scrape, nor less than 3h ago",
        "3h",
    )
    dense: of.AnyDuration = setting(
        "how far back to write a sample every 5 minutes; before that, every hour", "90d"
    )
    labels: tuple[of.Label, ...] = setting(
        "label that Prometheus adds when it scrapes; repeatable; by default job=borgbase and "
        "instance=localhost:10133",
        flag="--label",
    )
    repos: tuple[of.Name, ...] = setting(
        "name or id of a repo to write; repeatable; all by default", flag="--repo"
    )
    unit: of.Size | None = setting(
        "unit of the daily values, such as 1MB; derived from the current usage by default"
    )


Command = Serve | Check | Textfile | Backfill
COMMANDS: dict[str, type[Command]] = {c.command: c for c in (Serve, Check, Textfile, Backfill)}
