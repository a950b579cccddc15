"""Stand-ins for Docker, Compose, kubectl and Helm: what their command lines name is there.

Flags and variables that end up with our own program are put to its own parser.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.commands import PROGRAM, ROOT
from tests.commands.led import Scene
from tests.commands.words import SOMETHING, demand, every, own, present, sort

CHART = ROOT / "deploy" / "helm" / PROGRAM

RUN = """
    -p --publish -v --volume -e --env --env-file --name --network -u --user --mount --restart
    --tmpfs -m --memory --entrypoint --platform -l --label --log-driver --log-opt --cap-drop
    --security-opt --pids-limit --cpus -w --workdir --add-host --pull --health-cmd --stop-timeout
    --health-interval --memory-swap --secret --group-add --userns --hostname --pod
"""
RUN_SWITCHES = """
    --rm -d --detach -i --interactive -t --tty --read-only --init --no-healthcheck -q --quiet
"""
BUILD = """
    -t --tag -f --file --build-arg --target --platform -o --output --label --progress --builder
    --cache-from --cache-to --iidfile --network --build-context
"""
COMPOSE = "-f --file -p --project-name --profile --env-file --project-directory --progress --ansi"
COMPOSE_VERB = """
    -u --user -e --env --volume --tail -n --scale -w --workdir --entrypoint --name --since --until
    --timeout -s --signal --wait-timeout --format --index --publish --pull
"""
DOCKER_VERBS = """
    attach buildx container cp image images info inspect kill load login logs manifest network ps
    pull push restart rm rmi save start stats stop system tag version volume wait
"""
COMPOSE_VERBS = """
    build config cp create down exec images kill logs ls port ps pull restart rm run start stats
    stop top up version
"""
KUBECTL_VERBS = """
    annotate apply auth config cp create delete describe diff exec explain get label logs patch
    port-forward replace rollout run scale set top version wait
"""
RENDERING = "-f --values --set --set-string --set-file --set-json -n --namespace"
HELM = f"""
    {RENDERING} --version --timeout --kube-version -a --api-versions -s --show-only --repo -o
    --output -d --destination
"""
HELM_VERBS = """
    dependency get history install lint list package pull push repo rollback show status template
    test uninstall upgrade version
