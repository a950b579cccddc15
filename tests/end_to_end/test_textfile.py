"""`textfile`, as timers run it, and what a real node_exporter makes of its file."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.facts import new_account
from tests.end_to_end.processes import (
    ANYWHERE,
    EXPORTER,
    Series,
    ask,
    environment,
    run,
    until,
)
from tests.end_to_end.stage import put_token
from tests.graphql import GraphQLApi, SimulatedAccount
from tests.programs import require

HOME, WORK = 'Zoë\'s "home"', "work"
REPOS = r"^borgbase_repo_usage_bytes\{"


@dataclass(frozen=True)
class House:
    """An API with two accounts, and the folder that a node_exporter reads."""

    api: GraphQLApi
    accounts: dict[str, SimulatedAccount]
    tokens: Path
    file: Path

    @property
    def words(self) -> tuple[str, ...]:
        flags = ("--api.url", self.api.url, "--token.dir", str(self.tokens))
        return ("textfile", *flags, str(self.file))

    def run(self, *flags: str) -> list[str]:
        """Run the command; return its exit status and what it complained of."""
        done = run(*self.words, *flags)
        assert done.stdout == ""
        return [str(done.returncode), *done.stderr.splitlines()]

    @property
    def lines(self) -> list[str]:
        return self.file.read_text("utf-8").splitlines()

    def value(self, metric: str, **labels: str) -> float | None:
        pairs = ",".join(f'{name}="{value}"' for name, value in labels.items())
        found = [line for line in self.lines if line.startswith(f"{metric}{{{pairs}}} ")]
        return float(found[0].rpartition(" ")[2]) if found else None

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.file.parent.iterdir())


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    accounts = {HOME: new_account(1, repos=12, well=False), WORK: new_account(2)}
    tokens, folder = tmp_path / "tokens", tmp_path / "node"
    for path in (tokens, folder):
        path.mkdir()
    for name, account in accounts.items():
        put_token(tokens, name, account.token)
    with GraphQLApi(list(accounts.values())) as api:
        yield House(api, accounts, tokens, folder / "borgbase.prom")


@contextmanager
def node_exporter(folder: Path, log_file: Path) -> Iterator[str]:
    """Run node_exporter for the files in a folder alone; give its address."""
    command = (
        *(require("node_exporter"), f"--web.listen-address={ANYWHERE}"),
        *("--collector.disable-defaults", "--collector.textfile"),
        f"--collector.textfile.directory={folder}",
    )
    with ExitStack() as stack:
        log = stack.enter_context(log_file.open("wb"))
        process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log))
        stack.callback(process.terminate)

        def address() -> str | None:
            assert process.poll() is None, log_file.read_text()
            found = re.search(r'msg="Listening on" address=(\S+)', log_file.read_text())
            return found[1] if found else None

        yield until(address, "node_exporter listens")


def series(page: str) -> dict[Series, float]:
    """Return our metrics of a page."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name.startswith("borgbase_")
    }


def test_node_exporter_shows_it_all_and_its_own_beside(house: House, tmp_path: Path) -> None:
    assert house.run() == ["0"]
    with node_exporter(house.file.parent, tmp_path / "node.log") as address:
        answer = ask(address, "/metrics")

    assert answer.status == 200
    assert "\nnode_textfile_scrape_error 0\n" in answer.text
    assert f'\nnode_textfile_mtime_seconds{{file="{house.file}"}} ' in answer.text
    assert len(re.findall("^process_cpu_seconds_total ", answer.text, re.MULTILINE)) == 1
    assert series(answer.text) == series(house.file.read_text("utf-8"))
    assert len(series(answer.text)) > 200
    assert "level=error" not in (tmp_path / "node.log").read_text().lower()


def test_the_file_is_as_promtool_and_other_users_want_it(house: House) -> None:
    assert house.run() == ["0"]
    done = subprocess.run(
        [require("promtool"), "check", "metrics"],
        input=house.file.read_bytes(),
        capture_output=True,
        timeout=30,
        check=False,
    )

    # As for the exporter's own page, it takes the unit in the middle of a name for the name's end.
    assert {line.split()[0] for line in done.stderr.decode().splitlines()} <= {
        "borgbase_repo_quota_enabled"
    }
    assert house.file.stat().st_mode & 0o777 == 0o644
    assert house.left == ["borgbase.prom"]
    for line in house.lines:
        assert line.startswith(("#", "borgbase_"))
    assert "# EOF" not in house.lines


