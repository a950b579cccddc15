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
from shutil import copytree, ignore_patterns
from typing import Any

import pytest
import trustme
import yaml

from borgbase_exporter import __version__, settings
from borgbase_exporter.metrics.catalogue import SCOPES
from borgbase_exporter.model import COLLECTORS
from borgbase_exporter.settings import Serve
from tests.docs.pages import BLOCKS, Block
from tests.gotools import require_module, require_tool
from tests.rules import RULES, groups

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "deploy" / "helm" / "borgbase-exporter"
FOLDER = Path(__file__).parent / "helm"
PAGE = ROOT / "docs" / "kubernetes.md"
RENEW = "RENEW_GOLDEN"
"""The variable that makes the tests write the golden file and the table of values."""
DASHBOARDS = sorted((ROOT / "dashboards").glob("*.json"))
OPERATOR = "github.com/prometheus-operator/prometheus-operator"
KUBERNETES = ("1.25", "1.28", "1.30")
"""Those that kubectl-validate knows, from the chart's oldest to its newest."""
HASH = "$2b$12$abcdefghijklmnopqrstuuE6S1bC7mWvQJ9m3G1y7qkZ5gK0a1b2c"
WEB_FILE = base64.b64encode(b"http_server_config: {headers: {X-Frame-Options: DENY}}").decode()
SECRET: dict[str, Any] = {"tokens": {"existingSecret": "borgbase-tokens"}}

Values = dict[str, Any]
Manifest = dict[str, Any]
Cases = Mapping[str, list[Manifest]]

CASES: dict[str, Values] = yaml.safe_load((FOLDER / "cases.yaml").read_text("utf-8"))
DEFAULTS: Manifest = yaml.safe_load((SOURCE / "values.yaml").read_text("utf-8"))


class Helm:
    """Helm with temporary folders, and the chart with its files as `make chart` copies them."""

    def __init__(self, folder: Path) -> None:
        self._program = require_tool("helm")
        self._folder = folder
        homes = {f"HELM_{kind}_HOME": str(folder) for kind in ("CACHE", "CONFIG", "DATA")}
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **homes}
        self.chart = folder / "borgbase-exporter"
        copytree(SOURCE, self.chart, ignore=ignore_patterns("files"))
        make = ["make", f"--directory={ROOT}", "chart", f"CHART={self.chart}"]
        subprocess.run(make, check=True, capture_output=True)

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

    def render(
        self, values: Values, chart: Path | None = None, release: str = "night"
    ) -> subprocess.CompletedProcess[str]:
        where = ("--namespace", "backup", "--kube-version", KUBERNETES[-1])
        chart = chart or self.chart
        return self("template", release, chart, *where, "--values", self.values(values))

    def template(self, values: Values, chart: Path | None = None, release: str = "night") -> str:
        done = self.render(values, chart, release)
        assert (done.returncode, done.stderr) == (0, "")  # no warnings either
        return done.stdout


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
def texts(helm: Helm) -> Mapping[str, str]:
    return {name: helm.template(values) for name, values in CASES.items()}


@pytest.fixture(scope="module")
def cases(texts: Mapping[str, str]) -> Cases:
    return {name: parsed(text) for name, text in texts.items()}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, cases: Cases) -> list[Manifest]:
    return cases[request.param]


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


# Verdicts of Helm and Kubernetes.


