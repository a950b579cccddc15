"""The token stays secret wherever it may end up; the harness watches all that processes say."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.canary import CANARY
from tests.end_to_end.processes import exporter, run, until

PAGES = ("/", "/metrics", "/-/healthy", "/-/ready", f"/{CANARY[:6]}")


@pytest.fixture(params=["refuses", "explodes", "redirects"])
def tattler(request: pytest.FixtureRequest) -> Iterator[str]:
    """An API that repeats the token in all it answers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            said = self.headers["Authorization"]
            error = json.dumps({"errors": [{"message": f"Signature has expired: {said}"}]})
            page = f"<html>{said}</html>"
            status, body = {"refuses": (200, error), "explodes": (500, page)}.get(
                request.param, (302, page)
            )
            self.send_response(status, said)
            self.send_header("Location", f"http://127.0.0.1:1/?{said}")
            self.send_header("X-Said", said)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/graphql"
        finally:
            server.shutdown()
            thread.join()


def test_an_api_that_repeats_the_token_is_not_quoted(tattler: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(CANARY)
    flags = ("--api.url", tattler, "--token.file", token, "--poll.interval", "1s")
    with exporter(tmp_path, *flags) as running:
        until(lambda: running.get("/-/ready").status == 200, "the first poll has ended")
        pages = {page: running.get(page).status for page in PAGES}  # which looks for the token
        arguments = Path(f"/proc/{running.process.pid}/cmdline").read_bytes()

    assert list(pages.values()) == [200, 200, 200, 200, 404]
    assert CANARY.encode() not in arguments
    assert "level=warning" in running.log
    assert "reason=" in running.log


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_check_does_not_quote_it_either(tattler: str, form: tuple[str, ...]) -> None:
    done = run("check", *form, "--api.url", tattler, BORGBASE_TOKEN=CANARY)

    assert done.returncode == 3
    assert "BORGBASE_TOKEN" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        "{}",
        "check {}",
        "--token {}",
        "--token={}",
        "--token.file {}",
        "--token.dir={}",
        "--api.proxy https://me:{}@proxy:port",
        "--api.url https://me:{}@api.example.org/graphql",
        "--api.url https://api.example.org:{}/graphql",
        "--web.listen-address {}",
        "--poll.interval {}",
    ],
)
def test_a_token_in_the_wrong_place_is_not_repeated(words: str) -> None:
    done = run(*words.format(CANARY).split(), BORGBASE_TOKEN=CANARY)

    assert done.returncode == 2
    assert "in the configuration" in done.stderr
    assert "Traceback" not in done.stderr
