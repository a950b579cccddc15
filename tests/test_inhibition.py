"""What Alertmanager inhibits and where it routes, asked of a real one with our configuration."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import requests
import yaml

from tests.alarms import Alarm
from tests.notifications import muted, route
from tests.programs import require, root
from tests.rules import ROOT

CONFIG = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
RULES = yaml.safe_load(CONFIG.read_text())["inhibit_rules"]
PATIENCE = 20.0  # seconds

Labels = dict[str, str]
SEVERITY, EXPORTER, FILLING, TAMPERED, TOKEN, DRIFT = range(6)  # the inhibition rules, in their order


class Case(NamedTuple):
    """Does one alert silence the other? Both get `shared` labels; `rule` is the one on trial."""

    rule: int
    source: Labels
    target: Labels
    inhibits: bool
    shared: Labels


def alert(name: str, severity: str = "warning", **labels: str) -> Labels:
    return {"alertname": name, "severity": severity, **labels}


ACCOUNT = {"job": "borgbase", "account": "acme"}
REPO = ACCOUNT | {"repo_id": "a1b2c3d4", "repo": "mail"}
CASES = {
    "critical over warning, of a repo": Case(
        SEVERITY,
        alert("BorgBaseRepoQuotaAlmostFull", "critical"),
        alert("BorgBaseRepoQuotaAlmostFull"),
        inhibits=True,
        shared=REPO,
    ),
    "critical over warning, of an account": Case(
        SEVERITY,
        alert("BorgBasePlanAlmostFull", "critical"),
        alert("BorgBasePlanAlmostFull"),
        inhibits=True,
        shared=ACCOUNT,
    ),
    "critical over warning of another repo": Case(
        SEVERITY,
        alert("BorgBaseRepoQuotaAlmostFull", "critical", repo_id="1"),
        alert("BorgBaseRepoQuotaAlmostFull", repo_id="2"),
        inhibits=False,
        shared=ACCOUNT,
    ),
    "critical over warning of another alert, both without a repo": Case(
        SEVERITY,
        alert("BorgBasePlanAlmostFull", "critical"),
        alert("BorgBaseSubscriptionExpiring"),
        inhibits=False,
        shared=ACCOUNT,
    ),
    "critical over warning, same account name in another job": Case(
        SEVERITY,
        alert("BorgBasePlanAlmostFull", "critical", job="one"),
        alert("BorgBasePlanAlmostFull", job="two"),
        inhibits=False,
        shared={"account": "acme"},
    ),
    "critical over warning, of an exporter": Case(
        EXPORTER,
        alert("BorgBaseExporterAbsent", "critical"),
        alert("BorgBaseExporterAbsent"),
        inhibits=True,
        shared={"job": "borgbase"},
    ),
    "critical over warning, of the exporter of another job": Case(
        EXPORTER,
        alert("BorgBaseExporterAbsent", "critical", job="one"),
        alert("BorgBaseExporterAbsent", job="two"),
        inhibits=False,
        shared={},
    ),
    "critical over warning, both without an account": Case(
        SEVERITY,
        alert("BorgBaseSomething", "critical"),
        alert("BorgBaseSomething"),
        inhibits=False,
        shared={},
    ),
    "critical over warning of somebody else's alert": Case(
        SEVERITY,
        alert("DiskAlmostFull", "critical"),
        alert("DiskAlmostFull"),
        inhibits=False,
        shared=ACCOUNT,
    ),
    "almost full over filling up": Case(
        FILLING,
        alert("BorgBaseRepoQuotaAlmostFull"),
        alert("BorgBaseRepoQuotaFillingUp"),
        inhibits=True,
        shared=REPO,
    ),
    "filling up over almost full": Case(
        FILLING,
        alert("BorgBaseRepoQuotaFillingUp"),
        alert("BorgBaseRepoQuotaAlmostFull"),
        inhibits=False,
        shared=REPO,
    ),
    "almost full over filling up, of another repo": Case(
        FILLING,
        alert("BorgBaseRepoQuotaAlmostFull", repo_id="1"),
        alert("BorgBaseRepoQuotaFillingUp", repo_id="2"),
        inhibits=False,
        shared=ACCOUNT,
    ),
    "almost full over filling up, both without a repo": Case(
        FILLING,
        alert("BorgBaseRepoQuotaAlmostFull"),
        alert("BorgBaseRepoQuotaFillingUp"),
        inhibits=False,
        shared=ACCOUNT,
    ),
    "tampered over shrunk": Case(
        TAMPERED,
        alert("BorgBaseAppendOnlyRepoShrunk", "critical"),
        alert("BorgBaseRepoShrunk", "critical"),
        inhibits=True,
        shared=REPO,
    ),
    "tampered over shrunk, of another repo": Case(
        TAMPERED,
        alert("BorgBaseAppendOnlyRepoShrunk", "critical", repo_id="1"),
        alert("BorgBaseRepoShrunk", repo_id="2"),
        inhibits=False,
        shared=ACCOUNT,
    ),
    "drift over missing data": Case(
        DRIFT,
        alert("BorgBaseSchemaDrift"),
        alert("BorgBaseRepoDataMissing", repo_id="1"),
        inhibits=True,
        shared=ACCOUNT,
    ),
    "drift of a figure over missing data": Case(
        DRIFT,
        alert("BorgBaseSchemaDrift", "info"),
        alert("BorgBaseRepoDataMissing", repo_id="1"),
        inhibits=False,
        shared=ACCOUNT,
    ),
    "vanished over an alert on the same repo, which ends by itself": Case(
        SEVERITY,
        alert("BorgBaseRepoVanished", "critical"),
        alert("BorgBaseRepoQuotaAlmostFull"),
        inhibits=False,
        shared=REPO,
    ),
    **{
        f"invalid token over {name}": Case(
            TOKEN,
            alert("BorgBaseTokenInvalid", "critical"),
            alert(name),
            inhibits=True,
            shared=ACCOUNT,
        )
        for name in (
            "BorgBaseAPIUnreachable",
            "BorgBasePollStale",
            "BorgBaseCollectorFailing",
            "BorgBaseTokenExpiring",
        )
    },
    "invalid token over another account": Case(
        TOKEN,
        alert("BorgBaseTokenInvalid", "critical", account="one"),
        alert("BorgBaseAPIUnreachable", account="two"),
        inhibits=False,
        shared={"job": "borgbase"},
    ),
    "invalid token, both without an account": Case(
        TOKEN,
        alert("BorgBaseTokenInvalid", "critical"),
        alert("BorgBaseAPIUnreachable"),
        inhibits=False,
        shared={"job": "borgbase"},
    ),
    **{
        f"{source} over {target}": Case(
            TOKEN,
            alert(source, "critical"),
            alert(target),
            inhibits=False,
            shared=REPO,
        )
        for source in (
            "BorgBaseTokenInvalid",
            "BorgBaseAPIUnreachable",
            "BorgBaseExporterAbsent",
            "BorgBaseAccountAbsent",
        )
        for target in (
            "BorgBaseRepoVanished",
            "BorgBaseRepoShrunk",
            "BorgBaseAppendOnlyRepoShrunk",
            "BorgBaseRepoAppendOnlyDisabled",
            "BorgBaseRepoBackupOverdue",
        )
    },
}


def apart(name: str, case: Case) -> tuple[Labels, Labels]:
    """Return a case's alerts, in a job and account of their own so that cases do not meet."""
    sides = []
    for side, labels in (("source", case.source), ("target", case.target)):
        own = {
            key: f"{value} in {name}" if key in {"job", "account"} else value
            for key, value in (case.shared | labels).items()
        }
        sides.append(own | {"case": name, "side": side})
    return sides[0], sides[1]


