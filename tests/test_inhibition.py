"""What a real Alertmanager inhibits, and where it routes, with the shipped configuration."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import NamedTuple

import pytest
import yaml

from tests.alarms import Alarm
from tests.end_to_end.processes import PATIENCE, Running, until
from tests.notifications import muted, route
from tests.programs import require
from tests.rules import ROOT
from tests.servers import serving

CONFIG = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
RULES = yaml.safe_load(CONFIG.read_text())["inhibit_rules"]

Labels = dict[str, str]
SEVERITY, EXPORTER, FILLING, TAMPERED, TOKEN, DRIFT = range(6)  # the rules, in their order


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


@pytest.fixture(scope="module")
def inhibited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bool]]:
    """Send every case to one Alertmanager; return whether each case's target is inhibited."""
    data = tmp_path_factory.mktemp("alertmanager") / "data"
    with serving("alertmanager", data, CONFIG) as alertmanager:
        yield ask(alertmanager)


def ask(alertmanager: Running) -> dict[str, bool]:
    def post(*labels: Labels) -> None:
        body = json.dumps([{"labels": each} for each in labels])
        with closing(HTTPConnection(alertmanager.address, timeout=PATIENCE)) as connection:
            connection.request("POST", "/api/v2/alerts", body, {"Content-Type": "application/json"})
            assert connection.getresponse().status == 200

    def verdicts() -> dict[str, bool]:
        return {
            each["labels"]["case"]: bool(each["status"]["inhibitedBy"])
            for each in json.loads(alertmanager.get("/api/v2/alerts").body)
            if each["labels"]["side"] == "target"
        }

    pairs = [apart(name, case) for name, case in CASES.items()]
    post(*(target for _, target in pairs), *(source for source, _ in pairs))
    # Alerts are processed in order: once this last one is there, all the others are.
    source, target = apart("last", next(iter(CASES.values())))
    post(target)
    post(source)
    until(lambda: verdicts().get("last"), "the last alert is inhibited")
    return verdicts()


@pytest.mark.parametrize("name", CASES)
def test_inhibition(inhibited: dict[str, bool], name: str) -> None:
    """The real program and the model that counts notifications inhibit alike."""
    source, target = (Alarm(labels, 0, 10) for labels in apart(name, CASES[name]))
    assert muted(target, [source, target], 5) == CASES[name].inhibits
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
