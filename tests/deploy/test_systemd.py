"""The units: systemd's tools accept them, and the exporter runs under their restrictions.

No systemd runs here: the tests give the exporter the unit's environment and credentials, and deny
it the system calls and address families that the unit denies.
"""

import json
import os
import re
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from borgbase_exporter.demo import SimulatedAccount, SimulatedApi
from tests.deploy import confine
from tests.end_to_end.processes import ANYWHERE, EXPORTER, ROOT, environment, started, until
from tests.programs import require, root, unpacked

FOLDER = ROOT / "deploy" / "systemd"
DAEMON, TEXTFILE = "borgbase-exporter.service", "borgbase-textfile.service"
SERVICES = (DAEMON, TEXTFILE)
TIMER = "borgbase-textfile.timer"
THRESHOLD = 15  # tenths of what `systemd-analyze security` counts as exposure, at most


def analyze(*words: str | Path, folder: Path = FOLDER) -> str:
    """Run systemd-analyze in a folder that holds units."""
    path = require("systemd-analyze")
    env = os.environ | {"LC_ALL": "C"}
    if (place := root(path)) != Path("/"):  # its libraries are in another package
        libraries = require("libsystemd-shared", unpacked)
        found = {str(file.parent) for file in libraries.rglob("libsystemd-*.so")}
        units = (folder, place / "lib/systemd/system", place / "usr/lib/systemd/system")
        env |= {"LD_LIBRARY_PATH": ":".join(found), "SYSTEMD_UNIT_PATH": ":".join(map(str, units))}
    done = subprocess.run(
        [path, *words], cwd=folder, env=env, text=True, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@cache
def unit(name: str) -> dict[str, list[str]]:
    """Return the settings of a unit."""
    found = defaultdict(list)
    for line in (FOLDER / name).read_text("utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


def arguments(name: str) -> list[str]:
    """Return the exporter's arguments in a unit."""
    (start,) = unit(name)["ExecStart"]
    return start.removeprefix("borgbase-exporter ").split()


def variables(name: str, credentials: Path) -> dict[str, str]:
    """Return the environment that a service sets."""
    pairs = (value.partition("=") for value in unit(name)["Environment"])
    return {key: value.replace("%d", str(credentials)) for key, _, value in pairs}


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with the units, as if the command were installed."""
    command = tmp_path / "borgbase-exporter"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    for path in FOLDER.iterdir():
        text = path.read_text("utf-8").replace("=borgbase-exporter ", f"={_quoted(command)} ")
        (tmp_path / path.name).write_text(text)
    return tmp_path


def _quoted(path: Path) -> str:
    return f'"{path}"' if " " in str(path) else str(path)


def test_systemd_accepts_the_units(installed: Path) -> None:
    assert analyze("verify", *SERVICES, TIMER, folder=installed) == ""


DROP_INS = re.findall(
    r"systemctl edit ([\w-]+)\n```\n\n```ini\n(.*?)```",
    (ROOT / "docs" / "systemd.md").read_text("utf-8"),
    re.DOTALL,
)


@pytest.mark.parametrize(("name", "text"), DROP_INS)
def test_systemd_accepts_the_pages_drop_ins(installed: Path, name: str, text: str) -> None:
    folder = installed / f"{name}.service.d"
    folder.mkdir()
    command = f"={_quoted(installed / 'borgbase-exporter')} "
    (folder / "override.conf").write_text(text.replace("=borgbase-exporter ", command))
    assert analyze("verify", f"{name}.service", folder=installed) == ""


@pytest.mark.parametrize("service", SERVICES)
def test_the_exposure_is_low(service: str, installed: Path) -> None:
    given = ("security", "--offline=true", "--no-pager", f"--threshold={THRESHOLD}")
    assert "Overall exposure level" in analyze(*given, service, folder=installed)


def test_the_timer_elapses_every_quarter_of_an_hour() -> None:
    (calendar,) = unit(TIMER)["OnCalendar"]
    base = "--base-time=2026-01-01 00:01:00 UTC"
    times = re.findall(
        r"(\d\d:\d\d:\d\d) UTC", analyze("calendar", "--iterations=3", base, calendar)
    )
    assert times == ["00:15:00", "00:30:00", "00:45:00"]


@cache
def sets() -> dict[str, set[str]]:
    """Return systemd's sets of system calls, each with the names in it."""
    found: dict[str, set[str]] = {}
    members = set[str]()
    for line in analyze("syscall-filter").splitlines():
        name = line.strip()
        if line.startswith("@"):
            found[name] = members = set()
        elif name and not name.startswith("#") and line[0] == " ":
            members.add(name)
    return found


def calls(name: str) -> set[str]:
    """Return the system calls that a word of SystemCallFilter= means."""
    return set().union(*map(calls, sets()[name])) if name.startswith("@") else {name}


def confined(service: str, command: Sequence[str]) -> list[str]:
    """Return the command, run under the service's filters."""
    allowed = calls("@default") | {"execve"}
    for value in unit(service)["SystemCallFilter"]:
        many = set().union(*map(calls, value.removeprefix("~").split()))
        allowed = allowed - many if value.startswith("~") else allowed | many
    (families,) = unit(service)["RestrictAddressFamilies"]
    rules = {"calls": sorted(allowed), "families": families.split()}
    return [sys.executable, confine.__file__, json.dumps(rules), *command]


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """A folder like the one for LoadCredential=, with the simulated account's token."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "default").write_text(ACCOUNT.token)
    (folder / "default").chmod(0o400)
    folder.chmod(0o500)
    return folder


ACCOUNT = SimulatedAccount()


def test_the_exporter_serves_and_notifies_under_the_units_filters(
    tmp_path: Path, credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's whole path may be too long
    given = variables(DAEMON, credentials) | {"BORGBASE_WEB_LISTEN_ADDRESS": ANYWHERE}
    command = confined(DAEMON, [*EXPORTER, *arguments(DAEMON)])
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified,
        SimulatedApi([ACCOUNT]) as api,
    ):
        notified.bind("notify")
        notified.settimeout(30)
        env = environment(**given, BORGBASE_API_URL=api.url, NOTIFY_SOCKET="notify")
        with started(command, env, tmp_path / "log", "msg=listening", tmp_path) as running:
            first = notified.recv(100)
            until(lambda: running.get("/-/ready").status == 200, "the first poll has ended")
            text = running.get("/metrics").text
        last = notified.recv(100)

    assert unit(DAEMON)["Type"] == ["notify"]
    assert (first, last) == (b"READY=1", b"STOPPING=1")
    assert 'borgbase_account_repos{account="default"} ' in text
    assert "process_open_fds " in text
    assert "level=warn" not in running.log
    assert "level=error" not in running.log


def test_the_file_is_written_under_the_units_filters(tmp_path: Path, credentials: Path) -> None:
    file = tmp_path / "borgbase.prom"
    *rest, path = arguments(TEXTFILE)
    assert unit(TEXTFILE)["ReadWritePaths"] == [str(Path(path).parent)]
    with SimulatedApi([ACCOUNT]) as api:
        env = environment(**variables(TEXTFILE, credentials), BORGBASE_API_URL=api.url)
        command = confined(TEXTFILE, [*EXPORTER, *rest, str(file)])
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert not re.search("level=(warn|error)", done.stderr)
    assert 'borgbase_account_repos{account="default"} ' in file.read_text("utf-8")
