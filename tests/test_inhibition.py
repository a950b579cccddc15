"""What a real Alertmanager inhibits, and where it routes, with the shipped configuration."""

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
SEVERITY, EXPORTER, FILLING, TAMPERED, TOKEN, DRIFT = range(
    6
)  # the inhibition rules, in their order


class Case(NamedTuple):
    """Does one alert silence the other? Both get `shared` labels; `rule` is the rule under test."""

    rule: int
    source: Labels
    target: Labels
    inhibits: bool
    shared: Labels


ACCOUNT = {"job": "borgbase", "account": "acme"}
REPO = ACCOUNT | {"repo_id": "a1b2c3d4", "repo": "mail"}


def alert(text: str) -> Labels:
    """Read an alert's name without BorgBase, its severity and further labels."""
    name, severity, *labels = text.split()
    own = dict(label.split("=") for label in labels)
    return {"alertname": f"BorgBase{name}", "severity": severity, **own}


def cases() -> Iterator[tuple[str, Case]]:
    for rule, inhibits, shared, source, target in (
        (SEVERITY, True, REPO, "RepoQuotaAlmostFull critical", "RepoQuotaAlmostFull warning"),
        (SEVERITY, True, ACCOUNT, "PlanAlmostFull critical", "PlanAlmostFull warning"),
        (SEVERITY, False, ACCOUNT, "RepoShrunk critical repo_id=1", "RepoShrunk warning repo_id=2"),
        # Another alert, both without a repo; another job; both without an account.
        (SEVERITY, False, ACCOUNT, "PlanAlmostFull critical", "SubscriptionExpiring warning"),
        (
            *(SEVERITY, False, {"account": "acme"}),
            *("PlanAlmostFull critical job=one", "PlanAlmostFull warning job=two"),
        ),
        (SEVERITY, False, {}, "Something critical", "Something warning"),
        # A repo that vanished ends its other alerts without inhibition.
        (SEVERITY, False, REPO, "RepoVanished critical", "RepoQuotaAlmostFull warning"),
        (EXPORTER, True, {"job": "borgbase"}, "ExporterAbsent critical", "ExporterAbsent warning"),
        (EXPORTER, False, {}, "ExporterAbsent critical job=one", "ExporterAbsent warning job=two"),
        (FILLING, True, REPO, "RepoQuotaAlmostFull warning", "RepoQuotaFillingUp warning"),
        (FILLING, False, REPO, "RepoQuotaFillingUp warning", "RepoQuotaAlmostFull warning"),
        (
            *(FILLING, False, ACCOUNT),
            *("RepoQuotaAlmostFull warning repo_id=1", "RepoQuotaFillingUp warning repo_id=2"),
        ),
        (FILLING, False, ACCOUNT, "RepoQuotaAlmostFull warning", "RepoQuotaFillingUp warning"),
        (TAMPERED, True, REPO, "AppendOnlyRepoShrunk critical", "RepoShrunk critical"),
        (
            *(TAMPERED, False, ACCOUNT),
            *("AppendOnlyRepoShrunk critical repo_id=1", "RepoShrunk warning repo_id=2"),
        ),
        *(
            (TOKEN, True, ACCOUNT, "TokenInvalid critical", f"{name} warning")
            for name in ("APIUnreachable", "PollStale", "CollectorFailing", "TokenExpiring")
        ),
        (
            *(TOKEN, False, {"job": "borgbase"}),
            *("TokenInvalid critical account=one", "APIUnreachable warning account=two"),
        ),
        (TOKEN, False, {"job": "borgbase"}, "TokenInvalid critical", "APIUnreachable warning"),
        *(
            (TOKEN, False, REPO, f"{source} critical", f"{target} critical")
            for source in ("TokenInvalid", "APIUnreachable", "ExporterAbsent", "AccountAbsent")
            for target in (
                *("RepoVanished", "RepoShrunk", "AppendOnlyRepoShrunk"),
                *("RepoAppendOnlyDisabled", "RepoBackupOverdue"),
            )
        ),
        (DRIFT, True, ACCOUNT, "SchemaDrift warning", "RepoDataMissing warning repo_id=1"),
        (DRIFT, False, ACCOUNT, "SchemaDrift info", "RepoDataMissing warning repo_id=1"),
    ):
        on = "repo" if "repo" in shared else " and ".join(shared) or "nothing"
        title = f"{source} over {target}, sharing {on}"
        yield title, Case(rule, alert(source), alert(target), inhibits, shared)


CASES = dict(cases())


def apart(name: str, case: Case) -> tuple[Labels, Labels]:
    """Return a case's alerts, in a separate job and account so that cases do not interfere."""
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
    """Send every case to one Alertmanager; return whether each case's target is inhibited."""
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
    # Alerts are processed in order: once this last one is there, all the others are.
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
    """The real program and the model that counts notifications route alike."""
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
