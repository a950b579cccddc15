"""The tools of the tests that are built from the sources of Go modules, kept in `.cache/programs`.

Each has a fixed version, whatever is on PATH, since results differ between versions. Sources and
objects stay in Go's caches for all projects (GOMODCACHE, GOCACHE). `go install` would refuse
modules whose go.mod excludes or replaces others.
"""

import json
import subprocess
import tempfile
from pathlib import Path

from tests.programs import CACHE, locked, once, require, run

# module: its version
MODULES = {
    "github.com/compose-spec/compose-go/v2": "v2.9.1",  # that of Docker Compose 2.40.3
    "github.com/prometheus-operator/prometheus-operator": "v0.85.0",
    "github.com/rhysd/actionlint": "v1.7.12",
    "helm.sh/helm/v3": "v3.19.5",
    "sigs.k8s.io/kubectl-validate": "v0.0.4",
}

# name: (module, folder of the command in it)
TOOLS = {
    "actionlint": ("github.com/rhysd/actionlint", "cmd/actionlint"),
    "compose-go": ("github.com/compose-spec/compose-go/v2", "cmd"),
    "helm": ("helm.sh/helm/v3", "cmd/helm"),
    "kubectl-validate": ("sigs.k8s.io/kubectl-validate", "."),
}


def require_tool(name: str) -> Path:
    """Return the path of a tool; if it cannot be built, skip the test, or fail it where CI=true."""
    return require(name, tool)


def require_module(path: str) -> Path:
    """Return the folder of a Go module, which is read-only; skip or fail as above."""
    return require(path, module)


@once
def tool(name: str) -> Path:
    """Return the path of a tool; build it if necessary."""
    path, command = TOOLS[name]
    folder = CACHE / "go" / f"{name}-{MODULES[path]}"
    with locked(folder.parent):
        if not folder.is_dir():
            _build(module(path), command, folder / name)
    return folder / name


@once
def module(path: str) -> Path:
    """Return the folder of a Go module's files, at its version in MODULES."""
    wanted = f"{path}@{MODULES[path]}"
    _go(Path("/"), "mod", "download", wanted)  # -json would hide errors in the output
    printed = _go(Path("/"), "mod", "download", "-json", wanted).stdout
    return Path(json.loads(printed)["Dir"])


def _build(source: Path, command: str, done: Path) -> None:
    with tempfile.TemporaryDirectory(dir=done.parent.parent) as name:
        work = Path(name) / done.parent.name
        small = ("-trimpath", "-ldflags=-s -w")
        _go(source, "build", *small, "-o", str(work / done.name), f"./{command}")
        work.rename(done.parent)


def _go(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Needs no C compiler, and ignores settings for other projects.
    own = ("CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off")
    return run(folder, "env", *own, "go", *arguments)
