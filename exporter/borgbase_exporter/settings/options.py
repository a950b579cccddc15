"""The settings of each command; a field defines one setting completely, see `fields`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from borgbase_exporter.model import COLLECTORS
from borgbase_exporter.settings import readers as of
from borgbase_exporter.settings import webfile
from borgbase_exporter.settings.fields import setting, switches
from borgbase_exporter.settings.webfile import WebConfig
from borgbase_exporter.tokens import AccountTokens, GivenToken, TokenFile, TokenFolder

Level = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["logfmt", "json"]
CheckFormat = Literal["text", "json", "nagios", "checkmk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """How to serve."""

    listen_addresses: tuple[of.Address, ...] = setting(
        of.address, "address to serve on; repeatable", ":10133", flag="--web.listen-address"
    )
    telemetry_path: str = setting(of.url_path, "path of the metrics", "/metrics")
    config: WebConfig = setting(
        lambda text: webfile.read(Path(text)),
        "file with TLS, users, headers and rate limit",
        absent=WebConfig(),
        flag="--web.config.file",
    )
    open_probes: bool = setting(
        of.boolean, "answer /-/healthy and /-/ready without a password", "false"
    )
    status_page: bool = setting(
        *(of.boolean, "show the accounts and their repos at /", "true"),
        shorthands={"--web.status-page": "true", "--web.no-status-page": "false"},
    )
    allowed_hosts: tuple[str, ...] = setting(
        of.host,
        "host name that requests may use, against DNS rebinding; repeatable; any by default",
        flag="--web.allowed-host",
    )
    grafana_url: str | None = setting(of.url, "address of Grafana, for links from the status page")


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What to log, and how."""

    level: Level = setting(
        of.one_of(Level), "least severe messages to log: debug, info, warning, error", "info"
    )
    format: LogFormat = setting(of.one_of(LogFormat), "logfmt or json", "logfmt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """When to poll; in seconds."""

    interval: float = setting(of.interval, "time between polls", "15m", only=("serve",))
    timeout: float = setting(of.duration, "longest time that a poll may take", "30s")
    max_age: float = setting(
        *(of.duration, "how long the last good values stay while polls fail", "6h"),
        only=("serve", "textfile"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class API:
    """Where the API is and how to reach it."""

    url: str = setting(
        of.api_url,
        "the API; https, or http to a loopback address",
        "https://api.borgbase.com/graphql",
    )
    ca_file: str | None = setting(of.pem, "PEM file that replaces the default CA certificates")
    proxy: str | None = setting(of.proxy_url, "HTTP proxy for requests to the API", secret=True)
    max_response: int = setting(of.size, "largest response to accept, decompressed", "64MiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Where the tokens are."""

    value: GivenToken | None = setting(
        of.given_token,
        "the API token itself; no flag, because other users can read flags",
        secret=True,
        flag="BORGBASE_TOKEN",
    )
    file: TokenFile | None = setting(
        lambda text: TokenFile(Path(text)), "file that contains the API token, read at each poll"
    )
    dir: TokenFolder | None = setting(
        of.token_folder, "folder with a token file per account, named after the account"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """The settings of all commands."""

    command: ClassVar[str]
    summary: ClassVar[str]
    poll: Poll
    collectors: frozenset[str] = switches("collector", COLLECTORS)
    api: API
    token: Token
    account: str = setting(of.name, "name of the account; not with --token.dir", "default")
    demo: bool = setting(
        of.boolean, "use the built-in simulated account in place of the API", "false"
    )
    log: Log
    tokens: AccountTokens | None = None
    warnings: tuple[str, ...] = ()  # what is allowed but unwise

    def __init_subclass__(cls) -> None:
        cls.command, cls.summary = cls.__name__.lower(), str(cls.__doc__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve(Common):
    """Poll and serve the metrics (the default)."""

    web: Web


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Common):
    """Poll once and print what was found."""

    format: CheckFormat = setting(
        of.one_of(CheckFormat),
        "text, json, nagios or checkmk; --json is short for --format json",
        "text",
        shorthands={"--json": "json"},
    )
    source: str | None = setting(
        of.secret_url,
        "address of a running exporter to query instead of the API",
        secret=True,
        flag="--from",
    )
    report: Path | None = setting(Path, "file to write, describing the API's answers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Textfile(Common):
    """Poll once and write the metrics, for node_exporter to read."""

    path: Path = setting(of.textfile, "file to write", required=True, flag="PATH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill(Common):
    """Write the usage of past days as OpenMetrics, for promtool to import."""

    output: Path = setting(Path, "file to write", required=True)
    since: of.Moment = setting(of.moment, "oldest moment to write, or how long ago", "90d")
    until: of.Moment = setting(
        of.moment,
        "newest moment to write, or how long ago: 3h or more, and before Prometheus's first scrape",
        "3h",
    )
    dense: float = setting(
        of.duration,
        "how long before --until to write a sample every 5 minutes; earlier, every hour",
        "90d",
    )
    labels: tuple[tuple[str, str], ...] = setting(
        of.label,
        "label that Prometheus adds when it scrapes; repeatable; by default job=borgbase and "
        "instance=localhost:10133",
        flag="--label",
    )
    repos: tuple[str, ...] = setting(
        of.name, "name or id of a repo to write; repeatable; all by default", flag="--repo"
    )
    unit: int | None = setting(
        of.size, "unit of the API's daily values, such as 1MB; default: derived from current usage"
    )


Command = Serve | Check | Textfile | Backfill
COMMANDS: dict[str, type[Command]] = {c.command: c for c in (Serve, Check, Textfile, Backfill)}
