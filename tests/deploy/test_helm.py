"""The Helm chart renders what Kubernetes, the Prometheus Operator and the exporter accept.

There is no cluster here: manifests are checked against the API's schemas, and the exporter is given
the pod's arguments, environment and files.
"""

import base64
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from borgbase_exporter import __version__, config
from borgbase_exporter.collectors import COLLECTORS
from borgbase_exporter.config import Config
from borgbase_exporter.metrics import BUILD, SCOPES
from tests.programs import module, require

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "borgbase-exporter"
GOLDEN = Path(__file__).parent / "helm"
PAGE = ROOT / "docs" / "kubernetes.md"
RENEW = "RENEW_GOLDEN"
"""Set it to have golden files and the table of values written instead of compared."""

RULES = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
DASHBOARDS = sorted((ROOT / "dashboards").glob("*.json"))
OPERATOR = "github.com/prometheus-operator/prometheus-operator"
KUBERNETES = ("1.25", "1.28", "1.30")
"""Those that kubectl-validate knows, from the chart's oldest to its newest."""

HASH = "$2b$12$abcdefghijklmnopqrstuuE6S1bC7mWvQJ9m3G1y7qkZ5gK0a1b2c"
WEB_FILE = base64.b64encode(b"http_server_config: {headers: {X-Frame-Options: DENY}}").decode()
SECRET = {"tokens": {"existingSecret": "borgbase-tokens"}}
PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
ENABLED = {"enabled": True}
MONITORED = {
    "serviceMonitor": ENABLED,
    "networkPolicy": ENABLED,
    "podDisruptionBudget": ENABLED,
}

Values = Mapping[str, Any]
Manifest = dict[str, Any]

