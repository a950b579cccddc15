"""Command line and environment, made into the settings of a command; reports all faults at once."""

from __future__ import annotations

import argparse
import difflib
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cache, partial
from typing import Any, NoReturn

from borgbase_exporter import __version__
from borgbase_exporter.errors import TokenError
from borgbase_exporter.settings.fields import Setting, build, settings_of
from borgbase_exporter.settings.options import COMMANDS, Command, Serve
from borgbase_exporter.settings.readers import is_loopback
from borgbase_exporter.settings.webfile import WebConfig, WebConfigError
from borgbase_exporter.text import printable
from borgbase_exporter.tokens import AccountTokens, OneToken

PROGRAM = "borgbase-exporter"
SETTINGS: Mapping[str, Mapping[str, Setting]] = {
    command: {setting.flag: setting for setting in settings_of(options)}
    for command, options in COMMANDS.items()
}
"""The settings of each command, by flag."""
PATH = "PATH"
"""The positional argument."""
ALL = {flag: setting for own in SETTINGS.values() for flag, setting in own.items()}
"""Likewise of all commands."""
TOKEN_VARIABLE = "BORGBASE_TOKEN"  # noqa: S105  # a name, not a token
SHORTEST_POLITE_INTERVAL = 300.0
MISPLACED = f"looks like a token; put it into {TOKEN_VARIABLE}, or into a file for --token.file"
TOKEN_LIKE = re.compile(r"eyJ[\w-]{10,}|[\w-]+\.[\w-]{20,}\.[\w-]{20,}")
"""JWTs, whatever is around them: they begin with JSON in base64, or have two long other parts."""
UNSAFE = re.compile(rf"{TOKEN_LIKE.pattern}|[\w-]{{25}}|.{{61}}|@", re.DOTALL)
"""Texts that are not quoted: they may be tokens, pieces of one, or contain a password."""
MAX_WORD = 20
SERVICE_LINK = re.compile(
    r"BORGBASE_\w*(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)"
)
"""Variables that Kubernetes sets for a Service whose name begins like ours."""
COMMON_FLAGS = dict.fromkeys(("--host", "--listen", "--port"), "--web.listen-address")
"""Flags of other programs, and ours."""


class SettingsError(Exception):
    """The settings cannot be used; as text, all that is wrong.

    `warnings` are likely causes, such as a variable with a typing error.
    """

    def __init__(self, faults: Sequence[str], warnings: Sequence[str] = ()) -> None:
        title = "1 error" if len(faults) == 1 else f"{len(faults)} errors"
        lines = [f"{PROGRAM}: {title} in the configuration", *(f"  {f}" for f in faults)]
        if warnings:
            lines += ["Possible causes:", *(f"  {warning}" for warning in warnings)]
        super().__init__("\n".join([*lines, f"See {PROGRAM} --help."]))
        self.faults, self.warnings = tuple(faults), tuple(warnings)


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> Command:
    """Return a command's settings by flags, then environment, then defaults.

    Raises SettingsError with all faults; exits for --help and --version.
    """
    faults: list[str] = []
    missing: list[str] = []
    warnings = list(_unknown_variables(environment))
    command, given = _parsed(arguments, faults)
    mistyped = bool(faults)  # then what is missing may be there
    own = SETTINGS.get(command, ALL)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for flag, setting in own.items():
        texts, origins[flag] = _found(setting, given.pop(flag, ()), environment)
        values[flag] = _value(setting, texts, origins[flag], faults)
        if setting.required and not texts:
            missing.append(f"{flag}: needs a value")
    faults += [f"{_origin(flag, texts)}: not for {command}" for flag, texts in given.items()]
    _compare(values, faults, warnings)
    tokens = _tokens(values, {flag for flag in origins if origins[flag]}, missing, faults, warnings)
    faults += [] if mistyped else missing
    if faults:
        raise SettingsError(faults, warnings)
    content = {setting.path: values[flag] for flag, setting in own.items()}
    content |= {("tokens",): tokens, ("warnings",): tuple(warnings)}
    content |= {("account",): "demo"} if values["--demo"] else {}
    return build(COMMANDS[command], content)


Given = str | tuple[str, str] | None
"""The value of a flag, or a flag that takes none and what it gives."""


