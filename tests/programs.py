"""The external programs that tests talk to, kept in `.cache/programs`: Debian's, or built by Go.

Nothing is installed and no root is needed.

Debian's come from PATH if they are there, else by `apt-get download` with index and cache folders
of its own, then `dpkg -x`. Of the system, only apt's sources, keys and settings are read, and for a
browser, which libraries there are.

Go's are built from the modules' own sources, at one version whatever is on PATH, since what they
accept and print differs by version. Sources and objects stay where Go keeps them for all projects
(GOMODCACHE, GOCACHE). `go install` would refuse modules whose go.mod excludes or replaces others.

Debian's Alertmanager insists on templates in /usr/share, and Prometheus' pages need some. In the
unpacked copies that path is relative instead (and as long as before): start them in the folder that
`root(path)` returns.
"""

import fcntl
import json
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

# package: others that it is unpacked with, besides the libraries that the machine does not have
WHOLE = {"chromium-headless-shell": ("fonts-liberation",)}

# module: its version
MODULES = {
    "github.com/compose-spec/compose-go/v2": "v2.9.1",  # that of Docker Compose 2.40.3
    "github.com/prometheus-operator/prometheus-operator": "v0.85.0",
    "github.com/rhysd/actionlint": "v1.7.12",
    "helm.sh/helm/v3": "v3.19.5",
    "sigs.k8s.io/kubectl-validate": "v0.0.4",
}

# name: (module, folder of the command in it)
GO_PROGRAMS = {
    "actionlint": ("github.com/rhysd/actionlint", "cmd/actionlint"),
    "compose-go": ("github.com/compose-spec/compose-go/v2", "cmd"),
    "helm": ("helm.sh/helm/v3", "cmd/helm"),
    "kubectl-validate": ("sigs.k8s.io/kubectl-validate", "."),
}

# package: (binary, absolute path in it, relative path of the same length)
RELOCATED = {
    "prometheus": (
        "usr/bin/prometheus",
        b"/usr/share/prometheus/web",
        b"usr//share/prometheus/web",
    ),
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
    """Return where `name` is, fetching or building it first if need be."""
    if name in GO_PROGRAMS:
        built = _built(name, CACHE)
        if isinstance(built, str):
            raise UnavailableError(f"{name} cannot be built: {built}")
        return built
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


def settings(path: Path) -> dict[str, str]:
    """Return the variables by which a program finds what it was unpacked with: libraries, fonts."""
    if (folder := root(path)) == Path("/"):
        return {}
    libraries = {str(file.parent) for file in folder.rglob("*.so*")}
    return {"LD_LIBRARY_PATH": ":".join(sorted(libraries)), "XDG_DATA_HOME": f"{folder}/usr/share"}


def module(path: str) -> Path:
    """Return the folder of a Go module's files, at its version in MODULES; not to be written to."""
    found = _module(path)
    if isinstance(found, str):
        raise UnavailableError(f"the Go module {path} cannot be had: {found}")
    return found


def require(name: str, find: Callable[[str], Path] = program) -> Path:
    """Return what `find` finds of that name; without it skip the test, or fail it where CI=true."""
    try:
        return find(name)
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
        return _reason(fault)
    return done


@cache
def _built(name: str, folder: Path) -> Path | str:
    """Return the program that Go has built, or why there is none: asked once per run."""
    path, command = GO_PROGRAMS[name]
    done = folder / "go" / f"{name}-{MODULES[path]}" / name
    try:
        with _locked(folder):
            if not done.is_file():
                _build(module(path), command, done)
    except (OSError, subprocess.SubprocessError, UnavailableError) as fault:
        return _reason(fault)
    return done


@cache
def _module(path: str) -> Path | str:
    try:
        wanted = f"{path}@{MODULES[path]}"
        _go(Path("/"), "mod", "download", wanted)  # with -json, it would hide errors in that
        said = _go(Path("/"), "mod", "download", "-json", wanted)
        return Path(json.loads(said.stdout)["Dir"])
    except (OSError, subprocess.SubprocessError) as fault:
        return _reason(fault)


def _build(source: Path, command: str, done: Path) -> None:
    done.parent.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=done.parent.parent) as name:
        work = Path(name) / done.parent.name
        small = ("-trimpath", "-ldflags=-s -w")
        _go(source, "build", *small, "-o", str(work / done.name), f"./{command}")
        work.rename(done.parent)


def _go(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # No C compiler is needed, and no setting for another project is heeded.
    own = ("CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off")
    return _run(folder, "env", *own, "go", *arguments)


def _reason(fault: Exception) -> str:
    """Return the first and the last line of what a command, or the system, said of the fault."""
    said = str(getattr(fault, "stderr", "") or fault).strip().splitlines()
    lines = [line for line in said if not line.startswith("go: downloading ")] or said
    return "; ".join(dict.fromkeys((lines[0], lines[-1])))


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
            _download(work, apt, package)
        except subprocess.CalledProcessError:  # no index yet, or one so old that its files are gone
            update = _run(work, *apt, "update", check=False)  # the fault may lie in another source
            try:
                _download(work, apt, package)
            except subprocess.CalledProcessError as fault:
                fault.stderr = update.stderr + fault.stderr
                raise
        for deb in work.glob("*.deb"):
            _run(work, "dpkg", "-x", str(deb), "root")
        if package in RELOCATED:
            binary, absolute, relative = RELOCATED[package]
            if (path := work / "root" / binary).is_file():
                path.write_bytes(path.read_bytes().replace(absolute, relative))
        (work / "root").rename(done)


def _download(work: Path, apt: Sequence[str], package: str) -> None:
    names = [package]
    if package in WHOLE:
        install = ("install", "--simulate", "--no-install-recommends", package, *WHOLE[package])
        names = re.findall(r"^Inst (\S+)", _run(work, *apt, *install).stdout, re.MULTILINE)
    _run(work, *apt, "download", *names)


def _run(folder: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, check=check, timeout=600, text=True, capture_output=True,
        env=os.environ | {"LC_ALL": "C"}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
