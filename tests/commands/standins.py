"""Programs of the pages that are not simply run, and why.

Each is started by its name from the sandbox's `bin`. It ends with `WRONG` and the reason if its
command line cannot be right.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.commands import PROGRAM, ROOT, led
from tests.commands.containers import docker, helm, kubectl
from tests.commands.led import Scene
from tests.commands.words import WrongError, demand, every, present, sort

WRONG = 64
HASH = "$2b$04$qG8AR.n2uqpjL5KRRQu5VejW9.Ss3P6C19vgJ4QKpnrzZByImVuhq"
"""Of bcrypt, at a cost that costs little."""

UNITS = """
    prometheus alertmanager prometheus-alertmanager prometheus-node-exporter node_exporter
    grafana-server borgmatic docker nginx
"""
"""What other people's packages call their services and timers."""

VERBS = """
    start stop restart reload enable disable status is-active is-enabled edit cat show kill mask
    daemon-reload list-timers reset-failed unmask try-restart reload-or-restart
"""

CHANGING = "useradd adduser groupadd usermod apt apt-get dnf apk setfacl crontab"
ELSEWHERE = "borg borgmatic restic ssh gh cosign uv dig nc"

REAL = """
    awk base64 basename bash cat chmod cmp comm cp curl cut date diff dirname env expr find grep
    gunzip gzip head hostname id jq kill ln ls make mkdir mktemp mv openssl paste readlink realpath
    rm rmdir sed seq sh sha256sum sort stat tail tar tee touch tr uname uniq wc which xargs zcat
"""
"""Programs that are run as they are; beside these and the stand-ins there are none."""


def units(*names: str) -> None:
    """Check that units are those of deploy/, or known."""
    shipped = {path.name for path in (ROOT / "deploy").rglob("*") if path.is_file()}
    for name in names:
        base, _, kind = name.partition(".")
        full = f"{base.partition('@')[0]}{'@' * ('@' in base)}.{kind or 'service'}"
        known = {full, f"{base}.{kind or 'service'}"} & shipped or base in UNITS.split()
        demand(known, f"{name}: no unit of deploy/, nor one that is known here")


def systemctl(_: Scene, words: Sequence[str]) -> int:
    _options, (verb, *names) = sort(words, "-s --signal -n --lines -p --property")
    demand(verb in VERBS.split(), f"{verb}: no such command")
    units(*names)
    return 0


def journalctl(_: Scene, words: Sequence[str]) -> int:
    options, _operands = sort(words, "-u --unit --since --until -n --lines -o -g --grep -p")
    units(*every(options, "-u", "--unit"))
    return 0


def systemd_analyze(_: Scene, words: Sequence[str]) -> int:
    _options, (_verb, *names) = sort(words)
    for name in names:
        present(name) if "/" in name else units(name)
    return 0


def systemd_creds(_: Scene, words: Sequence[str]) -> int:
    """Check what is encrypted; write something in its place."""
    _options, (verb, *files) = sort(words)
    if verb == "encrypt":
        source, target = files
        demand(source == "-" or Path(source).is_file(), f"{source}: there is no such file")
        if target == "-":
            sys.stdout.write("encrypted\n")
        else:
            Path(target).write_text("encrypted\n")
    return 0


def owner(_: Scene, words: Sequence[str]) -> int:
    """Check the paths of chown and chgrp."""
    _options, (_who, *paths) = sort(words)
    present(*paths)
    return 0


def copy(_: Scene, words: Sequence[str]) -> int:
    """Check the sources of scp and rsync that are here."""
    _options, (*sources, _target) = sort(words, "-e -i -P")
    present(*(source for source in sources if ":" not in source))
    return 0


def htpasswd(_: Scene, words: Sequence[str]) -> int:
    """Print a user with a hash, as `htpasswd -nBC 12 NAME` does."""
    demand(re.match(r"-nB", words[0]), "-nB: it is to be bcrypt, and printed")
    sys.stdout.write(f"{words[-1]}:{HASH}\n")
    return 0


def pidof(scene: Scene, words: Sequence[str]) -> int:
    """Print the process of one of the servers."""
    demand(words[-1] in scene.pids, f"{words[-1]}: does not run")
    sys.stdout.write(f"{scene.pids[words[-1]]}\n")
    return 0


def nothing(_: Scene, words: Sequence[str]) -> int:
    """Check that there is something to do."""
    demand(words, "nothing to do")
    return 0


Handler = Callable[[Scene, Sequence[str]], int]

STAND_INS: dict[str, tuple[Handler, str]] = {
    # Real ones, led to the sandbox.
    PROGRAM: (led.ours, "real, on a simulated account; a server on any port, until it listens"),
    "python": (led.python, "real, but for what takes minutes or a network: it must be there"),
    "promtool": (partial(led.real, "promtool"), "real, and asks the Prometheus of the sandbox"),
    "amtool": (partial(led.real, "amtool"), "real, and asks the Alertmanager of the sandbox"),
    "prometheus": (partial(led.server, "prometheus"), "real, on any port, until it is ready"),
    "alertmanager": (partial(led.server, "alertmanager"), "real, on any port, until it listens"),
    "node_exporter": (partial(led.server, "node_exporter"), "real, on any port, until it listens"),
    "install": (led.install, "real, but for owners, who are not there"),
    "sudo": (led.sudo, "runs the command, without more rights"),
    # Made up, as far as it can be told here.
    "editor": (led.editor, "needs a person: pastes the token into an empty file"),
    "git": (led.git, "needs a network: a clone is a copy of the tree"),
    "pip": (led.pip, "needs a network: files and projects of the tree are there"),
    "ruff": (led.tool, "takes long: paths are there"),
    "docker": (docker, "needs a daemon: paths, services, and our flags and variables are right"),
    "kubectl": (kubectl, "needs a cluster: files are there and manifests, our flags are right"),
    "helm": (helm, "needs a cluster: the real one renders our chart with these values"),
    "systemctl": (systemctl, "changes the machine: verbs and units are right"),
    "journalctl": (journalctl, "needs a journal: the unit is one of ours or known"),
    "systemd-analyze": (systemd_analyze, "needs systemd: the unit is there"),
    "systemd-creds": (systemd_creds, "needs systemd: the file is there"),
    "chown": (owner, "needs root: the paths are there"),
    "scp": (copy, "needs another machine: what is copied is there"),
    "htpasswd": (htpasswd, "is not everywhere: prints a hash"),
    "pidof": (pidof, "the servers are others here: prints theirs"),
    # Nothing can be told of these.
    **dict.fromkeys(CHANGING.split(), (nothing, "changes the machine")),
    **dict.fromkeys(ELSEWHERE.split(), (nothing, "needs somebody else's server")),
    **dict.fromkeys(("sleep",), (nothing, "takes time")),
}
"""Name: what does it, and why it is not simply run."""

for name, like in {
    "python3": "python",
    "pipx": "pip",
    "mypy": "ruff",
    "pytest": "ruff",
    "podman": "docker",
    "nano": "editor",
    "vi": "editor",
    "chgrp": "chown",
    "rsync": "scp",
}.items():
    STAND_INS[name] = STAND_INS[like]


def main(arguments: Sequence[str]) -> int:
    """Be the program by whose name this was started."""
    name, words = Path(arguments[0]).name, arguments[1:]
    try:
        return STAND_INS[name][0](Scene.read(), words)
    except WrongError as fault:
        sys.stderr.write(f"{name}: {fault}\n")
    except ValueError as fault:  # of too few operands or too many
        sys.stderr.write(f"{name} {' '.join(words)}: {fault}\n")
    return WRONG