def _parsed(arguments: Sequence[str], faults: list[str]) -> tuple[str, dict[str, Sequence[Given]]]:
    """Return the command and what was given by flag; report unknown words."""
    named = next((word for word in arguments if word in COMMANDS), Serve.command)
    found, unknown = parser(named).parse_known_intermixed_args(arguments)
    given = {flag: texts for flag, texts in vars(found).items() if texts}
    words = given.pop("words", [])
    if unknown:
        # A word that is left over is most likely the value of an unknown flag.
        words = [word for word in words if word in COMMANDS][:1]
    command, *rest = words or [Serve.command]
    faults += [_no_such_flag(word, command) for word in unknown if word.startswith("-")]
    if command not in COMMANDS:
        near = _near(command, [*COMMANDS, "--help", "--version"])
        near = near or f"; possible are {', '.join(COMMANDS)}"
        faults.append(f"{_quoted(command)}: no such command{near}")
    if rest and PATH in SETTINGS.get(command, ()):
        given[PATH], rest = rest[:1], rest[1:]
    faults += [f"{_quoted(word)}: one word too many" for word in rest]
    return command, given


def _found(
    setting: Setting, given: Sequence[Given], environment: Mapping[str, str]
) -> tuple[list[str], str]:
    """Return the texts of a setting and, unless it is the default, where they are."""
    if given:
        texts = [item[1] if isinstance(item, tuple) else item or "" for item in given]
        return texts, _origin(setting.flag, given)
    if variable := environment.get(setting.variable, "").strip():
        texts = variable.split(",") if setting.repeatable else [variable]
        return [text.strip() for text in texts], setting.variable
    return [setting.default] if setting.default else [], ""


def _origin(flag: str, given: Sequence[Given]) -> str:
    return ", ".join(dict.fromkeys(g[0] if isinstance(g, tuple) else flag for g in given))


def _value(setting: Setting, texts: Sequence[str], origin: str, faults: list[str]) -> Any:
    """Read the texts of a setting; report those that cannot be read."""
    if not setting.repeatable and len(set(texts)) > 1:
        faults.append(f"{origin}: given {len(texts)} times, with different values")
    values = []
    for text in texts:
        try:
            values.append(_read(setting, text))
        except (ValueError, TokenError) as error:
            faults += [f"{origin}: {fault}" for fault in _explained(error, text, setting, origin)]
    if setting.repeatable:
        return tuple(values)
    return values[-1] if values else setting.absent


def _read(setting: Setting, text: str) -> Any:
    if not text:
        raise ValueError("needs a value")
    public = re.sub("//[^/]*@", "//", text)  # a password in a URL may look like a token
    if TOKEN_LIKE.search(public) and setting.flag != TOKEN_VARIABLE:
        raise ValueError(MISPLACED)
    return setting.reader.read(text)


def _explained(error: Exception, text: str, setting: Setting, origin: str) -> Sequence[str]:
    """Return the faults that a reader reports, with the text where it is safe to quote."""
    faults = error.faults if isinstance(error, WebConfigError) else [str(error)]
    if isinstance(error, TokenError | WebConfigError):  # which name the file themselves
        hidden = text if UNSAFE.search(text) else "…"
        return [fault.removeprefix(f"{origin}: ").replace(hidden, "…") for fault in faults]
    silent = not text or setting.secret or UNSAFE.search(text)
    return faults if silent else [f'"{printable(text)}" {fault}' for fault in faults]


def _compare(values: Mapping[str, Any], faults: list[str], warnings: list[str]) -> None:
    """Judge settings that are valid by themselves."""
    interval, max_age = values.get("--poll.interval"), values.get("--poll.max-age")
    if interval and interval < SHORTEST_POLITE_INTERVAL and not values["--demo"]:
        warnings.append(
            "--poll.interval is shorter than 5m; BorgBase asks not to be polled that often"
        )
    if interval and max_age and max_age < interval:
        warnings.append(
            "--poll.max-age is shorter than --poll.interval: values disappear between two polls"
        )
    if not any(value for flag, value in values.items() if flag.startswith("--collector.")):
        faults.append("--no-collector.…: all collectors are off, so nothing is left to do")
    url = values["--api.url"]
    if values["--api.proxy"] and url and is_loopback(url) and url.startswith("http:"):
        faults.append(
            "--api.proxy: not with http in --api.url: it would send the token unencrypted"
        )
    if values["--demo"] and values.get("--from"):
        faults.append("--demo and --from: give only one of them")
    web = values.get("--web.config.file")
    if web and web == WebConfig(path=web.path) and web.path:
        warnings.append("--web.config.file turns nothing on: no TLS, users, headers or rate limit")


