"""The watch over the planted token can fail: it is set on tests that do let it out."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.canary import CANARY, assert_kept_secret, betrays

ROOT = Path(__file__).resolve().parent.parent

TALKATIVE = """\
import base64, logging, sys
import pytest
from tests.canary import CANARY

@pytest.fixture
def leaky():
    yield
    print(CANARY)

def test_prints(): print("Bearer " + CANARY)
def test_prints_on_stderr(): print(CANARY, file=sys.stderr)
def test_prints_the_payload(): print(base64.b64decode(CANARY.split(".")[1]))
def test_logs(): logging.getLogger("urllib3").warning("sent %s", CANARY)
def test_raises(): raise ValueError(CANARY)
def test_compares(): assert CANARY == ""
def test_skips(): pytest.skip(CANARY)
def test_cleans_up(leaky): pass
def test_fails_without_it(): assert not "harmless"
def test_keeps_it(): assert CANARY
"""

PLACES = {
    "test_prints": "Captured stdout call",
    "test_prints_on_stderr": "Captured stderr call",
    "test_prints_the_payload": "Captured stdout call",
    "test_logs": "Captured log call",
    "test_raises": "the failure itself",
    "test_compares": "the failure itself",
    "test_skips": "the failure itself",
    "test_cleans_up": "Captured stdout teardown",
}


def test_who_lets_the_token_out_fails_by_name(tmp_path: Path) -> None:
    tests = tmp_path / "test_talkative.py"
    tests.write_text(TALKATIVE)
    options = ("-rA", "-p", "tests.canary", "-p", "no:cacheprovider", f"--rootdir={tmp_path}")

    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tests)],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "250"},  # the summary's lines are not to be cut
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    summary = r"^(?:FAILED|ERROR) \S+::(\w+) - the planted token shows in: (.*)$"
    said = re.findall(summary, run.stdout, re.MULTILINE)
    assert dict(said) == PLACES
    assert " 8 failed, 2 passed, 1 error in " in run.stdout.splitlines()[-1]
    assert run.returncode == pytest.ExitCode.TESTS_FAILED
    assert not betrays(run.stdout + run.stderr)


def test_a_process_that_lets_it_out_is_told_off_without_repeating_it() -> None:
    with pytest.raises(pytest.fail.Exception, match="shows in its log") as failure:
        assert_kept_secret(f"level=error msg=refused token={CANARY}\n", "its log")

    assert str(failure.value).endswith("level=error msg=refused token=[the planted token]\n")
    assert not betrays(str(failure.value))


def test_a_process_that_keeps_it_is_let_be() -> None:
    assert_kept_secret("level=info msg=canary token-012345", "its log")
