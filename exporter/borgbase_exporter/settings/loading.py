"""Flags, then environment, then defaults, made into a command's settings; reports all faults."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any

import click

from borgbase_exporter import __version__
from borgbase_exporter.errors import TokenError
from borgbase_exporter.settings.fields import Setting, build, settings_of
from borgbase_exporter.settings.options import COMMANDS, Command, Serve
from borgbase_exporter.settings.readers import is_loopback
from borgbase_exporter.settings.webfile import WebConfig, WebConfigError
from borgbase_exporter.text import count, printable
from borgbase_exporter.tokens import OneToken

PROGRAM = "borgbase-exporter"
SETTINGS: Mapping[str, Mapping[str, Setting]] = {  # by command and flag
    command: {own.flag: own for own in settings_of(options) if command in (own.only or COMMANDS)}
    for command, options in COMMANDS.items()
}
ALL = {flag: setting for own in SETTINGS.values() for flag, setting in own.items()}
FLAGS = {  # by every form, a setting's flag and the value that the form implies, if any
    flag: (setting.flag, text)
    for setting in ALL.values()
    for flag, text in {setting.flag: None, **setting.shorthands}.items()
}
PATH = "PATH"  # the positional argument
TOKEN_VARIABLE = "BORGBASE_TOKEN"  # noqa: S105  # a name, not a token
PLACES = (TOKEN_VARIABLE, "--token.file", "--token.dir")
SHORTEST_POLITE_INTERVAL = 300.0
TOKEN_LIKE = re.compile(r"eyJ[\w-]{10,}|[\w-]+\.[\w-]{20,}\.[\w-]{20,}")
"""JWTs, whatever surrounds them: the first part is JSON in base64, or the other two are long."""
UNSAFE = re.compile(rf"{TOKEN_LIKE.pattern}|[\w-]{{21}}|.{{61}}|@", re.DOTALL)
"""Texts that are not quoted: they may be tokens, pieces of one, or contain a password."""
SERVICE_LINK = re.compile(r"BORGBASE_(\w+_)?(SERVICE_(HOST|PORT\w*)|PORT(_\d+_\w+)?)")
"""Variables that Kubernetes sets for a Service named like the exporter."""
Given = dict[str, list[tuple[str, str]]]  # by setting, the flags given and their texts


class SettingsError(Exception):
    """All that is wrong with the settings; `warnings` are likely causes, such as misspelt names."""

    def __init__(self, faults: Sequence[str], warnings: Sequence[str] = ()) -> None:
        errors = count(len(faults), "error")
        lines = [f"{PROGRAM}: {errors} in the configuration", *(f"  {f}" for f in faults)]
        if warnings:
            lines += ["Possible causes:", *(f"  {warning}" for warning in warnings)]
        super().__init__("\n".join([*lines, f"See {PROGRAM} --help."]))
        self.faults, self.warnings = tuple(faults), tuple(warnings)


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> Command:
    """Return a command's settings; raise SettingsError with all faults; exit after --help."""
    _answer_question(arguments)
    faults: list[str] = []
    variables = {setting.variable for setting in ALL.values()}
    warnings = [
        f"{name}: no such setting{_near(name, variables)}"
        for name in sorted(environment.keys() - variables)
        if name.startswith("BORGBASE_") and not SERVICE_LINK.fullmatch(name)
    ]
    command, given = _parsed(arguments, faults)
    if faults and command not in COMMANDS:
        raise SettingsError(faults, warnings)
    mistyped = bool(faults)  # a setting that seems missing may be mistyped
    reader = _Reader(SETTINGS[command], given, environment, faults)
    made = build(COMMANDS[command], reader.value)
    faults += [f"{', '.join(dict(given[flag]))}: not for {command}" for flag in given]
    faults += _contradictions(made, reader.used)
    if not mistyped:
        faults += reader.missing
        if not made.demo and not reader.used & {"--from", *PLACES}:
            faults.append(
                f"no token: set {TOKEN_VARIABLE}, BORGBASE_TOKEN_FILE (--token.file) or "
                "BORGBASE_TOKEN_DIR (--token.dir); to try it without one: --demo"
            )
    if faults:
        raise SettingsError(faults, warnings)
    warnings += _unwise(made, reader.used)
    if made.demo:
        return replace(made, account="demo", warnings=tuple(warnings))
    source = made.token.file or made.token.value
    tokens = made.token.dir or (OneToken(made.account, source) if source else None)
    return replace(made, tokens=tokens, warnings=tuple(warnings))