CASES: dict[str, Values] = {
    "demo": {"demo": True},
    "closed demo": {"demo": True, "networkPolicy": ENABLED},
    "secret": SECRET,
    "one key": {"tokens": {"existingSecret": "vault", "items": [{"key": "token", "path": "home"}]}},
    "inline": {"tokens": {"inline": {"home": "abc", "work.example": "def"}}},
    "settings": {
        **SECRET,
        "poll": {"interval": "1h", "timeout": "1m", "maxAge": "1d"},
        "collectors": {"ssh_keys": False},
        "log": {"level": "debug", "format": "json"},
        "extraArgs": ["--api.max-response=256MiB", "--poll.timeout=20s"],
        "extraEnv": [
            {
                "name": "BORGBASE_API_PROXY",
                "valueFrom": {"secretKeyRef": {"name": "proxy", "key": "url"}},
            }
        ],
    },
    "users": {**SECRET, **MONITORED, "web": {"config": {"basic_auth_users": {"prom": HASH}}}},
    "tls": {**SECRET, **MONITORED, "web": {"tlsSecret": "exporter-tls"}},
    "files": {**SECRET, "prometheusRule": ENABLED, "dashboards": ENABLED},
    "client certificates": {
        **SECRET,
        "web": {
            "tlsSecret": "exporter-tls",
            "config": {
                "tls_server_config": {
                    "client_auth_type": "RequireAndVerifyClientCert",
                    "client_ca_file": "/etc/borgbase/tls/ca.crt",
                }
            },
        },
    },
    "web secret": {**SECRET, **MONITORED, "web": {"existingSecret": "web", "scheme": "https"}},
    "names": {
        **SECRET,
        **MONITORED,
        "nameOverride": "exporter",
        "fullnameOverride": "watch",
        "commonLabels": {"team": "backup"},
        "serviceAccount": {"create": False},
    },
    "replicas": {
        **SECRET,
        **MONITORED,
        "replicaCount": 2,
        "strategy": {"type": "Recreate"},
        "podDisruptionBudget": {"enabled": True, "minAvailable": "50%"},
    },
    "everything": {
        **SECRET,
        "web": {
            "tlsSecret": "exporter-tls",
            "config": {
                "basic_auth_users": {"prom": HASH},
                "http_server_config": {"headers": {"X-Frame-Options": "DENY"}},
            },
        },
        "serviceMonitor": {
            "enabled": True,
            "namespace": "monitoring",
            "labels": {"release": "kube-prometheus-stack"},
            "annotations": {"note": "scraped"},
            "job": "borgbase",
            "interval": "30s",
            "scrapeTimeout": "10s",
            "honorLabels": True,
            "tlsConfig": {"ca": {"secret": {"name": "exporter-tls", "key": "ca.crt"}}},
            "basicAuth": {
                "username": {"name": "scrape", "key": "username"},
                "password": {"name": "scrape", "key": "password"},
            },
            "targetLabels": ["team"],
            "relabelings": [{"targetLabel": "cluster", "replacement": "eu"}],
            "metricRelabelings": [
                {"action": "drop", "sourceLabels": ["__name__"], "regex": "py.*"}
            ],
        },
        "networkPolicy": {
            "enabled": True,
            "from": [PEER],
            "extraEgress": [
                {"ports": [{"port": 3128}], "to": [{"ipBlock": {"cidr": "10.0.0.8/32"}}]}
            ],
        },
        "podDisruptionBudget": {"enabled": True, "maxUnavailable": 1},
        "image": {"digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}],
        "commonLabels": {"team": "backup"},
        "serviceAccount": {"name": "exporter", "annotations": {"note": "no token"}},
        "service": {
            "type": "NodePort",
            "port": 80,
            "labels": {"tier": "metrics"},
            "annotations": {"prometheus.io/scrape": "true"},
        },
        "podLabels": {"sidecar.istio.io/inject": "false"},
        "podAnnotations": {"note": "hello"},
        "resources": {"limits": {"memory": "1Gi", "cpu": "1"}},
        "livenessProbe": {"initialDelaySeconds": 3},
        "readinessProbe": {"exec": {"command": ["true"]}},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 1,
                        "podAffinityTerm": {
                            "topologyKey": "kubernetes.io/hostname",
                            "labelSelector": {"matchLabels": {"team": "backup"}},
                        },
                    }
                ]
            }
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"team": "backup"}},
            }
        ],
        "priorityClassName": "low",
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca", "readOnly": True}],
    },
    "links": {
        **SECRET,
        "grafanaUrl": "https://grafana.example.org/",
        "runbookBaseUrl": "https://wiki.example.org/borgbase",
        "prometheusRule": {
            "enabled": True,
            "namespace": "monitoring",
            "labels": {"release": "kube-prometheus-stack"},
            "annotations": {"note": "rules"},
        },
        "dashboards": {
            "enabled": True,
            "namespace": "grafana",
            "label": "dashboard",
            "labelValue": "yes",
            "folder": "Backup",
            "annotations": {"note": "board"},
        },
    },
}


class Helm:
    """Helm with folders of its own, so that nothing of the user's counts."""

    def __init__(self, folder: Path) -> None:
        self._program = require("helm")
        self._folder = folder
        homes = {f"HELM_{kind}_HOME": str(folder) for kind in ("CACHE", "CONFIG", "DATA")}
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **homes}

    def __call__(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def values(self, values: Values) -> Path:
        path = self._folder / "values.json"
        path.write_text(json.dumps(values))
        return path

    def template(self, values: Values, chart: Path = CHART, release: str = "night") -> str:
        done = self(
            *(
                "template",
                release,
                chart,
                "--namespace",
                "backup",
                "--kube-version",
                KUBERNETES[-1],
            ),
            *("--values", self.values(values)),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refusal(self, values: Values) -> str:
        done = self(
            *("template", "night", CHART, "--kube-version", KUBERNETES[-1]),
            *("--values", self.values(values)),
        )
        assert done.returncode != 0
        return done.stderr[done.stderr.index("Error: ") :]


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
def texts(helm: Helm) -> Mapping[str, str]:
    return {name: helm.template(values) for name, values in CASES.items()}


@pytest.fixture(scope="module")
def manifests(texts: Mapping[str, str]) -> Mapping[str, list[Manifest]]:
    return {name: parsed(text) for name, text in texts.items()}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, manifests: Mapping[str, list[Manifest]]) -> list[Manifest]:
    return manifests[request.param]


def parsed(text: str) -> list[Manifest]:
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def one(found: list[Manifest], kind: str) -> Manifest:
    (manifest,) = [m for m in found if m["kind"] == kind]
    return manifest


def pod_of(found: list[Manifest]) -> Manifest:
    pod: Manifest = one(found, "Deployment")["spec"]["template"]
    return pod


def container_of(found: list[Manifest]) -> Manifest:
    (container,) = pod_of(found)["spec"]["containers"]
    assert isinstance(container, dict)
    return container


# What Helm and Kubernetes say.


def test_helm_has_nothing_to_complain_about(helm: Helm) -> None:
    for values in ({}, CASES["everything"]):
        done = helm("lint", "--strict", CHART, "--values", helm.values(values))
        assert done.returncode == 0, done.stdout
        assert re.findall(r"\[(?:WARNING|ERROR)\].*", done.stdout) == []


@pytest.fixture(scope="module")
def validate(
    texts: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, list[Manifest]]]:
    program = require("kubectl-validate")
    crds = require(OPERATOR, module) / "example" / "prometheus-operator-crd"

    def run(version: str, texts: Mapping[str, str] = texts) -> dict[str, list[Manifest]]:
        folder = tmp_path_factory.mktemp("manifests")
        for name, text in texts.items():
            (folder / f"{name}.yaml").write_text(text)
        done = subprocess.run(
            [program, "--version", version, "--local-crds", crds, "--output=json", folder],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return {Path(name).stem: said for name, said in json.loads(done.stdout).items()}

    return run


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_and_the_operator_know_every_field(
    validate: Callable[..., dict[str, list[Manifest]]],
    manifests: Mapping[str, list[Manifest]],
    version: str,
) -> None:
    verdicts = validate(version)

    for name, found in manifests.items():
        assert [v.get("message") for v in verdicts[name] if v["status"] != "Success"] == [], name
        assert len(verdicts[name]) == len(found)


def test_it_would_be_noticed_if_they_did_not(
    validate: Callable[..., dict[str, list[Manifest]]], texts: Mapping[str, str]
) -> None:
    spoilt = {
        "unknown": texts["demo"].replace("imagePullPolicy:", "imagePolicy:"),
        "type": texts["demo"].replace("containerPort: 10133", "containerPort: metrics"),
        "operator": texts["everything"].replace("interval: 30s", "interval: 30x"),
    }
    for name, said in validate(KUBERNETES[-1], spoilt).items():
        assert [v["status"] for v in said].count("Failure") == 1, name


@pytest.mark.parametrize("name", ["demo", "inline", "everything"])
def test_the_manifests_are_the_golden_ones(texts: Mapping[str, str], name: str) -> None:
    golden = GOLDEN / f"{name}.yaml"
    text = texts[name].replace(__version__, "VERSION")
    if os.environ.get(RENEW):
        golden.write_text(text, "utf-8")

    assert text == golden.read_text("utf-8"), (
        f"not {golden.name} any more; if that is meant, renew it: "
        f"{RENEW}=1 python -m pytest {Path(__file__).relative_to(ROOT)}"
    )


def test_every_kind_is_in_the_matrix(manifests: Mapping[str, list[Manifest]]) -> None:
    declared = {
        kind
        for path in (CHART / "templates").glob("*.yaml")
        for kind in re.findall(r"^kind: (\w+)$", path.read_text("utf-8"), re.MULTILINE)
    }
    assert declared == {m["kind"] for found in manifests.values() for m in found}


# The pod.


def test_the_pod_keeps_to_the_restricted_profile(case: list[Manifest]) -> None:
    """Pod Security Standards, https://kubernetes.io/docs/concepts/security/pod-security-standards/."""
    spec, container = pod_of(case)["spec"], container_of(case)
    pod_wide, own = spec["securityContext"], container["securityContext"]

    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & spec.keys()
    assert pod_wide["runAsNonRoot"] is True
    assert pod_wide["runAsUser"] == 65532  # the image's
    assert pod_wide["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all("hostPort" not in port for port in container["ports"])
    assert {kind for v in spec.get("volumes", []) for kind in v} <= {"name", "secret", "configMap"}


def test_the_pod_has_no_access_to_kubernetes(case: list[Manifest]) -> None:
    assert pod_of(case)["spec"]["automountServiceAccountToken"] is False
    accounts = [m for m in case if m["kind"] == "ServiceAccount"]
    assert all(account["automountServiceAccountToken"] is False for account in accounts)


def test_secrets_can_be_read_by_the_exporter_and_by_no_other_user(case: list[Manifest]) -> None:
    spec = pod_of(case)["spec"]
    modes = [v["secret"]["defaultMode"] for v in spec.get("volumes", []) if "secret" in v]

    assert set(modes) <= {0o440}
    assert spec["securityContext"]["fsGroup"] == 65532
    mounts = container_of(case).get("volumeMounts", [])
    assert all(mount["readOnly"] and "subPath" not in mount for mount in mounts)
    assert {mount["name"] for mount in mounts} == {v["name"] for v in spec.get("volumes", [])}


def test_the_image_is_this_version_or_the_digest(manifests: Mapping[str, list[Manifest]]) -> None:
    name = "ghcr.io/borgbase-exporter/borgbase-exporter"
    assert container_of(manifests["demo"])["image"] == f"{name}:{__version__}"
    assert container_of(manifests["everything"])["image"] == f"{name}@sha256:{'0' * 64}"


def test_exec_starts_what_the_image_starts() -> None:
    (entry,) = re.findall(r"^ENTRYPOINT (.*)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for path in (PAGE, CHART / "templates" / "NOTES.txt"):
        commands = re.findall(r" exec deploy/.* -- (.*) check$", path.read_text(), re.MULTILINE)
        assert commands == [" ".join(json.loads(entry))]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[Manifest]], Config]:
    """Load the configuration as the pod's container would, with /etc/borgbase elsewhere."""
    tls = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    server = authority.issue_cert("exporter")
    server.private_key_pem.write_to_path(tls / "tls.key")
    server.cert_chain_pems[0].write_to_path(tls / "tls.crt")
    authority.cert_pem.write_to_path(tls / "ca.crt")

    def load(found: list[Manifest]) -> Config:
        etc = tmp_path_factory.mktemp("etc")
        secrets = {m["metadata"]["name"]: m["data"] for m in found if m["kind"] == "Secret"}
        volumes = {
            volume["name"]: volume["secret"]
            for volume in pod_of(found)["spec"].get("volumes", [])
            if "secret" in volume
        }
        for mount in container_of(found).get("volumeMounts", []):
            folder = etc / mount["mountPath"].removeprefix("/etc/borgbase/")
            if mount["name"] == "tls":
                folder.symlink_to(tls)
                continue
            if not mount["mountPath"].startswith("/etc/borgbase/"):
                continue
            folder.mkdir()
            # A Secret of the user's is taken for one with these keys.
            given = dict.fromkeys(("web.yml", "token", "home"), WEB_FILE)
            data = secrets.get(volumes[mount["name"]]["secretName"], given)
            for item in volumes[mount["name"]].get("items", [{"key": k, "path": k} for k in data]):
                text = base64.b64decode(data[item["key"]]).decode()
                (folder / item["path"]).write_text(text.replace("/etc/borgbase", str(etc)))
        environment = {
            variable["name"]: variable.get("value", "http://10.0.0.8:3128").replace(
                "/etc/borgbase", str(etc)
            )
            for variable in container_of(found)["env"]
        }
        assert len(environment) == len(container_of(found)["env"])
        collectors = {collector.name: collector.help for collector in COLLECTORS}
        return config.load(container_of(found)["args"], environment, collectors, __version__)

    return load


def test_the_exporter_takes_every_setting(
    start: Callable[[list[Manifest]], Config], case: list[Manifest]
) -> None:
    settings = start(case)

    assert settings.warnings == ()
    assert settings.command == "serve"
    assert [address.port for address in settings.listen] == [
        port["containerPort"] for port in container_of(case)["ports"]
    ]


def test_the_values_are_the_exporters_settings(
    start: Callable[[list[Manifest]], Config], manifests: Mapping[str, list[Manifest]]
) -> None:
    default, demo = start(manifests["secret"]), start(manifests["demo"])
    settings = start(manifests["settings"])

    own = config.load([], {"BORGBASE_DEMO": "true"}, {c.name: "" for c in COLLECTORS}, "1")
    assert demo == own
    assert default.tokens is not None
    assert (settings.interval, settings.timeout, settings.max_age) == (3600, 20, 86_400)
    assert settings.collectors == {c.name for c in COLLECTORS} - {"ssh_keys"}
    assert (settings.log_level, settings.log_format) == ("debug", "json")
    assert settings.api.max_response == 256 * 2**20
    assert settings.api.proxy == "http://10.0.0.8:3128"


@pytest.mark.parametrize(
    ("name", "accounts"),
    [
        ("secret", ["home", "token", "web.yml"]),
        ("one key", ["home"]),
        ("inline", ["home", "work.example"]),
    ],
)
def test_the_accounts_are_the_keys_of_the_secret(
    start: Callable[[list[Manifest]], Config],
    manifests: Mapping[str, list[Manifest]],
    name: str,
    accounts: list[str],
) -> None:
    tokens = start(manifests[name]).tokens
    assert tokens is not None
    assert sorted(tokens.sources()) == accounts


def test_tls_and_users_reach_the_web_server(
    start: Callable[[list[Manifest]], Config], manifests: Mapping[str, list[Manifest]]
) -> None:
    web = {name: start(found).web for name, found in manifests.items()}

    assert {name for name, w in web.items() if w.tls} == {
        "tls",
        "client certificates",
        "everything",
    }
    assert {name for name, w in web.items() if w.users} == {"users", "everything"}
    assert web["everything"].headers == {"X-Frame-Options": "DENY"}
    assert start(manifests["users"]).open_probes


def test_probes_and_scrapes_speak_as_the_server_does(
    start: Callable[[list[Manifest]], Config], manifests: Mapping[str, list[Manifest]]
) -> None:
    for name, found in manifests.items():
        scheme = "https" if name == "web secret" or start(found).web.tls else "http"
        container = container_of(found)
        for probe, page in (("livenessProbe", "/-/healthy"), ("readinessProbe", "/-/ready")):
            if name == "client certificates":  # the kubelet has none
                assert container[probe]["tcpSocket"] == {"port": "metrics"}
            elif (name, probe) != ("everything", "readinessProbe"):
                handler = {"path": page, "port": "metrics", "scheme": scheme.upper()}
                assert container[probe]["httpGet"] == handler
        for monitor in (m for m in found if m["kind"] == "ServiceMonitor"):
            assert [e["scheme"] for e in monitor["spec"]["endpoints"]] == [scheme]
    assert container_of(manifests["everything"])["readinessProbe"] == {
        "exec": {"command": ["true"]},
        "periodSeconds": 10,
        "timeoutSeconds": 5,
        "failureThreshold": 3,
    }


def test_a_change_of_users_makes_new_pods(
    helm: Helm, manifests: Mapping[str, list[Manifest]]
) -> None:
    def annotations(found: list[Manifest]) -> Any:
        return pod_of(found)["metadata"].get("annotations")

    changed = {**CASES["users"], "web": {"config": {"basic_auth_users": {"other": HASH}}}}
    tokens = {"tokens": {"inline": {"home": "other"}}}

    assert annotations(parsed(helm.template(changed))) != annotations(manifests["users"])
    assert annotations(manifests["inline"]) is annotations(parsed(helm.template(tokens))) is None


def test_the_variables_of_services_are_not_taken_for_settings(case: list[Manifest]) -> None:
    assert pod_of(case)["spec"]["enableServiceLinks"] is False


# How the objects find each other.


def test_selectors_and_ports_fit(case: list[Manifest]) -> None:
    pod, service = pod_of(case), one(case, "Service")
    labels, names = pod["metadata"]["labels"].items(), service["metadata"]["labels"].items()
    ports = {port["name"] for port in container_of(case)["ports"]}

    assert service["spec"]["selector"].items() <= labels
    assert one(case, "Deployment")["spec"]["selector"]["matchLabels"].items() <= labels
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    for manifest in case:
        spec = manifest.get("spec", {})
        match manifest["kind"]:
            case "ServiceMonitor":
                assert spec["selector"]["matchLabels"].items() <= names
                assert spec["namespaceSelector"]["matchNames"] == [service["metadata"]["namespace"]]
                served = {port["name"] for port in service["spec"]["ports"]}
                assert {endpoint["port"] for endpoint in spec["endpoints"]} == served
            case "NetworkPolicy":
                assert spec["podSelector"]["matchLabels"].items() <= labels
                assert {p["port"] for rule in spec["ingress"] for p in rule["ports"]} == ports
            case "PodDisruptionBudget":
                assert spec["selector"]["matchLabels"].items() <= labels


def test_all_objects_are_labelled_and_in_the_namespace(
    manifests: Mapping[str, list[Manifest]],
) -> None:
    for name, found in manifests.items():
        elsewhere = {"everything": {"monitoring"}, "links": {"monitoring", "grafana"}}.get(
            name, set()
        )
        assert {m["metadata"]["namespace"] for m in found} == {"backup"} | elsewhere
        team = {"names": "backup", "everything": "backup"}.get(name)
        for metadata in (m["metadata"] for m in found):
            assert metadata["labels"].get("team") == team
            assert metadata["labels"]["app.kubernetes.io/version"] == __version__


def test_the_job_has_borgbase_in_it_whatever_the_release_is_called(
    helm: Helm, manifests: Mapping[str, list[Manifest]]
) -> None:
    """As the rules want it: BorgBaseExporterAbsent looks at `up{job=~".*borgbase.*"}`."""
    other = parsed(helm.template(CASES["names"], release="42"))
    for found, job in (
        (other, "borgbase-exporter"),
        (manifests["everything"], "borgbase"),
    ):
        label = one(found, "ServiceMonitor")["spec"]["jobLabel"]
        assert one(found, "Service")["metadata"]["labels"][label] == job
    assert any('job=~".*borgbase.*"' in path.read_text("utf-8") for path in RULES)


def test_no_label_of_a_metric_collides_with_the_operators() -> None:
    added = {"job", "instance", "namespace", "service", "pod", "container", "endpoint", "node"}
    own = {label for scope in SCOPES for label in scope.labels}
    own |= {label for scope in SCOPES for metric in scope.metrics for label in metric.labels}
    assert not (own | set(BUILD.labels)) & added


# Rules and dashboards.


def test_the_rules_are_the_files(manifests: Mapping[str, list[Manifest]], tmp_path: Path) -> None:
    spec = one(manifests["files"], "PrometheusRule")["spec"]
    groups = [g for path in RULES for g in yaml.safe_load(path.read_text("utf-8"))["groups"]]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump(spec))

    assert spec == {"groups": groups}
    assert "{{ $labels.account }}" in file.read_text()
    done = subprocess.run(
        [require("promtool"), "check", "rules", "--lint-fatal", file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def dashboards(found: list[Manifest]) -> Iterator[tuple[Manifest, str, str]]:
    for manifest in found:
        if manifest["kind"] == "ConfigMap":
            ((name, text),) = manifest["data"].items()
            yield manifest["metadata"], name, text


def test_the_dashboards_are_the_files(manifests: Mapping[str, list[Manifest]]) -> None:
    found = {name: text for _, name, text in dashboards(manifests["files"])}

    assert found == {path.name: path.read_text("utf-8") for path in DASHBOARDS}
    # A ConfigMap holds 1 MiB; `kubectl apply` keeps a copy in an annotation, which holds a quarter.
    assert max(len(json.dumps(text)) for text in found.values()) < 256_000


def test_the_sidecar_finds_the_dashboards(manifests: Mapping[str, list[Manifest]]) -> None:
    for metadata, _, _ in dashboards(manifests["files"]):
        assert metadata["labels"]["grafana_dashboard"] == "1"
        assert "annotations" not in metadata
    for metadata, _, _ in dashboards(manifests["links"]):
        assert metadata["labels"]["dashboard"] == "yes"
        assert metadata["annotations"] == {"grafana_folder": "Backup", "note": "board"}


def test_links_lead_where_the_values_say(manifests: Mapping[str, list[Manifest]]) -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    ours = [one(manifests["links"], "PrometheusRule")["spec"]]
    ours += [text for _, _, text in dashboards(manifests["links"])]
    text, original = json.dumps(ours), json.dumps([*map(Path.read_text, [*RULES, *DASHBOARDS])])

    for url in (defaults["grafanaUrl"], defaults["runbookBaseUrl"]):
        assert f"{url}/" in original
        assert url not in text
    assert '"dashboard_url": "https://grafana.example.org/d/borgbase-overview?' in text
    assert "https://wiki.example.org/borgbase/BorgBaseTokenInvalid.md" in text
    for rule in (r for g in ours[0]["groups"] for r in g["rules"] if "alert" in r):
        links = rule["annotations"]
        assert links["runbook_url"] == f"https://wiki.example.org/borgbase/{rule['alert']}.md"
        assert links["dashboard_url"].startswith("https://grafana.example.org/d/borgbase-")


# The values.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "No token: set tokens.existingSecret"),
        (SECRET | {"demo": True}, "demo and tokens.existingSecret: set only one of them"),
        (
            {"tokens": {"existingSecret": "a", "inline": {"home": "x"}}},
            "tokens.existingSecret and tokens.inline: set only one of them",
        ),
        (
            {"tokens": {"inline": {"a": "x"}, "items": [{"key": "a", "path": "b"}]}},
            "tokens.items: of use with tokens.existingSecret only",
        ),
        (
            SECRET | {"web": {"existingSecret": "a", "config": {"basic_auth_users": {"b": HASH}}}},
            "web.config and web.existingSecret: set only one of them",
        ),
        (SECRET | {"polls": {}}, "additional properties 'polls' not allowed"),
        (
            SECRET | {"serviceMonitor": {"intervall": "1m"}},
            "at '/serviceMonitor': additional properties 'intervall' not allowed",
        ),
        (SECRET | {"poll": {"interval": "15x"}}, "at '/poll/interval': '15x' does not match"),
        (SECRET | {"poll": {"interval": 900}}, "at '/poll/interval': got number, want string"),
        (
            SECRET | {"collectors": {"keys": False}},
            "at '/collectors': additional properties 'keys' not allowed",
        ),
        (SECRET | {"log": {"level": "loud"}}, "at '/log/level': value must be one of 'debug'"),
        (SECRET | {"extraArgs": ["check"]}, "at '/extraArgs/0': 'check' does not match"),
        ({"tokens": {"inline": {"a b": "x"}}}, "invalid propertyName 'a b'"),
        ({"tokens": {"inline": {".home": "x"}}}, "invalid propertyName '.home'"),
        ({"tokens": {"inline": {"home": ""}}}, "at '/tokens/inline/home': minLength: got 0"),
        (
            {"tokens": {"existingSecret": "Tokens"}},
            "at '/tokens/existingSecret': 'Tokens' does not",
        ),
        (
            SECRET | {"web": {"config": {"basic_auth_users": {"prom": "secret"}}}},
            "at '/web/config/basic_auth_users/prom': 'secret' does not match",
        ),
        (SECRET | {"grafanaUrl": "grafana"}, "at '/grafanaUrl': 'grafana' does not match"),
        (
            SECRET | {"serviceMonitor": {"job": "backup"}},
            "at '/serviceMonitor/job': 'backup' does not match",
        ),
        (SECRET | {"service": {"port": 0}}, "at '/service/port': minimum: got 0, want 1"),
        (SECRET | {"replicaCount": "2"}, "at '/replicaCount': got string, want integer"),
    ],
)
def test_what_is_wrong_is_refused_by_name(helm: Helm, values: Values, message: str) -> None:
    assert message in helm.refusal(values)


