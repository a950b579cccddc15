"""Check that an installed exporter prints its version, checks a simulated account and serves it.

    python -m tests.smoke COMMAND...

COMMAND starts borgbase-exporter: its path, or `docker run --rm --network host IMAGE`. Needs the
standard library alone, so that a dependency that the installation lacks is noticed.
"""

import http.client
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing

from tests.release import version

PATIENCE = 60.0  # seconds after which waiting ends: far longer than needed on a busy machine


def smoke(command: Sequence[str]) -> None:
    """Raise an AssertionError that says what does not work."""
    assert _run(command, "--version", status=0) == f"borgbase-exporter {version()}\n"
    (account,) = json.loads(_run(command, "check", "--demo", "--json", status=1))["accounts"]
    assert account["up"], account  # status 1 means problems, and the simulated account has some

    serve = [*command, "serve", "--demo", "--web.listen-address", "127.0.0.1:0"]
    with subprocess.Popen(serve, stderr=subprocess.PIPE, text=True) as process:
        try:
            _scrape(_address(process))
        finally:
            process.terminate()
            _, rest = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, f"status {process.returncode} after SIGTERM:\n{rest}"


def _run(command: Sequence[str], *arguments: str, status: int) -> str:
    line = [*command, *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == status, f"{arguments}: status {done.returncode}\n{done.stderr}"
    return done.stdout


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    log = []
    for line in process.stderr:
        log.append(line)
        if found := re.search(r"msg=listening address=(\S+)", line):
            return found[1]
    raise AssertionError(f"it ended instead of serving:\n{''.join(log)}")


def _scrape(address: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while _ask(address, "/-/ready")[0] != 200:
        assert time.monotonic() < deadline, "the first poll does not end"
        time.sleep(0.1)
    status, metrics = _ask(address, "/metrics")
    assert status == 200
    assert 'borgbase_up{account="demo"} 1' in metrics.splitlines(), metrics
    status, page = _ask(address, "/")
    assert status == 200
    assert "</html>" in page, page


def _ask(address: str, path: str) -> tuple[int, str]:
    with closing(http.client.HTTPConnection(address, timeout=PATIENCE)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


if __name__ == "__main__":
    smoke(sys.argv[1:])
