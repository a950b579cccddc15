"""Check that a built image does what docs/container.md says; for machines with Docker.

    docker build --tag borgbase-exporter .
    python -m tests.deploy.image borgbase-exporter

Needs the standard library alone. What the image serves is checked by tests/smoke.py.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.release import version

PATIENCE = 60.0  # seconds after which waiting for a health check ends
LARGEST = 100_000_000  # bytes of an image with its base, unpacked
USER = "65532"
HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")


def prove(image: str) -> None:
    """Raise an AssertionError if the image is not as documented."""
    (described,) = json.loads(_docker("image", "inspect", image))
    config, labels = described["Config"], described["Config"]["Labels"]
    assert config["User"] == f"{USER}:{USER}"
    assert config["Entrypoint"] == ["python3", "-m", "borgbase_exporter"]
    assert labels["org.opencontainers.image.version"] == version()
    assert described["Size"] < LARGEST, described["Size"]

    for shell in ("/bin/sh", "/bin/bash", "/busybox/sh"):
        done = _run("run", "--rm", "--network=none", f"--entrypoint={shell}", image, "-c", "true")
        assert done.returncode == 127, f"there is a shell: {shell}"

    with _container(image, *HARDENED, serve=("--demo",)) as name:
        assert _health(name) == "healthy", _run("logs", name).stderr
        lines = _python(name, "print(open('/proc/1/status').read())").stdout.splitlines()
        facts = {name: value for name, _, value in (line.partition(":") for line in lines)}
        assert facts["Uid"].split() == [USER] * 4
        assert int(facts["CapEff"], 16) == 0
        refused = _python(name, "open('/tmp/written', 'w')")
        assert "Read-only file system" in refused.stderr, refused
        assert _stopped(name) == 0, "SIGTERM did not reach it, or it ended too slowly"
        log = _run("logs", name).stderr
        assert not [word for word in ("warn", "error") if f"level={word}" in log], log

    # It writes nothing to a writable root; without a listener on the port it is unhealthy.
    with _container(image, serve=("--demo", "--web.listen-address=:10134")) as name:
        assert _health(name) == "unhealthy"
        assert _stopped(name) == 0
        assert _docker("diff", name).strip() == ""


@contextmanager
def _container(image: str, *options: str, serve: tuple[str, ...]) -> Iterator[str]:
    """Run an image in the background, with health checks more often than it declares."""
    often = ("--health-interval=1s", "--health-start-period=0s", "--health-retries=5")
    started = _docker("run", "--detach", "--network=none", *often, *options, image, *serve)
    try:
        yield (name := started.strip())
    finally:
        _docker("rm", "--force", name)


def _health(name: str) -> str:
    deadline = time.monotonic() + PATIENCE
    while (health := _state(name)["Health"]["Status"]) == "starting":
        assert time.monotonic() < deadline, _run("logs", name).stderr
        time.sleep(0.1)
    return str(health)


def _stopped(name: str) -> int:
    """Stop a container by SIGTERM, then SIGKILL; return its exit status."""
    _docker("stop", name)
    return int(_state(name)["ExitCode"])


def _state(name: str) -> dict[str, Any]:
    (described,) = json.loads(_docker("inspect", name))
    return dict(described["State"])


def _python(name: str, code: str) -> subprocess.CompletedProcess[str]:
    return _run("exec", name, "python3", "-c", code)


def _docker(*arguments: str) -> str:
    done = _run(*arguments)
    assert done.returncode == 0, f"docker {' '.join(arguments)}:\n{done.stderr}"
    return done.stdout


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["docker", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)


if __name__ == "__main__":
    prove(*sys.argv[1:])
