"""The compose stack is valid, hardened and on loopback, and its parts fit together.

Rendered by the loader that Docker Compose uses. Running it needs a container engine.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from borgbase_exporter import settings
from tests.end_to_end.processes import ROOT, accepted
from tests.gotools import require_tool

FOLDER = ROOT / "deploy" / "compose"
FILE = FOLDER / "compose.yaml"
SHIPPED = yaml.safe_load(FILE.read_text())
PORTS = {"exporter": 10133, "prometheus": 9090, "alertmanager": 9093, "grafana": 3000}
EXAMPLE = {"DEMO": "false", "OWNER": "1000:1000", "ALERTMANAGER": "./alertmanager"}

Service = dict[str, Any]


def rendered(folder: Path, **variables: str) -> dict[str, Service]:
    """Return the services as Compose reads them with these environment variables.

    The loader's command reads no environment, but the rules of ${…} are those of the shell.
    """
    script = f"cat <<END\n{json.dumps(SHIPPED)}\nEND"
    filled = subprocess.run(
        ["/bin/sh", "-c", script], env=variables, text=True, capture_output=True, check=True
    )
    (folder / "compose.json").write_text(filled.stdout)
    program = require_tool("compose-go")
    printed = accepted(program, "--format=json", folder / "compose.json", folder=FOLDER)
    return dict(json.loads(printed)["services"])


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Service]:
    return rendered(tmp_path_factory.mktemp("compose"))


def test_the_file_meets_composes_schema() -> None:
    options = ("--builtin-schema", "vendor.compose-spec", FILE)
    printed = accepted(sys.executable, "-m", "check_jsonschema", *options)
    assert printed == "ok -- validation done\n"


def test_every_service_has_only_the_rights_that_it_needs(services: dict[str, Service]) -> None:
    assert services.keys() == PORTS.keys()
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert re.fullmatch(r"[1-9]\d+:\d+", service["user"]), name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert service["logging"]["options"]["max-size"], name
        assert service["restart"] == "unless-stopped", name
        assert not service.keys() & {"cap_add", "privileged", "network_mode", "pid", "devices"}
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?", service["image"])
        (port,) = service["ports"]
        assert (port["host_ip"], port["published"]) == ("127.0.0.1", str(PORTS[name])), name
        if name != "exporter":  # its image has the check
            assert service["healthcheck"]["test"][0] == "CMD", name


def test_mounted_files_exist_and_are_read_only(services: dict[str, Service]) -> None:
    for name, service in services.items():
        for volume in service["volumes"]:
            if volume["type"] == "bind":
                assert volume["read_only"], (name, volume)
                assert volume["bind"]["create_host_path"] is False, (name, volume)
                assert Path(volume["source"]).is_dir(), (name, volume)
            else:
                assert volume["source"] in SHIPPED["volumes"], (name, volume)


def test_the_configuration_is_the_shipped_one(services: dict[str, Service]) -> None:
    for name in ("prometheus", "alertmanager"):
        assert _mounts(services[name])[f"/etc/{name}"] == ROOT / "deploy" / name
        assert f"--config.file=/etc/{name}/{name}.yml" in services[name]["command"]
        assert f"--web.external-url=http://localhost:{PORTS[name]}" in services[name]["command"]

    grafana = _mounts(services["grafana"])
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    for folder in provisioning.iterdir():
        assert grafana[f"/etc/grafana/provisioning/{folder.name}"] == folder
    provider = yaml.safe_load((provisioning / "dashboards" / "borgbase.yml").read_text())
    path = provider["providers"][0]["options"]["path"]
    assert grafana[path] == ROOT / "dashboards"
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (grafana[path] / Path(home).relative_to(path)).is_file()
    rules = (ROOT / "deploy" / "prometheus" / "rules" / "borgbase-alerts.yml").read_text()
    assert f"http://localhost:{PORTS['grafana']}/d/" in rules


def test_only_the_addresses_differ_in_containers(services: dict[str, Service]) -> None:
    shipped, here = ROOT / "deploy" / "prometheus" / "targets", FOLDER / "targets"
    assert _mounts(services["prometheus"])["/etc/prometheus/targets"] == here
    assert _targets(here) == {"borgbase": "exporter:10133", "alertmanager": "alertmanager:9093"}
    assert _targets(shipped) == {"borgbase": "localhost:10133", "alertmanager": "localhost:9093"}
    config = (shipped.parent / "prometheus.yml").read_text()
    assert set(re.findall(r"targets/(\w+)\.yml", config)) == _targets(here).keys()
    assert services["grafana"]["environment"]["PROMETHEUS_URL"] == "http://prometheus:9090"


def test_it_starts_with_the_simulated_account(services: dict[str, Service]) -> None:
    given = services["exporter"]["environment"]
    assert given == {"BORGBASE_DEMO": "true", "BORGBASE_TOKEN_DIR": ""}
    assert services["exporter"]["user"] == "65532:65532"
    assert settings.load([], given).demo


def test_variables_replace_it_by_real_accounts(tmp_path: Path) -> None:
    services = rendered(tmp_path, **EXAMPLE)

    exporter = services["exporter"]
    assert exporter["environment"] == {"BORGBASE_DEMO": "false", "BORGBASE_TOKEN_DIR": "/tokens"}
    assert exporter["user"] == "1000:1000"
    assert _mounts(exporter) == {"/tokens": FOLDER / "tokens"}
    assert _mounts(services["alertmanager"])["/etc/alertmanager"] == FOLDER / "alertmanager"


def test_the_docs_name_every_variable() -> None:
    known = set(re.findall(r"\$\{(\w+)", FILE.read_text()))
    page = (ROOT / "docs" / "container.md").read_text()

    assert known == EXAMPLE.keys()
    assert {name for name in known if f"`{name}`" in page} == known


def _mounts(service: Service) -> dict[str, Path]:
    binds = [volume for volume in service["volumes"] if volume["type"] == "bind"]
    return {volume["target"]: Path(volume["source"]) for volume in binds}


def _targets(folder: Path) -> dict[str, str]:
    found = {}
    for file in folder.iterdir():
        ((found[file.stem],),) = [group["targets"] for group in yaml.safe_load(file.read_text())]
    return found