def _parsed(arguments: Sequence[str], faults: list[str]) -> tuple[str, Given]:
    """Return the command and what was given by flag; report unknown words."""
    words: list[str] = []
    unknown: list[str] = []
    given: Given = defaultdict(list)
    rest = deque(arguments)
    while rest:
        flag, equals, text = (word := rest.popleft()).partition("=")
        setting, implied = FLAGS.get(flag, ("", None))
        if not word.startswith("-"):
            words.append(word)
        elif not setting:
            unknown.append(flag)
        elif implied is None:
            if not equals and rest and not re.match(r"-\D", rest[0]):
                text = rest.popleft()
            given[setting].append((flag, text))
        else:
            given[setting].append((flag, implied))
            faults += [f"{flag}: takes no value"] if equals else []
    if unknown:
        # A word that is left over is most likely the value of an unknown flag.
        words = [word for word in words if word in COMMANDS][:1]
    command, *more = words or [Serve.command]
    near = _near(command, [*COMMANDS, "--help", "--version"])
    if command not in COMMANDS:
        near = near or f"; possible are {', '.join(COMMANDS)}"
        faults.append(f'"{_shown(command)}": no such command{near}')
    elif more and PATH in SETTINGS[command]:
        given[PATH].append((PATH, more.pop(0)))
    known = [flag for flag, (own, _) in FLAGS.items() if own in SETTINGS.get(command, ALL)]
    faults += [f"{_shown(flag)}: no such flag{_near(flag, known)}" for flag in unknown]
    faults += [f'"{_shown(word)}": unexpected argument' for word in more]
    return command, given


@dataclass(slots=True)
class _Reader:
    """Reads the texts of a command's settings, and collects what is wrong with them."""

    own: Mapping[str, Setting]
    given: Given
    environment: Mapping[str, str]
    faults: list[str]
    missing: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)  # the flags of settings that were given

    def value(self, setting: Setting) -> Any:
        """Return the value of a setting."""
        texts = self._texts(setting)
        if setting.required and not texts:
            self.missing.append(f"{setting.flag}: needs a value")
        if not setting.repeatable and len({text for _, text in texts}) > 1:
            flags = ", ".join(dict(texts))
            self.faults.append(f"{flags}: given {len(texts)} times, with different values")
        values = []
        for origin, text in texts:
            shown = "…" if setting.secret else _shown(text)
            public = re.sub("//[^/]*@", "//", text)  # a password in a URL may look like a token
            try:
                if not text:
                    self.faults.append(f"{origin}: needs a value")
                elif TOKEN_LIKE.search(public) and setting.flag != TOKEN_VARIABLE:
                    self.faults += [f"{origin}: looks like a token, which {TOKEN_VARIABLE} is for"]
                else:
                    values.append(setting.read(text))
            except (TokenError, WebConfigError) as error:  # their texts name the place
                lines = str(error).removeprefix(f"{origin}: ").replace(text, shown).splitlines()
                self.faults += [f"{origin}: {line}" for line in lines]
            except ValueError as error:
                self.faults.append(f'{origin}: "{shown}" {error}')
        if setting.repeatable:
            return tuple(values)
        return values[-1] if values else setting.absent

    def _texts(self, setting: Setting) -> list[tuple[str, str]]:
        if setting.flag in self.own:
            given = self.given.pop(setting.flag, [])
            variable = self.environment.get(setting.variable, "").strip()
            if variable and not given:
                texts = variable.split(",") if setting.repeatable else [variable]
                given = [(setting.variable, text.strip()) for text in texts]
            if given:
                self.used.add(setting.flag)
                return given
        return [("", setting.default)] if setting.default else []


