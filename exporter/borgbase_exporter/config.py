"""Flags and environment, made into one validated object; all faults are told at once."""

from __future__ import annotations

import argparse
import difflib
import ipaddress
import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from borgbase_exporter import webconfig
from borgbase_exporter.credentials import (
    AccountTokens,
    GivenToken,
    OneToken,
    TokenFile,
    TokenFolder,
)
from borgbase_exporter.errors import TokenError
from borgbase_exporter.text import shown
from borgbase_exporter.webconfig import WebConfig, WebConfigError

PROGRAM = "borgbase-exporter"
COMMANDS = {
    "serve": "poll and serve the metrics (the default)",
    "check": "poll once and print what was found; exit status 0 only if all is well",
    "textfile": "poll once and write the metrics to PATH, for node_exporter's textfile collector",
    "backfill": "write the usage of past days as OpenMetrics, for promtool to import",
}
COURTEOUS_INTERVAL = 300.0
SHORTEST_INTERVAL = 1.0
MAX_PORT = 65_535
QUOTABLE = 20
"""Characters of a word that is too short for a token."""
OWN_LABELS = {"account", "repo_id", "repo"}
FLAG = r"--[a-z][a-z._-]{,30}"
"""What a flag may look like, and no token does."""
SERVICE_LINK = re.compile(
    r"BORGBASE_\w*(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)"
)
"""Variables that Kubernetes sets by itself for a Service that is called like us."""
MAX_QUOTED = 60
"""Longer values are not quoted: a token may have gone astray."""
TOKEN_VARIABLE = "BORGBASE_TOKEN"  # noqa: S105  # a name, not a token
TOKEN_LIKE = re.compile(r"eyJ[\w-]{10,}|[\w-]+\.[\w-]{20,}\.[\w-]{20,}")
"""What gives a JWT away, whatever stands around it: its head is JSON, and its other parts are long.
Names of files and hosts have no such parts."""
MISPLACED = (
    f"looks like a token; put it into {TOKEN_VARIABLE}, or into a file that --token.file names"
)
CUSTOMARY = dict.fromkeys(("--host", "--listen", "--port"), "--web.listen-address")
"""Flags of other programs, and ours."""
ALIKE = 0.7
"""How much of a name, from 0 to 1, has to be that of another to be taken for it."""


class ConfigError(Exception):
    """The configuration cannot be used; `faults` tells all that is wrong, each on its own.

    `warnings` are what may have led there, such as a variable with a typing error.
    """

    def __init__(self, faults: Sequence[str], warnings: Sequence[str] = ()) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)
        self.warnings = tuple(warnings)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; no host means all addresses of the machine, port 0 any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class API:
    """Where the API is and how to get there."""

    url: str
    ca_file: str | None
    proxy: str | None = field(repr=False)  # may hold a password
    max_response: int


Moment = datetime | timedelta
"""A moment, or how long ago it was."""