def eventually(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < deadline, f"{what} takes too long"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def inhibited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bool]]:
    """Hand every case to one Alertmanager; return whether each case's target is inhibited."""
    program = require("alertmanager")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*free.getsockname())
    process = subprocess.Popen(
        [
            str(program),
            f"--config.file={CONFIG}",
            f"--storage.path={tmp_path_factory.mktemp('alertmanager')}",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",
        ],
        cwd=root(program),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with requests.Session() as session:
            session.trust_env = False
            yield ask(session, f"http://{address}", process)
    finally:
        process.kill()
        process.wait()


def ask(session: requests.Session, url: str, process: subprocess.Popen[bytes]) -> dict[str, bool]:
    def up() -> bool:
        assert process.poll() is None, "Alertmanager does not start"
        try:
            return session.get(f"{url}/-/ready", timeout=PATIENCE).ok
        except requests.ConnectionError:
            return False

    def alerts() -> list[dict[str, Any]]:
        answer = session.get(f"{url}/api/v2/alerts", timeout=PATIENCE)
        answer.raise_for_status()
        return list(answer.json())

    def post(*labels: Labels) -> None:
        body = [{"labels": each} for each in labels]
        session.post(f"{url}/api/v2/alerts", json=body, timeout=PATIENCE).raise_for_status()

    def verdicts() -> dict[str, bool]:
        return {
            each["labels"]["case"]: bool(each["status"]["inhibitedBy"])
            for each in alerts()
            if each["labels"]["side"] == "target"
        }

    eventually(up, "the start")
    pairs = [apart(name, case) for name, case in CASES.items()]
    post(*(target for _, target in pairs), *(source for source, _ in pairs))
    # Alerts are taken in order: where this last one counts, all those before it do.
    source, target = apart("last", next(iter(CASES.values())))
    post(target)
    post(source)
    eventually(lambda: verdicts().get("last", False), "the last alert")
    return verdicts()


@pytest.mark.parametrize("name", CASES)
def test_inhibition(inhibited: dict[str, bool], name: str) -> None:
    assert inhibited[name] == CASES[name].inhibits


def test_every_rule_is_shown_to_inhibit_and_not_to() -> None:
    assert {(case.rule, case.inhibits) for case in CASES.values()} == {
        (rule, inhibits) for rule in range(len(RULES)) for inhibits in (True, False)
    }


def test_every_rule_pins_the_names_of_both_sides() -> None:
    for rule in RULES:
        for side in ("source_matchers", "target_matchers"):
            assert [matcher for matcher in rule[side] if matcher.startswith("alertname=")], rule


@pytest.mark.parametrize(
    ("severity", "receiver"), [("critical", "pager"), ("warning", "mail"), ("info", "nobody")]
)
@pytest.mark.parametrize("name", ["BorgBaseRepoShrunk", "BorgBaseAPIUnreachable"])
def test_severities_are_routed(severity: str, receiver: str, name: str) -> None:
    """Route as the real program does, and as the model by which notifications are counted."""
    amtool = require("amtool")
    command = [str(amtool), "config", "routes", "test", f"--config.file={CONFIG}"]
    labels = {"severity": severity, "alertname": name, "job": "borgbase", "account": "acme"}
    given = [f"{key}={value}" for key, value in labels.items()]
    routed = subprocess.run(
        [*command, *given], check=True, capture_output=True, text=True, timeout=60
    )
    assert routed.stdout.strip() == receiver
    assert route(labels)["receiver"] == receiver


@pytest.mark.parametrize("name", CASES)
def test_the_model_inhibits_as_alertmanager_does(name: str) -> None:
    source, target = (Alarm(labels, 0, 10) for labels in apart(name, CASES[name]))
    assert muted(target, [source, target], 5) == CASES[name].inhibits
