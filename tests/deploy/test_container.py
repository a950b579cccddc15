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
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from borgbase_exporter import settings
from tests.end_to_end.processes import ANYWHERE, ROOT, environment, started, until

USER = 65532
DEFAULT_PORT = 10133

# As `docker run --read-only` does it: a root that nobody can write to, and a user without rights.
CONFINED = (
    *("unshare", "--mount", "sh", "-c"),
    "mount -o remount,bind,ro / && exec setpriv "
    f'--reuid={USER} --regid={USER} --clear-groups --no-new-privs "$@"',
    "sh",
)


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


def _settings(name: str) -> dict[str, str]:
    every = " ".join(words for found, words in FINAL if found == name)
    return dict(word.split("=", 1) for word in shlex.split(every))


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
    install, compile_ = map(shlex.split, _every("RUN")[:2])

    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} < set(install)
    assert [word for word in install if not word.startswith("--")] == ["pip", "install"]
    assert compile_[:3] == ["python", "-m", "compileall"]
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


def test_the_context_is_what_is_copied_and_no_more() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    sources = {words.split()[0] for words in _every("COPY")} - {"--from=builder"}

    rules = [rule for rule in ignored if not rule.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == sources
    assert all((ROOT / source).exists() for source in sources)


@pytest.fixture
def image() -> Iterator[Path]:
    """The final stage's /app, made by the Dockerfile's own steps.

    The dependencies are those of the interpreter that runs the tests.
    """
    # Not below pytest's folders, which the user of the image cannot read.
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        app = root / "app"
        app.mkdir()
        for *_, source, target in map(str.split, _every("COPY")):
            if target.startswith("/app/"):
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                copy(ROOT / source, root / target[1:])
        for cache in [*app.rglob("__pycache__")]:
            shutil.rmtree(cache)  # as .dockerignore has it
        compile_ = [word.replace("/app", str(app)) for word in shlex.split(_every("RUN")[1])]
        subprocess.run([sys.executable, *compile_[1:]], check=True)
        yield app


def test_it_serves_from_a_read_only_root_to_its_own_health_check(
    image: Path, tmp_path: Path
) -> None:
    variables = {name: v.replace("/app", str(image)) for name, v in _settings("ENV").items()}
    env = {"PATH": os.environ["PATH"]} | variables
    probe = [*CONFINED, sys.executable, "-c", "import msgspec, uvicorn"]
    usable = os.geteuid() == 0 and shutil.which("unshare") and shutil.which("setpriv")
    if not usable or subprocess.run(probe, env=env, capture_output=True, check=False).returncode:
        pytest.skip("needs root, unshare, and an interpreter that any user can run")
    entry = [sys.executable, *json.loads(_final("ENTRYPOINT"))[1:]]
    command = [*CONFINED, *entry, "--demo", "--web.listen-address", ANYWHERE]

    assert {p.stem for p in image.rglob("*.py")} == {
        p.name.split(".")[0] for p in image.rglob("*.pyc")
    }
    with started(command, env, tmp_path / "log", "msg=listening") as running:
        until(lambda: running.get("/-/ready").status == 200, "the first poll has ended")
        process = Path(f"/proc/{running.process.pid}")
        status, mounts = ((process / name).read_text() for name in ("status", "mounts"))
        healthy = _health_check(running.address.split(":")[1])

    assert re.search(rf"^Uid:(\t{USER}){{4}}$", status, re.MULTILINE)
    assert re.findall(r"^\S+ / \S+ (\w\w),", mounts, re.MULTILINE) == ["ro"]
    assert healthy == 0
    assert "level=error" not in running.log


def test_the_health_check_fails_for_an_exporter_that_is_sick_or_gone() -> None:
    class Sick(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Sick) as server:
        threading.Thread(target=server.handle_request).start()
        sick = _health_check(str(server.server_port))
    gone = _health_check(str(server.server_port))

    assert (sick, gone) == (1, 1)


def _health_check(port: str) -> int:
    _, _, command = _final("HEALTHCHECK").partition("CMD ")
    code = json.loads(command)[2].replace(str(DEFAULT_PORT), port)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode
