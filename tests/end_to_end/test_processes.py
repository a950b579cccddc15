"""Starting, stopping, and the answers in between."""

import signal
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.end_to_end.processes import EXPORTER, PATIENCE, environment, exporter, run, until

SOME_TOKEN = "opens-nothing"


def test_a_port_in_use_is_reported_in_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("--web.listen-address", address, BORGBASE_TOKEN=SOME_TOKEN)

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f' level=error msg="cannot listen on {address}: Address already in use' in line


def test_in_the_first_poll_it_is_healthy_not_ready_and_ends_at_sigterm(tmp_path: Path) -> None:
    with ExitStack() as stack:
        api = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        api.settimeout(PATIENCE)
        url = f"http://127.0.0.1:{api.getsockname()[1]}/graphql"
        running = stack.enter_context(
            exporter(tmp_path, "--api.url", url, "--poll.timeout=1h", BORGBASE_TOKEN=SOME_TOKEN)
        )
        polling, _ = api.accept()
        stack.enter_context(polling)
        assert b"Bearer" in polling.recv(65_536)
        healthy, ready = running.get("/-/healthy"), running.get("/-/ready")
        metrics = running.get("/metrics").text.splitlines()
        host, port = running.address.split(":")
        for request in (b"", b"GET /metrics HTTP/1.1\r\nHost:", b"GET /metrics HTTP/1.0\r\n\r\n"):
            client = stack.enter_context(socket.create_connection((host, int(port))))
            client.sendall(request)
        assert client.recv(12) == b"HTTP/1.1 200"

        # The poll and the clients never end, so the exit must not wait for them.
        running.process.terminate()
        status = running.process.wait(PATIENCE)

    assert (healthy.status, healthy.text) == (200, "OK\n")
    waiting = "waiting for the first poll of 1 of 1 accounts\n"
    assert (ready.status, ready.text) == (503, waiting)
    assert 'borgbase_up{account="default"} 0' in metrics
    assert 'borgbase_polls_total{account="default"} 0' in metrics
    assert not any(line.startswith("borgbase_repo_") for line in metrics)
    assert status == 0
    assert running.log.count("msg=stopping") == 1


def test_the_demo_serves_its_pages(tmp_path: Path) -> None:
    with exporter(tmp_path, "--demo") as running:
        until(lambda: running.get("/-/ready").status == 200, "the first poll has ended")
        metrics, page = running.get("/metrics"), running.get("/")
        running.process.send_signal(signal.SIGHUP)
        # One for each repo but the new server, which has not changed.
        until(lambda: running.get("/").text.count('class="trend"') == 11, "curves are shown")

    assert metrics.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'borgbase_account_repos{account="demo"} 12' in metrics.text
    assert 'borgbase_simulated{account="demo"} 1' in metrics.text
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "postgres-prod" in page.text


def test_without_the_status_page_no_repo_is_named(tmp_path: Path) -> None:
    with exporter(tmp_path, "--demo", "--web.no-status-page", "--log.level=debug") as running:
        page = running.get("/")
        until(lambda: running.get("/-/ready").status == 200, "the first poll has ended")
        running.process.send_signal(signal.SIGHUP)
        until(lambda: running.log.count("msg=polled") == 2, "the second poll has ended")
    assert (page.status, page.text) == (404, "the metrics are at /metrics\n")
    assert "query=Tokens" in running.log
    assert "query=Usage" not in running.log


@pytest.mark.parametrize(
    ("signals", "status"), [((signal.SIGHUP, signal.SIGTERM), 0), ((signal.SIGINT,), 130)]
)
def test_signals_during_imports(signals: tuple[signal.Signals, ...], status: int) -> None:
    with subprocess.Popen(
        [*EXPORTER, "--demo", "--web.listen-address=127.0.0.1:0"],
        env=environment(PYTHONPROFILEIMPORTTIME="1"),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        try:
            assert any("msgspec" in line for line in process.stderr)
            for number in signals:
                process.send_signal(number)
            assert "Traceback" not in process.stderr.read()
            assert process.wait(PATIENCE) == status
        finally:
            process.kill()
