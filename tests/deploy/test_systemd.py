"""The units: what systemd thinks of them, and whether the exporter can live with them.

There is no running systemd here. Its own tools judge the units; the exporter is run with what they
give it (environment, credentials) and without what they take (system calls, address families).
"""

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from borgbase_exporter import config
from borgbase_exporter.simulator import SimulatedApi
from tests import programs
from tests.deploy import confine
from tests.end_to_end.facts import new_account
from tests.end_to_end.processes import ANYWHERE, EXPORTER, ROOT, environment, started, until

FOLDER = ROOT / "deploy" / "systemd"
DAEMON, TEXTFILE = "borgbase-exporter.service", "borgbase-textfile.service"
SERVICES = (DAEMON, TEXTFILE)
TIMER = "borgbase-textfile.timer"
THRESHOLD = 15
"""Tenths of what `systemd-analyze security` counts as exposure at most; it was 11 with 252."""


def analyze(*words: str | Path, folder: Path = FOLDER) -> str:
    """Ask systemd-analyze, in a folder that holds units."""
    path = programs.require("systemd-analyze")
    env = os.environ | {"LC_ALL": "C"}
    if (root := programs.root(path)) != Path("/"):  # then its libraries are in another package
        libraries = programs.require("libsystemd-shared", _unpacked)
        found = {str(file.parent) for file in libraries.rglob("libsystemd-*.so")}
        units = (folder, root / "lib/systemd/system", root / "usr/lib/systemd/system")
        env |= {
            "LD_LIBRARY_PATH": ":".join(found),
            "SYSTEMD_UNIT_PATH": ":".join(map(str, units)),
        }
    done = subprocess.run(
        [path, *words], cwd=folder, env=env, text=True, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _unpacked(package: str) -> Path:
    found = programs._unpacked(package, programs.CACHE)
    if isinstance(found, str):
        raise programs.UnavailableError(f"Debian's package {package} cannot be had: {found}")
    return found


def unit(name: str) -> dict[str, list[str]]:
    """Return the settings of a unit."""
    found = defaultdict(list)
    for line in (FOLDER / name).read_text("utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


def words(name: str) -> list[str]:
    """Return what a service hands to the exporter."""
    (start,) = unit(name)["ExecStart"]
    program, *rest = start.split()
    assert program == "borgbase-exporter"
    return rest


def variables(name: str, credentials: str | Path) -> dict[str, str]:
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
        text = path.read_text("utf-8")
        text = text.replace("ExecStart=borgbase-exporter ", f"ExecStart={command} ")
        (tmp_path / path.name).write_text(text)
    return tmp_path


def test_systemd_has_nothing_to_say(installed: Path) -> None:
    assert analyze("verify", *SERVICES, TIMER, folder=installed) == ""


DROP_INS = re.findall(
    r"systemctl edit ([\w-]+)\n```\n\n```ini\n(.*?)```",
    (ROOT / "docs" / "systemd.md").read_text("utf-8"),
    re.DOTALL,
)


@pytest.mark.parametrize(("name", "text"), DROP_INS)
def test_systemd_has_nothing_to_say_of_the_pages_drop_ins(
    installed: Path, name: str, text: str
) -> None:
    folder = installed / f"{name}.service.d"
    folder.mkdir()
    command = f"={installed}/borgbase-exporter "
    (folder / "override.conf").write_text(text.replace("=borgbase-exporter ", command))
    assert len(DROP_INS) == 4
    assert analyze("verify", f"{name}.service", folder=installed) == ""


@pytest.mark.parametrize("service", SERVICES)
def test_the_exposure_is_low(service: str, installed: Path) -> None:
    given = ("security", "--offline=true", "--no-pager", f"--threshold={THRESHOLD}")
    assert re.search(
        r"Overall exposure level .*: 1\.\d", analyze(*given, service, folder=installed)
    )


def test_both_services_are_confined_alike() -> None:
    daemon, textfile = (
        (FOLDER / name).read_text("utf-8").partition("the same as in borgbase-")[2].splitlines()[1:]
        for name in SERVICES
    )
    assert "DynamicUser=yes" in daemon
    assert textfile == daemon[: len(textfile)]
    assert daemon[len(textfile) :] == ["", "[Install]", "WantedBy=multi-user.target"]


def test_the_timer_goes_off_every_quarter_of_an_hour() -> None:
    (calendar,) = unit(TIMER)["OnCalendar"]
    told = analyze("calendar", "--iterations=5", "--base-time=2026-01-01 00:01:00 UTC", calendar)
    assert re.findall(r"(\d\d:\d\d:\d\d) UTC", told) == [
        *("00:15:00", "00:30:00", "00:45:00", "01:00:00", "01:15:00")
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_the_exporter_takes_what_the_units_give(service: str, tmp_path: Path) -> None:
    (tmp_path / "default").write_text("token")
    command, *paths = words(service)
    here = [str(tmp_path / Path(path).name) for path in paths]
    settings = config.load([command, *here], variables(service, tmp_path), {"repos": ""}, "1")

    assert settings.warnings == ()
    assert settings.tokens
    named = {value.partition(":")[0] for value in unit(service)["LoadCredential"]}
    assert settings.tokens.sources().keys() == named == {"default"}
    assert [str(Path(path).parent) for path in paths] == unit(service)["ReadWritePaths"]


@cache
def sets() -> dict[str, set[str]]:
    """Return systemd's sets of system calls, each with the names in it."""
    found: dict[str, set[str]] = {}
    for line in analyze("syscall-filter").splitlines():
        name = line.strip()
        if line.startswith("@"):
            found[name] = members = set()
        elif name and not name.startswith("#") and line[0] == " ":
            members.add(name)
    return found


def calls(name: str) -> set[str]:
    """Return the system calls that a word of SystemCallFilter= stands for."""
    return set().union(*map(calls, sets()[name])) if name.startswith("@") else {name}


def confined(service: str, command: Sequence[str]) -> list[str]:
    """Return the command with the service's filters before it."""
    allowed = calls("@default") | {"execve"}
    for value in unit(service)["SystemCallFilter"]:
        many = set().union(*map(calls, value.removeprefix("~").split()))
        allowed = allowed - many if value.startswith("~") else allowed | many
    (families,) = unit(service)["RestrictAddressFamilies"]
    rules = {"calls": sorted(allowed), "families": families.split()}
    return [sys.executable, confine.__file__, json.dumps(rules), *command]


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """A folder like the one that systemd makes of LoadCredential=."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    return folder


def test_the_exporter_serves_under_the_units_filters(tmp_path: Path, credentials: Path) -> None:
    account = new_account(1)
    put(credentials, account.token)
    given = variables(DAEMON, credentials) | {"BORGBASE_WEB_LISTEN_ADDRESS": ANYWHERE}
    with SimulatedApi([account]) as api:
        env = environment(**given, BORGBASE_API_URL=api.url)
        command = confined(DAEMON, [*EXPORTER, *words(DAEMON)])
        with started(command, env, tmp_path / "log", "msg=listening") as running:
            until(lambda: running.get("/-/ready").status == 200, "the first poll has ended")
            text = running.get("/metrics").text

    assert 'borgbase_account_repos{account="default"} 3' in text
    assert "process_open_fds " in text
    assert "level=warn" not in running.log
    assert "level=error" not in running.log


def test_the_file_is_written_under_the_units_filters(tmp_path: Path, credentials: Path) -> None:
    account = new_account(1)
    put(credentials, account.token)
    file = tmp_path / "borgbase.prom"
    *rest, _path = words(TEXTFILE)
    with SimulatedApi([account]) as api:
        env = environment(**variables(TEXTFILE, credentials), BORGBASE_API_URL=api.url)
        done = subprocess.run(
            confined(TEXTFILE, [*EXPORTER, *rest, str(file)]),
            env=env,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert 'borgbase_account_repos{account="default"} 3' in file.read_text("utf-8")


def test_the_filters_bite() -> None:
    code = """
import ctypes, mmap, os, socket
def refused(what, *args, **more):
    try:
        what(*args, **more)
    except OSError as error:
        return error.errno
print(
    refused(os.nice, 1),
    refused(os.chroot, "/"),
    refused(socket.socket, socket.AF_UNIX),
    refused(mmap.mmap, -1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC),
    refused(socket.socket, socket.AF_INET),
)
"""
    command = confined(DAEMON, [sys.executable, "-c", code])
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["1", "1", "97", "1", "None"]  # EPERM, EAFNOSUPPORT


def put(folder: Path, token: str) -> None:
    """Write a credential the way systemd does."""
    path = folder / "default"
    path.write_text(token)
    path.chmod(0o400)
    folder.chmod(0o500)
