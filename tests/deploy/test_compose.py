"""The compose stack: valid, hardened, on loopback, and what is in it fits together.

Rendered by the loader that Docker Compose uses. That it also runs takes a container engine.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from borgbase_exporter.config import options
from tests.end_to_end.processes import ROOT, environment
from tests.programs import require

FOLDER = ROOT / "deploy" / "compose"
FILE = FOLDER / "compose.yaml"
SHIPPED = yaml.safe_load(FILE.read_text())
NAMES = ("exporter", "prometheus", "alertmanager", "grafana")
EXAMPLE = {"DEMO": "false", "OWNER": "1000:1000", "ALERTMANAGER": "./alertmanager"}

Service = dict[str, Any]


def rendered(folder: Path, **variables: str) -> dict[str, Service]:
    """Return the services as Compose sees them with these variables in its environment.

    The loader's command reads no environment, but the rules of ${…} are those of the shell.
    """
    script = f"cat <<END\n{json.dumps(SHIPPED)}\nEND"
    filled = subprocess.run(
        ["/bin/sh", "-c", script], env=variables, text=True, capture_output=True, check=True
    )
    (folder / "compose.json").write_text(filled.stdout)
    command = (str(require("compose-go")), "--format=json", str(folder / "compose.json"))
    done = subprocess.run(
        command, cwd=FOLDER, env=environment(), text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return dict(json.loads(done.stdout)["services"])


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Service]:
    return rendered(tmp_path_factory.mktemp("compose"))


def test_it_has_the_form_that_compose_takes() -> None:
    options = ("--builtin-schema", "vendor.compose-spec", str(FILE))
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *options],
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.stdout + done.stderr == "ok -- validation done\n"


def test_every_service_may_do_no_more_than_it_needs(services: dict[str, Service]) -> None:
    assert tuple(sorted(services)) == tuple(sorted(NAMES))
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


def test_every_service_tells_whether_it_is_well(services: dict[str, Service]) -> None:
    for name in set(NAMES) - {"exporter"}:  # its image brings the check
        assert services[name]["healthcheck"]["test"][0] == "CMD", name
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()


def test_ports_are_on_loopback(services: dict[str, Service]) -> None:
    ports = {
        name: [(port["host_ip"], port["published"], port["target"]) for port in service["ports"]]
        for name, service in services.items()
    }
    assert ports == {
        name: [("127.0.0.1", str(port), port)]
        for name, port in zip(NAMES, (10133, 9090, 9093, 3000), strict=True)
    }


def test_images_have_exact_tags(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?", service["image"]), (
            name
        )


def test_what_is_mounted_is_there_and_cannot_be_written_to(services: dict[str, Service]) -> None:
    for name, service in services.items():
        for volume in service["volumes"]:
            if volume["type"] == "bind":
                assert volume["read_only"], (name, volume)
                assert volume["bind"]["create_host_path"] is False, (name, volume)
                assert Path(volume["source"]).is_dir(), (name, volume)
            else:
                assert volume["source"] in SHIPPED["volumes"], (name, volume)


def test_the_configuration_is_the_shipped_one(services: dict[str, Service]) -> None:
    prometheus, alertmanager = _mounts(services["prometheus"]), _mounts(services["alertmanager"])
    assert prometheus["/etc/prometheus"] == ROOT / "deploy" / "prometheus"
    assert "--config.file=/etc/prometheus/prometheus.yml" in services["prometheus"]["command"]
    assert alertmanager["/etc/alertmanager"] == ROOT / "deploy" / "alertmanager"
    config = "--config.file=/etc/alertmanager/alertmanager.yml"
    assert config in services["alertmanager"]["command"]

    grafana = _mounts(services["grafana"])
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    for folder in provisioning.iterdir():
        assert grafana[f"/etc/grafana/provisioning/{folder.name}"] == folder
    provider = yaml.safe_load((provisioning / "dashboards" / "borgbase.yml").read_text())
    path = provider["providers"][0]["options"]["path"]
    assert grafana[path] == ROOT / "dashboards"
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (grafana[path] / Path(home).relative_to(path)).is_file()


def test_what_differs_in_containers_is_the_addresses(services: dict[str, Service]) -> None:
    shipped, here = ROOT / "deploy" / "prometheus" / "targets", FOLDER / "targets"
    assert _mounts(services["prometheus"])["/etc/prometheus/targets"] == here
    assert _targets(here) == {"borgbase": "exporter:10133", "alertmanager": "alertmanager:9093"}
    assert _targets(shipped) == {
        "borgbase": "localhost:10133",
        "alertmanager": "localhost:9093",
    }
    config = (shipped.parent / "prometheus.yml").read_text()
    assert set(re.findall(r"targets/(\w+)\.yml", config)) == _targets(here).keys()
    assert services["grafana"]["environment"]["PROMETHEUS_URL"] == "http://prometheus:9090"


def test_links_lead_to_the_published_ports(services: dict[str, Service]) -> None:
    for name in ("prometheus", "alertmanager"):
        (port,) = services[name]["ports"]
        assert (
            f"--web.external-url=http://localhost:{port['published']}" in services[name]["command"]
        )
    (port,) = services["grafana"]["ports"]
    rules = (ROOT / "deploy" / "prometheus" / "rules" / "borgbase-alerts.yml").read_text()
    assert f"http://localhost:{port['published']}/d/" in rules


def test_it_starts_with_the_simulated_account(services: dict[str, Service]) -> None:
    assert services["exporter"]["environment"] == {
        "BORGBASE_DEMO": "true",
        "BORGBASE_TOKEN_DIR": "",
    }
    assert services["exporter"]["user"] == "65532:65532"


def test_a_line_in_env_makes_it_the_real_ones(tmp_path: Path) -> None:
    services = rendered(tmp_path, **EXAMPLE)

    exporter = services["exporter"]
    assert exporter["environment"] == {"BORGBASE_DEMO": "false", "BORGBASE_TOKEN_DIR": "/tokens"}
    assert exporter["user"] == "1000:1000"
    assert _mounts(exporter) == {"/tokens": FOLDER / "tokens"}
    assert _mounts(services["alertmanager"])["/etc/alertmanager"] == FOLDER / "alertmanager"


def test_the_docs_name_all_that_can_be_set() -> None:
    known = set(re.findall(r"\$\{(\w+)", FILE.read_text()))
    page = (ROOT / "docs" / "container.md").read_text()

    assert known == EXAMPLE.keys()
    assert {name for name in known if f"`{name}`" in page} == known


def test_settings_exist_and_none_is_a_secret(services: dict[str, Service]) -> None:
    assert services["exporter"]["environment"].keys() <= {o.variable for o in options({})}
    for service in services.values():
        for name in service.get("environment", {}):
            assert not re.search("TOKEN$|PASSWORD|SECRET|KEY", name)


def test_what_users_put_there_stays_out_of_git_and_images() -> None:
    private = [
        f"deploy/compose/{name}"
        for name in (
            ".env",
            "tokens/home",
            "alertmanager/alertmanager.yml",
            "compose.override.yaml",
        )
    ]
    command = ("git", "check-ignore", *private, "deploy/compose/tokens/.gitkeep")
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    if done.returncode == 128:
        pytest.skip(f"git cannot tell: {done.stderr}")
    assert done.stdout.split() == private
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def _mounts(service: Service) -> dict[str, Path]:
    return {
        volume["target"]: Path(volume["source"])
        for volume in service["volumes"]
        if volume["type"] == "bind"
    }


def _targets(folder: Path) -> dict[str, str]:
    found = {}
    for file in folder.iterdir():
        ((found[file.stem],),) = [group["targets"] for group in yaml.safe_load(file.read_text())]
    return found
