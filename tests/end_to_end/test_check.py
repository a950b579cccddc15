"""`check`, as a person and as a program runs it."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import pytest
from borgbase_exporter.simulator import SimulatedAccount, SimulatedApi, Trouble

from tests.end_to_end.processes import EXPORTER, environment, run, until
from tests.lab.scripts import hold
from tests.lab.wire import Lab

TROUBLED = {
    "plan",
    "subscription",
    "API token terraform",
    "repo postgres-prod",
    "repo gitea",
    "repo new-server",
}
"""What the troubles of the simulated account befall, as far as one look can tell."""


def test_the_demo_is_shown_as_a_table_with_its_troubles() -> None:
    done = run("check", "--demo")

    assert done.returncode == 1
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "Account default"
    assert "  Read     ✓ repos  ✓ account  ✓ ssh_keys  ✓ tokens" in lines
    assert [line for line in lines if line.startswith("  API      ✓ reachable, polled in ")]
    assert (
        "  Units    usage is 1.00 times what was billed last, as it should be · daily values are "
        "in MB, by 10 of 10 repos" in lines
    )
    for name in ("laptop-anna", 'web "staging"', "Zoë's phone 📱", "homeassistant"):
        assert [line for line in lines if line.startswith(f"  {name}  ")], name
    told = [line.split(":")[0].removeprefix("  ● ") for line in lines if line.startswith("  ●")]
    assert set(told) == TROUBLED
    assert f"{len(told)} problems" in lines


def test_the_demo_as_json() -> None:
    done = run("check", "--demo", "--json")

    assert done.returncode == 1
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["well"] is False
    (account,) = report["accounts"]
    assert account["token"]["permission"] == "read_only"
    assert account["api"]["reachable"] is True
    assert account["units"] == {
        "usage_per_billed": pytest.approx(1, abs=0.01),
        "daily_unit": "MB",
        "daily_fits": 10,
        "daily_compared": 10,
    }
    assert (account["name"], account["well"], account["up"]) == ("default", False, True)
    assert len(account["data"]["repos"]["repos"]) == 12
    assert {problem["where"] for problem in account["problems"]} == TROUBLED


def test_all_is_well_with_an_account_without_troubles(tmp_path: Path) -> None:
    account = SimulatedAccount(troubles=())
    token = tmp_path / "token"
    token.write_text(f"{account.token}\n")
    token.chmod(0o600)
    with SimulatedApi([account]) as api:
        done = run("check", "--api.url", api.url, "--token.file", str(token))

    assert done.returncode == 0
    assert done.stderr == ""
    assert "All is well." in done.stdout.splitlines()
    assert account.token not in done.stdout


def test_one_account_in_trouble_spoils_the_exit_status(tmp_path: Path) -> None:
    accounts = {
        "sound": SimulatedAccount(seed=1, troubles=()),
        "silent": SimulatedAccount(seed=2, troubles={Trouble.SILENT}),
    }
    for name, account in accounts.items():
        (tmp_path / name).write_text(account.token)
        (tmp_path / name).chmod(0o600)
    with SimulatedApi(list(accounts.values())) as api:
        done = run("check", "--json", "--api.url", api.url, "--token.dir", str(tmp_path))

    assert done.returncode == 1
    findings = json.loads(done.stdout)["accounts"]
    assert {f["name"]: f["well"] for f in findings} == {"sound": True, "silent": False}


def test_a_narrow_terminal_without_colours() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*EXPORTER, "check", "--demo"],
        env=environment(TERM="xterm", COLUMNS="60", NO_COLOR="1"),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # how Linux tells that the other side is closed
        while piece := os.read(ours, 65_536):
            said += piece
    os.close(ours)
    assert process.communicate()[1] == b""
    assert process.returncode == 1
    codes = set(re.findall(r"\x1b\[([\d;]*)m", said.decode()))
    assert codes <= {"0", "1", "2"}, "colours, where only bold and dim were to be"
    lines = re.sub(r"\x1b\[[\d;]*m", "", said.decode()).splitlines()
    assert max(map(len, lines)) <= 60
    assert "  postgres-prod  388.5 GB" in "\n".join(lines)


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["table", "json"])
def test_a_disk_that_is_full_is_told_without_a_traceback(form: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*EXPORTER, "check", "--demo", *form],
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "borgbase-exporter: standard output: No space left on device\n"


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["table", "json"])
def test_a_reader_that_has_seen_enough_is_no_trouble(form: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*EXPORTER, "check", "--demo", *form],
        env=environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_an_interrupt_ends_it_as_shells_expect() -> None:
    with Lab(hold) as lab:
        process = subprocess.Popen(
            [*EXPORTER, "check", "--api.url", lab.url],
            env=environment(BORGBASE_TOKEN="x.y.z"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        until(lambda: lab.connections, "it asks")
        process.send_signal(signal.SIGINT)
        assert process.communicate() == (b"", b"")
        assert process.returncode == 130


def test_daily_values_that_the_token_may_not_ask_for_stay_unknown() -> None:
    account = SimulatedAccount(troubles=())
    with SimulatedApi([account]) as api:
        token = account.add_token("narrow", "CO")
        done = run("check", "--json", "--api.url", api.url, BORGBASE_TOKEN=token)

    (found,) = json.loads(done.stdout)["accounts"]
    assert (found["up"], found["token"]["permission"]) == (True, "create_only")
    assert set(found["units"].values()) == {None, 0}
    assert [problem["where"] for problem in found["problems"]] == ["account, tokens"]
