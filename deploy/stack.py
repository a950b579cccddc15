"""The stack of deploy/compose without containers: `make stack`.

    python -m deploy.stack [--impatient] [--prometheus-port 9091 …] [flags of borgbase-exporter …]

The exporter, Prometheus and Alertmanager with the configuration files of this folder, and Grafana
if there is one on PATH, each on 127.0.0.1. Prometheus and Alertmanager come from PATH, or are
Debian's, fetched by tests/programs.py. Data and logs stay in `.cache/stack`. Alerts are told when
they begin to fire and when they end. Ctrl-C ends all of it.
"""

import argparse
import http.client
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from math import inf
from pathlib import Path

from borgbase_exporter.text import redacted
from tests.programs import UnavailableError, program, root

DEPLOY = Path(__file__).resolve().parent
PROJECT = DEPLOY.parent
DASHBOARDS = "/var/lib/grafana/dashboards/borgbase"
"""Where deploy/grafana looks for the dashboards."""
PATIENCE = 60.0
"""Seconds for programs to answer after their start, and to end after they were asked to."""
LOOK_SECONDS = 0.1
"""Between two looks at whether all programs still run."""
NEWS_SECONDS = 3.0
"""Between two looks at which alerts fire."""
ALERTS = "/api/v2/alerts?silenced=false&inhibited=false"
LAST_WORDS = 10
"""Lines of a log to show when its program has ended by itself."""

ADVICE = """\
  Prometheus and Alertmanager come from PATH, or by apt-get on Debian and Ubuntu. Install them so
  that `prometheus` and `alertmanager` are on PATH, or take the Compose stack: docs/container.md"""


class StackError(Exception):
    """The stack cannot go on; the message says why."""


@dataclass(frozen=True)
class Service:
    """A program of the stack: how to start it, and the page that answers 200 once it works."""

    name: str
    port: int
    ready: str
    command: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = PROJECT

    @property
    def url(self) -> str:
        """Its address, for a browser."""
        return f"http://localhost:{self.port}"

    @property
    def works(self) -> bool:
        """Whether it answers as it should."""
        return self.get(self.ready) is not None

    def get(self, path: str) -> bytes | None:
        """Return a page; None if there is none, or no answer."""
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as asked:
                asked.request("GET", path)
                answer = asked.getresponse()
                body = answer.read()
        except (OSError, http.client.HTTPException):
            return None
        return body if answer.status == HTTPStatus.OK else None


def services(options: argparse.Namespace, flags: Sequence[str]) -> Iterator[Service]:
    """Lay out the folder of data, and yield what to start; UnavailableError if a program lacks."""
    data: Path = options.data
    exporter, prometheus = options.exporter_port, options.prometheus_port
    yield Service(
        "exporter",
        exporter,
        "/-/healthy",
        (
            *(sys.executable, "-m", "borgbase_exporter", "serve"),
            *("--web.listen-address", f"127.0.0.1:{exporter}", *flags),
        ),
    )
    found = program("prometheus")
    yield Service(
        "prometheus",
        prometheus,
        "/-/ready",
        (
            found,
            f"--config.file={_prometheus_folder(options)}",
            f"--storage.tsdb.path={data / 'prometheus' / 'data'}",
            f"--web.listen-address=127.0.0.1:{prometheus}",
            f"--web.external-url=http://localhost:{prometheus}",
        ),
        folder=root(found),
    )
    found = program("alertmanager")
    yield Service(
        "alertmanager",
        options.alertmanager_port,
        "/-/ready",
        (
            found,
            f"--config.file={DEPLOY / 'alertmanager' / 'alertmanager.yml'}",
            f"--storage.path={data / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{options.alertmanager_port}",
            f"--web.external-url=http://localhost:{options.alertmanager_port}",
            "--cluster.listen-address=",
        ),
        folder=root(found),
    )
    if grafana := shutil.which("grafana"):
        yield Service(
            "grafana",
            options.grafana_port,
            "/api/health",
            (grafana, "server", f"--homepath={_grafana_home(Path(grafana))}"),
            _grafana_settings(data / "grafana", options.grafana_port)
            | {"PROMETHEUS_URL": f"http://localhost:{prometheus}"},
        )