@dataclass(frozen=True, slots=True)
class Backfill:
    """What to write of the past, and where to."""

    output: Path
    since: Moment
    until: Moment
    dense: float
    labels: tuple[tuple[str, str], ...]
    repos: tuple[str, ...]
    """Names or ids; none means all."""
    unit: int | None


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, valid; spans are seconds. `tokens` is None with --demo only."""

    command: str
    listen: tuple[Address, ...]
    telemetry_path: str
    web_file: Path | None
    web: WebConfig
    open_probes: bool
    status_page: bool
    log_level: str
    log_format: str
    interval: float
    timeout: float
    max_age: float
    collectors: frozenset[str]
    api: API
    account: str
    tokens: AccountTokens | None
    demo: bool
    json: bool
    textfile: Path | None
    """Where to write, with the command of that name."""
    backfill: Backfill | None
    """With the command of that name."""
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Option:
    """A setting: its flag, from which its environment variable follows, and how to read it."""

    flag: str
    parse: Callable[[str], Any]
    help: str
    default: str | None = None
    metavar: str = ""
    repeatable: bool = False
    secret: bool = False
    """Whether the value may hold a secret, so that no message may quote it."""
    off: str = ""
    """The flag that turns a switch off, unless it is called as usual."""
    commands: frozenset[str] = frozenset(COMMANDS)

    def is_for(self, command: str | None) -> bool:
        """Tell whether a command knows it; while there is none, all may be meant."""
        return command in self.commands or command not in COMMANDS

    @property
    def only(self) -> str:
        """The commands that it is for, in words; empty when it is for all."""
        ours = [command for command in COMMANDS if command in self.commands]
        return ", ".join(ours) if len(ours) < len(COMMANDS) else ""

    @property
    def variable(self) -> str:
        """The environment variable: `--poll.max-age` is BORGBASE_POLL_MAX_AGE."""
        return "BORGBASE_" + re.sub(r"\W", "_", self.flag.removeprefix("--")).upper()

    @property
    def is_switch(self) -> bool:
        """Whether the flag stands alone and has a negative form."""
        return self.parse is switch

    @property
    def negative(self) -> str:
        """The flag that turns a switch off."""
        return self.off or f"--no-{self.flag.removeprefix('--')}"


_DURATION = re.compile(
    r"(?:(?P<y>\d{1,9})y)?(?:(?P<w>\d{1,9})w)?(?:(?P<d>\d{1,9})d)?(?:(?P<h>\d{1,9})h)?(?:(?P<m>\d{1,9})m)?"
    r"(?:(?P<s>\d{1,9})s)?(?:(?P<ms>\d{1,9})ms)?"
)
_SECONDS = {"y": 31_536_000, "w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
_SIZE = re.compile(r"(\d+)\s*([kMGT]i?)?B?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def duration(text: str, longest: float = _SECONDS["y"]) -> float:
    """Read a Prometheus duration (`90s`, `15m`, `1h30m`) as seconds.

    Nothing here waits for more than a year, and the system's calls could not.
    """
    match = _DURATION.fullmatch(text)
    if not text or not match:
        raise ValueError("is not a duration such as 90s, 15m or 6h")
    seconds = sum(_SECONDS[unit] * int(n) for unit, n in match.groupdict().items() if n)
    if not 0 < seconds <= longest:
        raise ValueError("must be longer than 0s, and 1y at most")
    return float(seconds)


def moment(text: str) -> Moment:
    """Read how long ago (`90d`), or when: ISO 8601 (UTC unless it tells) or Unix seconds."""
    try:
        if re.fullmatch(r"\d{9,11}(\.\d+)?", text, re.ASCII):
            return datetime.fromtimestamp(float(text), UTC)
        if _DURATION.fullmatch(text):
            return timedelta(seconds=duration(text, longest=float("inf")))
        when = datetime.fromisoformat(text)
        return when if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError("is neither a moment (2026-01-31T12:00Z) nor how long ago (90d)") from None


def label(text: str) -> tuple[str, str]:
    """Read a label for series, `name=value`."""
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"(?!__)[a-zA-Z_]\w*", name, re.ASCII):
        raise ValueError("is not a label such as job=borgbase")
    if name in OWN_LABELS:
        raise ValueError("is one of the series' own labels")
    return name, shown(value)


def size(text: str) -> int:
    """Read a size (`64MiB`, `10MB`, `4096`) as bytes."""
    match = _SIZE.fullmatch(text)
    if not match or not int(match[1]):
        raise ValueError("is not a size such as 64MiB")
    unit = (match[2] or "").lower()
    base = 1024 if unit.endswith("i") else 1000
    return int(match[1]) * int(base ** _POWERS[unit[:1]])


def address(text: str) -> Address:
    """Read `host:port`, `[ipv6]:port`, `:port` or `port`."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    bare_ipv6 = ":" in host and not text.startswith("[")
    try:
        host.encode("idna")
        unfit = bare_ipv6 or not port.isdecimal() or int(port) > MAX_PORT
    except ValueError:
        unfit = True
    if unfit:
        raise ValueError("is not an address such as :10133, 127.0.0.1:10133 or [::1]:10133")
    return Address(host, int(port))


def switch(text: str) -> bool:
    """Read a yes or no."""
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off"}:
        return False
    raise ValueError("is neither true nor false")


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a reader of one of some words."""

    def read(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"is none of {', '.join(choices)}")
        return text.lower()

    return read


def url_path(text: str) -> str:
    """Read the path of a page."""
    if not re.fullmatch(r"/[\w.~/-]+", text, re.ASCII) or text.startswith("/-/"):
        raise ValueError("is not a path such as /metrics")
    return text


def ca_file(text: str) -> str:
    """Read the path of a file that must be there and hold certificates."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(text)
    except ssl.SSLError:
        raise ValueError("holds no PEM certificate") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    return text


def token_folder(text: str) -> Path:
    """Read the path of a token folder, which must be there; what is in it may come and go."""
    path = Path(text)
    try:
        TokenFolder(path).sources()
    except TokenError as error:
        raise ValueError(str(error)) from None
    return path


def textfile_path(text: str) -> Path:
    """Read the path of a file that node_exporter is to read; its folder must be there."""
    if not text.endswith(".prom"):
        raise ValueError("does not end in .prom, and node_exporter reads no other files")
    try:
        path = Path(text).resolve()  # a link stays, and what it leads to is replaced
    except (OSError, RuntimeError):
        raise ValueError("is a link that leads nowhere") from None
    if not path.parent.is_dir():
        raise ValueError("is in a folder that does not exist")
    return path


def account_name(text: str) -> str:
    """Read the name of an account."""
    if not text.strip():
        raise ValueError("is not a name")
    return shown(text)


def api_url(text: str) -> str:
    """Read the API's address: https, or http to this very machine."""
    parts = _split(text)
    if parts.username is not None:
        raise ValueError("must not hold a user or password")
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ValueError("must be https: the token would travel in the clear")
    return text


def proxy_url(text: str) -> str:
    """Read a proxy's address; it may hold a user and password."""
    if text.startswith("socks"):
        raise ValueError("is a SOCKS proxy; only an HTTP one such as http://proxy:3128 will do")
    try:
        _split(text)
    except ValueError:
        raise ValueError("is not the URL of a proxy, such as http://proxy:3128") from None
    return text


def _split(text: str) -> Any:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("is not a URL such as https://host/path")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def options(collectors: Mapping[str, str]) -> tuple[Option, ...]:
    """Return all settings; `collectors` gives the collectors' names and what they collect."""
    return (
        Option(
            "--web.listen-address",
            address,
            "address to serve on; give it several times to serve on several",
            ":10133",
            "HOST:PORT",
            repeatable=True,
        ),
        Option(
            "--web.config.file",
            Path,
            "TLS, users and headers, in the format of the Prometheus exporter toolkit",
            metavar="FILE",
        ),
        Option(
            "--web.open-probes",
            switch,
            "answer /-/healthy and /-/ready without a password",
            "false",
        ),
        Option(
            "--web.status-page",
            switch,
            "show the accounts and their repos at /",
            "true",
            off="--web.no-status-page",
        ),
        Option("--web.telemetry-path", url_path, "path of the metrics", "/metrics", "PATH"),
        Option(
            "--log.level",
            one_of("debug", "info", "warning", "error"),
            "least severe messages to log: debug, info, warning, error",
            "info",
            "LEVEL",
        ),
        Option("--log.format", one_of("logfmt", "json"), "logfmt or json", "logfmt", "FORMAT"),
        Option(
            "--poll.interval",
            duration,
            "time between polls",
            "15m",
            "DURATION",
            commands=frozenset(COMMANDS) - {"textfile"},
        ),
        Option("--poll.timeout", duration, "longest that a poll may take", "30s", "DURATION"),
        Option(
            "--poll.max-age",
            duration,
            "how long the last good values are shown while polls fail",
            "6h",
            "DURATION",
        ),
        *(
            Option(f"--collector.{name}", switch, f"collect {what}", "true")
            for name, what in collectors.items()
        ),
        Option(
            "--api.url",
            api_url,
            "the API; https, or http to a loopback address",
            "https://api.borgbase.com/graphql",
            "URL",
        ),
        Option(
            "--api.ca-file",
            ca_file,
            "PEM file of the authorities to trust instead of the public ones",
            metavar="FILE",
        ),
        Option(
            "--api.proxy", proxy_url, "HTTP proxy to reach the API by", metavar="URL", secret=True
        ),
        Option("--api.max-response", size, "largest answer to read, decoded", "64MiB", "SIZE"),
        Option(
            "--token.file",
            Path,
            "file that holds the API token, read at each poll",
            metavar="FILE",
        ),
        Option(
            "--token.dir",
            token_folder,
            "folder of token files, one per account, each named like its account",
            metavar="FOLDER",
            secret=True,
        ),
        Option(
            "--account",
            account_name,
            "name of the one account",
            "default",
            "NAME",
        ),
        Option(
            "--demo",
            switch,
            "use the built-in simulated account in place of the API",
            "false",
        ),
        Option(
            "--json",
            switch,
            "print JSON",
            "false",
            commands=frozenset({"check"}),
        ),
        *_backfill_options(),
    )


def _backfill_options() -> Iterator[Option]:
    only = frozenset({"backfill"})
    yield Option("--output", Path, "file to write", metavar="FILE", commands=only)
    yield Option(
        "--since", moment, "oldest moment to write, or how long ago", "90d", "MOMENT", commands=only
    )
    yield Option(
        "--until",
        moment,
        "moment to write up to, or how long ago: no later than the first scrape, nor than 3h ago",
        "3h",
        "MOMENT",
        commands=only,
    )
    yield Option(
        "--dense",
        partial(duration, longest=float("inf")),
        "how far back to write a sample every 5 minutes; before that it is one an hour",
        "90d",
        "DURATION",
        commands=only,
    )
    yield Option(
        "--label",
        label,
        "label that Prometheus adds when it scrapes; job=borgbase and instance=localhost:10133 "
        "unless given",
        metavar="NAME=VALUE",
        repeatable=True,
        commands=only,
    )
    yield Option(
        "--repo",
        account_name,
        "name or id of a repo to write; give it several times for several; all unless given",
        metavar="REPO",
        repeatable=True,
        commands=only,
    )
    yield Option(
        "--unit",
        size,
        "unit of the daily values, such as 1MB; found out by the current usage unless given",
        metavar="SIZE",
        commands=only,
    )


class _Help(argparse.RawDescriptionHelpFormatter):
    """Shows that values are needed, which argparse is not told, as it would tell of one fault."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=100)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        return str(action.metavar or default_metavar)


class _Parser(argparse.ArgumentParser):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # No flag begins with a digit, so `-5m` is a value, to be told that it is no good one.
        self._negative_number_matcher = re.compile(r"-\d.*")

    def error(self, message: str) -> NoReturn:
        raise ConfigError([message])


def parser(
    table: Sequence[Option], version: str, command: str | None = None
) -> argparse.ArgumentParser:
    """Return the command line's parser: it only sorts words, `load` judges them.

    With a command, its help leaves out what is not for that.
    """
    commands = "\n".join(f"  {name:<10} {what}" for name, what in COMMANDS.items())
    words = command or f"[{' | '.join(COMMANDS)}]"
    made = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} {words.replace('textfile', 'textfile PATH')} [flags]",
        description=f"Prometheus exporter for BorgBase.\n\ncommands:\n{commands}",
        epilog=f"The token of one account can also be given in {TOKEN_VARIABLE}; it is never a "
        "flag, because other users can see those.\nDurations are Prometheus durations: 90s, 15m, "
        "6h.",
        formatter_class=_Help,
        allow_abbrev=False,
        argument_default=None,
    )
    made.add_argument("command", nargs="*", help=argparse.SUPPRESS)
    made.add_argument("--version", action="version", version=f"{PROGRAM} {version}")
    for option in table:
        only = f"; {option.only}" if option.only else ""
        default = f"; default {option.default}" if option.default and not option.is_switch else ""
        if option.is_switch and option.default == "true":
            default = f"; {option.negative} turns it off"
        text = f"{option.help} [${option.variable}{default}{only}]".replace("%", "%%")
        if not option.is_for(command):
            text = argparse.SUPPRESS
        dest = option.flag
        if option.is_switch:
            made.add_argument(
                option.flag, dest=dest, action="append_const", const="true", help=text
            )
            made.add_argument(
                option.negative,
                dest=dest,
                action="append_const",
                const="false",
                help=argparse.SUPPRESS,
            )
        else:
            made.add_argument(
                option.flag,
                dest=dest,
                action="append",
                nargs="?",
                const="",
                metavar=option.metavar,
                help=text,
            )
    return made


def load(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    collectors: Mapping[str, str],
    version: str,
) -> Config:
    """Return the configuration by flags, then environment, then defaults.

    Raises ConfigError with all faults; exits for --help and --version.
    """
    table = options(collectors)
    named = next((word for word in arguments if word in COMMANDS), None)
    given, unknown = parser(table, version, named).parse_known_intermixed_args(arguments)
    faults: list[str] = []
    command, textfile = _command(given.command, unknown, table, faults)
    values: dict[str, Any] = {}
    set_by_user: set[str] = set()
    for option in table:
        foreign = not option.is_for(command)
        if foreign and getattr(given, option.flag):
            faults.append(f"{option.flag}: not for {command}")
        # A variable may well stand there for another command.
        variables = {} if foreign else environment
        texts, origin = _found(option, getattr(given, option.flag), variables)
        if origin:
            set_by_user.add(option.flag)
        if not option.repeatable and len(set(texts)) > 1:
            faults.append(f"{origin}: given {len(texts)} times, and not with the same value")
        readings = _readings(option, texts, origin, faults)
        if option.repeatable:
            values[option.flag] = tuple(readings)
        else:
            values[option.flag] = readings[-1] if readings else None
    if command == "backfill" and not values["--output"]:
        faults.append("--output: say which file to write")
    ours = {o.flag: values[o.flag] for o in table if o.is_for(command)}
    warnings = [*_weigh(ours, faults), *_unknown_variables(environment, table)]
    web = _web(values["--web.config.file"], faults)
    if values["--web.config.file"] and web == WebConfig() and not faults:
        warnings.append("--web.config.file turns nothing on: neither TLS nor users nor headers")
    tokens = _tokens(values, environment, faults, warnings, set_by_user)
    if faults:
        raise ConfigError(faults, warnings)
    return Config(
        command=command,
        listen=values["--web.listen-address"],
        telemetry_path=values["--web.telemetry-path"],
        web_file=values["--web.config.file"],
        web=web,
        open_probes=values["--web.open-probes"],
        status_page=values["--web.status-page"],
        log_level=values["--log.level"],
        log_format=values["--log.format"],
        interval=values["--poll.interval"],
        timeout=values["--poll.timeout"],
        max_age=values["--poll.max-age"],
        collectors=frozenset(n for n in collectors if values[f"--collector.{n}"]),
        api=API(
            values["--api.url"],
            values["--api.ca-file"],
            values["--api.proxy"],
            values["--api.max-response"],
        ),
        account=values["--account"],
        tokens=tokens,
        demo=values["--demo"],
        json=values["--json"],
        textfile=textfile,
        backfill=Backfill(
            values["--output"],
            values["--since"],
            values["--until"],
            values["--dense"],
            values["--label"],
            values["--repo"],
            values["--unit"],
        )
        if command == "backfill"
        else None,
        warnings=tuple(warnings),
    )


def _command(
    words: Sequence[str], unknown: Sequence[str], table: Sequence[Option], faults: list[str]
) -> tuple[str, Path | None]:
    """Return the command and its PATH, if it takes one; complain of other words and flags."""
    if unknown:
        # What looks like a stray word is most likely the value of a flag that is not there.
        words = [word for word in words if word in COMMANDS][:1]
    command, *rest = words or ["serve"]
    known = [option for option in table if option.is_for(command)]
    faults += [_no_such_flag(word, known) for word in unknown if word.startswith("-")]
    path = None
    if command not in COMMANDS:
        hint = _near(command, [*COMMANDS, "--help", "--version"])
        hint = hint or f"; there are {', '.join(COMMANDS)}"
        faults.append(f"{_word(command)}: no such command{hint}")
    elif command == "textfile" and not unknown:
        (path,) = _readings(_PATH, rest[:1] or [""], _PATH.flag, faults) or [None]
        rest = rest[1:]
    faults += [f"{_word(word)}: one word too many" for word in rest]
    return command, path


_PATH = Option("PATH", textfile_path, "file to write")


def _readings(option: Option, texts: Sequence[str], origin: str, faults: list[str]) -> list[Any]:
    """Read the texts of a setting; complain of those that cannot be read."""
    readings = []
    for text in texts:
        if not text:
            faults.append(f"{origin}: needs a value")
            continue
        if TOKEN_LIKE.search(text) and option.parse is not proxy_url:  # its password may be one
            faults.append(f"{origin}: {MISPLACED}")
            continue
        try:
            readings.append(option.parse(text))
        except ValueError as error:
            unfit = option.secret or "@" in text or len(text) > MAX_QUOTED
            quoted = "" if unfit else f'"{shown(text)}" '
            faults.append(f"{origin}: {quoted}{error}")
    return readings


def _no_such_flag(word: str, table: Sequence[Option]) -> str:
    flag = word.partition("=")[0]
    if flag == "--token":
        return (
            f"--token: no such flag, as others could see it; use {TOKEN_VARIABLE} or --token.file"
        )
    known = ["--help", "--version", *(option.flag for option in table)]
    known += [option.negative for option in table if option.is_switch]
    word = flag if re.fullmatch(FLAG, flag) else _word(flag)
    return f"{word}: no such flag{_near(flag, known)}"


def _near(word: str, known: Iterable[str]) -> str:
    bare = {_bare(name): name for name in known}
    near = difflib.get_close_matches(_bare(word), bare, 1, ALIKE)
    hint = CUSTOMARY.get(word) or (bare[near[0]] if near else "")
    return f"; did you mean {hint}?" if hint else ""


def _bare(name: str) -> str:
    """Return a name without what all begin with, which would make any two alike."""
    return name.removeprefix("BORGBASE_").lstrip("-")


def _unknown_variables(environment: Mapping[str, str], table: Sequence[Option]) -> Iterator[str]:
    known = {TOKEN_VARIABLE, *(option.variable for option in table)}
    for name in sorted(environment):
        ours = name.startswith("BORGBASE_") and not SERVICE_LINK.fullmatch(name)
        if ours and name not in known:
            yield f"{name}: no such setting{_near(name, known)}"


def _word(word: str) -> str:
    """Quote a stray word, unless it may be a token that was meant for a flag we do not have."""
    return f'"{shown(word)}"' if len(word) <= QUOTABLE else f"a word of {len(word)} characters"


def _found(
    option: Option, flags: Sequence[str | None] | None, environment: Mapping[str, str]
) -> tuple[list[str], str]:
    """Return the texts of a setting and, unless it is the default, where they stand."""
    if flags:
        return [text or "" for text in flags], option.flag
    if variable := environment.get(option.variable, "").strip():
        texts = variable.split(",") if option.repeatable else [variable]
        return [text.strip() for text in texts], option.variable
    return [option.default] if option.default else [], ""


def _weigh(values: Mapping[str, Any], faults: list[str]) -> list[str]:
    """Judge settings that are valid by themselves; return what is allowed but unwise."""
    warnings = []
    interval, max_age = values.get("--poll.interval"), values["--poll.max-age"]
    if interval is not None and interval < SHORTEST_INTERVAL:
        faults.append("--poll.interval: must be 1s or longer")
    elif interval is not None and interval < COURTEOUS_INTERVAL and not values["--demo"]:
        warnings.append(
            "--poll.interval is shorter than 5m; BorgBase asks not to be polled that often"
        )
    if interval and max_age and max_age < interval:
        warnings.append(
            "--poll.max-age is shorter than --poll.interval: values vanish between two polls"
        )
    if not any(value for flag, value in values.items() if flag.startswith("--collector.")):
        faults.append("--no-collector.…: all collectors are off, nothing is left to do")
    return warnings


def _web(path: Path | None, faults: list[str]) -> WebConfig:
    try:
        return webconfig.read(path) if path else WebConfig()
    except WebConfigError as error:
        faults += [f"--web.config.file: {fault}" for fault in error.faults]
        return WebConfig()


def _tokens(
    values: Mapping[str, Any],
    environment: Mapping[str, str],
    faults: list[str],
    warnings: list[str],
    set_by_user: set[str],
) -> AccountTokens | None:
    """Return where the tokens are; exactly one of the three places must be named."""
    account = values["--account"] or ""
    token = environment.get(TOKEN_VARIABLE, "").strip()
    file, folder = values["--token.file"], values["--token.dir"]
    given = [
        name
        for name, value in (
            (TOKEN_VARIABLE, token),
            ("--token.file", file),
            ("--token.dir", folder),
        )
        if value
    ]
    if values["--demo"]:
        warnings += [f"{name} is not used: --demo is on" for name in given]
        return None
    if not given and not set_by_user & {"--token.file", "--token.dir"}:
        faults.append(
            f"no token: set {TOKEN_VARIABLE}, BORGBASE_TOKEN_FILE (--token.file) or "
            "BORGBASE_TOKEN_DIR (--token.dir); to look around without one: --demo"
        )
    if not given:
        return None
    if len(given) > 1:
        faults.append(f"{' and '.join(given)}: give only one of them")
    if folder and "--account" in set_by_user:
        faults.append("--account: with --token.dir the accounts are named by their files")
    if folder:
        return TokenFolder(folder)
    if file:
        return OneToken(account, TokenFile(file))
    source = GivenToken(TOKEN_VARIABLE, token)
    try:
        source.read()
    except TokenError as error:
        faults.append(str(error))  # unlike a file's, it will not change
    return OneToken(account, source)
