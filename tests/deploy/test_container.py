"""What the Dockerfile promises, as far as it can be held to it without a container engine.

With one, tests/deploy/image.py asks the built image.
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
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from borgbase_exporter import __version__
from borgbase_exporter.config import options
from tests.end_to_end.processes import ANYWHERE, ROOT, environment, started, until

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
USER = 65532
DEFAULT_PORT = 10133

# As `docker run --read-only` does it: nothing below / can be written to, by a user who is nobody.
CONFINED = (
    *("unshare", "--mount", "sh", "-c"),
    "mount -o remount,bind,ro / && exec setpriv "
    f'--reuid={USER} --regid={USER} --clear-groups --no-new-privs "$@"',
    "sh",
)


def _parsed(text: str) -> list[tuple[str, str]]:
    """Split a Dockerfile into its instructions and their words; there are no here-documents."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    instructions = re.sub(r"\\\n *", "", lines).split("\n")
    return [(name, words) for name, _, words in (line.partition(" ") for line in instructions)]


INSTRUCTIONS = [i for i in _parsed((ROOT / "Dockerfile").read_text("utf-8")) if i != ("", "")]
FINAL = INSTRUCTIONS[max(n for n, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM") :]


def _every(name: str) -> list[str]:
    return [words for found, words in INSTRUCTIONS if found == name]


def _final(name: str) -> str:
    (words,) = [words for found, words in FINAL if found == name]
    return words


def _settings(name: str) -> dict[str, str]:
    every = " ".join(words for found, words in FINAL if found == name)
    return dict(word.split("=", 1) for word in shlex.split(every))


def test_hadolint_has_nothing_to_say() -> None:
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    hadolint = shutil.which("hadolint", path=places)
    if not hadolint:
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop("hadolint is neither on PATH nor among the installed development tools")
    done = subprocess.run(
        [hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_everything_installed_is_locked_by_hash() -> None:
    install, compile_ = map(shlex.split, _every("RUN")[:2])

    assert install[:2] == ["pip", "install"]
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} < set(install)
    assert [word for word in install if not word.startswith("--")] == ["pip", "install"]
    assert compile_[:3] == ["python", "-m", "compileall"]
    assert _every("ADD") == []


def test_the_second_stage_gets_only_the_result_and_tries_it_without_a_shell() -> None:
    assert _every("FROM") == ["${BUILDER} AS builder", "${BASE}"]
    assert _final("COPY") == "--from=builder /app /app"
    python, option, code = json.loads(_final("RUN"))
    assert (python, option) == ("python3", "-c")
    tried = subprocess.run(
        [sys.executable, option, code], env=environment(), check=False, capture_output=True
    )
    assert tried.returncode == 0


def test_both_stages_have_the_same_debian_and_python() -> None:
    bases = dict(words.split("=", 1) for words in _every("ARG"))
    digest = "(@sha256:[0-9a-f]{64})?"

    # Debian 13 is trixie, and its Python 3.13.
    assert re.fullmatch(f"python:3.13-slim-trixie{digest}", bases["BUILDER"])
    assert re.fullmatch(f"gcr.io/distroless/python3-debian13:latest{digest}", bases["BASE"])


def test_it_runs_as_nobody_in_particular_and_gets_signals_itself() -> None:
    assert _final("USER") == f"{USER}:{USER}"
    assert json.loads(_final("ENTRYPOINT")) == ["python3", "-m", "borgbase_exporter"]
    assert _every("CMD") == []


def test_the_port_is_the_default_one() -> None:
    (default,) = [o.default for o in options({}) if o.flag == "--web.listen-address"]

    assert default == f":{DEFAULT_PORT}"
    assert _final("EXPOSE") == str(DEFAULT_PORT)
    assert f"'127.0.0.1', {DEFAULT_PORT}," in _final("HEALTHCHECK")


def test_the_labels_tell_what_it_is() -> None:
    assert _settings("LABEL") == {
        f"org.opencontainers.image.{name}": value
        for name, value in {
            "title": PROJECT["name"],
            "description": PROJECT["description"],
            "version": __version__,
            "revision": "${REVISION}",
            "source": PROJECT["urls"]["Source"],
            "documentation": f"{PROJECT['urls']['Source']}/blob/main/docs/container.md",
            "licenses": PROJECT["license"],
        }.items()
    }


def test_the_context_is_what_is_copied_and_no_more() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    sources = {words.split()[0] for words in _every("COPY")} - {"--from=builder"}

    rules = [rule for rule in ignored if not rule.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == sources
    assert all((ROOT / source).exists() for source in sources)


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """The final stage's /app, made by the Dockerfile's own steps.

    All but the dependencies, which the interpreter of these tests has already.
    """
    # Not below pytest's folders: those are closed to the user of the image.
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


def test_every_module_is_compiled(image: Path) -> None:
    sources = {file.stem for file in image.rglob("*.py")}

    assert sources == {file.name.split(".")[0] for file in image.rglob("*.pyc")}


def test_it_serves_from_a_read_only_root_to_its_own_health_check(
    image: Path, tmp_path: Path
) -> None:
    env = _environment(image)
    probe = [*CONFINED, sys.executable, "-c", "import msgspec, rich, uvicorn"]
    usable = os.geteuid() == 0 and shutil.which("unshare") and shutil.which("setpriv")
    if not usable or subprocess.run(probe, env=env, capture_output=True, check=False).returncode:
        pytest.skip("needs root, unshare, and an interpreter that any user can run")
    entry = [sys.executable, *json.loads(_final("ENTRYPOINT"))[1:]]
    command = [*CONFINED, *entry, "--demo", "--web.listen-address", ANYWHERE]

    with started(command, env, tmp_path / "log", "msg=listening") as running:
        until(lambda: running.get("/-/ready").status == 200, "the first poll has ended")
        process = Path(f"/proc/{running.process.pid}")
        status, mounts = ((process / name).read_text() for name in ("status", "mounts"))
        healthy = _health_check(running.address.split(":")[1])

    assert re.search(rf"^Uid:(\t{USER}){{4}}$", status, re.MULTILINE)
    assert re.findall(r"^\S+ / \S+ (\w\w),", mounts, re.MULTILINE) == ["ro"]
    assert healthy == 0
    assert "level=error" not in running.log
    assert "level=warning" not in running.log


def test_the_health_check_tells_sick_from_well() -> None:
    class Sick(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    with http.server.HTTPServer(("127.0.0.1", 0), Sick) as server:
        threading.Thread(target=server.handle_request).start()
        sick = _health_check(str(server.server_port))
    dead = _health_check(str(server.server_port))

    assert (sick, dead) == (1, 1)


def _health_check(port: str) -> int:
    _, _, command = _final("HEALTHCHECK").partition("CMD ")
    code = json.loads(command)[2].replace(str(DEFAULT_PORT), port)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode


def _environment(app: Path) -> dict[str, str]:
    """Return the environment of the image, and a PATH; nothing else is handed on."""
    image = {name: value.replace("/app", str(app)) for name, value in _settings("ENV").items()}
    return {"PATH": os.environ["PATH"]} | image
