"""The token stays secret; the harness searches all that the processes print and serve."""

import json
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from tests.canary import CANARY
from tests.end_to_end.processes import exporter, run, until
from tests.lab.account import http
from tests.lab.wire import Lab, Wire

PAGES = ("/", "/metrics", "/status.json", "/-/healthy", "/-/ready", f"/{CANARY[:6]}")


@pytest.fixture(scope="module")
def tattler() -> Iterator[str]:
    """An API that repeats the token in all its answers: refusals, errors and redirects."""
    statuses = cycle((200, 500, 302))

    def tattle(wire: Wire) -> None:
        while request := wire.request():
            said, status = request.headers["authorization"], next(statuses)
            error = json.dumps({"errors": [{"message": f"Signature has expired: {said}"}]})
            body = error if status == 200 else f"<html>{said}</html>"
            headers = (f"Location: http://127.0.0.1:1/?{said}", f"X-Said: {said}")
            wire.send(http(body.encode(), f"{status} {said}", *headers))

    with Lab(tattle) as lab:
        yield lab.url


def test_an_api_that_repeats_the_token_is_not_quoted(tattler: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(CANARY)
    with exporter(tmp_path, "--api.url", tattler, "--token.file", token) as running:
        until(lambda: running.get("/-/ready").status == 200, "the first poll has ended")
        statuses = [running.get(page).status for page in PAGES]  # fails if it has the token
        arguments = Path(f"/proc/{running.process.pid}/cmdline").read_bytes()

    assert statuses == [200, 200, 200, 200, 200, 404]
    assert CANARY.encode() not in arguments
    assert {r for r in ("auth", "http_status", "redirect") if f"reason={r}" in running.log} == {
        *("auth", "http_status", "redirect")
    }


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_check_does_not_quote_it_either(tattler: str, form: tuple[str, ...]) -> None:
    done = run("check", *form, "--api.url", tattler, BORGBASE_TOKEN=CANARY)

    assert done.returncode == 3
    assert "BORGBASE_TOKEN" in done.stdout


def test_a_token_in_the_wrong_place_is_not_repeated() -> None:
    done = run("--token", CANARY, "--poll.interval", CANARY, BORGBASE_TOKEN=CANARY)

    assert (done.returncode, done.stdout) == (2, "")
    assert "in the configuration" in done.stderr
    assert "Traceback" not in done.stderr
