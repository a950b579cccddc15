"""`check`, as a person and as a program runs it."""

import json
from pathlib import Path

from borgbase_exporter.simulator import SimulatedAccount, SimulatedApi, Trouble
from tests.end_to_end.processes import run

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
    assert "✓ repos  ✓ account  ✓ ssh_keys  ✓ tokens" in done.stdout
    for name in ("laptop-anna", 'web "staging"', "Zoë's phone 📱", "homeassistant"):
        assert [line for line in lines if line.startswith(f"  {name}  ")], name
    told = [line.split(":")[0].removeprefix("  ● ") for line in lines if line.startswith("  ●")]
    assert set(told) == TROUBLED
    assert f"{len(told)} problems" in lines


def test_the_demo_as_json() -> None:
    done = run("check", "--demo", "--json")

    assert done.returncode == 1
    assert done.stderr == ""
    (account,) = json.loads(done.stdout)["accounts"]
    assert (account["name"], account["well"], account["up"]) == ("default", False, True)
    assert len(account["data"]["repos"]["repos"]) == 12
    assert {problem["where"] for problem in account["problems"]} == TROUBLED


def test_all_is_well_with_an_account_without_troubles(tmp_path: Path) -> None:
    account = SimulatedAccount(troubles=())
    token = tmp_path / "token"
    token.write_text(f"{account.token}\n")
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
    with SimulatedApi(list(accounts.values())) as api:
        done = run("check", "--json", "--api.url", api.url, "--token.dir", str(tmp_path))

    assert done.returncode == 1
    findings = json.loads(done.stdout)["accounts"]
    assert {f["name"]: f["well"] for f in findings} == {"sound": True, "silent": False}


def test_an_api_that_is_not_there_is_a_problem_and_no_traceback() -> None:
    with SimulatedApi([account := SimulatedAccount()]) as api:
        url = api.url
    done = run("check", "--api.url", url, BORGBASE_TOKEN=account.token)

    assert done.returncode == 1
    assert done.stderr == ""
    assert "no answer from 127.0.0.1: [Errno 111] Connection refused" in done.stdout
    assert "✗ repos" in done.stdout
