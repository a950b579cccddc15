"""`make stack` runs with Debian's programs and the configuration files that ship."""

import http.server
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from deploy.stack import Service, _options, look, main, tell
from tests.end_to_end.processes import ROOT, Prometheus, ask, environment, until
from tests.programs import require

DEPLOY = ROOT / "deploy"
NAMES = ("exporter", "prometheus", "alertmanager", "grafana")
GRAFANA = """\
#!{python}
import http.server, json, os, sys

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps([sys.argv[1:], dict(os.environ)]).encode())

place = os.environ["GF_SERVER_HTTP_ADDR"], int(os.environ["GF_SERVER_HTTP_PORT"])
http.server.HTTPServer(place, Page).serve_forever()
"""


@pytest.fixture
def ports() -> dict[str, int]:
    """Ports that nobody has now."""
    with ExitStack() as taken:
        sockets = [taken.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in NAMES]
        return {n: s.getsockname()[1] for n, s in zip(NAMES, sockets, strict=True)}


@contextmanager
def stack(
    folder: Path, ports: dict[str, int], *flags: str, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    for name in ("prometheus", "alertmanager"):
        require(name)
    chosen = [f"--{name}-port={port}" for name, port in ports.items()]
    command = [sys.executable, "-m", "deploy.stack", f"--data={folder / 'stack'}", *chosen, *flags]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(**variables), text=True, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            said(process)


def said(process: subprocess.Popen[str], last: str | None = None) -> str:
    """Return what it says, up to the line with the last words, or to its end."""
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


def test_all_of_it_works_together_until_it_is_interrupted(
    tmp_path: Path, ports: dict[str, int]
) -> None:
    with stack(tmp_path, ports, "--demo", PATH="/usr/bin:/bin") as process:
        summary = said(process, "Ctrl-C")
        assert f"exporter      http://localhost:{ports['exporter']}\n" in summary
        assert "grafana       is not on PATH" in summary
        (page,) = re.findall(r"^prometheus +http://localhost:\d+(/\S+)$", summary, re.MULTILINE)
        (asking,) = re.findall(r"^alertmanager +(.+)$", summary, re.MULTILINE)

        address = f"127.0.0.1:{ports['prometheus']}"
        log = tmp_path / "stack" / "prometheus.log"
        prometheus = Prometheus(process, address, log)  # type: ignore[arg-type]  # text or bytes
        expected = {
            group["name"]
            for file in (DEPLOY / "prometheus" / "rules").iterdir()
            for group in yaml.safe_load(file.read_text())["groups"]
        }
        assert {group["name"] for group in prometheus.api("rules")["groups"]} == expected

        assert page == "/classic/alerts"
        assert "BorgBaseRepoVanished" in prometheus.get(page).text

        listed = subprocess.run(shlex.split(asking), check=True, capture_output=True, text=True)
        assert listed.stdout.startswith("Alertname ")

        # Found; its first scrape may come a minute later. tests/end_to_end waits for one.
        (target,) = until(lambda: prometheus.api("targets")["activeTargets"], "a target is found")
        assert target["scrapeUrl"] == f"http://localhost:{ports['exporter']}/metrics"
        assert target["labels"]["job"] == "borgbase"
        metrics = f"127.0.0.1:{ports['exporter']}", "/metrics"
        until(lambda: 'borgbase_up{account="default"} 1' in ask(*metrics).text, "it has polled")

        (found,) = until(
            lambda: prometheus.api("alertmanagers")["activeAlertmanagers"], "one is found"
        )
        assert found["url"] == f"http://localhost:{ports['alertmanager']}/api/v2/alerts"
        status = ask(f"127.0.0.1:{ports['alertmanager']}", "/api/v2/status")
        receivers = yaml.safe_load(json.loads(status.body)["config"]["original"])["receivers"]
        assert [receiver["name"] for receiver in receivers] == ["pager", "mail", "nobody"]

        process.send_signal(signal.SIGINT)
        assert said(process) == "stopped\n"

    assert process.returncode == 0
    assert_free(ports.values())


def test_who_is_impatient_is_told_of_an_alert_at_once(
    tmp_path: Path, ports: dict[str, int]
) -> None:
    with stack(tmp_path, ports, "--demo", "--impatient") as process:
        said(process, "Ctrl-C")
        told = said(process, "BorgBaseRepoQuotaAlmostFull")

    last = told.splitlines()[-1]
    about = "BorgBaseRepoQuotaAlmostFull default postgres-prod: A BorgBase repo's quota is almost"
    assert re.match(rf"\d\d:\d\d:\d\d fires critical {about}", last), told


@contextmanager
def pages(**bodies: object) -> Iterator[int]:
    """Serve pages, by the first word of their paths, on a port."""

    class Pages(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = bodies.get(re.findall(r"\w+|$", self.path)[0])
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write(found if isinstance(found, bytes) else json.dumps(found).encode())

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def alert(fingerprint: str, **labels: str) -> dict[str, object]:
    annotations = {"summary": "It is so."}
    return {"fingerprint": fingerprint, "labels": labels, "annotations": annotations}


def test_alerts_are_told_once_when_they_fire_and_once_when_they_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    absent = alert("1", alertname="BorgBaseExporterAbsent", severity="critical")
    hostile = alert("2", alertname="Full", severity="warning", account="a", repo="\x1b[2Jb")
    told: dict[str, str] = {}
    seen = []
    for answer in ([absent], [absent, hostile], None, [hostile], []):
        with pages(api=answer) as port:
            told = tell(Service("alertmanager", port, "/-/ready", ()), told)
        seen.append([line[9:] for line in capsys.readouterr().out.splitlines()])

    assert seen == [
        ["fires critical BorgBaseExporterAbsent: It is so."],
        ["fires warning  Full a  [2Jb: It is so."],
        [],
        ["ended critical BorgBaseExporterAbsent: It is so."],
        ["ended warning  Full a  [2Jb: It is so."],
    ]


def test_links_lead_to_pages_where_there_are_some() -> None:
    app = b"<!DOCTYPE html><script src=app.js></script>"
    with pages(alerts=app, **{"": app}) as port:
        url = f"http://localhost:{port}"
        assert look(Service("prometheus", port, "/-/ready", ())) == f"{url}/alerts"
        assert look(Service("alertmanager", port, "/-/ready", ("/no/alertmanager",))) == url

    with pages() as port:
        url = f"http://localhost:{port}"
        asking = f"amtool alert --alertmanager.url={url}"
        assert look(Service("alertmanager", port, "/-/ready", ("/no/alertmanager",))) == asking


def test_a_simulated_account_has_data_of_its_own() -> None:
    folders = [_options(flags)[0].data for flags in (["--demo"], ["--token.file=token"])]

    assert folders == [ROOT / ".cache" / "stack" / name for name in ("demo", "accounts")]


def test_without_programs_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no apt-get either
    monkeypatch.setattr("tests.programs.CACHE", tmp_path / "programs")

    assert main(["--demo", f"--data={tmp_path}"]) == 1

    told = capsys.readouterr().out
    assert told.startswith("stack: prometheus is not on PATH and Debian's package prometheus")
    assert "apt-get" in told
    assert "or take the Compose stack: docs/container.md\n" in told


def test_a_port_in_use_is_told_before_anything_starts(
    tmp_path: Path, ports: dict[str, int]
) -> None:
    with (
        socket.create_server(("127.0.0.1", ports["alertmanager"])),
        stack(tmp_path, ports, "--demo") as process,
    ):
        words = said(process)

    assert process.returncode == 1
    told = f"port {ports['alertmanager']}: address already in use; choose another with --alert"
    assert told in words
    assert not (tmp_path / "stack" / "exporter.log").exists()


def test_a_program_that_ends_ends_all_with_its_last_words(
    tmp_path: Path, ports: dict[str, int]
) -> None:
    with stack(tmp_path, ports, "--demo", "--poll.interval=soon") as process:
        words = said(process)

    assert process.returncode == 1
    assert "stack: exporter has ended with status 2; its last words:\n" in words
    assert '  --poll.interval: "soon"' in words
    assert_free(ports.values())


def test_a_grafana_on_path_is_told_where_everything_is(
    tmp_path: Path, ports: dict[str, int]
) -> None:
    home = tmp_path / "opt" / "grafana"
    for folder in ("bin", "conf"):
        (home / folder).mkdir(parents=True)
    (home / "conf" / "defaults.ini").touch()
    standin = home / "bin" / "grafana"
    standin.write_text(GRAFANA.format(python=sys.executable))
    standin.chmod(0o755)

    path = f"{standin.parent}{os.pathsep}{os.environ['PATH']}"
    with stack(tmp_path, ports, "--demo", PATH=path) as process:
        assert f"grafana       http://localhost:{ports['grafana']}\n" in said(process, "Ctrl-C")
        arguments, variables = json.loads(ask(f"127.0.0.1:{ports['grafana']}", "/").body)

    assert process.returncode == 0
    assert arguments == ["server", f"--homepath={home}"]
    assert variables["PROMETHEUS_URL"] == f"http://localhost:{ports['prometheus']}"
    provisioning = Path(variables["GF_PATHS_PROVISIONING"])
    provider = yaml.safe_load((provisioning / "dashboards" / "borgbase.yml").read_text())
    assert provider["providers"][0]["options"]["path"] == str(ROOT / "dashboards")
    assert (provisioning / "datasources" / "prometheus.yml").is_file()
