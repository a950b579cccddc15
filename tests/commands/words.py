"""Command lines: their options, their paths, and what our own program makes of its part.

Each use of a stand-in is a process: what is slow to import is imported where it is used.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.commands import PROGRAM

if TYPE_CHECKING:
    from borgbase_exporter.config import Config

SOMETHING = "a.b.c"
"""In the place of a token."""


class WrongError(Exception):
    """The page asks for something that cannot work."""


def demand(holds: object, message: str) -> None:
    """Raise WrongError unless it holds."""
    if not holds:
        raise WrongError(message)


def present(*paths: str | Path) -> None:
    for path in paths:
        demand(Path(path).exists(), f"{path}: there is no such file or folder")


def sort(
    words: Sequence[str],
    valued: str = "",
    plain: str | None = None,
    *,
    leading: bool = False,
) -> tuple[list[tuple[str, str]], list[str]]:
    """Sort words into options, each with its value or "", and operands.

    Those named in `valued` take the next word, unless they come with `=`. If `plain` is given, it
    names all others that there are. If options are `leading`, all from the first operand on are
    operands.
    """
    takes, stands = valued.split(), None if plain is None else plain.split()
    options: list[tuple[str, str]] = []
    rest = list(words)
    operands: list[str] = []
    while rest and rest[0] != "--" and not (leading and operands):
        word = rest.pop(0)
        name, given, value = word.partition("=")
        if not re.match(r"-.", word):
            operands.append(word)
        elif name in takes and not given:
            demand(rest, f"{word}: needs a value")
            options.append((word, rest.pop(0)))
        elif stands is None or name in stands or (given and name in takes):
            options.append((name, value))
        elif re.fullmatch(r"-\w\w+", word) and word[:2] in stands:  # -it
            rest[:0] = [word[:2], f"-{word[2:]}"]
        else:
            raise WrongError(f"{word}: no such option, as far as is known here")
    return options, operands + rest[rest[:1] == ["--"] :]


def every(options: Iterable[tuple[str, str]], *names: str) -> list[str]:
    """Return the values of some options."""
    return [value for name, value in options if name in names]


def replace(words: Iterable[str], values: Mapping[str, str]) -> Iterator[str]:
    """Give flags other values; those with an empty one go."""
    words = iter(words)
    for word in words:
        name, given, _ = word.partition("=")
        if name not in values:
            yield word
            continue
        if not given:
            next(words, None)
        if values[name]:
            yield f"{name}={values[name]}"


def variable(flag: str) -> str:
    return "BORGBASE_" + re.sub(r"\W", "_", flag.removeprefix("--")).upper()


def own(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Check flags and variables that our program gets elsewhere, where its files are.

    Those files and folders are taken to be there.
    """
    with tempfile.TemporaryDirectory() as folder:
        elsewhere = {
            "--token.dir": folder,
            "--token.file": f"{folder}/token",
            "--output": f"{folder}/history.om",
            "--web.config.file": "",
            "--api.ca-file": "",
        }
        known = dict(environment)
        for flag, path in elsewhere.items():
            if known.get(variable(flag)):
                known[variable(flag)] = path
        words = list(replace(words, elsewhere))
        if words[:1] == ["textfile"]:
            words = [re.sub(r"^/\S*/(\S+)$", rf"{folder}/\1", word) for word in words]
        named = {word.partition("=")[0] for word in words}
        given = {name for name, value in known.items() if value}
        tokens = ("--token.dir", "--token.file")
        if not named & {*tokens, "--demo"} and not given & {
            "BORGBASE_TOKEN",
            *map(variable, tokens),
        }:
            known["BORGBASE_TOKEN"] = SOMETHING
        warnings = _configured(words, known)
    unknown = [warning for warning in warnings if "no such setting" in warning]
    demand(not unknown, "; ".join(unknown))


def _configured(words: Sequence[str], environment: Mapping[str, str]) -> Sequence[str]:
    from borgbase_exporter import __version__  # noqa: PLC0415
    from borgbase_exporter.collectors import COLLECTORS  # noqa: PLC0415
    from borgbase_exporter.config import ConfigError, load  # noqa: PLC0415

    collectors = {collector.name: collector.help for collector in COLLECTORS}
    try:
        with contextlib.redirect_stdout(None):
            config: Config = load(words, environment, collectors, __version__)
    except ConfigError as error:
        raise WrongError(f"{PROGRAM} {' '.join(words)}: {error}") from None
    except SystemExit as end:  # --help, --version
        demand(not end.code, f"{PROGRAM} {' '.join(words)}: exit status {end.code}")
        return ()
    return config.warnings
