"""The stack of deploy/compose without containers: `make stack`.

    python -m deploy.stack [--impatient] [--prometheus-port 9091 …] [flags of borgbase-exporter …]

Runs the exporter, Prometheus and Alertmanager with the configuration files of this folder, and
Grafana if it is on PATH, each on 127.0.0.1. Prometheus and Alertmanager come from PATH or from
Debian's packages (tests/programs.py). Data and logs stay in `.cache/stack`. Alerts are printed when
they begin to fire and when they end. Ctrl-C stops everything.
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

from borgbase_exporter.text import printable
from tests.programs import UnavailableError, program, root

DEPLOY = Path(__file__).resolve().parent
PROJECT = DEPLOY.parent
DASHBOARDS = "/var/lib/grafana/dashboards/borgbase"
"""Where deploy/grafana looks for the dashboards."""
PATIENCE = 60.0
"""Seconds in which a program has to answer after its start, and to end after SIGTERM."""
CHECK_SECONDS = 0.1
"""Between two checks that all programs still run."""
ALERTS_SECONDS = 3.0
"""Between two requests for the alerts that fire."""
ALERTS = "/api/v2/alerts?silenced=false&inhibited=false"
LOG_LINES = 10
"""Lines of a program's log that are printed when it ends by itself."""
GRAFANA = {
    "GF_SERVER_HTTP_ADDR": "127.0.0.1",
    "GF_AUTH_ANONYMOUS_ENABLED": "true",
    "GF_AUTH_DISABLE_LOGIN_FORM": "true",
    "GF_AUTH_BASIC_ENABLED": "false",
    "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION": "true",
    "GF_PLUGINS_PREINSTALL_DISABLED": "true",
    "GF_ANALYTICS_REPORTING_ENABLED": "false",
    "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
}
ADVICE = """\
  Prometheus and Alertmanager come from PATH, or by apt-get on Debian and Ubuntu. Install them so
  that `prometheus` and `alertmanager` are on PATH, or use the Compose stack: docs/container.md"""


class StackError(Exception):
    """The stack cannot run; the message says why."""


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
        """The service's address, for a browser."""
        return f"http://localhost:{self.port}"

    @property
    def works(self) -> bool:
        """Whether the service is ready."""
        return self.get(self.ready) is not None

    def get(self, path: str) -> bytes | None:
        """Return a page, or None without an answer of status 200."""
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as asked:
                asked.request("GET", path)
                answer = asked.getresponse()
                body = answer.read()
        except (OSError, http.client.HTTPException):
            return None
        return body if answer.status == HTTPStatus.OK else None


def services(options: argparse.Namespace, flags: Sequence[str]) -> list[Service]:
    """Write the configuration and return what to start; UnavailableError without a program."""
    command = (sys.executable, "-m", "borgbase_exporter", "serve")
    listen = f"--web.listen-address=127.0.0.1:{options.exporter_port}"
    exporter = Service("exporter", options.exporter_port, "/-/healthy", (*command, listen, *flags))
    found = [exporter, _prometheus(options), _alertmanager(options)]
    if grafana := shutil.which("grafana"):
        found.append(_grafana(Path(grafana), options))
    return found


def _prometheus(options: argparse.Namespace) -> Service:
    """Copy the shipped configuration beside the stack's own addresses."""
    folder: Path = options.data / "prometheus"
    for name in ("prometheus.yml", "rules/borgbase-recording.yml", "rules/borgbase-alerts.yml"):
        text = (DEPLOY / "prometheus" / name).read_text("utf-8")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(_impatient(text) if options.impatient else text, "utf-8")
    ports = {"borgbase": options.exporter_port, "alertmanager": options.alertmanager_port}
    (folder / "targets").mkdir(exist_ok=True)
    for name, port in ports.items():
        targets = [{"targets": [f"localhost:{port}"]}]  # JSON is YAML
        (folder / "targets" / f"{name}.yml").write_text(json.dumps(targets))
    path, port = program("prometheus"), options.prometheus_port
    command = (
        path,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--rules.alert.resend-delay=5s",  # by default, a second start is silent for a minute
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.external-url=http://localhost:{port}",
    )
    return Service("prometheus", port, "/-/ready", command, folder=root(path))


