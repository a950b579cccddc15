"""The external programs that tests talk to: from PATH, else Debian's, kept in `.cache/programs`.

Nothing is installed and no root is needed: `apt-get download` with index and cache folders of its
own, then `dpkg -x`. Of the system, only apt's sources, keys and settings are read.

Debian's Alertmanager insists on templates in /usr/share. In the unpacked copy that path is relative
instead (and as long as before): start it in the folder that `root(path)` returns.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "programs"

# name: (Debian package, path of the binary in it)
PROGRAMS = {
    "alertmanager": ("prometheus-alertmanager", "usr/bin/prometheus-alertmanager"),
    "amtool": ("prometheus-alertmanager", "usr/bin/amtool"),
    "nginx": ("nginx", "usr/sbin/nginx"),
    "node_exporter": ("prometheus-node-exporter", "usr/bin/prometheus-node-exporter"),
    "prometheus": ("prometheus", "usr/bin/prometheus"),
    "promtool": ("prometheus", "usr/bin/promtool"),
    "pushgateway": ("prometheus-pushgateway", "usr/bin/prometheus-pushgateway"),
}

# package: (binary, absolute path in it, relative path of the same length)
RELOCATED = {
    "prometheus-alertmanager": (
        "usr/bin/prometheus-alertmanager",
        b"/usr/share/prometheus/alertmanager",
        b"usr//share/prometheus/alertmanager",
    ),
}

# Read after the system's own apt configuration, whose hooks would reach outside the cache.
APT_CONF = """\
Dir::State::lists "{cache}/apt/lists";
Dir::Cache "{cache}/apt/cache";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
"""


class UnavailableError(Exception):
    """The program is neither installed nor to be had here; the message says why."""


def program(name: str) -> Path:
    """Return where `name` is, fetching it first if need be."""
    package, binary = PROGRAMS[name]
    for command in (name, Path(binary).name):
        if found := shutil.which(command):
            return Path(found)
    folder = _unpacked(package, CACHE)
    if isinstance(folder, Path) and (folder / binary).is_file():
        return folder / binary
    reason = f"has no {binary}" if isinstance(folder, Path) else f"cannot be had: {folder}"
    raise UnavailableError(f"{name} is not on PATH and Debian's package {package} {reason}")


def root(path: Path) -> Path:
    """Return the folder that a program's package is unpacked in; it is / for an installed one."""
    return next((folder for folder in path.parents if folder.parent == CACHE), Path("/"))


def require(name: str) -> Path:
    """Return where `name` is; without it skip the test, or fail it where CI=true."""
    try:
        return program(name)
    except UnavailableError as fault:
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop(str(fault))


@cache
def _unpacked(package: str, folder: Path) -> Path | str:
    """Return the package's files, or why there are none: asked once per run, as waiting is slow."""
    done = folder / package
    try:
        with _locked(folder):
            if not done.is_dir():
                _unpack(package, done)
    except (OSError, subprocess.SubprocessError) as fault:
        lines = str(getattr(fault, "stderr", "") or fault).strip().splitlines()
        return "; ".join(dict.fromkeys((lines[0], lines[-1])))
    return done


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unpack(package: str, done: Path) -> None:
    for kind in ("lists/partial", "cache/archives/partial"):
        (done.parent / "apt" / kind).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=done.parent) as name:
        work = Path(name)
        conf = work / "apt.conf"
        conf.write_text(APT_CONF.format(cache=done.parent))
        apt = ("apt-get", "--quiet=2", f"--config-file={conf}")
        try:
            _run(work, *apt, "download", package)
        except subprocess.CalledProcessError:  # no index yet, or one so old that its files are gone
            update = _run(work, *apt, "update", check=False)  # the fault may lie in another source
            try:
                _run(work, *apt, "download", package)
            except subprocess.CalledProcessError as fault:
                fault.stderr = update.stderr + fault.stderr
                raise
        _run(work, "dpkg", "-x", *(str(deb) for deb in work.glob("*.deb")), "root")
        if package in RELOCATED:
            binary, absolute, relative = RELOCATED[package]
            path = work / "root" / binary
            path.write_bytes(path.read_bytes().replace(absolute, relative))
        (work / "root").rename(done)


def _run(folder: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, check=check, timeout=300, text=True, capture_output=True,
        env=os.environ | {"LC_ALL": "C"}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
