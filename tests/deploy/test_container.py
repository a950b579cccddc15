"""What the Dockerfile promises, as far as that can be tested without a container engine.

With one, tests/deploy/image.py checks the built image.
"""

import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from borgbase_exporter import settings
from tests.end_to_end.processes import ROOT, environment, exporter

USER = 65532
DEFAULT_PORT = 10133


def _parsed(text: str) -> list[tuple[str, str]]:
    """Split a Dockerfile into its instructions and their words; there are no here-documents."""
    lines = "\n".join(line for line in text.splitlines() if line and not line.startswith("#"))
    instructions = re.sub(r"\\\n *", "", lines).split("\n")
    return [(name, words) for name, _, words in (line.partition(" ") for line in instructions)]


INSTRUCTIONS = _parsed((ROOT / "Dockerfile").read_text("utf-8"))
FINAL = INSTRUCTIONS[max(n for n, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM") :]


def _every(name: str) -> list[str]:
    return [words for found, words in INSTRUCTIONS if found == name]


def _final(name: str) -> str:
    (words,) = [words for found, words in FINAL if found == name]
    return words


def test_hadolint_accepts_the_dockerfile() -> None:
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if not (hadolint := shutil.which("hadolint", path=places)):
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop("hadolint is neither on PATH nor among the installed development tools")
    done = subprocess.run(
        [hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_everything_installed_is_locked_by_hash() -> None:
    install = shlex.split(_every("RUN")[0])

    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} < set(install)
    assert [word for word in install if not word.startswith("--")] == ["pip", "install"]
    assert _every("ADD") == []


def test_both_stages_have_the_same_debian_and_python() -> None:
    bases = dict(words.split("=", 1) for words in _every("ARG"))
    digest = "(@sha256:[0-9a-f]{64})?"

    assert _every("FROM") == ["${BUILDER} AS builder", "${BASE}"]
    # Debian 13 is trixie, and its Python 3.13.
    assert re.fullmatch(f"python:3.13-slim-trixie{digest}", bases["BUILDER"])
    assert re.fullmatch(f"gcr.io/distroless/python3-debian13:latest{digest}", bases["BASE"])


def test_the_second_stage_tries_the_first_ones_result_without_a_shell() -> None:
    python, option, code = json.loads(_final("RUN"))
    assert (_final("COPY"), python, option) == ("--from=builder /app /app", "python3", "-c")
    tried = subprocess.run(
        [sys.executable, option, code], env=environment(), check=False, capture_output=True
    )
    assert (tried.returncode, tried.stderr) == (0, b"")


def test_it_runs_as_a_user_without_rights_and_on_the_default_port() -> None:
    serve = settings.load([], {"BORGBASE_DEMO": "true"})
    assert isinstance(serve, settings.Serve)
    assert [address.port for address in serve.web.listen_addresses] == [DEFAULT_PORT]
    assert _final("EXPOSE") == str(DEFAULT_PORT)
    assert f"'127.0.0.1', {DEFAULT_PORT}," in _final("HEALTHCHECK")
    assert _final("USER") == f"{USER}:{USER}"
    assert json.loads(_final("ENTRYPOINT")) == ["python3", "-m", "borgbase_exporter"]
    assert _every("CMD") == []


def test_the_health_check_fails_for_an_exporter_that_is_unhealthy_or_gone(tmp_path: Path) -> None:
    class Unhealthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with exporter(tmp_path, "--demo") as running:
        well = _health_check(running.address.rpartition(":")[2])
    with http.server.HTTPServer(("127.0.0.1", 0), Unhealthy) as server:
        threading.Thread(target=server.handle_request).start()
        unhealthy = _health_check(str(server.server_port))
    gone = _health_check(str(server.server_port))

    assert (well, unhealthy, gone) == (0, 1, 1)


def _health_check(port: str) -> int:
    _, _, command = _final("HEALTHCHECK").partition("CMD ")
    code = json.loads(command)[2].replace(str(DEFAULT_PORT), port)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode
