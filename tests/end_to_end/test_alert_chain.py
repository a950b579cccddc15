"""The whole chain: account, exporter, Prometheus, Alertmanager, and a receiver.

The shipped rules, routes and inhibitions are used unchanged except for durations: half an hour
becomes seconds here.
"""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.processes import ROOT, Running, exporter, until
from tests.end_to_end.stage import put_token
from tests.graphql import GraphQLApi, SimulatedAccount
from tests.lab.account import http
from tests.lab.wire import Lab, Wire
from tests.servers import serving

DEPLOY = ROOT / "deploy"
QUOTA, REVOKED, VANISHING, STEADY = "quota", "revoked", "vanishing", "steady"
REPO = "laptop-anna"
HASTE = 1200  # how much faster than shipped everything waits: half an hour in 1.5 s
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Notified = tuple[str, str, str, str]  # receiver, status, alert and repo


def hastened(duration: str) -> str:
    """Shorten a duration; the order of durations stays."""
    number, unit = re.fullmatch(r"(\d+)([smhd])", duration).groups()  # type: ignore[union-attr]
    return f"{max(50, int(number) * UNITS[unit] * 1000 // HASTE)}ms"


def hastened_rules(folder: Path) -> None:
    """Copy the rules, with shorter waits and with windows that do not bridge minutes."""
    for file in (DEPLOY / "prometheus" / "rules").glob("*.yml"):
        content = yaml.safe_load(file.read_text())
        for group in content["groups"]:
            group["interval"] = "500ms"
            for rule in group["rules"]:
                for long, short in (("[10m]", "[8s]"), (" + 900", " + 1"), ("+ 1500)", "+ 5)")):
                    rule["expr"] = rule["expr"].replace(long, short)
                for wait in ("for", "keep_firing_for"):
                    if wait in rule:
                        rule[wait] = hastened(rule[wait])
        (folder / file.name).write_text(yaml.safe_dump(content))


def hastened_routes(receiver: str) -> str:
    """Return Alertmanager's configuration, with shorter waits and a webhook for each receiver."""
    content = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    content["global"] = {}
    content["route"] |= {"group_wait": "2s", "group_interval": "1s"}
    for route in content["route"]["routes"]:
        if "group_wait" in route:
            route["group_wait"] = "1s"
    content["receivers"] = [
        {
            "name": each["name"],
            "webhook_configs": [{"url": f"{receiver}/{each['name']}", "send_resolved": True}],
        }
        for each in content["receivers"]
    ]
    return yaml.safe_dump(content)


@dataclass
class Ear:
    """A webhook receiver for all of Alertmanager's receivers."""

    url: str
    heard: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def received(self, account: str) -> list[Notified]:
        """Return the notifications about an account so far, one entry for each alert."""
        return [
            (receiver, alert["status"], labels["alertname"], labels.get("repo", ""))
            for receiver, alert in self._alerts()
            if (labels := alert["labels"]).get("account") == account
        ]

    def annotations(self, account: str) -> dict[str, str]:
        """Return the annotations of the first alert that was sent about an account."""
        return next(
            a["annotations"] for _, a in self._alerts() if a["labels"]["account"] == account
        )

    def _alerts(self) -> list[tuple[str, dict[str, Any]]]:
        return [(receiver, alert) for receiver, said in self.heard for alert in said["alerts"]]


@contextmanager
def listening() -> Iterator[Ear]:
    def hear(wire: Wire) -> None:
        while request := wire.request():
            _, path, _ = request.head.split(" ", 2)
            ear.heard.append((path.strip("/"), json.loads(request.body)))
            wire.send(http(b""))

    with Lab(hear) as lab:
        ear = Ear(f"http://127.0.0.1:{lab.port}")
        yield ear