def _tokens(
    values: Mapping[str, Any],
    given: AbstractSet[str],
    missing: list[str],
    faults: list[str],
    warnings: list[str],
) -> AccountTokens | None:
    """Return where the tokens are; exactly one place must be given, unless none is needed."""
    places = [flag for flag in (TOKEN_VARIABLE, "--token.file", "--token.dir") if flag in given]
    if values["--demo"]:
        unused = [*places, *({"--account"} & given)]
        warnings += [f"{flag} is not used: --demo is on" for flag in unused]
        return None
    if "--from" in given:
        return None
    if not places:
        missing.append(
            f"no token: set {TOKEN_VARIABLE}, BORGBASE_TOKEN_FILE (--token.file) or "
            "BORGBASE_TOKEN_DIR (--token.dir); to try it without one: --demo"
        )
    if len(places) > 1:
        faults.append(f"{' and '.join(places)}: give only one of them")
    if given >= {"--token.dir", "--account"}:
        faults.append("--account: not with --token.dir, where the names of files are the accounts'")
    source = values["--token.file"] or values[TOKEN_VARIABLE]
    return values["--token.dir"] or (OneToken(values["--account"], source) if source else None)


def _no_such_flag(word: str, command: str) -> str:
    flag = word.partition("=")[0]
    if flag == "--token":
        return (
            f"--token: no such flag, as others could read it; use {TOKEN_VARIABLE} or --token.file"
        )
    known = ["--help", "--version"]
    for setting in SETTINGS.get(command, ALL).values():
        known += [setting.flag, *setting.shorthands]
    harmless = re.fullmatch(r"--[a-z][a-z._-]{,30}", flag)  # no token looks like that
    return f"{flag if harmless else _quoted(flag)}: no such flag{_near(flag, known)}"


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    known = {TOKEN_VARIABLE, *(setting.variable for setting in ALL.values())}
    for name in sorted(environment):
        ours = name.startswith("BORGBASE_") and not SERVICE_LINK.fullmatch(name)
        if ours and name not in known:
            yield f"{name}: no such setting{_near(name, known)}"


def _near(word: str, known: Iterable[str]) -> str:
    """Return a question about the name that a word resembles, if there is one."""
    # What all names begin with would make any two similar.
    bare = {name.removeprefix("BORGBASE_").lstrip("-"): name for name in known}
    near = difflib.get_close_matches(word.removeprefix("BORGBASE_").lstrip("-"), bare, 1, 0.7)
    hint = COMMON_FLAGS.get(word) or (bare[near[0]] if near else "")
    return f"; did you mean {hint}?" if hint else ""


def _quoted(word: str) -> str:
    """Quote an unknown word, unless it may be a token."""
    return f"a word of {len(word)} characters" if len(word) > MAX_WORD else f'"{printable(word)}"'


class _Help(argparse.RawDescriptionHelpFormatter):
    """Shows that values are needed; argparse does not know it, as it would report one fault."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)  # so that flags stay whole

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        return str(action.metavar or default_metavar)


class _Parser(argparse.ArgumentParser):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # No flag begins with a digit, so `-5m` is a value, and its reader reports it.
        self._negative_number_matcher = re.compile(r"-\d.*")

    def error(self, message: str) -> NoReturn:
        # Only one error is possible here; the message would quote the value.
        flag = message.removeprefix("argument ").partition(":")[0]
        raise SettingsError([f"{flag}: takes no value"])


@cache
def parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of the command line, which only sorts words, with the command's help."""
    own = SETTINGS[command]
    commands = "\n".join(f"  {name:<10} {options.summary}" for name, options in COMMANDS.items())
    made = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} {command}{' PATH' * (PATH in own)} [flags]",
        description=f"Prometheus exporter for BorgBase.\n\ncommands:\n{commands}\n"
        f"`{PROGRAM} COMMAND --help` lists the flags of a command.",
        epilog=f"The token of one account can also be given in {TOKEN_VARIABLE}; it has no flag, "
        "because other users\ncan read flags. Durations are Prometheus durations: 90s, 15m, 6h.",
        formatter_class=partial(_Help, max_help_position=34),
        allow_abbrev=False,
    )
    made.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    made.add_argument("-V", "--version", action="version", version=f"{PROGRAM} {__version__}")
    for flag, setting in ALL.items():
        if flag.startswith("--"):
            _add(made, own.get(flag, setting), hidden=flag not in own)
    return made


def _add(made: argparse.ArgumentParser, setting: Setting, *, hidden: bool) -> None:
    """Add the flags of a setting; the help shows the first of them."""
    note = f"; default {setting.default}" if setting.default else ""
    if setting.is_switch:
        note = f"; {list(setting.shorthands)[1]} turns it off" if setting.default == "true" else ""
    text = f"{setting.help} [${setting.variable}{note}]".replace("%", "%%")
    own: dict[str, str | None] = {} if setting.is_switch else {setting.flag: None}
    for flag, value in {**own, **setting.shorthands}.items():
        kind: dict[str, Any] = {"action": "append_const", "const": (flag, value)}
        if value is None:
            kind = {"action": "append", "nargs": "?", "metavar": setting.reader.metavar}
        shown = argparse.SUPPRESS if hidden else text
        made.add_argument(flag, dest=setting.flag, help=shown, **kind)
        hidden = True