def test_helm_accepts_the_chart(helm: Helm) -> None:
    for values in (CASES["demo"], CASES["everything"]):
        done = helm("lint", "--strict", helm.chart, "--values", helm.values(values))
        assert done.returncode == 0, done.stdout
        assert re.findall(r"(?i)warning.*", done.stdout + done.stderr) == []


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_and_the_operator_accept_every_manifest(
    texts: Mapping[str, str], cases: Cases, version: str, tmp_path: Path
) -> None:
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    program = require_tool("kubectl-validate")
    crds = require_module(OPERATOR) / "example" / "prometheus-operator-crd"
    done = subprocess.run(
        [program, "--version", version, "--local-crds", crds, "--output=json", tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    verdicts = {Path(name).stem: found for name, found in json.loads(done.stdout).items()}
    for name, found in cases.items():
        assert [v.get("message") for v in verdicts[name] if v["status"] != "Success"] == [], name
        assert len(verdicts[name]) == len(found)


def test_the_manifests_are_the_golden_ones(texts: Mapping[str, str]) -> None:
    golden = FOLDER / "everything.yaml"
    text = texts["everything"].replace(__version__, "VERSION")
    if os.environ.get(RENEW):
        golden.write_text(text, "utf-8")
    assert text == golden.read_text("utf-8"), f"if that is meant, run it with {RENEW}=1"


# The pod.


def test_the_pod_meets_the_restricted_profile(case: list[Manifest]) -> None:
    """Pod Security Standards, https://kubernetes.io/docs/concepts/security/pod-security-standards/."""
    spec, container = pod_of(case)["spec"], container_of(case)
    security = spec["securityContext"]

    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & spec.keys()
    assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 65532)  # the image's
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all("hostPort" not in port for port in container["ports"])
    assert {kind for v in spec.get("volumes", []) for kind in v} <= {"name", "secret", "configMap"}
    # Variables of the namespace's Services, such as BORGBASE_EXPORTER_PORT, are not settings.
    assert spec["enableServiceLinks"] is False
    assert spec["automountServiceAccountToken"] is False
    accounts = [m for m in case if m["kind"] == "ServiceAccount"]
    assert all(account["automountServiceAccountToken"] is False for account in accounts)


def test_the_exporter_and_no_other_user_can_read_the_secrets(case: list[Manifest]) -> None:
    volumes = {volume["name"]: volume for volume in pod_of(case)["spec"].get("volumes", [])}
    mounts = container_of(case).get("volumeMounts", [])

    assert {v["secret"]["defaultMode"] for v in volumes.values() if "secret" in v} <= {0o440}
    assert pod_of(case)["spec"]["securityContext"]["fsGroup"] == 65532
    assert all(mount["readOnly"] and "subPath" not in mount for mount in mounts)
    assert {mount["name"] for mount in mounts} == volumes.keys()


def test_exec_starts_what_the_image_starts() -> None:
    (entry,) = re.findall(r"^ENTRYPOINT (.*)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for path in (PAGE, SOURCE / "templates" / "NOTES.txt"):
        commands = re.findall(r" exec deploy/.* -- (.*) check$", path.read_text(), re.MULTILINE)
        assert commands == [" ".join(json.loads(entry))]


Start = Callable[[list[Manifest]], Serve]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Load the settings as the pod's container would, with /etc/borgbase elsewhere."""
    tls = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    server = authority.issue_cert("exporter")
    server.private_key_pem.write_to_path(tls / "tls.key")
    server.cert_chain_pems[0].write_to_path(tls / "tls.crt")
    authority.cert_pem.write_to_path(tls / "ca.crt")

    def load(found: list[Manifest]) -> Serve:
        etc = tmp_path_factory.mktemp("etc")
        for mount in container_of(found).get("volumeMounts", []):
            if mount["name"] == "tls":
                (etc / "tls").symlink_to(tls)
            elif mount["mountPath"].startswith("/etc/borgbase/"):
                _mount(found, mount["name"], etc / Path(mount["mountPath"]).name, etc)
        environment = {
            variable["name"]: variable.get("value", "http://10.0.0.8:3128").replace(
                "/etc/borgbase", str(etc)
            )
            for variable in container_of(found)["env"]
        }
        assert len(environment) == len(container_of(found)["env"])
        loaded = settings.load(container_of(found)["args"], environment)
        assert isinstance(loaded, Serve)
        return loaded

    return load


def _mount(found: list[Manifest], name: str, folder: Path, etc: Path) -> None:
    """Write the files of a Secret; one from outside the chart has every key that is referenced."""
    folder.mkdir()
    secrets = {m["metadata"]["name"]: m["data"] for m in found if m["kind"] == "Secret"}
    (volume,) = [v["secret"] for v in pod_of(found)["spec"]["volumes"] if v["name"] == name]
    data = secrets.get(volume["secretName"], dict.fromkeys(("web.yml", "token", "home"), WEB_FILE))
    for item in volume.get("items", [{"key": key, "path": key} for key in data]):
        text = base64.b64decode(data[item["key"]]).decode()
        (folder / item["path"]).write_text(text.replace("/etc/borgbase", str(etc)))


def test_the_exporter_accepts_every_setting(start: Start, case: list[Manifest]) -> None:
    loaded = start(case)

    assert loaded.warnings == ()
    assert [address.port for address in loaded.web.listen_addresses] == [
        port["containerPort"] for port in container_of(case)["ports"]
    ]


def test_the_values_are_the_exporters_settings(start: Start, cases: Cases) -> None:
    loaded = start(cases["settings"])

    assert start(cases["demo"]) == settings.load([], {"BORGBASE_DEMO": "true"})
    assert (loaded.poll.interval, loaded.poll.timeout, loaded.poll.max_age) == (3600, 20, 86_400)
    assert DEFAULTS["collectors"] == dict.fromkeys(COLLECTORS, True)
    assert loaded.collectors == COLLECTORS.keys() - {"ssh_keys"}
    assert (loaded.log.level, loaded.log.format) == ("debug", "json")
    assert loaded.api.max_response == 256 * 2**20
    assert loaded.api.proxy == "http://10.0.0.8:3128"
    assert start(cases["links"]).web.grafana_url == "https://grafana.example.org/"


@pytest.mark.parametrize(
    ("name", "accounts"),
    [
        ("secret", ["home", "token", "web.yml"]),
        ("one key", ["home"]),
        ("inline", ["home", "work.example"]),
    ],
)
def test_the_accounts_are_the_keys_of_the_secret(
    start: Start, cases: Cases, name: str, accounts: list[str]
) -> None:
    tokens = start(cases[name]).tokens
    assert tokens is not None
    assert sorted(tokens.sources()) == accounts


def test_tls_and_users_reach_the_web_server(start: Start, cases: Cases) -> None:
    web = {name: start(found).web for name, found in cases.items()}

    tls = {name for name, w in web.items() if w.config.tls}
    assert tls == {"tls", "client certificates", "everything"}
    assert {name for name, w in web.items() if w.config.users} == {"users", "everything"}
    assert web["everything"].config.headers == {"X-Frame-Options": "DENY"}
    assert web["users"].open_probes


def test_probes_and_scrapes_use_the_servers_scheme(start: Start, cases: Cases) -> None:
    for name, found in cases.items():
        scheme = "https" if name == "web secret" or start(found).web.config.tls else "http"
        container = container_of(found)
        for probe, page in (("livenessProbe", "/-/healthy"), ("readinessProbe", "/-/ready")):
            if name == "client certificates":  # the kubelet has none
                assert container[probe]["tcpSocket"] == {"port": "metrics"}
            elif (name, probe) != ("everything", "readinessProbe"):
                handler = {"path": page, "port": "metrics", "scheme": scheme.upper()}
                assert container[probe]["httpGet"] == handler
        for monitor in (m for m in found if m["kind"] == "ServiceMonitor"):
            assert [e["scheme"] for e in monitor["spec"]["endpoints"]] == [scheme]


def test_only_a_change_of_users_makes_new_pods(helm: Helm, cases: Cases) -> None:
    def annotations(values: Values) -> Any:
        return pod_of(parsed(helm.template(values)))["metadata"].get("annotations")

    other = {"web": {"config": {"basic_auth_users": {"other": HASH}}}}
    before = pod_of(cases["users"])["metadata"]["annotations"]
    assert annotations(CASES["users"] | other) != before
    assert annotations({"tokens": {"inline": {"home": "other"}}}) is None


# References between the objects.


def test_selectors_and_ports_fit(case: list[Manifest]) -> None:
    pod, service = pod_of(case), one(case, "Service")
    labels, names = pod["metadata"]["labels"].items(), service["metadata"]["labels"].items()
    ports = {port["name"] for port in container_of(case)["ports"]}
    served = {port["name"] for port in service["spec"]["ports"]}

    assert service["spec"]["selector"].items() <= labels
    assert one(case, "Deployment")["spec"]["selector"]["matchLabels"].items() <= labels
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    for manifest in case:
        spec = manifest.get("spec", {})
        match manifest["kind"]:
            case "ServiceMonitor":
                assert spec["selector"]["matchLabels"].items() <= names
                assert spec["namespaceSelector"]["matchNames"] == [service["metadata"]["namespace"]]
                assert {endpoint["port"] for endpoint in spec["endpoints"]} == served
            case "NetworkPolicy":
                assert spec["podSelector"]["matchLabels"].items() <= labels
                assert {p["port"] for rule in spec["ingress"] for p in rule["ports"]} == ports
            case "PodDisruptionBudget":
                assert spec["selector"]["matchLabels"].items() <= labels
            case "Ingress":
                (backend,) = [p["backend"] for r in spec["rules"] for p in r["http"]["paths"]]
                assert backend["service"]["name"] == service["metadata"]["name"]
                assert {backend["service"]["port"]["name"]} == served


def test_the_job_contains_borgbase_whatever_the_release_is_called(helm: Helm, cases: Cases) -> None:
    """The rules need it: BorgBaseExporterAbsent selects `up{job=~".*borgbase.*"}`."""
    other = parsed(helm.template(CASES["names"], release="42"))
    for found, job in ((other, "borgbase-exporter"), (cases["everything"], "borgbase")):
        label = one(found, "ServiceMonitor")["spec"]["jobLabel"]
        assert one(found, "Service")["metadata"]["labels"][label] == job
    assert any('job=~".*borgbase.*"' in path.read_text("utf-8") for path in RULES)


def test_no_label_of_a_metric_collides_with_the_operators() -> None:
    added = {"job", "instance", "namespace", "service", "pod", "container", "endpoint", "node"}
    own = {label for scope in SCOPES for label in scope.labels}
    own |= {label for scope in SCOPES for metric in scope.metrics for label in metric.labels}
    assert not own & added


# Rules and dashboards.


def test_the_rules_are_the_files(cases: Cases) -> None:
    assert one(cases["files"], "PrometheusRule")["spec"] == {"groups": groups()}


def test_single_alerts_can_be_disabled(cases: Cases) -> None:
    def names(found: list[Manifest]) -> set[str]:
        return {rule.get("alert") or rule["record"] for g in found for rule in g["rules"]}

    left = one(cases["links"], "PrometheusRule")["spec"]["groups"]
    assert names(groups()) - names(left) == {"BorgBasePlanOverage", "BorgBasePlanAlmostFull"}


def dashboards(found: list[Manifest]) -> Iterator[tuple[Manifest, str, str]]:
    for manifest in found:
        if manifest["kind"] == "ConfigMap":
            ((name, text),) = manifest["data"].items()
            yield manifest["metadata"], name, text


def test_the_dashboards_are_the_files_and_the_sidecar_finds_them(cases: Cases) -> None:
    found = {name: text for _, name, text in dashboards(cases["files"])}

    assert found == {path.name: path.read_text("utf-8") for path in DASHBOARDS}
    # A ConfigMap holds 1 MiB; `kubectl apply` keeps a copy in an annotation, which holds a quarter.
    assert max(len(json.dumps(text)) for text in found.values()) < 256_000
    for metadata, _, _ in dashboards(cases["files"]):
        assert metadata["labels"]["grafana_dashboard"] == "1"
        assert "annotations" not in metadata
    for metadata, _, _ in dashboards(cases["links"]):
        assert metadata["labels"]["dashboard"] == "yes"
        assert metadata["annotations"] == {"grafana_folder": "Backup", "note": "board"}


def test_links_lead_where_the_values_say(cases: Cases) -> None:
    ours = [one(cases["links"], "PrometheusRule")["spec"]]
    ours += [text for _, _, text in dashboards(cases["links"])]
    text, original = json.dumps(ours), json.dumps([*map(Path.read_text, [*RULES, *DASHBOARDS])])

    for url in (DEFAULTS["grafanaUrl"], DEFAULTS["runbookBaseUrl"]):
        assert f"{url}/" in original
        assert url not in text
    assert "https://wiki.example.org/borgbase/BorgBaseTokenInvalid.md" in text
    for rule in (r for g in ours[0]["groups"] for r in g["rules"] if "alert" in r):
        links = rule["annotations"]
        assert links["runbook_url"] == f"https://wiki.example.org/borgbase/{rule['alert']}.md"
        assert links["dashboard_url"].startswith("https://grafana.example.org/d/borgbase-")


# The values.

REFUSED: list[tuple[Values, str]] = [
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
    (SECRET | {"ingress": {"enabled": True}}, "ingress.hosts: name at least one host"),
    (
        SECRET | {"prometheusRule": {"enabled": True, "disabledAlerts": ["Nope"]}},
        "prometheusRule.disabledAlerts: there is no alert Nope",
    ),
    (SECRET | {"poll": {"interval": 900}}, "at '/poll/interval': got number, want string"),
    ({"tokens": {"inline": {".home": "x"}}}, "invalid propertyName '.home'"),
    (
        SECRET | {"web": {"config": {"basic_auth_users": {"prom": "secret"}}}},
        "at '/web/config/basic_auth_users/prom': 'secret' does not match",
    ),
    (SECRET | {"serviceMonitor": {"job": "backup"}}, "'backup' does not match"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_wrong_values_are_refused_by_name(helm: Helm, values: Values, message: str) -> None:
    done = helm.render(values)
    assert done.returncode != 0
    assert message in done.stderr


def test_a_checkout_without_the_files_says_how_to_get_them(helm: Helm, tmp_path: Path) -> None:
    chart = copytree(SOURCE, tmp_path / "borgbase-exporter", ignore=ignore_patterns("files"))
    for kind in ("prometheusRule", "dashboards"):
        done = helm.render(SECRET | {kind: {"enabled": True}}, chart)
        assert "before `make chart` has put them into it" in done.stderr


def is_values(block: Block) -> bool:
    keys = set(re.findall(r"^(\w+):", block.text, re.MULTILINE))
    return block.language == "yaml" and bool(keys) and keys <= set(DEFAULTS)


@pytest.mark.parametrize("block", [*filter(is_values, BLOCKS)], ids=str)
def test_the_documentations_values_are_accepted(helm: Helm, block: Block) -> None:
    values = SECRET | yaml.safe_load(block.text)
    users = values.get("web", {}).get("config", {}).get("basic_auth_users", {})
    users |= dict.fromkeys(users, HASH)  # those of the page are shortened
    assert parsed(helm.template(values))


def test_the_readme_has_every_value() -> None:
    values = (SOURCE / "values.yaml").read_text("utf-8")
    described = r"^(\w+):$|^( *)# -- (.+)\n *(\w+):"
    section, rows = "", dict[str, str]()
    for title, indent, words, name in re.findall(described, values, re.MULTILINE):
        section = title or section
        if name:
            default = DEFAULTS[section][name] if indent else DEFAULTS[name]
            path = f"{section}.{name}" if indent else name
            rows[path] = f"| {path} | `{json.dumps(default)}` | {words} |\n"
    assert rows.keys() == {
        path
        for name, value in DEFAULTS.items()
        for path in ([name] if name in rows else [f"{name}.{inner}" for inner in value])
    }

    table = "| Key | Default | Description |\n|-----|---------|-------------|\n"
    table += "".join(row for _, row in sorted(rows.items()))
    readme = SOURCE / "README.md"
    before, start, rest = readme.read_text("utf-8").partition("<!-- values.yaml -->\n")
    written, end, after = rest.partition("<!-- end -->\n")
    if os.environ.get(RENEW):
        readme.write_text(before + start + table + end + after, "utf-8")
        written = table
    assert written == table, f"stale: run it with {RENEW}=1"


# The package.


def test_the_package_is_as_tested(helm: Helm, texts: Mapping[str, str], tmp_path: Path) -> None:
    done = helm("package", helm.chart, "--destination", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    package = tmp_path / f"borgbase-exporter-{__version__}.tgz"
    with tarfile.open(package) as archive:
        packed = {Path(member.name).name for member in archive if member.isfile()}
    assert packed >= {path.name for path in [*RULES, *DASHBOARDS]} | {"README.md"}
    assert helm.template(CASES["files"], package) == texts["files"]
