"""Tests of the Dockerfile that need no container engine.

With one, tests/deploy/image.py checks the built image.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from borgbase_exporter import settings
from tests.end_to_end.processes import ROOT, accepted, exporter
from tests.lab.scripts import answers
from tests.lab.wire import Lab

DEFAULT_PORT = 10133


def _words(instruction: str) -> str:
    """Return the words of the Dockerfile's last instruction of this name, in one line."""
    text = re.sub(r"\\\n *", "", (ROOT / "Dockerfile").read_text("utf-8"))
    found: list[str] = re.findall(rf"^{instruction} (.*)$", text, re.MULTILINE)
    return found[-1]


def test_hadolint_accepts_the_dockerfile() -> None:
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if not (hadolint := shutil.which("hadolint", path=places)):
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop("hadolint is neither on PATH nor among the installed development tools")
    assert accepted(hadolint, "Dockerfile") == ""


def test_everything_installed_is_locked_by_hash() -> None:
    install = shlex.split(_words("RUN pip"))

    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} < set(install)
    assert [word for word in install if not word.startswith("--")] == ["install"]


def test_it_exposes_and_checks_the_default_port() -> None:
    serve = settings.load([], {"BORGBASE_DEMO": "true"})
    assert isinstance(serve, settings.Serve)
    assert [address.port for address in serve.web.listen_addresses] == [DEFAULT_PORT]
    assert _words("EXPOSE") == str(DEFAULT_PORT)
    assert f"'127.0.0.1', {DEFAULT_PORT}," in _words("HEALTHCHECK")


def test_the_health_check_fails_for_an_exporter_that_is_unhealthy_or_gone(tmp_path: Path) -> None:
    with exporter(tmp_path, "--demo") as running:
        well = _health_check(running.address.rpartition(":")[2])
    with Lab(answers(b"stuck", "503 Service Unavailable")) as lab:
        unhealthy = _health_check(str(lab.port))
    gone = _health_check(str(lab.port))

    assert (well, unhealthy, gone) == (0, 1, 1)


def _health_check(port: str) -> int:
    _, _, command = _words("HEALTHCHECK").partition("CMD ")
    code = json.loads(command)[2].replace(str(DEFAULT_PORT), port)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode
