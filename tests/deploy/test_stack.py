"""`make stack` runs with Debian's programs and the configuration files that ship."""

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from tests.end_to_end.processes import ROOT, ask, environment, until
from tests.programs import require
from tests.rules import groups

NAMES = ("exporter", "prometheus", "alertmanager", "grafana")


@pytest.fixture
def ports() -> dict[str, int]:
    """Ports that are free now."""
    with ExitStack() as taken:
        sockets = [taken.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in NAMES]
        return {n: s.getsockname()[1] for n, s in zip(NAMES, sockets, strict=True)}


@contextmanager
def stack(folder: Path, ports: dict[str, int], *flags: str) -> Iterator[subprocess.Popen[str]]:
    for name in ("prometheus", "alertmanager"):
        require(name)
    chosen = [f"--{name}-port={port}" for name, port in ports.items()]
    command = [sys.executable, "-m", "deploy.stack", f"--data={folder / 'stack'}", *chosen, *flags]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            printed(process)


def printed(process: subprocess.Popen[str], last: str | None = None) -> str:
    """Return the output up to the line that contains `last`, or all of it."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if last and last in line:
            break
    else:
        process.wait()
    return "".join(lines)


def assert_free(ports: Iterable[int]) -> None:
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


def test_all_of_it_works_together(tmp_path: Path, ports: dict[str, int]) -> None:
    alert = "BorgBaseRepoQuotaAlmostFull"
    with stack(tmp_path, ports, "--demo", "--impatient") as process:
        summary = printed(process, "Ctrl-C")
        assert f"exporter      http://localhost:{ports['exporter']}\n" in summary
        fired = printed(process, alert)
        assert re.search(rf"\d\d:\d\d:\d\d fires critical {alert} demo postgres-prod: ", fired)

        prometheus = f"127.0.0.1:{ports['prometheus']}"
        loaded = json.loads(ask(prometheus, "/api/v1/rules").body)["data"]["groups"]
        assert {group["name"] for group in loaded} == {group["name"] for group in groups()}
        assert_links_work(summary, prometheus)
        status = ask(f"127.0.0.1:{ports['alertmanager']}", "/api/v2/status")
        receivers = yaml.safe_load(json.loads(status.body)["config"]["original"])["receivers"]
        shipped = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text())
        assert receivers == shipped["receivers"]

        process.send_signal(signal.SIGINT)
        assert printed(process).endswith("stopped\n")
    assert process.returncode == 0
    assert_free(ports.values())


def assert_links_work(summary: str, prometheus: str) -> None:
    """Check Prometheus' page with its styles, and the command or page of Alertmanager."""
    (page,) = re.findall(r"^prometheus +http://localhost:\d+(/\S+)$", summary, re.MULTILINE)
    text = until(lambda: ask(prometheus, page).text, "the page is there")
    styles = re.findall(r'href="(/[^"]+\.css[^"]*)"', text)
    assert [path for path in styles if ask(prometheus, path).status != 200] == []
    (look,) = re.findall(r"^alertmanager +(.+)$", summary, re.MULTILINE)
    if not look.startswith("http"):
        done = subprocess.run(shlex.split(look), check=True, capture_output=True, text=True)
        assert done.stdout.startswith("Alertname ")


def test_a_port_in_use_is_named_before_the_start(tmp_path: Path, ports: dict[str, int]) -> None:
    with (
        socket.create_server(("127.0.0.1", ports["alertmanager"])),
        stack(tmp_path, ports, "--demo") as process,
    ):
        text = printed(process)

    assert process.returncode == 1
    fault = f"port {ports['alertmanager']}: address already in use; choose another with --alert"
    assert fault in text
    assert not (tmp_path / "stack" / "exporter.log").exists()


def test_a_program_that_ends_stops_all_and_shows_why(tmp_path: Path, ports: dict[str, int]) -> None:
    with stack(tmp_path, ports, "--demo", "--poll.interval=soon") as process:
        text = printed(process)

    assert process.returncode == 1
    assert "stack: exporter ended with status 2; the end of its log:\n" in text
    assert "--poll.interval" in text
    assert_free(ports.values())
