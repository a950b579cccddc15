"""The external programs of the tests that Debian packages, kept in `.cache/programs`.

A program on PATH is used as it is. Otherwise its package is downloaded by `apt-get download`, with
index and cache folders of its own, and unpacked by `dpkg -x`: nothing is installed and no root is
needed. Of the system, only apt's sources, keys and settings are read.

Debian's Alertmanager and Prometheus read templates and styles from /usr/share. In the unpacked
copies that path is relative instead (and as long as before): start them in the folder that
`root(path)` returns.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "programs"

# name: (Debian package, path of the binary in it)
PROGRAMS = {
    "alertmanager": ("prometheus-alertmanager", "usr/bin/prometheus-alertmanager"),
    "amtool": ("prometheus-alertmanager", "usr/bin/amtool"),
    "chromium": ("chromium-headless-shell", "usr/lib/chromium/chromium-headless-shell"),
    "nginx": ("nginx", "usr/sbin/nginx"),
    "node_exporter": ("prometheus-node-exporter", "usr/bin/prometheus-node-exporter"),
    "prometheus": ("prometheus", "usr/bin/prometheus"),
    "promtool": ("prometheus", "usr/bin/promtool"),
    "pushgateway": ("prometheus-pushgateway", "usr/bin/prometheus-pushgateway"),
    "systemd-analyze": ("systemd", "usr/bin/systemd-analyze"),
}

# package: others to unpack with it, besides libraries that the machine lacks
WHOLE = {"chromium-headless-shell": ("fonts-liberation",)}

# package: the dependencies to unpack with it
DEPENDENCIES = {"prometheus": r"(?:libjs|fonts)-\S+"}  # the styles of its pages

# Read by Debian's Prometheus and Alertmanager, and the relative path of the same length.
SHARED, RELOCATED = b"/usr/share/prometheus/", b"usr//share/prometheus/"

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
    """The program is not installed and cannot be fetched; the message says why."""


def program(name: str) -> Path:
    """Return the path of a program; its package is fetched if necessary."""
    package, binary = PROGRAMS[name]
    for command in (name, Path(binary).name):
        if found := shutil.which(command):
            return Path(found)
    folder = unpacked(package)
    if not (folder / binary).is_file():
        raise UnavailableError(f"{name} is not on PATH and Debian's {package} has no {binary}")
    return folder / binary


def root(path: Path) -> Path:
    """Return the folder that a program's package is unpacked in; / for an installed program."""
    return next((folder for folder in path.parents if folder.parent == CACHE), Path("/"))


def settings(path: Path) -> dict[str, str]:
    """Return the variables that an unpacked program needs to find its libraries and fonts."""
    if (folder := root(path)) == Path("/"):
        return {}
    libraries = {str(file.parent) for file in folder.rglob("*.so*")}
    return {"LD_LIBRARY_PATH": ":".join(sorted(libraries)), "XDG_DATA_HOME": f"{folder}/usr/share"}


def require(name: str, find: Callable[[str], Path] = program) -> Path:
    """Return what `find` finds; if it is unavailable, skip the test, or fail it where CI=true."""
    try:
        return find(name)
    except UnavailableError as fault:
        if os.environ.get("CI") == "true":
            pytest.fail(str(fault))
        pytest.skip(str(fault))


def once(find: Callable[[str], Path]) -> Callable[[str], Path]:
    """Cache the result, or the reason why it is unavailable."""

    @cache
    def attempt(name: str) -> Path | str:
        try:
            return find(name)
        except (OSError, subprocess.SubprocessError, UnavailableError) as fault:
            return reason(fault)

    def found(name: str) -> Path:
        result = attempt(name)
        if isinstance(result, str):
            raise UnavailableError(f"{name} cannot be fetched or built: {result}")
        return result

    return found


@once
def unpacked(package: str) -> Path:
    """Return the folder that a Debian package is unpacked in."""
    done = CACHE / package
    if not done.is_dir():
        with locked(CACHE):
            if not done.is_dir():
                _unpack(package, done)
    return done


def _unpack(package: str, done: Path) -> None:
    for kind in ("lists/partial", "cache/archives/partial"):
        (done.parent / "apt" / kind).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=done.parent) as name:
        work = Path(name)
        conf = work / "apt.conf"
        conf.write_text(APT_CONF.format(cache=done.parent))
        try:
            _download(work, conf, package)
        except subprocess.CalledProcessError:  # no index yet, or one so old that its files are gone
            update = run(work, *_apt("apt-get", conf), "update", check=False)
            try:
                _download(work, conf, package)
            except subprocess.CalledProcessError as fault:
                fault.stderr = update.stderr + fault.stderr
                raise
        for deb in work.glob("*.deb"):
            run(work, "dpkg", "-x", str(deb), "root")
        for path in (work / "root" / "usr" / "bin").glob(package):
            path.write_bytes(path.read_bytes().replace(SHARED, RELOCATED))
        (work / "root").rename(done)


def _download(work: Path, conf: Path, package: str) -> None:
    names = [package]
    get = _apt("apt-get", conf)
    if package in WHOLE:
        install = ("install", "--simulate", "--no-install-recommends", package, *WHOLE[package])
        names = re.findall(r"^Inst (\S+)", run(work, *get, *install).stdout, re.MULTILINE)
    if wanted := DEPENDENCIES.get(package):
        known = run(work, *_apt("apt-cache", conf), "depends", package).stdout
        names += re.findall(rf"^ +Depends: ({wanted})$", known, re.MULTILINE)
    run(work, *get, "download", *names)


def _apt(command: str, conf: Path) -> Sequence[str]:
    return (command, "--quiet=2", f"--config-file={conf}")


def reason(fault: Exception) -> str:
    """Return the first and the last line of a failed command's errors, or the system's error."""
    printed = str(getattr(fault, "stderr", "") or fault).strip().splitlines()
    lines = [line for line in printed if not line.startswith("go: downloading ")] or printed
    return "; ".join(dict.fromkeys((lines[0], lines[-1])))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, so that concurrent tests fetch or build once."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(folder: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with untranslated messages."""
    return subprocess.run(
        command, cwd=folder, check=check, timeout=600, text=True, capture_output=True,
        env=os.environ | {"LC_ALL": "C"}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
