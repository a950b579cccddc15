"""A reader's machine: its folders, programs and servers, and a session of bash on it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tests.commands import ROOT
from tests.commands.led import VARIABLE, Scene, checkout
from tests.commands.pages import BASH, Step
from tests.commands.standins import REAL, STAND_INS

PATIENCE = 120.0
PASSWORD = "correct horse battery staple"
MARK = "\x1e"
FOLDERS = """
    etc/alertmanager etc/cron.d etc/default etc/grafana/provisioning/dashboards etc/systemd/system
    opt root run srv tmp usr/local/bin usr/local/share var/lib/grafana
    var/lib/prometheus/node-exporter
"""
"""Of the reader's machine, besides /etc/prometheus."""
SYSTEM = re.compile(
    r"""(?<![\w.~/}$)-])/(?=(etc|var|usr|opt|srv|run|lib|home|root|prometheus|history|tmp|mnt)\b)"""
)
"""Where an absolute path of the reader's machine begins; it leads into the sandbox instead."""


def make_programs(folder: Path) -> None:
    """Make the folder that is all of PATH."""
    folder.mkdir()
    script = folder / ".stand-in"
    script.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path[:1] = {[str(ROOT), str(ROOT / 'exporter')]!r}\n"
        "from tests.commands.standins import main\nsys.exit(main(sys.argv))\n"
    )
    script.chmod(0o755)
    for name in STAND_INS:
        (folder / name).symlink_to(script)
    for name in REAL.split():
        if found := shutil.which(name):
            (folder / name).symlink_to(found)


@dataclass(frozen=True)
class Machine:
    """A machine for a page; nothing on it is shared but the servers."""

    folder: Path
    scene: Scene
    curl: str
    """The settings that lead curl to the servers."""

    def __post_init__(self) -> None:
        root, home = self.root, self.folder / "home"
        home.mkdir()
        (home / ".curlrc").write_text(self.curl)
        for name in FOLDERS.split():
            (root / name).mkdir(parents=True)
        checkout(self.work, self.scene.bin)
        deploy = ROOT / "deploy"
        installed = root / "etc" / "prometheus"
        shutil.copytree(deploy / "prometheus", installed, ignore=shutil.ignore_patterns("rules"))
        shutil.copy(deploy / "alertmanager" / "alertmanager.yml", root / "etc" / "alertmanager")
        token = self.work / "token"
        token.touch(0o600)
        token.write_text(f"{self.scene.token}\n")
        self.scene.write(self.folder / "scene.json")
        (self.folder / "typed").write_text(f"{PASSWORD}\n" * 8)

    @property
    def root(self) -> Path:
        return self.folder / "machine"

    @property
    def work(self) -> Path:
        return self.folder / "borgbase-exporter"

    def here(self, text: str) -> str:
        """Return a text whose absolute paths are those of this machine."""
        return SYSTEM.sub(f"{self.root}/", text)

    def play(self, steps: Sequence[Step], variables: Mapping[str, str]) -> str | None:
        """Run the steps of a page in one session; return what went wrong."""
        script = self.folder / "session.sh"
        script.write_text("".join(self._script(steps)))
        environment = {
            "HOME": str(self.folder / "home"),
            "PATH": self.scene.bin,
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "USER": "reader",
            "EDITOR": "editor",
            "TMPDIR": str(self.root / "tmp"),
            VARIABLE: str(self.folder / "scene.json"),
            **variables,
        }
        status, said = self._bash(script, environment)
        return _judgement(steps, status, said.replace(str(self.folder), "…"))

    def _script(self, steps: Iterable[Step]) -> Iterator[str]:
        yield "set -u -o pipefail\n"
        for number, step in enumerate(steps):
            yield f"printf '{MARK}%d\\n' {number}\n"
            if step.file:
                saved = self.folder / f"block-{number}"
                saved.write_text(self.here(step.text))
                yield f"cp '{saved}' {self.here(step.file)}\n"
            else:
                yield f"{self.here(step.text)}\n"
            yield f"__status=$?; [ $__status = {step.status} ] || exit $__status\n"
        yield f"printf '{MARK}end\\n'\n"

    def _bash(self, script: Path, environment: Mapping[str, str]) -> tuple[int | str, str]:
        log = self.folder / "session.log"
        with log.open("wb") as output, (self.folder / "typed").open() as typed:
            process = subprocess.Popen(
                [BASH, "--norc", script],
                cwd=self.work,
                env=environment,
                stdin=typed,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            status: int | str
            try:
                status = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                status = "none: it did not end"
            finally:
                with contextlib.suppress(ProcessLookupError):  # what was left in the background
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return status, log.read_text("utf-8", "replace")


def _judgement(steps: Sequence[Step], status: int | str, said: str) -> str | None:
    _, *parts = said.split(MARK)
    wrong = [] if parts else [f"the session did not start: {said}"]
    for part in parts:
        number, _, printed = part.partition("\n")
        if number == "end":
            break
        step = steps[int(number)]
        if part is parts[-1]:
            reason = f"exit status {status}"
        elif step.printed and (line := missing_line(step.printed, printed)):
            reason = f"not printed: {line}"
        else:
            continue
        wrong.append(
            f"{step.place}: {reason}\n{_indent(step.text)}\n  printed:\n{_indent(printed)}"
        )
    return "\n".join(wrong) or None


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-40:])


def missing_line(expected: str, printed: str) -> str | None:
    """Return the first expected line that was not printed after those before it.

    `…` stands for anything, alone in a line for any lines; columns may be wider or narrower.
    """
    lines = iter([" ".join(line.split()) for line in printed.strip().splitlines()])
    skip = False
    for line in expected.strip().splitlines():
        wanted = " ".join(line.split())
        if wanted == "…":
            skip = True
            continue
        pattern = re.compile(".*".join(map(re.escape, wanted.split("…"))))
        if not any(map(pattern.fullmatch, lines if skip else islice(lines, 1))):
            return line
        skip = False
    return None