def _contradictions(made: Command, used: AbstractSet[str]) -> Iterator[str]:
    """Yield what is wrong with settings that are valid by themselves."""
    if not made.collectors:
        yield "--no-collector.…: all collectors are off, so nothing is left to do"
    url = made.api.url or ""
    if made.api.proxy and url.startswith("http:") and is_loopback(url):
        yield "--api.proxy: not with http in --api.url: the proxy would see the token"
    if made.demo and "--from" in used:
        yield "--demo and --from: give only one of them"
    if used >= {"--from", "--report"}:
        yield "--report: not with --from, which does not query the API"
    if not made.demo and len(places := [flag for flag in PLACES if flag in used]) > 1:
        yield f"{' and '.join(places)}: give only one of them"
    if not made.demo and used >= {"--token.dir", "--account"}:
        yield "--account: not with --token.dir, where file names are the account names"


def _unwise(made: Command, used: AbstractSet[str]) -> Iterator[str]:
    """Yield what is allowed, but probably unintended."""
    if made.demo:
        unused = [flag for flag in (*PLACES, "--account") if flag in used]
        yield from (f"{flag} is not used: --demo is on" for flag in unused)
    if not isinstance(made, Serve):
        return
    poll, web = made.poll, made.web.config
    if poll.interval < SHORTEST_POLITE_INTERVAL and not made.demo:
        yield "--poll.interval is shorter than 5m; BorgBase asks not to be polled that often"
    if poll.max_age < poll.interval:
        yield "--poll.max-age is shorter than --poll.interval: values disappear between two polls"
    if web.path and web == WebConfig(path=web.path):
        yield "--web.config.file turns nothing on: no TLS, users, headers or rate limit"


def _near(word: str, known: Iterable[str]) -> str:
    """Return a question about the name that a word resembles, if there is one."""
    if word == "--token":
        return f", because other users could read it; use {TOKEN_VARIABLE} or --token.file"
    # The common prefix would make any two names similar.
    bare = {name.removeprefix("BORGBASE_").lstrip("-"): name for name in known}
    near = difflib.get_close_matches(word.removeprefix("BORGBASE_").lstrip("-"), bare, 1, 0.7)
    return f"; did you mean {bare[near[0]]}?" if near else ""


def _shown(text: str) -> str:
    return "…" if UNSAFE.search(text) else printable(text)


def _answer_question(arguments: Sequence[str]) -> None:
    command = next((word for word in arguments if word in COMMANDS), Serve.command)
    for word in arguments:
        if word in {"-h", "--help", "-V", "--version"}:
            click.echo(usage(command) if "h" in word else f"{PROGRAM} {__version__}")
            raise SystemExit(0)


def usage(command: str) -> str:
    """Return the help of a command."""
    own = SETTINGS[command]
    text = click.HelpFormatter(max_width=100)
    text.write(f"usage: {PROGRAM} {command}{' PATH' * (PATH in own)} [flags]\n\n")
    text.write("Prometheus exporter for BorgBase.\n")
    with text.section("commands"):
        text.write_dl([(name, options.summary) for name, options in COMMANDS.items()])
    with text.section("flags"):
        text.write_dl([_line(own[flag]) for flag in own if flag.startswith("--")], col_max=34)
    text.write_paragraph()
    text.write_text(
        f"The token of one account can also be given in {TOKEN_VARIABLE}; it has no flag, because "
        "other users can read flags. Durations are Prometheus durations: 90s, 15m, 6h. "
        f"`{PROGRAM} COMMAND --help` lists the flags of a command, `--version` prints the version."
    )
    return text.getvalue().rstrip()


def _line(setting: Setting) -> tuple[str, str]:
    note = f"; default {setting.default}" if setting.default else ""
    name = setting.flag + f" {re.split('[.-]', setting.flag)[-1].upper()}"
    name = ", ".join(setting.shorthands) if setting.flag in setting.shorthands else name
    return name, f"{setting.help} [${setting.variable}{note}]"
