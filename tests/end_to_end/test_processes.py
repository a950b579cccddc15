"""Starting and stopping, for good and bad, and what is served in between."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.processes import (
    ANYWHERE,
    EXPORTER,
    PATIENCE,
    Running,
    environment,
    exporter,
    run,
    until,
)

SOME_TOKEN = "opens-nothing"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with exporter(tmp_path_factory.mktemp("demo"), "--demo") as running:
        until(lambda: running.get("/-/ready").status == 200, "the first poll has ended")
        yield running


@contextmanager
def silence() -> Iterator[socket.socket]:
    """An API that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        yield server


def test_all_configuration_errors_are_reported_together() -> None:
    done = run(
        "serve",
        "--poll.interval=soon",
        "--web.listen-address=everywhere",
        BORGBASE_LOG_LEVEL="loud",
        BORGBASE_API_URL="http://api.example.org/graphql",
    )

    assert done.returncode == 2
    assert done.stdout == ""
    title, *faults, hint = done.stderr.splitlines()
    assert title == "borgbase-exporter: 5 errors in the configuration"
    assert {fault.split()[0].rstrip(":") for fault in faults} == {
        "--poll.interval",
        "--web.listen-address",
        "BORGBASE_LOG_LEVEL",
        "BORGBASE_API_URL",
        "no",  # token
    }
    assert hint == "See borgbase-exporter --help."


def test_a_port_in_use_is_reported_in_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("--web.listen-address", address, BORGBASE_TOKEN=SOME_TOKEN)

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f' level=error msg="cannot listen on {address}: Address already in use' in line


def test_sigterm_ends_it_in_the_middle_of_a_poll_with_clients_connected(tmp_path: Path) -> None:
    with ExitStack() as stack:
        api = stack.enter_context(silence())
        url = f"http://127.0.0.1:{api.getsockname()[1]}/graphql"
        running = stack.enter_context(
            exporter(tmp_path, "--api.url", url, "--poll.timeout=1h", BORGBASE_TOKEN=SOME_TOKEN)
        )
        polling, _ = api.accept()
        stack.enter_context(polling)
        assert b"Bearer" in polling.recv(65_536)
        host, port = running.address.split(":")
        for request in (b"", b"GET /metrics HTTP/1.1\r\nHost:", b"GET /metrics HTTP/1.0\r\n\r\n"):
            client = stack.enter_context(socket.create_connection((host, int(port))))
            client.sendall(request)
        assert client.recv(12) == b"HTTP/1.1 200"

        # Neither the poll nor the clients end by themselves, so nothing is waited for.
        running.process.terminate()
        status = running.process.wait(30)

    assert status == 0
    assert running.log.count("msg=stopping") == 1


def test_before_the_first_poll_has_ended_it_is_healthy_but_not_ready(tmp_path: Path) -> None:
    with silence() as api:
        url = f"http://127.0.0.1:{api.getsockname()[1]}/graphql"
        with exporter(tmp_path, "--api.url", url, BORGBASE_TOKEN=SOME_TOKEN) as running:
            healthy, ready = running.get("/-/healthy"), running.get("/-/ready")
            metrics = running.get("/metrics").text.splitlines()

    assert (healthy.status, healthy.text) == (200, "OK\n")
    assert (ready.status, ready.text) == (
        503,
        "waiting for the first poll of 1 of 1 accounts\n",
    )
    assert 'borgbase_up{account="default"} 0' in metrics
    assert 'borgbase_polls_total{account="default"} 0' in metrics
    assert not any(line.startswith("borgbase_repo_") for line in metrics)


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/-/healthy", "text/plain; charset=utf-8"),
        ("/-/ready", "text/plain; charset=utf-8"),
    ],
)
def test_a_page_is_given_for_get_and_announced_for_head(
    demo: Running, path: str, content_type: str
) -> None:
    page, head, post = (demo.get(path, method=method) for method in ("GET", "HEAD", "POST"))

    assert (page.status, head.status, post.status) == (200, 200, 405)
    assert page.headers["Content-Type"] == head.headers["Content-Type"] == content_type
    assert len(page.body) == int(page.headers["Content-Length"]) > 0
    assert head.body == b""
    assert int(head.headers["Content-Length"]) > 0
    assert post.headers["Allow"] == "GET, HEAD"


def test_what_there_is_not(demo: Running) -> None:
    assert demo.get("/favicon.ico").status == 404
    assert demo.get("/metrics/").status == 404


def test_the_demo_has_its_repos(demo: Running) -> None:
    metrics = demo.get("/metrics").text
    assert 'borgbase_account_repos{account="demo"} 12' in metrics
    assert 'borgbase_simulated{account="demo"} 1' in metrics
    assert demo.get("/-/ready").text == "OK\n"
    assert "postgres-prod" in demo.get("/").text


def test_without_the_status_page_no_repo_is_named(tmp_path: Path) -> None:
    with exporter(tmp_path, "--demo", "--web.no-status-page") as running:
        until(lambda: running.get("/-/ready").status == 200, "the first poll has ended")
        page = running.get("/")
    assert (page.status, page.text) == (404, "the metrics are at /metrics\n")


@contextmanager
def importing(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start the exporter; yield it while it still imports what it needs."""
    with subprocess.Popen(
        [*EXPORTER, *arguments],
        env=environment(PYTHONPROFILEIMPORTTIME="1"),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        try:
            for line in process.stderr:
                if "msgspec" in line:
                    yield process
                    return
            pytest.fail("it ended before it had imported anything")
        finally:
            process.kill()


def test_signals_before_the_event_loop_runs_are_handled() -> None:
    with importing("--demo", "--web.listen-address", ANYWHERE) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_an_early_interrupt_has_no_traceback() -> None:
    with importing("--demo", "--web.listen-address", ANYWHERE) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert process.stderr
        assert "Traceback" not in process.stderr.read()


def test_systemd_is_notified(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        # A relative path, because those of sockets may not be long.
        address = os.path.relpath(tmp_path / "notify")
        systemd.bind(address)
        systemd.settimeout(PATIENCE)
        with exporter(tmp_path, "--demo", NOTIFY_SOCKET=str(Path(address).resolve())) as running:
            assert systemd.recv(100) == b"READY=1"
            running.process.terminate()
            assert systemd.recv(100) == b"STOPPING=1"