def _prometheus_folder(options: argparse.Namespace) -> Path:
    """Copy the shipped configuration beside our own addresses; return the configuration's path."""
    folder: Path = options.data / "prometheus"
    for name in ("prometheus.yml", "rules/borgbase-recording.yml", "rules/borgbase-alerts.yml"):
        text = (DEPLOY / "prometheus" / name).read_text("utf-8")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(_hastened(text) if options.impatient else text, "utf-8")
    ports = {"borgbase": options.exporter_port, "alertmanager": options.alertmanager_port}
    (folder / "targets").mkdir(exist_ok=True)
    for name, port in ports.items():
        targets = [{"targets": [f"localhost:{port}"]}]  # JSON is YAML
        (folder / "targets" / f"{name}.yml").write_text(json.dumps(targets))
    return folder / "prometheus.yml"


def _hastened(text: str) -> str:
    """Have Prometheus look every few seconds, and alerts fire as soon as their condition holds."""
    text = re.sub(r"^ +for: .*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"(interval: )1m\b", r"\g<1>5s", text)


def _grafana_home(found: Path) -> Path:
    """Return the folder of Grafana's own files, which depends on how it was installed."""
    for folder in found.resolve().parents:
        for home in (folder, folder / "share" / "grafana"):
            if (home / "conf" / "defaults.ini").is_file():
                return home
    raise StackError(f"{found}: its folder with conf/defaults.ini is nowhere near")


def _grafana_settings(data: Path, port: int) -> dict[str, str]:
    """Copy the provisioning with the path of our dashboards; return Grafana's environment."""
    shutil.copytree(DEPLOY / "grafana" / "provisioning", data / "provisioning", dirs_exist_ok=True)
    provider = data / "provisioning" / "dashboards" / "borgbase.yml"
    provider.write_text(provider.read_text().replace(DASHBOARDS, str(PROJECT / "dashboards")))
    return {
        "GF_PATHS_DATA": str(data / "data"),
        "GF_PATHS_LOGS": str(data / "data"),
        "GF_PATHS_PROVISIONING": str(data / "provisioning"),
        "GF_SERVER_HTTP_ADDR": "127.0.0.1",
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_AUTH_DISABLE_LOGIN_FORM": "true",
        "GF_AUTH_BASIC_ENABLED": "false",
        "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION": "true",
        "GF_PLUGINS_PREINSTALL_DISABLED": "true",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
    }


@dataclass(frozen=True)
class Started:
    """A service that was started, and the file of what it says."""

    service: Service
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise a StackError with its last words, should it have ended."""
        if (status := self.process.poll()) is None:
            return
        words = self.log.read_text("utf-8", "replace").splitlines()[-LAST_WORDS:]
        title = f"{self.service.name} has ended with status {status}; its last words:"
        raise StackError("\n  ".join([title, *words]))


@contextmanager
def running(stack: Sequence[Service], data: Path) -> Iterator[list[Started]]:
    """Start all, each with a log in the folder of data, and in the end stop all."""
    started: list[Started] = []
    try:
        for service in stack:
            file = data / f"{service.name}.log"
            with file.open("wb") as log:
                process = subprocess.Popen(  # noqa: S603  # what we have chosen
                    service.command,
                    cwd=service.folder,
                    env=os.environ | service.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    process_group=0,  # Ctrl-C is for us, who stop them
                )
            started.append(Started(service, process, file))
        yield started
    finally:
        for each in started:
            each.process.terminate()
        for each in started:
            try:
                each.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                each.process.kill()
                each.process.wait()


def watch(started: Sequence[Started], done: Callable[[], bool], patience: float = inf) -> None:
    """Wait for something to be so; StackError if a program has ended, or once patience has."""
    deadline = time.monotonic() + patience
    while not done():
        for each in started:
            each.check()
        if time.monotonic() > deadline:
            mute = [each.service for each in started if not each.service.works]
            told = ", ".join(f"{service.name} on {service.url}" for service in mute)
            raise StackError(f"no answer from {told}")
        time.sleep(LOOK_SECONDS)


def follow(alertmanager: Service, started: Sequence[Started], asked: Sequence[int]) -> None:
    """Tell of alerts until an end is asked for; StackError if a program has ended."""
    firing: dict[str, str] = {}
    while not asked:
        firing = tell(alertmanager, firing)
        _pause(started, asked)


def _pause(started: Sequence[Started], asked: Sequence[int]) -> None:
    due = time.monotonic() + NEWS_SECONDS
    watch(started, lambda: bool(asked) or time.monotonic() > due)


def tell(alertmanager: Service, told: dict[str, str]) -> dict[str, str]:
    """Print the alerts that fire but were not told, and those that end; return all that fire.

    As no one would be notified of them, inhibited and silenced alerts do not count.
    """
    if (answer := alertmanager.get(ALERTS)) is None:
        return told
    firing = {alert["fingerprint"]: _alert(alert) for alert in json.loads(answer)}
    clock = time.strftime("%H:%M:%S")
    _say(*(f"{clock} ended {line}" for one, line in told.items() if one not in firing))
    _say(*(f"{clock} fires {line}" for one, line in firing.items() if one not in told))
    return firing


def _alert(alert: Mapping[str, Mapping[str, str]]) -> str:
    labels = alert["labels"]
    names = [labels[name] for name in ("alertname", "account", "repo") if name in labels]
    summary = alert["annotations"].get("summary", "")
    text = f"{labels.get('severity', ''):<8} {' '.join(names)}: {summary}"
    return redacted(text, secret="")  # names come from elsewhere


def check_ports(stack: Sequence[Service]) -> None:
    """Raise a StackError that names each port that somebody else has."""
    taken = []
    for service in stack:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", service.port))
            except OSError as fault:
                reason = (fault.strerror or str(fault)).lower()
                flag = f"--{service.name}-port"
                taken.append(f"port {service.port}: {reason}; choose another with {flag}")
    if taken:
        raise StackError("\n  ".join(["some ports cannot be used", *taken]))


def _signals() -> list[int]:
    """Have the signals that ask for an end collected, which are no exceptions from then on.

    One that is raised while a Popen is asked for its status can leave that locked for good.
    """
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: asked.append(number))
    return asked


def _say(*lines: str) -> None:
    for line in lines:
        print(line, flush=True)  # noqa: T201  # for a person


def _options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="deploy.stack",
        description="Run the exporter with Prometheus, Alertmanager and Grafana on this machine. "
        "All other flags go to the exporter.",
        allow_abbrev=False,
    )
    for name, port in (
        *(("exporter", 10133), ("prometheus", 9090)),
        *(("alertmanager", 9093), ("grafana", 3000)),
    ):
        parser.add_argument(f"--{name}-port", type=int, default=port, metavar="N", help=f"{port}")
    parser.add_argument(
        "--impatient",
        action="store_true",
        help="let alerts fire at once, instead of after their half hours",
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="default: in .cache/stack")
    options, flags = parser.parse_known_args(arguments)
    # Apart, since to the alerts, an account that takes the other's place has lost all its repos.
    whose = "demo" if "--demo" in flags else "accounts"
    options.data = (options.data or PROJECT / ".cache" / "stack" / whose).resolve()
    return options, flags


def main(arguments: Sequence[str]) -> int:
    """Run the stack until it is interrupted; return its exit status."""
    options, flags = _options(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal knows all letters
    try:
        options.data.mkdir(parents=True, exist_ok=True)
        stack = list(services(options, flags))
        check_ports(stack)
        asked = _signals()
        with running(stack, options.data) as started:
            watch(started, lambda: bool(asked) or all(each.works for each in stack), PATIENCE)
            if not asked:
                _say(*_summary(stack, options))
            follow(next(s for s in stack if s.name == "alertmanager"), started, asked)
    except UnavailableError as fault:
        _say(f"stack: {fault}", ADVICE)
        return 1
    except (StackError, OSError) as fault:
        _say(f"stack: {fault}")
        return 1
    except KeyboardInterrupt:  # while programs were fetched
        pass
    _say("stopped")
    return 0


def _summary(stack: Sequence[Service], options: argparse.Namespace) -> Iterator[str]:
    for service in stack:
        yield f"{service.name:<13} {look(service)}"
    if "grafana" not in {service.name for service in stack}:
        yield "grafana       is not on PATH: the dashboards are left out"
    yield f"Logs and data are in {options.data}."
    when = "at once" if options.impatient else "after half an hour or longer; --impatient: at once"
    yield f"Alerts are told here when they fire ({when}) and when they end. Ctrl-C ends all."


def look(service: Service) -> str:
    """Return where to look at it: Debian's Prometheus has old pages, its Alertmanager none."""
    if service.name == "prometheus":
        found = (page for page in ("/alerts", "/classic/alerts") if service.get(page) is not None)
        return f"{service.url}{next(found, '')}"
    if service.name == "alertmanager" and b"<script" not in (service.get("/") or b""):
        folder = str(Path(service.command[0]).parent)
        amtool = shutil.which("amtool", path=folder) or "amtool"
        return shlex.join([amtool, "alert", f"--alertmanager.url={service.url}"])
    return service.url


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