def test_what_was_known_outlives_a_failure_until_it_is_too_old(house: House) -> None:
    assert house.run() == ["0"]
    before = house.lines
    success = house.value("borgbase_last_success_timestamp_seconds", account=WORK)
    house.api.stop()
    status, *logged = house.run()

    assert status == "1"
    assert len(logged) == 2
    for line in logged:
        assert 'msg="no answer from 127.0.0.1: ' in line
        assert 'collector="repos,account,ssh_keys,tokens" reason=connect' in line
    kept = re.compile("borgbase_(?:repo|account|ssh_key|api_token)_")
    assert [x for x in house.lines if kept.match(x)] == [x for x in before if kept.match(x)]
    assert house.value("borgbase_up", account=WORK) == 0
    assert house.value("borgbase_last_success_timestamp_seconds", account=WORK) == success
    assert house.value("borgbase_polls_total", account=WORK) == 2
    connect = {"account": WORK, "collector": "repos", "reason": "connect"}
    assert house.value("borgbase_poll_failures_total", **connect) == 1

    assert house.run("--poll.max-age", "1ms")[0] == "1"
    assert not [line for line in house.lines if kept.match(line)]
    assert house.value("borgbase_last_success_timestamp_seconds", account=WORK) == success
    assert house.value("borgbase_poll_failures_total", **connect) == 2

    house.api.start()
    assert house.run() == ["0"]
    assert house.value("borgbase_up", account=WORK) == 1
    assert house.value("borgbase_polls_total", account=WORK) == 4
    assert house.value("borgbase_poll_failures_total", **connect) == 2


def test_collectors_fail_apart(house: House) -> None:
    assert house.run() == ["0"]
    keys = house.value("borgbase_account_ssh_keys", account=WORK)
    house.api.break_resolver("Query.sshList")
    house.accounts[WORK].delete(house.accounts[WORK].repos[0].id)
    status, *logged = house.run()

    assert status == "1"
    assert len(logged) == 2
    assert house.value("borgbase_account_ssh_keys", account=WORK) == keys
    assert house.value("borgbase_account_repos", account=WORK) == 2
    assert house.value("borgbase_up", account=WORK) == 1
    assert house.value("borgbase_collector_success", account=WORK, collector="ssh_keys") == 0


def test_a_removed_account_goes_and_a_token_that_is_refused_keeps_its_accounts_values(
    house: House,
) -> None:
    assert house.run() == ["0"]
    (house.tokens / HOME).unlink()
    put_token(house.tokens, WORK, "opens-nothing")
    status, logged = house.run()

    assert status == "1"
    assert "account=work" in logged
    assert "reason=auth" in logged
    assert house.value("borgbase_account_repos", account=WORK) == 3
    assert not [line for line in house.lines if "Zoë" in line]

    (house.tokens / WORK).unlink()
    status, logged = house.run()
    assert status == "1"
    assert 'level=error msg="there is no account to poll"' in logged
    names = {line.split("{")[0] for line in house.lines if not line.startswith("#")}
    assert names == {"borgbase_exporter_build_info"}


def test_a_file_of_somebody_else_stays_and_the_api_is_not_asked(house: House) -> None:
    house.file.write_text("my_metric 1\n")
    status, logged = house.run()

    assert status == "1"
    assert f'msg="{house.file}: is of another origin; delete it, or write elsewhere"' in logged
    assert house.file.read_text() == "my_metric 1\n"
    assert house.api.requests == []


@pytest.mark.parametrize(
    ("confine", "mode", "problem"),
    [
        # Without its capabilities, root is a user like any other.
        ('exec setpriv --bounding-set=-all --inh-caps=-all "$@"', 0o555, "no permission to write"),
        ('ulimit -f 1; exec "$@"', 0o755, "cannot be written: File too large"),
    ],
)
def test_where_nothing_can_be_written_the_old_file_stays_alone(
    house: House, confine: str, mode: int, problem: str
) -> None:
    assert house.run() == ["0"]
    before = house.file.read_bytes()
    house.file.parent.chmod(mode)
    measured = {name for name in os.environ if name.startswith("COVERAGE_")}  # writes files, too
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", confine, "sh", *EXPORTER, *house.words],
            env={name: value for name, value in environment().items() if name not in measured},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        house.file.parent.chmod(0o755)

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "level=error" in line
    assert problem in line
    assert house.file.read_bytes() == before
    assert house.left == ["borgbase.prom"]


def test_a_link_stays_and_what_it_leads_to_is_replaced(house: House, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.prom"
    house.file.symlink_to(target)
    assert house.run() == house.run() == ["0"]
    assert house.file.is_symlink()
    assert house.value("borgbase_polls_total", account=WORK) == 2
    assert not target.is_symlink()


def test_runs_at_once_do_each_other_no_harm(house: House) -> None:
    runs = [subprocess.Popen([*EXPORTER, *house.words], env=environment()) for _ in range(3)]
    assert [process.wait(30) for process in runs] == [0, 0, 0]

    assert house.left == ["borgbase.prom"]
    assert house.value("borgbase_account_repos", account=WORK) == 3
    assert house.run() == ["0"]
    assert house.value("borgbase_polls_total", account=WORK) in {2, 3, 4}


def test_the_demo_is_forgotten_by_the_next_run_with_an_account(tmp_path: Path) -> None:
    file = str(tmp_path / "borgbase.prom")
    assert run("textfile", file, "--demo").returncode == 0
    with GraphQLApi([account := new_account(2)]) as api:
        url = api.url
    done = run("textfile", file, "--api.url", url, BORGBASE_TOKEN=account.token)

    assert done.returncode == 1
    assert not re.search(REPOS, Path(file).read_text(), re.MULTILINE)