@dataclass(frozen=True)
class Chain:
    accounts: dict[str, SimulatedAccount]
    tokens: Path
    exporter: Running
    alertmanager: Running
    ear: Ear

    def expects(self, account: str, *expected: Notified) -> None:
        """Wait for these notifications about an account, and fail if others come."""
        until(lambda: len(self.ear.received(account)) >= len(expected), f"{expected} is sent")
        assert self.ear.received(account) == list(expected)

    def wait_for_a_poll(self, account: str) -> None:
        """Wait for the end of a poll of an account: what changes next, changes between polls."""
        name = f'borgbase_last_success_timestamp_seconds{{account="{account}"}}'
        ended = re.compile(f"^{re.escape(name)} (.*)$", re.MULTILINE)
        before = ended.findall(self.exporter.get("/metrics").text)
        until(lambda: ended.findall(self.exporter.get("/metrics").text) != before, "a poll ends")

    def inhibited(self, account: str) -> set[str]:
        """Return the alerts of an account that another alert silences now."""
        alerts = json.loads(self.alertmanager.get("/api/v2/alerts").body)
        return {
            alert["labels"]["alertname"]
            for alert in alerts
            if alert["labels"].get("account") == account and alert["status"]["inhibitedBy"]
        }


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("chain")
    names = (QUOTA, REVOKED, VANISHING, STEADY)
    accounts = {
        name: SimulatedAccount(seed=seed, troubles=(), billed=7)
        for seed, name in enumerate(names, 1)
    }
    tokens = folder / "tokens"
    tokens.mkdir()
    for name, account in accounts.items():
        put_token(tokens, name, account.token)
    with ExitStack() as stack:
        enter = stack.enter_context
        ear = enter(listening())
        api = enter(GraphQLApi(list(accounts.values())))
        flags = ("--api.url", api.url, "--token.dir", tokens, "--poll.interval", "1s")
        exposing = enter(exporter(folder, *flags))
        config = folder / "alertmanager.yml"
        config.write_text(hastened_routes(ear.url))
        alertmanager = enter(serving("alertmanager", folder / "alertmanager", config))
        enter(_prometheus(folder, exposing, alertmanager))
        yield Chain(accounts, tokens, exposing, alertmanager, ear)
        # Troubles of other accounts cause no notification about an account that is well.
        assert ear.received(STEADY) == []


@contextmanager
def _prometheus(folder: Path, exposing: Running, alertmanager: Running) -> Iterator[Running]:
    """Run Prometheus by the shipped configuration, with other addresses and shorter waits."""
    for name in ("rules", "targets"):
        (folder / name).mkdir()
    hastened_rules(folder / "rules")
    for name, running in (("borgbase", exposing), ("alertmanager", alertmanager)):
        targets = [{"targets": [running.address]}]
        (folder / "targets" / f"{name}.yml").write_text(yaml.safe_dump(targets))
    content = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    content["global"] = {"scrape_interval": "1s", "evaluation_interval": "500ms"}
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(content))
    with serving("prometheus", folder / "prometheus", config) as running:

        def watched() -> bool:
            query = "count(account:borgbase_up:max==1)"
            answer = json.loads(running.get(f"/api/v1/query?query={query}").body)
            return any(found["value"][1] == "4" for found in answer["data"]["result"])

        until(watched, "all accounts are up")
        yield running


def test_a_repo_over_quota_is_one_notification_until_space_is_freed(chain: Chain) -> None:
    account = chain.accounts[QUOTA]
    repo_id = account.id_of(REPO)
    (quota,) = (repo.quota for repo in account.repos if repo.id == repo_id)
    account.set_usage(repo_id, int(quota * 0.97))
    # The warning is true as well, and inhibited: one alert, one message, to one receiver.
    firing = ("pager", "firing", "BorgBaseRepoQuotaAlmostFull", REPO)
    chain.expects(QUOTA, firing)
    annotations = chain.ear.annotations(QUOTA)
    assert annotations["summary"] == "A BorgBase repo's quota is almost used up."
    assert f"Repo {REPO} (account {QUOTA}) uses 97% of its quota." in annotations["description"]
    assert annotations["runbook_url"].endswith("/docs/runbooks/BorgBaseRepoQuotaAlmostFull.md")
    assert (ROOT / "docs" / "runbooks" / "BorgBaseRepoQuotaAlmostFull.md").exists()
    assert chain.inhibited(QUOTA) == {"BorgBaseRepoQuotaAlmostFull"}

    account.set_usage(repo_id, int(quota * 0.6))
    chain.expects(QUOTA, firing, ("pager", "resolved", *firing[2:]))


def test_a_revoked_token_is_warned_of_and_then_paged_once(chain: Chain) -> None:
    account = chain.accounts[REVOKED]
    chain.wait_for_a_poll(REVOKED)
    account.revoke(account.token)
    expected = [(receiver, "firing", "BorgBaseTokenInvalid", "") for receiver in ("mail", "pager")]
    chain.expects(REVOKED, *expected)
    until(lambda: chain.inhibited(REVOKED) == {"BorgBaseTokenInvalid"}, "the warning is silent")

    put_token(chain.tokens, REVOKED, account.add_token("new", "RO"))
    until(lambda: len(chain.ear.received(REVOKED)) >= 4, "both receivers hear of the end")
    assert sorted(chain.ear.received(REVOKED)[2:]) == [
        (receiver, "resolved", "BorgBaseTokenInvalid", "") for receiver in ("mail", "pager")
    ]


def test_a_repo_that_vanishes_is_one_notification(chain: Chain) -> None:
    account = chain.accounts[VANISHING]
    account.delete(account.id_of(REPO))
    chain.expects(VANISHING, ("pager", "firing", "BorgBaseRepoVanished", REPO))