def test_an_old_kubernetes_is_refused(helm: Helm) -> None:
    done = helm("template", "night", CHART, "--set", "demo=true", "--kube-version", "1.24")
    assert "chart requires kubeVersion: >=1.25.0-0" in done.stderr


def test_the_schema_knows_the_values_and_no_others() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))

    def compare(values: Any, schema: Manifest, path: str) -> None:
        if schema.get("additionalProperties") is not False:
            return
        known = schema["properties"].keys() - {"global"}  # Helm's own, in charts of charts
        if path in {"resources", "web.config"}:
            return  # written as Kubernetes and the exporter toolkit do
        assert known == values.keys(), path
        for name in known:
            compare(values[name], schema["properties"][name], f"{path}.{name}".lstrip("."))

    compare(yaml.safe_load((CHART / "values.yaml").read_text("utf-8")), schema, "")
    assert set(schema["properties"]["collectors"]["properties"]) == {c.name for c in COLLECTORS}


def documented() -> Iterator[tuple[str, str]]:
    """Yield each value that values.yaml describes, by its path, and the description."""
    path: list[str] = []
    said: list[str] = []
    for line in (CHART / "values.yaml").read_text("utf-8").splitlines():
        if comment := re.fullmatch(r" *# (-- )?(.*)", line):
            if comment[1]:
                said = [comment[2]]
            elif said:
                said.append(comment[2])
        elif key := re.match(r"( *)(\w+):", line):
            path[len(key[1]) // 2 :] = [key[2]]
            if said:
                yield ".".join(path), " ".join(said)
            said = []


def test_every_value_is_documented() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    rows = dict(documented())

    def undescribed(value: Any, path: str) -> Iterator[str]:
        if path in rows:
            return
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                yield from undescribed(inner, f"{path}.{name}".lstrip("."))
        else:
            yield path

    def default(path: str) -> str:
        value = values
        for name in path.split("."):
            value = value[name]
        return json.dumps(value)

    assert list(undescribed(values, "")) == []
    table = "| value | default | meaning |\n| --- | --- | --- |\n"
    table += "".join(f"| `{p}` | `{default(p)}` | {said} |\n" for p, said in rows.items())
    before, start, rest = PAGE.read_text("utf-8").partition("<!-- values.yaml -->\n")
    written, end, after = rest.partition("<!-- end -->\n")
    if os.environ.get(RENEW):
        PAGE.write_text(before + start + table + end + after, "utf-8")
        written = table
    assert written == table, f"stale: {RENEW}=1 python -m pytest {Path(__file__).relative_to(ROOT)}"


# The package.


def test_the_chart_is_the_exporters_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert chart["version"] == chart["appVersion"] == __version__


def test_the_package_holds_the_very_files(
    helm: Helm, texts: Mapping[str, str], tmp_path: Path
) -> None:
    done = helm("package", CHART, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    package = tmp_path / f"borgbase-exporter-{__version__}.tgz"
    with tarfile.open(package) as archive:
        assert all(member.isfile() for member in archive)
        packed = {
            member.name.removeprefix("borgbase-exporter/"): archive.extractfile(member).read()  # type: ignore[union-attr]  # a file
            for member in archive
        }

    own = {p.relative_to(CHART).as_posix(): p.read_bytes() for p in CHART.rglob("*") if p.is_file()}
    assert packed.keys() == own.keys()
    assert {n: b for n, b in packed.items() if n != "Chart.yaml"} == {  # rewritten by Helm
        n: b for n, b in own.items() if n != "Chart.yaml"
    }
    for kind, files in (("rules", RULES), ("dashboards", DASHBOARDS)):
        assert {n for n in packed if n.startswith(f"files/{kind}/")} == {
            f"files/{kind}/{path.name}" for path in files
        }
        assert all(packed[f"files/{kind}/{path.name}"] == path.read_bytes() for path in files)
    assert helm.template(CASES["files"], package) == texts["files"]
