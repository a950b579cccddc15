"""Programs accept the documentation's files and queries that are written for them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from borgbase_exporter.metrics.catalogue import BUILD, SCOPES
from borgbase_exporter.settings import webfile
from tests.docs.pages import BLOCKS, ROOT, Block
from tests.end_to_end.processes import accepted
from tests.programs import require

RULES = ROOT / "deploy" / "prometheus" / "rules"
METRICS = {BUILD.name, *(metric.name for scope in SCOPES for metric in scope.metrics)}
HASH = "$2b$04$qG8AR.n2uqpjL5KRRQu5VejW9.Ss3P6C19vgJ4QKpnrzZByImVuhq"


def test_queries_are_valid_and_name_what_exists(tmp_path: Path) -> None:
    queries = [block for block in BLOCKS if block.language == "promql"]
    rules = [
        {"record": f"line:{n}", "expr": block.text, "labels": {"place": str(block)}}
        for n, block in enumerate(queries)
    ]
    path = tmp_path / "queries.yml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    accepted(require("promtool"), "check", "rules", path)

    shipped = "\n".join(file.read_text() for file in RULES.iterdir())
    recorded = set(re.findall(r"record: (\S+)", shipped))
    for block in queries:
        text = re.sub(r'"[^"]*"', "", block.text)
        assert set(re.findall(r"\w+:\w+:\w+", text)) <= recorded, block
        assert set(re.findall(r"(?<![\w:])borgbase_[a-z_]+(?![\w:*])", text)) <= METRICS, block


def _prometheus(content: Any, folder: Path) -> None:
    (folder / "rules").symlink_to(RULES)
    for job in content.get("scrape_configs", ()):
        job.pop("kubernetes_sd_configs", None)  # Debian's promtool lacks this feature
    agent = ("--agent",) if "remote_write" in content else ()
    accepted(require("promtool"), "check", "config", *agent, _written(content, folder))


def _rules(content: Any, folder: Path) -> None:
    accepted(require("promtool"), "check", "rules", _written(content, folder))


def _alertmanager(content: Any, folder: Path) -> None:
    """Check a configuration, or a part that replaces the same part of the shipped one."""
    if "route" not in content:
        base = yaml.safe_load((ROOT / "deploy" / "alertmanager" / "alertmanager.yml").read_text())
        for key, value in content.items():
            base[key] = base[key] | value if isinstance(value, dict) else [*base[key], *value]
        receivers = {receiver["name"]: receiver for receiver in base["receivers"]}
        content = base | {"receivers": list(receivers.values())}
    accepted(require("amtool"), "check-config", _written(content, folder))


def _web(content: Any, folder: Path) -> None:
    users = content.get("basic_auth_users", {})
    users |= dict.fromkeys(users, HASH)  # those of the page are shortened
    webfile.read(_written(content, folder))


def _compose(content: Any, folder: Path) -> None:
    schema = ("-m", "check_jsonschema", "--builtin-schema=vendor.compose-spec")
    accepted(sys.executable, *schema, _written(content, folder))


KINDS: dict[str, Callable[[Any, Path], None]] = {
    "scrape_configs": _prometheus,
    "rule_files": _prometheus,
    "groups": _rules,
    "receivers": _alertmanager,
    "inhibit_rules": _alertmanager,
    "tls_server_config": _web,
    "basic_auth_users": _web,
    "http_server_config": _web,
    "services": _compose,
}
"""How to check a document, by a key that it has."""


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=str)
def test_yaml_is_what_its_reader_accepts(block: Block, tmp_path: Path) -> None:
    for number, content in enumerate(yaml.load_all(block.text, _Loader)):  # a safe one
        assert content, block
        (folder := tmp_path / str(number)).mkdir()
        for key in set(content) & KINDS.keys() if isinstance(content, dict) else ():
            KINDS[key](content, folder)
            break


class _Loader(yaml.SafeLoader):
    """Reads Compose's tags `!override` and `!reset`, too."""


def _untagged(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return None


_Loader.add_multi_constructor("!", _untagged)


def _written(content: Any, folder: Path) -> Path:
    """Write a file, and beside it the certificates and secrets that it names."""
    authority = trustme.CA()
    pair = authority.issue_cert("localhost")
    pair.private_key_pem.write_to_path(folder / "key.pem")
    for blob in pair.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    (folder / "secret").write_text("secret")

    def localised(node: Any, key: str = "") -> Any:
        if isinstance(node, dict):
            return {name: localised(value, str(name)) for name, value in node.items()}
        if isinstance(node, list):
            return [localised(value, key) for value in node]
        if key in {"cert_file", "ca_file", "client_ca_file"}:
            return str(folder / "cert.pem")
        if key.endswith("_file") and isinstance(node, str):
            return str(folder / ("key.pem" if key == "key_file" else "secret"))
        return node

    path = folder / "written.yaml"
    path.write_text(json.dumps(localised(content)))  # JSON is YAML
    return path
