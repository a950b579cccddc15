"""`textfile`, as timers run it, and the metrics that a real node_exporter serves from its file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from borgbase_exporter.commands.main import main
from tests.end_to_end.facts import new_account, parsed, series
from tests.end_to_end.processes import ANYWHERE, EXPORTER, environment, started
from tests.end_to_end.stage import put_token
from tests.graphql import GraphQLApi, SimulatedAccount
from tests.programs import require

HOME, WORK = 'Zoë\'s "home"', "work"
OF_THE_ACCOUNT = re.compile("borgbase_(?:repo|account|ssh_key|api_token)_")
CONNECT = {"collector": "repos", "reason": "connect"}


@dataclass(frozen=True)
class House:
    """An API with two accounts, and the folder that a node_exporter reads."""

    api: GraphQLApi
    accounts: dict[str, SimulatedAccount]
    tokens: Path
    file: Path
    printed: pytest.CaptureFixture[str]

    @property
    def words(self) -> list[str]:
        flags = ("--api.url", self.api.url, "--token.dir", str(self.tokens))
        return ["textfile", *flags, str(self.file)]

    def run(self, *flags: str) -> Sequence[object]:
        """Run the command; return its exit status and the lines that it logged."""
        status = main([*self.words, *flags], {})
        printed = self.printed.readouterr()
        assert printed.out == ""
        return status, *printed.err.splitlines()

    @property
    def lines(self) -> list[str]:
        return self.file.read_text("utf-8").splitlines()

    @property
    def described(self) -> list[str]:
        """The lines that describe the accounts, not their polls."""
        return [line for line in self.lines if OF_THE_ACCOUNT.match(line)]

    def work(self, metric: str, **labels: str) -> float | None:
        """Return a value of the account WORK."""
        samples = parsed(self.file.read_text("utf-8"))
        return samples.get(series(f"borgbase_{metric}", account=WORK, **labels))

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.file.parent.iterdir())


@pytest.fixture
def house(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[House]:
    accounts = {HOME: new_account(1, repos=12, well=False), WORK: new_account(2)}
    tokens, folder = tmp_path / "tokens", tmp_path / "node"
    for path in (tokens, folder):
        path.mkdir()
    for name, account in accounts.items():
        put_token(tokens, name, account.token)
    with GraphQLApi(list(accounts.values())) as api:
        yield House(api, accounts, tokens, folder / "borgbase.prom", capfd)


def test_node_exporter_shows_it_all_beside_its_own_metrics(house: House, tmp_path: Path) -> None:
    assert house.run() == (0,)
    command = (
        *(require("node_exporter"), f"--web.listen-address={ANYWHERE}"),
        *("--collector.disable-defaults", "--collector.textfile"),
        f"--collector.textfile.directory={house.file.parent}",
    )
    log = tmp_path / "node.log"
    listens, ends = 'msg="Listening on"', -signal.SIGTERM
    with started(command, environment(), log, listens, status=ends) as running:
        answer = running.get("/metrics")

    assert "\nnode_textfile_scrape_error 0\n" in answer.text
    assert f'\nnode_textfile_mtime_seconds{{file="{house.file}"}} ' in answer.text
    assert len(re.findall("^process_cpu_seconds_total ", answer.text, re.MULTILINE)) == 1
    assert parsed(answer.text) == parsed(house.file.read_text("utf-8"))
    assert len(parsed(answer.text)) > 200
    assert "level=error" not in log.read_text().lower()


def test_the_file_is_for_all_users_and_holds_the_exporters_metrics_alone(house: House) -> None:
    assert house.run() == (0,)
    assert house.file.stat().st_mode & 0o777 == 0o644
    assert house.left == ["borgbase.prom"]
    assert all(line.startswith(("#", "borgbase_")) for line in house.lines)
    assert "# EOF" not in house.lines


def test_values_outlive_a_failure_until_they_are_too_old(house: House) -> None:
    assert house.run() == (0,)
    before, success = house.described, house.work("last_success_timestamp_seconds")
    house.api.stop()
    status, *logged = house.run()

    assert (status, len(logged)) == (1, 2)
    for line in logged:
        assert 'msg="no answer from 127.0.0.1: ' in str(line)
        assert 'collector="repos,account,ssh_keys,tokens" reason=connect' in str(line)
    assert house.described == before
    assert house.work("up") == 0
    assert house.work("last_success_timestamp_seconds") == success
    assert house.work("polls_total") == 2
    assert house.work("poll_failures_total", **CONNECT) == 1

    assert house.run("--poll.max-age", "1ms")[0] == 1
    assert house.described == []
    assert house.work("last_success_timestamp_seconds") == success
    assert house.work("poll_failures_total", **CONNECT) == 2

    house.api.start()
    assert house.run() == (0,)
    assert (house.work("up"), house.work("polls_total")) == (1, 4)
    assert house.work("poll_failures_total", **CONNECT) == 2


def test_a_removed_account_goes_and_one_whose_token_is_refused_keeps_values(house: House) -> None:
    assert house.run() == (0,)
    (house.tokens / HOME).unlink()
    put_token(house.tokens, WORK, "opens-nothing")
    status, logged = house.run()

    assert status == 1
    assert "account=work" in str(logged)
    assert "reason=auth" in str(logged)
    assert house.work("account_repos") == 3
    assert not [line for line in house.lines if "Zoë" in line]

    (house.tokens / WORK).unlink()
    status, logged = house.run()
    assert status == 1
    assert 'level=error msg="there is no account to poll"' in str(logged)
    names = {line.split("{")[0] for line in house.lines if not line.startswith("#")}
    assert names == {"borgbase_exporter_build_info"}


@pytest.mark.parametrize(
    ("confine", "mode", "problem"),
    [
        # Without its capabilities, root has the permissions of a normal user.
        ('exec setpriv --bounding-set=-all --inh-caps=-all "$@"', 0o555, "no permission to write"),
        ('ulimit -f 1; exec "$@"', 0o755, "cannot be written: File too large"),
    ],
)
def test_where_nothing_can_be_written_the_old_file_stays_alone(
    house: House, confine: str, mode: int, problem: str
) -> None:
    assert house.run() == (0,)
    before = house.file.read_bytes()
    house.file.parent.chmod(mode)
    measured = {name for name in os.environ if name.startswith("COVERAGE_")}  # that writes files
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


def test_runs_at_the_same_time_do_no_harm_to_each_other(house: House) -> None:
    runs = [subprocess.Popen([*EXPORTER, *house.words], env=environment()) for _ in range(2)]
    assert [process.wait(30) for process in runs] == [0, 0]

    assert house.left == ["borgbase.prom"]
    assert house.work("account_repos") == 3
    assert house.run() == (0,)
    assert house.work("polls_total") in {2, 3}
