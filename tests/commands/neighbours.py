"""The servers beside a session: an exporter, Prometheus, Alertmanager, and the web."""

from __future__ import annotations

import http.server
import json
import os
import re
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import trustme

from borgbase_exporter.simulator import SimulatedAccount, SimulatedApi
from tests.commands import ROOT
from tests.commands.led import Scene
from tests.commands.sandbox import make_programs
from tests.end_to_end.processes import (
    ANYWHERE,
    Running,
    environment,
    exporter,
    started,
    until,
)
from tests.programs import UnavailableError, program, require, root

DEPLOY = ROOT / "deploy"
API_HOST = "api.borgbase.com"


@dataclass(frozen=True)
class Neighbours:
    """What runs beside the sessions."""

    scene: Scene
    curl: str
    """The settings that lead curl there."""
    scraped: Callable[[], object]
    """Waits for Prometheus' first scrape, which comes after five seconds."""


@contextmanager
def neighbours(folder: Path, text: str) -> Iterator[Neighbours]:
    """Start what the pages, given as one text, find on localhost and elsewhere."""
    programs = {
        name: require(name) for name in ("promtool", "amtool", "prometheus", "alertmanager")
    }
    for name in ("helm", "node_exporter"):
        if re.search(rf"^\s*(\$ |sudo )*{name} ", text, re.MULTILINE):
            try:
                programs[name] = program(name)
            except UnavailableError:
                if os.environ.get("CI") == "true":
                    raise
    account = SimulatedAccount(troubles=())  # all is well, so `check` ends with 0
    token = folder / "token"
    token.touch(0o600)
    token.write_text(account.token)
    make_programs(folder / "bin")
    with ExitStack() as stack:
        enter = stack.enter_context
        api = enter(SimulatedApi([account]))
        ours = enter(exporter(folder, "--api.url", api.url, "--token.file", token))
        alertmanager = enter(_alertmanager(programs["alertmanager"], folder))
        prometheus = enter(_prometheus(programs["prometheus"], folder, ours, alertmanager))
        web, trusted = enter(_web(folder, set(re.findall(r"https://([a-z0-9][\w.-]*)", text))))
        known = {
            "localhost:10133": ours.address,
            "127.0.0.1:10133": ours.address,
            "localhost:9090": prometheus.address,
            "localhost:9093": alertmanager.address,
            ":443": web,
            ":": "127.0.0.1:1",  # whatever else there is on this machine or elsewhere
        }
        curl = [f'connect-to = "{name}:{address}"' for name, address in known.items()]

        def scraped() -> bool:
            up = "/api/v1/query?query=borgbase_up"
            return b'"borgbase_up"' in prometheus.get(up).body

        yield Neighbours(
            Scene(
                token=account.token,
                api=api.url,
                exporter=ours.address,
                prometheus=prometheus.address,
                alertmanager=alertmanager.address,
                pids={
                    "prometheus": prometheus.process.pid,
                    "alertmanager": alertmanager.process.pid,
                    "borgbase-exporter": ours.process.pid,
                },
                programs={name: str(path) for name, path in programs.items()},
                folders={"alertmanager": str(root(programs["alertmanager"]))},
                bin=str(folder / "bin"),
            ),
            "\n".join(["noproxy = *", f'cacert = "{trusted}"', *curl, ""]),
            lambda: until(scraped, "Prometheus has scraped"),
        )


@contextmanager
def _prometheus(
    path: Path, folder: Path, ours: Running, alertmanager: Running
) -> Iterator[Running]:
    """Run Prometheus with the shipped rules, and labels as if the exporter were on its port."""
    target = {"targets": [ours.address], "labels": {"instance": "localhost:10133"}}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(DEPLOY / "prometheus" / "rules" / "*.yml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager.address]}]}]},
        "scrape_configs": [{"job_name": "borgbase", "static_configs": [target]}],
    }
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(config))  # JSON is YAML
    command = (
        path,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={ANYWHERE}",
        "--web.enable-admin-api",
    )
    with started(
        command, environment(), folder / "prometheus.log", 'msg="Listening on"'
    ) as running:
        until(lambda: running.get("/-/ready").status == HTTPStatus.OK, "Prometheus is ready")
        yield running


@contextmanager
def _alertmanager(path: Path, folder: Path) -> Iterator[Running]:
    command = (
        path,
        f"--config.file={DEPLOY / 'alertmanager' / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={ANYWHERE}",
        "--cluster.listen-address=",
    )
    with started(
        command, environment(), folder / "alertmanager.log", 'msg="Listening on"', root(path)
    ) as running:
        until(lambda: running.get("/-/ready").status == HTTPStatus.OK, "Alertmanager is ready")
        yield running


class _Site(http.server.BaseHTTPRequestHandler):
    """Every site of the web: the API knows POST alone, all others have every file."""

    def do_GET(self) -> None:
        api = self.headers.get("Host") == API_HOST
        self.send_response(HTTPStatus.METHOD_NOT_ALLOWED if api else HTTPStatus.OK)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_HEAD = do_GET  # noqa: N815 - theirs

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@contextmanager
def _web(folder: Path, hosts: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Serve these hosts by TLS; yield the address, and the certificate to trust."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(API_HOST, *sorted(hosts)).configure_cert(context)
    trusted = folder / "authority.pem"
    authority.cert_pem.write_to_path(trusted)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Site) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}", trusted
        finally:
            server.shutdown()
            thread.join()
