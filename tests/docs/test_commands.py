"""The documentation's scripts, run against real servers on this machine where possible."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, which

import pytest

from borgbase_exporter.demo import SimulatedAccount, SimulatedApi
from tests.docs.pages import BLOCKS, ROOT, RUNNABLE, Block, missing_line
from tests.end_to_end.processes import EXPORTER, Running, environment, exporter, until
from tests.end_to_end.stage import put_token
from tests.programs import require
from tests.servers import serving

DEPLOY = ROOT / "deploy"
SCRIPTS = [block for block in BLOCKS if block.language in {"sh", "console"}]
RUN = [block for block in SCRIPTS if block.programs <= RUNNABLE]
NOT_RUN = [block for block in SCRIPTS if block not in RUN]
BASH = which("bash") or "/bin/bash"
BUILTINS = {"cd", "export", "set", "umask"}
PATIENCE = 60.0
PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Machine:
    """What a script finds on localhost and on PATH."""

    folder: Path
    token: str
    addresses: dict[str, str]  # by what the documentation calls it, where it is

    def run(self, block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run a block in a copy of the tree's files, with the token of an account in `token`."""
        work = folder / "borgbase-exporter"
        for name in ("deploy", "dashboards"):
            copytree(ROOT / name, work / name)
        put_token(work, "token", self.token)
        (work / ".venv" / "bin").mkdir(parents=True)
        _command(work / ".venv" / "bin" / "python", sys.executable)
        script = block.script
        for name, place in self.addresses.items():
            script = script.replace(name, place)
        script = re.sub(r"(?<![\w.}/$-])/(?=(?:etc|var)/)", f"{folder}/", script)
        return subprocess.run(
            [BASH, "--norc", "-eo", "pipefail", "-c", script],
            cwd=work,
            env=environment(
                PATH=f"{self.folder}{os.pathsep}{os.environ['PATH']}",
                HOME=str(folder),
                BORGBASE_API_URL=self.addresses["https://api.borgbase.com/graphql"],
                BORGBASE_TOKEN_FILE="token",
            ),
            input=f"{PASSWORD}\n",
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    account = SimulatedAccount(troubles=())  # without problems, `check` ends with status 0
    put_token(folder, "token", account.token)
    with ExitStack() as stack:
        api = stack.enter_context(SimulatedApi([account]))
        flags = ("--api.url", api.url, "--token.file", folder / "token")
        ours = stack.enter_context(exporter(folder, *flags))
        config = DEPLOY / "alertmanager" / "alertmanager.yml"
        data = folder / "alertmanager"
        alertmanager = stack.enter_context(serving("alertmanager", data, config))
        prometheus = stack.enter_context(_prometheus(folder, ours, alertmanager))
        addresses = {
            "https://api.borgbase.com/graphql": api.url,
            "localhost:10133": ours.address,
            "localhost:9090": prometheus.address,
            "localhost:9093": alertmanager.address,
        }
        programs = folder / "bin"
        programs.mkdir()
        for name in ("amtool", "promtool"):
            (programs / name).symlink_to(require(name))
        _command(programs / "borgbase-exporter", *EXPORTER)
        yield Machine(programs, account.token, addresses)


def _command(path: Path, *words: str) -> None:
    path.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    path.chmod(0o755)


@contextmanager
def _prometheus(folder: Path, ours: Running, alertmanager: Running) -> Iterator[Running]:
    """Run Prometheus with the shipped rules, and labels as if the exporter were on its port."""
    target = {"targets": [ours.address], "labels": {"instance": "localhost:10133"}}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(DEPLOY / "prometheus" / "rules" / "*.yml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager.address]}]}]},
        "scrape_configs": [{"job_name": "borgbase", "static_configs": [target]}],
    }
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(config))  # JSON is YAML
    data = folder / "prometheus"
    with serving("prometheus", data, file, "--web.enable-admin-api") as running:
        query = "/api/v1/query?query=borgbase_up"
        until(lambda: b'"borgbase_up"' in running.get(query).body, "Prometheus has scraped")
        yield running


DIFFERENT = {re.sub(r"\s+#.*", "", block.script): block for block in RUN}


@pytest.mark.parametrize("block", DIFFERENT.values(), ids=str)
def test_scripts_do_what_the_page_says(machine: Machine, block: Block, tmp_path: Path) -> None:
    places = f"{machine.folder}{os.pathsep}{os.environ['PATH']}"
    missing = [n for n in block.programs - BUILTINS if "/" not in n and not which(n, path=places)]
    if missing:
        pytest.skip(f"not on this machine: {', '.join(missing)}")

    done = machine.run(block, tmp_path)

    printed = done.stdout + done.stderr
    assert done.returncode == block.status, printed
    if block.language == "console":
        assert (missing_line(block.text, printed), printed) == (None, printed)


@pytest.mark.parametrize(
    "block",
    [pytest.param(b, id=f"{b} ({', '.join(sorted(b.programs - RUNNABLE))})") for b in NOT_RUN],
)
def test_scripts_that_are_not_run_are_valid(block: Block) -> None:
    done = subprocess.run(
        [BASH, "-n"], input=block.script, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
