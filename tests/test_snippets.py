"""What the documentation says to write is understood by those who are to read it."""

import configparser
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import graphql
import pytest
import trustme
import yaml

from borgbase_exporter import webconfig
from borgbase_exporter.metrics import BUILD, SCOPES
from tests.commands import PROGRAM, ROOT
from tests.commands.containers import CHART, CLUSTER, read_yaml
from tests.commands.pages import BLOCKS, SHELL, Block
from tests.commands.standins import HASH, STAND_INS
from tests.commands.words import own
from tests.programs import require
from tests.rules import rules

RECORDED = {rule["record"] for rule in rules() if "record" in rule}
METRICS = {BUILD.name, *(metric.name for scope in SCOPES for metric in scope.metrics)}
VALUES = CHART / "values.yaml"
IGNORED = {"text", "diff", "mermaid", "dockerfile", "nginx"}
"""Languages of which nothing can be told."""
MARKS = "```sh (commands), ```console (`$ ` before commands), ```text (all else)"


def of(*languages: str) -> list[Any]:
    return [pytest.param(b, id=b.place) for b in BLOCKS if b.language in languages]


def _unit(text: str) -> None:
    parser = configparser.RawConfigParser(strict=False, delimiters="=", interpolation=None)
    parser.read_string(text)
    for command in re.findall(rf"^ExecStart=(?:/\S*/)?{PROGRAM}\b(.*)", text, re.MULTILINE):
        own(shlex.split(command), {})


PARSERS: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "ini": _unit,
    "python": lambda text: compile(text, "block", "exec"),
    "graphql": graphql.parse,
}


@pytest.mark.parametrize("block", of(*PARSERS))
def test_files_are_understood(block: Block) -> None:
    PARSERS[block.language](block.text)


def test_queries_are_understood_and_ask_for_what_there_is(tmp_path: Path) -> None:
    asked = [block for block in BLOCKS if block.language == "promql"]
    suite = [
        {"record": f"line:{n}", "expr": block.text, "labels": {"place": block.place}}
        for n, block in enumerate(asked)
    ]
    path = tmp_path / "queries.yml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": suite}]}))
    accepted(require("promtool"), "check", "rules", path)
    for block in asked:
        recorded = set(re.findall(r"\w+:\w+:\w+", block.text))
        named = set(re.findall(r"(?<![\w:])borgbase_[a-z_]+(?![\w:*])", block.text))
        assert recorded <= RECORDED, block.place
        assert named <= METRICS, block.place


def accepted(*command: str | Path) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"{done.stdout}{done.stderr}", pytrace=False)


def _prometheus(content: Any, folder: Path) -> None:
    (folder / "rules").symlink_to(ROOT / "deploy" / "prometheus" / "rules")
    for job in content.get("scrape_configs", ()):
        job.pop("kubernetes_sd_configs", None)  # Debian's promtool is built without
    accepted(require("promtool"), "check", "config", _written(content, folder))


def _alertmanager(content: Any, folder: Path) -> None:
    accepted(require("amtool"), "check-config", _written(content, folder))


def _part_of_alertmanager(content: Any, folder: Path) -> None:
    base = yaml.safe_load((ROOT / "deploy" / "alertmanager" / "alertmanager.yml").read_text())
    for key, value in content.items():
        base[key] = base[key] | value if isinstance(value, dict) else [*base[key], *value]
    names: dict[str, Any] = {receiver["name"]: receiver for receiver in base["receivers"]}
    _alertmanager(base | {"receivers": list(names.values())}, folder)


def _rules(content: Any, folder: Path) -> None:
    accepted(require("promtool"), "check", "rules", _written(content, folder))


def _web(content: Any, folder: Path) -> None:
    users = content.get("basic_auth_users", {})
    users |= dict.fromkeys(users, HASH)  # those of the page are shortened
    webconfig.read(_written(content, folder))


def _compose(content: Any, folder: Path) -> None:
    schema = "--builtin-schema=vendor.compose-spec"
    accepted(ROOT / ".venv" / "bin" / "check-jsonschema", schema, _written(content, folder))


