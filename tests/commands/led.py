"""Real programs, led to the servers and files of the sandbox."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.commands import PROGRAM, ROOT
from tests.commands.words import demand, every, own, present, replace, sort

VARIABLE = "SCENE_OF_THE_PAGE"
NOT_COPIED = shutil.ignore_patterns(
    ".git",
    ".venv",
    ".*cache*",
    ".hypothesis",
    "__pycache__",
    ".coverage*",
    "htmlcov",
    "dist",
    "tests",
)


@dataclass(frozen=True)
class Scene:
    """What there is beside a session; addresses are `host:port`."""

    token: str
    api: str
    exporter: str
    prometheus: str
    alertmanager: str
    pids: Mapping[str, int]
    programs: Mapping[str, str]
    """Where the real ones are."""
    folders: Mapping[str, str]
    """Where some of them have to be started."""
    bin: str
    """The folder that is all of PATH."""

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls) -> Scene:
        return cls(**json.loads(Path(os.environ[VARIABLE]).read_text()))

    def here(self, word: str) -> str:
        """Return a word with the usual ports replaced by those in use."""
        for port, address in (
            (9090, self.prometheus),
            (9093, self.alertmanager),
            (10133, self.exporter),
        ):
            word = re.sub(rf"\b(localhost|127\.0\.0\.1):{port}\b", address, word)
        return word


def run(*command: str | Path) -> int:
    """Run a program to its end, in the place of this one."""
    sys.stdout.flush()
    return subprocess.run(command, check=False).returncode


def ours(scene: Scene, words: Sequence[str]) -> int:
    """Run our program on the simulated account; a server until it listens."""
    serves = not words or words[0] == "serve" or words[0].startswith("-")
    if serves and not {"--help", "--version", "-h"} & {*words}:
        own(words, os.environ)  # before some of it is replaced
    replaced = {
        "--api.url": scene.api,
        "--web.listen-address": "127.0.0.1:0",
        "--log.level": "info",
    }
    os.environ |= {
        "BORGBASE_API_URL": scene.api,
        "BORGBASE_WEB_LISTEN_ADDRESS": "127.0.0.1:0",
        "PYTHONPATH": str(ROOT / "exporter"),
    }
    command = (sys.executable, "-m", "borgbase_exporter", *replace(words, replaced))
    return _serve(command, "listening") if serves else run(*command)


def real(name: str, scene: Scene, words: Sequence[str]) -> int:
    """Run a real program, with the addresses of the servers."""
    return run(scene.programs[name], *map(scene.here, words))


def server(name: str, scene: Scene, words: Sequence[str]) -> int:
    """Run a real server on any port, until it listens."""
    demand(name in scene.programs, "the real one is not to be had")
    given = replace(words, {"--web.listen-address": "", "--cluster.listen-address": ""})
    here = f"{Path.cwd()}/"  # it may have to be started elsewhere
    listen = ["--web.listen-address=127.0.0.1:0"]
    listen += ["--cluster.listen-address="] if name == "alertmanager" else []
    command = [
        scene.programs[name],
        *(re.sub(r"(?<=file=|path=)(?!/)", here, word) for word in given),
        *listen,
    ]
    sign = "Server is ready" if name == "prometheus" else "Listening on"
    return _serve(command, sign, scene.folders.get(name))


def _serve(command: Sequence[str], sign: str, folder: str | None = None) -> int:
    """Start a server, end it when its log gives the sign, and return its status."""
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            sys.stderr.write(line)
            if sign in line:
                process.terminate()
    # Alertmanager may say that it listens before it minds signals.
    return 0 if process.returncode == -signal.SIGTERM else process.returncode


def python(scene: Scene, words: Sequence[str]) -> int:
    """Run Python; what takes minutes or a network is only looked for."""
    match words:
        case ["-m", "borgbase_exporter", *rest]:
            demand("exporter" in os.environ.get("PYTHONPATH", ""), "no PYTHONPATH=exporter")
            return ours(scene, rest)
        case ["-m", "venv", *rest]:
            for folder in sort(rest)[1]:
                make_venv(Path(folder), scene.bin)
            return 0
        case ["-m", "pip" | "pytest" | "coverage" | "mypy" | "ruff" as module, *rest]:
            return pip(scene, rest) if module == "pip" else tool(scene, rest)
        case ["-m", module, *_] if re.match(r"tests\.|deploy\.|dashboards\.preview$", module):
            path = Path(*module.split("."))
            demand(path.is_dir() or path.with_suffix(".py").exists(), f"{module}: no such module")
            return 0
    return run(sys.executable, *words)


def pip(_: Scene, words: Sequence[str]) -> int:
    """Check that what is installed from the tree is there; nothing is fetched."""
    options, operands = sort(words, "-r --requirement -c --constraint -e --python --group --with")
    present(*every(options, "-r", "--requirement", "-c", "--constraint"))
    targets = operands[1:] if operands[:1] == ["install"] else []
    for target in (*targets, *every(options, "-e")):
        local = re.sub(r"\[[\w,]+\]$", "", target)
        if local.endswith(".whl") or re.match(r"\.|/", local):
            present(local if local.endswith(".whl") else Path(local, "pyproject.toml"))
    return 0


def tool(_: Scene, words: Sequence[str]) -> int:
    """Check the paths that a tool for developers is given."""
    present(*(word.partition("::")[0] for word in words if re.search(r"/|\.py\b", word)))
    return 0


def make_venv(folder: Path, programs: str | Path) -> None:
    """Make a virtual environment whose programs are those of the sandbox."""
    made = folder.absolute() / "bin"
    made.mkdir(parents=True, exist_ok=True)
    for name in ("python", "python3", "pip", "ruff", "mypy", "pytest", PROGRAM):
        (made / name).unlink(missing_ok=True)
        (made / name).symlink_to(Path(programs, ".stand-in"))
    (made / "activate").write_text(f"PATH={made}:$PATH\ndeactivate() {{ PATH=${{PATH#*:}}; }}\n")


def checkout(folder: Path, programs: str | Path) -> None:
    """Make a copy of the tree, in which `make` finds all of its environment made.

    The tests are half of all files, and only looked for.
    """
    shutil.copytree(ROOT, folder, ignore=NOT_COPIED)
    (folder / "tests").symlink_to(ROOT / "tests")
    make_venv(folder / ".venv", programs)
    for stamp in ("runtime", "dev"):
        (folder / ".venv" / f"{stamp}.stamp").touch()


def git(scene: Scene, words: Sequence[str]) -> int:
    """Let a clone be a copy of the tree; all else is taken as it is."""
    if words[:1] == ["clone"]:
        _, (url, *folder) = sort(words[1:], "-b --branch --depth")
        demand(re.match(r"https://\S+/\S+|git@\S+:\S+", url), f"{url}: not an address")
        checkout(Path((folder or [url.rpartition("/")[2].removesuffix(".git")])[0]), scene.bin)
    return 0


def install(_: Scene, words: Sequence[str]) -> int:
    """Run the real `install` but for owner and group, who are not there."""
    owners = ("-o", "--owner", "-g", "--group")
    options, operands = sort(words, "-m --mode -t -o --owner -g --group")
    kept = [word for option in options if option[0] not in owners for word in option if word]
    return run(str(shutil.which("install", path=f"{os.defpath}:/usr/local/bin")), *kept, *operands)


def sudo(_: Scene, words: Sequence[str]) -> int:
    """Run the command without more rights."""
    options, command = sort(words, "-u --user -g --group", leading=True)
    demand(all(every(options, "-u", "--user", "-g", "--group")) or not options, "whose rights?")
    return run("env", *command) if command else 0


def editor(scene: Scene, words: Sequence[str]) -> int:
    """Paste the token into an empty file."""
    for word in words:
        demand(Path(word).parent.is_dir(), f"{Path(word).parent}: there is no such folder")
        if not Path(word).exists() or not Path(word).read_text().strip():
            Path(word).write_text(f"{scene.token}\n")
    return 0