"""
CLUSTER = ("--kube-version=1.30", "--api-versions=monitoring.coreos.com/v1")
"""What a cluster tells of itself; Helm alone thinks of an old one."""

ENTRYPOINT: list[str] = json.loads(
    re.findall(r"^ENTRYPOINT (.+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)[-1]
)


def _one_of(verbs: str, operands: Sequence[str]) -> None:
    demand(operands and operands[0] in verbs.split(), f"{operands[:1]}: no such command")


def _inside(where: str, command: Sequence[str]) -> None:
    """Check a command that is run in a running container; in ours there is nothing but Python."""
    if list(command[: len(ENTRYPOINT)]) == ENTRYPOINT:
        own(command[len(ENTRYPOINT) :], {})
    elif PROGRAM in where or where == "exporter":
        demand(command[:1] == ENTRYPOINT[:1], f"{command[:1]}: no such program in our image")


def read_yaml(text: str) -> list[Any]:
    """Return the documents of a text, in which Compose's own tags are allowed."""
    import yaml  # noqa: PLC0415  # slow

    class Loader(yaml.SafeLoader):
        pass

    def untagged(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> object:
        if isinstance(node, yaml.SequenceNode):
            return loader.construct_sequence(node, deep=True)
        if isinstance(node, yaml.MappingNode):
            return loader.construct_mapping(node, deep=True)
        return node.value

    Loader.add_multi_constructor("!", untagged)
    return list(yaml.load_all(text, Loader))  # it is a safe one


def docker(__: Scene, words: Sequence[str]) -> int:
    match words:
        case ["build", *rest] | ["buildx", "build", *rest]:
            _build(rest)
        case ["run", *rest] | ["create", *rest]:
            _run(rest)
        case ["compose", *rest]:
            _compose(rest)
        case ["exec", *rest]:
            _, (container, *command) = sort(rest, "-e --env -u --user -w --workdir", leading=True)
            _inside(container, command)
        case _:
            _one_of(DOCKER_VERBS, words)
    return 0


def _build(words: Sequence[str]) -> None:
    options, operands = sort(words, BUILD)
    demand(len(operands) == 1, f"{operands}: one folder to build in")
    path = Path((every(options, "-f", "--file") or [f"{operands[0]}/Dockerfile"])[0])
    present(operands[0], path)
    known = re.findall(r"^ARG (\w+)", path.read_text(), re.MULTILINE)
    for argument in every(options, "--build-arg"):
        demand(argument.partition("=")[0] in known, f"{argument}: no ARG of {path}")


def _run(words: Sequence[str]) -> None:
    options, operands = sort(words, RUN, RUN_SWITCHES, leading=True)
    demand(operands, "no image")
    _volumes(every(options, "-v", "--volume"))
    for mount in every(options, "--mount"):
        parts = dict(part.partition("=")[::2] for part in mount.split(","))
        if parts.get("type") == "bind":
            present(parts.get("source") or parts.get("src") or "")
    given = every(options, "-e", "--env")
    for path in every(options, "--env-file"):
        present(path)
        given += [line for line in Path(path).read_text().splitlines() if re.match(r"\w", line)]
    if PROGRAM in operands[0] and not every(options, "--entrypoint"):
        own(operands[1:], _environment(given))


def _environment(given: Iterable[str]) -> dict[str, str]:
    """Return variables; one without a value has been exported by whoever runs this."""
    pairs = (one.partition("=") for one in given)
    return {name: value if eq else os.environ.get(name, SOMETHING) for name, eq, value in pairs}


def _volumes(volumes: Iterable[str]) -> None:
    for volume in volumes:
        source = volume.partition(":")[0]
        if "/" in source or source == ".":
            present(source)


def _compose(words: Sequence[str]) -> None:
    options, operands = sort(words, COMPOSE, leading=True)
    _one_of(COMPOSE_VERBS, operands)
    services = _services(options)
    verb, *rest = operands
    settings, targets = sort(rest, COMPOSE_VERB, leading=verb in {"exec", "run"})
    match verb:
        case "exec" | "run":
            service, *command = targets
            targets = [service]
            _volumes(every(settings, "-v", "--volume"))
            image = services.get(service, {}).get("image", "")
            if verb == "run" and (PROGRAM in image or service in {"exporter", PROGRAM}):
                own(command, _environment(every(settings, "-e", "--env")))
            elif verb == "exec":
                _inside(service, command)
        case "cp":
            source, target = targets
            targets = [p.partition(":")[0] for p in (source, target) if ":" in p]
            if ":" not in source:
                present(source)
    for service in targets:
        demand(service in services, f"{service}: there are the services {', '.join(services)}")


def _services(options: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the services by name, of the files given or found."""
    folder = (every(options, "--project-directory") or ["."])[0]
    files = [Path(name) for name in every(options, "-f", "--file")]
    if not files:
        names = [
            f"{base}.{end}" for base in ("compose", "docker-compose") for end in ("yaml", "yml")
        ]
        files = [path for name in names if (path := Path(folder, name)).exists()][:1]
        demand(files, f"{folder}: there is no compose.yaml")
        files += Path(folder).glob("compose.override.y*ml")
    present(*files, *every(options, "--env-file"))
    services: dict[str, Any] = {}
    for path in files:
        for name, service in (read_yaml(path.read_text())[0].get("services") or {}).items():
            services[name] = services.get(name, {}) | service
    profiles = {p for service in services.values() for p in service.get("profiles") or ()}
    for profile in every(options, "--profile"):
        demand(profile in profiles, f"{profile}: no service has this profile")
    return services


def kubectl(scene: Scene, words: Sequence[str]) -> int:
    outer, _, inner = "\0".join(words).partition("\0--\0")
    options, operands = sort(
        outer.split("\0"), "-f --filename -n --namespace -c -l -o -k --context"
    )
    _one_of(KUBECTL_VERBS, operands)
    for path in every(options, "-f", "--filename"):
        if path.startswith("https://") or Path(path).is_dir():
            continue
        if path != "-":
            present(path)
        text = sys.stdin.read() if path == "-" else Path(path).read_text()
        for document in read_yaml(text):
            named = isinstance(document, dict) and {"apiVersion", "kind", "metadata"} <= {*document}
            demand(named, f"{path}: not a manifest")
    for source in every(options, "--from-file", "--from-env-file"):
        present(source.partition("=")[2] or source)
    if operands[0] == "exec":
        _inside(operands[1], inner.split("\0"))
    if operands[:2] == ["get", "secret"] and "jsonpath" in "".join(every(options, "-o")):
        sys.stdout.write(b64encode(scene.token.encode()).decode())
    if every(options, "--dry-run"):
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": operands[-1]}}
        sys.stdout.write(json.dumps(manifest))
    return 0


def helm(scene: Scene, words: Sequence[str]) -> int:
    """Render our chart by the real Helm, if it is to be had; charts of others are not fetched."""
    options, operands = sort(words, HELM)
    _one_of(HELM_VERBS, operands)
    verb, *rest = operands
    present(*every(options, "-f", "--values"))
    if verb not in {"install", "upgrade", "template", "lint"}:
        return 0
    chart = Path(rest[-1])
    if chart.name == PROGRAM and not chart.exists():
        chart = CHART  # as it is published
    if rest[-1].startswith((".", "/", "deploy")) or chart is CHART:
        present(chart / "Chart.yaml")
    if not chart.exists() or "helm" not in scene.programs:
        return 0
    kept = [word for option in options if option[0] in RENDERING.split() for word in option]
    command = (scene.programs["helm"], "template", "release", str(chart), *CLUSTER, *kept)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    demand(done.returncode == 0, done.stderr[done.stderr.find("Error") :])
    if verb == "template":
        sys.stdout.write(done.stdout)
    return 0