def _impatient(text: str) -> str:
    """Let Prometheus evaluate every few seconds, and alerts fire as soon as they are true."""
    text = re.sub(r"^ +for: .*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"(interval: )\d+m\b", r"\g<1>5s", text)


def _alertmanager(options: argparse.Namespace) -> Service:
    path, port = program("alertmanager"), options.alertmanager_port
    command = (
        path,
        f"--config.file={DEPLOY / 'alertmanager' / 'alertmanager.yml'}",
        f"--storage.path={options.data / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.external-url=http://localhost:{port}",
        "--cluster.listen-address=",
    )
    return Service("alertmanager", port, "/-/ready", command, folder=root(path))


def _grafana(path: Path, options: argparse.Namespace) -> Service:
    """Copy the provisioning, with the path of this tree's dashboards."""
    folder, port = options.data / "grafana", options.grafana_port
    shutil.copytree(
        DEPLOY / "grafana" / "provisioning", folder / "provisioning", dirs_exist_ok=True
    )
    provider = folder / "provisioning" / "dashboards" / "borgbase.yml"
    provider.write_text(provider.read_text().replace(DASHBOARDS, str(PROJECT / "dashboards")))
    environment = GRAFANA | {
        "GF_PATHS_DATA": str(folder / "data"),
        "GF_PATHS_LOGS": str(folder / "data"),
        "GF_PATHS_PROVISIONING": str(folder / "provisioning"),
        "GF_SERVER_HTTP_PORT": str(port),
        "PROMETHEUS_URL": f"http://localhost:{options.prometheus_port}",
    }
    command = (path, "server", f"--homepath={_grafana_home(path)}")
    return Service("grafana", port, "/api/health", command, environment)


def _grafana_home(path: Path) -> Path:
    """Return the folder of Grafana's own files, which depends on how it was installed."""
    for folder in path.resolve().parents:
        for home in (folder, folder / "share" / "grafana"):
            if (home / "conf" / "defaults.ini").is_file():
                return home
    raise StackError(f"{path}: no folder with conf/defaults.ini is near it")


@dataclass(frozen=True)
class Started:
    """A service that was started, and the file of its log."""

    service: Service
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise a StackError with the end of the log if the program has ended."""
        if (status := self.process.poll()) is None:
            return
        lines = self.log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
        title = f"{self.service.name} ended with status {status}; the end of its log:"
        raise StackError("\n  ".join([title, *lines]))


@contextmanager
def running(stack: Sequence[Service], data: Path) -> Iterator[list[Started]]:
    """Start all services, each with a log in the folder of data, and stop them at the end."""
    started: list[Started] = []
    try:
        for service in stack:
            file = data / f"{service.name}.log"
            with file.open("wb") as log:
                process = subprocess.Popen(  # noqa: S603  # this module chose the command
                    service.command,
                    cwd=service.folder,
                    env=os.environ | service.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    process_group=0,  # Ctrl-C reaches this process alone, which stops them
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
    """Wait until `done` is true; raise a StackError if a program ends, or after `patience`."""
    deadline = time.monotonic() + patience
    while not done():
        for each in started:
            each.check()
        if time.monotonic() > deadline:
            silent = [each.service for each in started if not each.service.works]
            names = ", ".join(f"{service.name} on {service.url}" for service in silent)
            raise StackError(f"no answer from {names}")
        time.sleep(CHECK_SECONDS)


def follow(alertmanager: Service, started: Sequence[Started], stops: Sequence[int]) -> None:
    """Print alerts until a signal; raise a StackError if a program ends."""
    firing: dict[str, str] = {}
    while not stops:
        firing = print_changes(alertmanager, firing)
        _pause(started, stops)


def _pause(started: Sequence[Started], stops: Sequence[int]) -> None:
    due = time.monotonic() + ALERTS_SECONDS
    watch(started, lambda: bool(stops) or time.monotonic() > due)


def print_changes(alertmanager: Service, before: dict[str, str]) -> dict[str, str]:
    """Print which alerts fire or have ended since `before`; return all that fire.

    Nobody is notified of inhibited and silenced alerts, so they do not count.
    """
    if (answer := alertmanager.get(ALERTS)) is None:
        return before
    firing = {alert["fingerprint"]: _alert(alert) for alert in json.loads(answer)}
    clock = time.strftime("%H:%M:%S")
    _print(*(f"{clock} ended {line}" for key, line in before.items() if key not in firing))
    _print(*(f"{clock} fires {line}" for key, line in firing.items() if key not in before))
    return firing


def _alert(alert: Mapping[str, Mapping[str, str]]) -> str:
    labels = alert["labels"]
    names = [labels[name] for name in ("alertname", "account", "repo") if name in labels]
    summary = alert["annotations"].get("summary", "")
    return printable(f"{labels.get('severity', ''):<8} {' '.join(names)}: {summary}")


def check_ports(stack: Sequence[Service]) -> None:
    """Raise a StackError that names each port that cannot be used."""
    faults = []
    for service in stack:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", service.port))
            except OSError as fault:
                reason = (fault.strerror or str(fault)).lower()
                flag = f"--{service.name}-port"
                faults.append(f"port {service.port}: {reason}; choose another with {flag}")
    if faults:
        raise StackError("\n  ".join(["some ports cannot be used", *faults]))


def _collected_signals() -> list[int]:
    """Return a list that collects the signals to stop, which raise nothing from now on.

    An exception in Popen.poll could leave its lock held.
    """
    stops: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: stops.append(number))
    return stops


def _print(*lines: str) -> None:
    for line in lines:
        print(line, flush=True)  # noqa: T201  # for a person


def _options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="deploy.stack",
        description="Run the exporter with Prometheus, Alertmanager and Grafana on this machine. "
        "All other flags are passed to the exporter.",
        allow_abbrev=False,
    )
    ports = {"exporter": 10133, "prometheus": 9090, "alertmanager": 9093, "grafana": 3000}
    for name, port in ports.items():
        parser.add_argument(f"--{name}-port", type=int, default=port, metavar="N", help=f"{port}")
    parser.add_argument("--impatient", action="store_true", help="let alerts fire at once")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="default: in .cache/stack")
    options, flags = parser.parse_known_args(arguments)
    # Separate, because an account that replaces another has lost all its repos for the alerts.
    kind = "demo" if "--demo" in flags else "accounts"
    options.data = (options.data or PROJECT / ".cache" / "stack" / kind).resolve()
    return options, flags


def main(arguments: Sequence[str]) -> int:
    """Run the stack until a signal; return the exit status."""
    options, flags = _options(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may not know all characters
    try:
        options.data.mkdir(parents=True, exist_ok=True)
        stack = services(options, flags)
        check_ports(stack)
        stops = _collected_signals()
        with running(stack, options.data) as started:
            watch(started, lambda: bool(stops) or all(each.works for each in stack), PATIENCE)
            if not stops:
                _print(*_summary(stack, options))
            follow(next(s for s in stack if s.name == "alertmanager"), started, stops)
    except UnavailableError as fault:
        _print(f"stack: {fault}", ADVICE)
        return 1
    except (StackError, OSError) as fault:
        _print(f"stack: {fault}")
        return 1
    except KeyboardInterrupt:  # while programs were fetched
        pass
    _print("stopped")
    return 0


def _summary(stack: Sequence[Service], options: argparse.Namespace) -> Iterator[str]:
    for service in stack:
        yield f"{service.name:<13} {link(service)}"
    if "grafana" not in {service.name for service in stack}:
        yield "grafana       is not on PATH, so there are no dashboards"
    yield f"Logs and data are in {options.data}."
    when = "at once" if options.impatient else "after half an hour or longer; --impatient: at once"
    yield f"Alerts are printed here when they fire ({when}) and when they end. Ctrl-C stops."


def link(service: Service) -> str:
    """Return where to see the service: Debian's Prometheus has old pages, its Alertmanager none."""
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
