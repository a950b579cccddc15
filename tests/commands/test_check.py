"""`check`: what it polls, what it prints, and its exit status."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
import responses

from borgbase_exporter.commands.main import main
from borgbase_exporter.demo import SimulatedApi, Trouble
from borgbase_exporter.findings.report import encode, report
from tests.end_to_end.processes import EXPORTER, environment
from tests.end_to_end.stage import put_token
from tests.facts import FINE_REPO, NOW
from tests.findings.cases import failing, polled
from tests.graphql import SimulatedAccount
from tests.lab.wire import Lab, Wire, interrupted

TROUBLED = {"plan", "subscription", "API token terraform"}
TROUBLED |= {"repo postgres-prod", "repo gitea", "repo new-server"}
"""Where the simulated account has troubles, as far as one poll shows."""
FORMATS = ("text", "json", "nagios", "checkmk")
Checked = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Checked:
    """Return a function that runs `check` and returns its exit status and what it printed."""

    def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
        status = main(["check", *arguments], variables)
        return status, *capsys.readouterr()

    return run


def test_the_demo_as_text(check: Checked) -> None:
    status, out, err = check("--demo")
    assert (status, err) == (1, "")
    lines = out.splitlines()
    assert lines[:2] == ["SIMULATED DATA: these accounts and repos are invented", "Account demo"]
    assert "  Read            ✓ repos  ✓ account  ✓ ssh_keys  ✓ tokens" in lines
    assert "agrees with BorgBase's repo count, total usage and last bill" in out
    for name in ("laptop-anna", 'web "staging"', "Zoë's phone 📱", "homeassistant"):
        assert [line for line in lines if f"  {name} " in line], name
    found = re.findall(r"^  (?:critical|warning) +([^:\n]+): ", out, re.MULTILINE)
    assert set(found) == TROUBLED
    assert f"{len(found)} problems" in lines


def test_the_demo_as_json(check: Checked) -> None:
    status, out, err = check("--demo", "--json")
    assert (status, err) == (1, "")
    document = json.loads(out)
    assert (document["well"], document["simulated"]) == (False, True)
    (account,) = document["accounts"]
    assert account["token"]["permission"] == "read_only"
    assert all(comparison["agrees"] for comparison in account["comparisons"])
    assert len(account["repos"]) == 12
    assert {problem["where"] for problem in account["problems"]} == TROUBLED


@pytest.mark.parametrize("form", ["nagios", "checkmk"])
def test_the_demo_as_a_plugin(check: Checked, form: str) -> None:
    status, out, err = check("--demo", "--format", form)
    assert (status, err) == (2, "")
    assert "SIMULATED DATA" in out
    assert "postgres-prod" in out


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_all_is_well_unless_exposed(check: Checked, tmp_path: Path, form: str, mode: int) -> None:
    account, file = SimulatedAccount(troubles=()), tmp_path / "token"
    file.write_text(account.token)
    file.chmod(mode)
    with SimulatedApi([account]) as api:
        given = ("--api.url", api.url, "--token.file", str(file), "--format", form)
        status, out, err = check(*given)
    exposed = mode == 0o644
    assert (status, err) == (exposed, "")
    assert ("can be read by other users" in out) is exposed
    assert account.token not in out


def test_one_account_in_trouble_decides_the_exit_status(check: Checked, tmp_path: Path) -> None:
    accounts = {
        "sound": SimulatedAccount(seed=1, troubles=()),
        "silent": SimulatedAccount(seed=2, troubles={Trouble.SILENT}),
    }
    for name, account in accounts.items():
        put_token(tmp_path, name, account.token)
    with SimulatedApi(list(accounts.values())) as api:
        status, out, _ = check("--json", "--api.url", api.url, "--token.dir", str(tmp_path))
    assert status == 1
    found = {account["name"]: account["well"] for account in json.loads(out)["accounts"]}
    assert found == {"sound": True, "silent": False}


@pytest.mark.parametrize("form", FORMATS)
def test_an_account_that_cannot_be_polled(check: Checked, form: str) -> None:
    with SimulatedApi([SimulatedAccount()]) as api:
        given = ("--api.url", api.url, "--format", form)
        status, out, _ = check(*given, BORGBASE_TOKEN="unknown.to.it")
    assert status == 3
    assert "permission to perform this action" in out
    assert "unknown.to.it" not in out


def test_a_create_only_token_and_what_it_may_not_read(check: Checked) -> None:
    account = SimulatedAccount(troubles=())
    with SimulatedApi([account]) as api:
        token = account.add_token("narrow", "CO")
        status, out, _ = check("--json", "--api.url", api.url, BORGBASE_TOKEN=token)
    (found,) = json.loads(out)["accounts"]
    assert (status, found["up"], found["token"]["permission"]) == (1, True, "create_only")
    assert found["comparisons"] == []
    assert [problem["where"] for problem in found["problems"]] == ["account, tokens"]


def test_a_token_folder_without_files(check: Checked, tmp_path: Path) -> None:
    status, out, _ = check("--json", "--token.dir", str(tmp_path))
    (problem,) = json.loads(out)["problems"]
    assert (status, problem["what"]) == (3, f"{tmp_path} has no token files")


def test_the_report_for_maintainers_is_anonymous(check: Checked, tmp_path: Path) -> None:
    account, path = SimulatedAccount(), tmp_path / "report.json"
    with SimulatedApi([account]) as api:
        given = ("--api.url", api.url, "--report", str(path))
        check(*given, "--account", "secret-name", BORGBASE_TOKEN=account.token)
        text = path.read_text()
        private = [account.token, "secret-name", api.url, "127.0.0.1", "terraform"]
    private += [value for repo in account.repos for value in (repo.id, repo.name)]
    assert not [value for value in private if value in text]
    (found,) = json.loads(text)["accounts"]
    assert found["collectors"]["repos"]["fields"]["repoList[].id"] == "12 string, length 8 to 8"
    assert found["collectors"]["account"]["success"] is True
    assert {one["subject"] for one in found["comparisons"]} == {
        "repos by account",
        "usage by account",
        "usage by bill",
    }


@pytest.mark.parametrize(
    ("form", "expected"), [("text", 2), ("nagios", 3), ("checkmk", 3), ("=nagios", 3)]
)
def test_a_configuration_error_is_unknown(check: Checked, form: str, expected: int) -> None:
    words = [f"--format{form}"] if form.startswith("=") else ["--format", form]
    status, out, err = check("--nonsense", *words)
    assert (status, out) == (expected, "")
    assert "--nonsense" in err


# ---- Asking a running exporter

URL = "http://exporter.example:10133/status.json"
WELL = encode(report([polled(FINE_REPO)], NOW))


@responses.activate
@pytest.mark.parametrize("path", ["", "/", "/status.json"])
def test_a_running_exporter_is_asked_instead(check: Checked, path: str) -> None:
    responses.get(URL, body=WELL)
    address = f"http://exporter.example:10133{path}"
    status, out, err = check("--from", address)
    assert (status, err) == (0, "")
    assert "All is well." in out
    assert json.loads(check("--from", address, "--json")[1]) == json.loads(WELL)


@responses.activate
@pytest.mark.parametrize(
    ("accounts", "statuses"),
    [
        ([polled(FINE_REPO)], (0, 0)),
        ([polled(replace(FINE_REPO, usage=90.0))], (1, 1)),
        ([polled(replace(FINE_REPO, usage=99.0))], (1, 2)),
        ([failing("connect", "repos")], (3, 3)),
    ],
)
def test_exit_statuses_distinguish_problems_from_failed_polls(
    check: Checked, accounts: list[Any], statuses: tuple[int, int]
) -> None:
    responses.get(URL, body=encode(report(accounts, NOW)))
    for form in FORMATS:
        expected = statuses[form in {"nagios", "checkmk"}]
        assert check("--from", URL, "--format", form)[0] == expected, form


@responses.activate
def test_the_password_is_sent_and_never_shown(check: Checked) -> None:
    responses.get(URL, status=401)
    status, out, err = check("--from", "http://anna:open%20sesame@exporter.example:10133/")
    sent = responses.calls[0].request.headers["Authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")) == b"anna:open sesame"
    assert (status, out) == (3, "")
    assert "a user and a password are required" in err
    assert "sesame" not in err


@responses.activate
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"status": 404}, "HTTP status 404, no report: is this a borgbase-exporter"),
        ({"status": 302, "headers": {"Location": "http://elsewhere.example/"}}, "HTTP status 302"),
        ({"body": b"<html>"}, "not a report"),
        ({"body": b'{"schema": 99}'}, "not a report that this release can read: "),
        ({"body": requests.ConnectTimeout("secret@host")}, "no answer in time"),
        ({"body": requests.ConnectionError("reset: by peer")}, "by peer"),
    ],
)
@pytest.mark.parametrize("form", FORMATS)
def test_unusable_exporters(check: Checked, form: str, answer: dict[str, Any], why: str) -> None:
    responses.get(URL, **answer)
    status, out, err = check("--from", URL, "--format", form)
    assert status == 3
    said = {"nagios": "BORGBASE UNKNOWN: ", "checkmk": '3 "BorgBase" - '}.get(form)
    assert (out if said else err).startswith(f"{said or 'borgbase-exporter: '}{URL}: {why}")
    assert (err if said else out) == ""
    assert len(responses.calls) == 1


def test_a_narrow_terminal_without_colours() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*EXPORTER, "check", "--demo"],
        env=environment(TERM="xterm", COLUMNS="72", NO_COLOR="1"),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # Linux reports the closed terminal so
        while piece := os.read(ours, 65_536):
            said += piece
    os.close(ours)
    assert process.communicate()[1] == b""
    assert process.returncode == 1
    text = said.decode()
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 72
    assert re.search(r"  critical  postgres-prod +38(?:8\.5|9\.0) GB +400\.0 GB +97%", text)


def printed(form: str, target: int) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*EXPORTER, "check", "--demo", "--format", form],
        env=environment(),
        stdout=target,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(target)
    return done


@pytest.mark.parametrize("form", ["text", "json"])
def test_closed_output_causes_no_traceback(form: str) -> None:
    done = printed(form, os.open("/dev/full", os.O_WRONLY))
    no_space = "borgbase-exporter: standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (3, no_space)
    reading, writing = os.pipe()
    os.close(reading)
    done = printed(form, writing)  # a reader that closes the pipe causes no error
    assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_as_shells_expect(check: Checked, number: int) -> None:
    def interrupt(wire: Wire) -> None:
        os.kill(os.getpid(), number)
        wire.hold()

    with interrupted(), Lab(interrupt) as lab:
        assert check("--api.url", lab.url, BORGBASE_TOKEN="x.y.z") == (130, "", "")