def _values(content: Any, folder: Path) -> None:
    users = content.get("web", {}).get("config", {}).get("basic_auth_users", {})
    users |= dict.fromkeys(users, HASH)  # those of the page are shortened
    given = {"tokens": {"existingSecret": "tokens"}} | content
    values = _written(given, folder)
    accepted(require("helm"), "template", "name", CHART, *CLUSTER, "--values", values)


def _manifest(content: Any, folder: Path) -> None:
    assert content["metadata"]["name"]


KINDS: dict[str, tuple[set[str], Callable[[Any, Path], None]]] = {
    "a manifest of Kubernetes": ({"apiVersion", "kind"}, _manifest),
    "Prometheus' configuration": ({"scrape_configs"}, _prometheus),
    "Prometheus' rule_files": ({"rule_files"}, _prometheus),
    "rules": ({"groups"}, _rules),
    "Alertmanager's configuration": ({"route", "receivers"}, _alertmanager),
    "Alertmanager's receivers": ({"receivers"}, _part_of_alertmanager),
    "Alertmanager's inhibition": ({"inhibit_rules"}, _part_of_alertmanager),
    "TLS of --web.config.file": ({"tls_server_config"}, _web),
    "users of --web.config.file": ({"basic_auth_users"}, _web),
    "headers of --web.config.file": ({"http_server_config"}, _web),
    "a compose file": ({"services"}, _compose),
    **{f"{key} of the chart": ({key}, _values) for key in yaml.safe_load(VALUES.read_text())},
}
"""What a YAML document is, by keys that it has, and how to check it."""


@pytest.mark.parametrize("block", of("yaml"))
def test_yaml_is_what_its_reader_takes(block: Block, tmp_path: Path) -> None:
    for number, content in enumerate(read_yaml(block.text)):
        assert content, f"{block.place}: empty"
        folder = tmp_path / str(number)
        folder.mkdir()
        keys = set(content) if isinstance(content, dict) else set()
        for needed, check in KINDS.values():
            if needed <= keys:
                check(content, folder)
                break


def _written(content: Any, folder: Path) -> Path:
    """Write a file, and beside it the certificates and secrets that it names."""
    authority = trustme.CA()
    pair = authority.issue_cert("localhost")
    pair.private_key_pem.write_to_path(folder / "key.pem")
    for blob in pair.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)

    def localised(node: Any, key: str = "") -> Any:
        if isinstance(node, dict):
            return {name: localised(value, str(name)) for name, value in node.items()}
        if isinstance(node, list):
            return [localised(value, key) for value in node]
        if key in {"cert_file", "ca_file", "client_ca_file"}:
            return str(folder / "cert.pem")
        if key == "key_file":
            return str(folder / "key.pem")
        if key.endswith("_file") and isinstance(node, str):
            (folder / "secret").write_text("secret")
            return str(folder / "secret")
        return node

    path = folder / "written.yaml"
    path.write_text(json.dumps(localised(content)))  # JSON is YAML
    return path


def complaint(block: Block) -> str | None:
    """Tell how to mark a block that is not, or not rightly."""
    first = block.text.strip().partition("\n")[0]
    program = first.removeprefix("$ ").partition(" ")[0]
    if block.language == "text" and program in STAND_INS:
        return f"text that begins with the command {program}: write ```sh or ```console"
    if block.language in {"bash", "shell", "shell-session"}:
        return "write ```sh or ```console, as everywhere else"
    if not block.language:
        return f"fence and mark this block: {MARKS}, …: {first}"
    if block.language not in {*SHELL, *IGNORED, *PARSERS, "promql", "yaml"}:
        return f"{block.language} is not known here: {MARKS}, {', '.join(PARSERS)}, promql, yaml"
    return None


def test_every_block_says_what_it_is() -> None:
    wrong = [f"{block.place}: {told}" for block in BLOCKS if (told := complaint(block))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("language", "text", "told"),
    [
        ("", "make run\n", "fence and mark"),
        ("text", "docker run x\n", "begins with the command docker"),
        ("bash", "make run\n", "```sh"),
        ("cobol", "STOP RUN.\n", "is not known"),
    ],
)
def test_a_block_without_a_right_mark_is_told(language: str, text: str, told: str) -> None:
    assert told in str(complaint(Block("page.md", 1, language, "", text)))
