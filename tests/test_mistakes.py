"""The mistakes that new users make, each made for real, and what the program answers.

docs/troubleshooting.md shows the same table: `python -m tests.test_mistakes` writes it there.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import trustme
from borgbase_exporter.config import COMMANDS, options
from borgbase_exporter.poller import Poller
from borgbase_exporter.simulator import SimulatedAccount, SimulatedApi

from borgbase_exporter import cli
from borgbase_exporter.errors import REASONS
from tests.canary import CANARY, TRACES, betrays
from tests.lab.scripts import answers, blurts, hold, refused, unresolved
from tests.lab.wire import ELSEWHERE, EXPIRED, LOCALHOST, Lab

PAGE = Path(__file__).resolve().parent.parent / "docs" / "troubleshooting.md"
BEGIN, END = "<!-- mistakes: begin -->\n", "<!-- mistakes: end -->\n"
DAY = 86_400
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.bm9ib2R5cw"

Places = Mapping[str, str]
"""What stands for `{name}` in command lines, variables, files and answers."""
Scene = Callable[[], AbstractContextManager[Places]]


@dataclass(frozen=True)
class Mistake:
    """What was done, and the answer: the faults or problems, one a line."""

    did: str
    answer: str
    words: str = "check"
    variables: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    scene: Scene | None = None
    mode: int = 0o600

    @property
    def id(self) -> str:
        return re.sub(r"\W+", "-", self.did).strip("-")


# Scenes.


def lab(script: object, **settings: str) -> Scene:
    @contextmanager
    def scene() -> Iterator[Places]:
        with Lab(script, **settings) as it:  # type: ignore[arg-type]  # a Script
            yield {"api": it.url, "proxy": f"127.0.0.1:{it.port}", "host": "127.0.0.1"}

    return scene


@contextmanager
def nobody() -> Iterator[Places]:
    with refused() as place:
        yield {"api": place.url, "proxy": place.url.split("/")[2], "host": "127.0.0.1"}


@contextmanager
def nameless() -> Iterator[Places]:
    with unresolved(slowly=False) as place:
        yield {"api": place.url.replace("http", "https"), "proxy": "nowhere.test:3128"} | {
            "host": "nowhere.test"
        }


@contextmanager
def borgbase(clock: Callable[[], float] = time.time) -> Iterator[Places]:
    """Give the API of an account that is well, and some of its tokens."""
    account = SimulatedAccount(clock=clock, troubles=())
    now = clock()
    with SimulatedApi([account]) as api:
        revoked = account.add_token("gone", "RO")
        account.revoke(revoked)
        yield {
            "api": api.url,
            "good": account.token,
            "revoked": revoked,
            "expired": account.add_token("dead", "RO", now - 8 * DAY - 60),
            "narrow": account.add_token("narrow", "CO", now + 900 * DAY),
            "full": account.add_token("mighty", "FA", now + 800 * DAY),
            "ended": time.strftime("%Y-%m-%d", time.gmtime(now - 8 * DAY - 60)),
            "host": "127.0.0.1",
        }


@contextmanager
def ahead() -> Iterator[Places]:
    """The same, of a time to which this machine has not come yet."""
    with borgbase(lambda: time.time() + 2 * DAY) as places:
        yield places


@contextmanager
def forbidden() -> Iterator[Places]:
    """Some other user's file; whoever runs the tests as root could read it."""
    real = Path.read_text

    def read_text(path: Path, *args: str) -> str:
        if path.name == "borgbase.token":
            raise PermissionError(13, "Permission denied")
        return real(path, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_text", read_text)
        yield {}


@contextmanager
def taken() -> Iterator[Places]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"port": str(server.getsockname()[1])}


@contextmanager
def privileged() -> Iterator[Places]:
    def bind(*_args: object, **_settings: object) -> None:
        raise PermissionError(13, "Permission denied")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.create_server", bind)
        yield {}


@contextmanager
def certified() -> Iterator[Places]:
    """Put a certificate and another one's key into the folder."""
    trustme.CA().issue_cert("a").cert_chain_pems[0].write_to_path("cert.pem")
    trustme.CA().issue_cert("b").private_key_pem.write_to_path("other.key")
    yield {}


NOT_FOUND = lab(answers(b"<html>Not Found</html>", "404 Not Found"))
MAINTENANCE = lab(answers(b"<!DOCTYPE html><h1>We will be back soon</h1>"))
GIVEN = {"BORGBASE_TOKEN": "{good}"}
NO_MATTER = {"BORGBASE_TOKEN": JWT}
API = "check --api.url {api}"
FILE = "check --token.file borgbase.token"
FOLDER = "check --token.dir tokens"
DURATION = "is not a duration such as 90s, 15m or 6h"
FAULTY_FILE = "put the token there, alone, and let this user read it"
UNREACHED = "check the network, --api.url and --api.proxy"
UNTRUSTED = "check this machine's clock, --api.url and, where TLS is intercepted, --api.ca-file"
BEHIND = "check --api.proxy http://{proxy} --api.url https://api.example/graphql"
WEB = "serve --demo --web.config.file web.yml"

CONFIGURATION = [
    Mistake(
        "no token",
        "no token: set BORGBASE_TOKEN, BORGBASE_TOKEN_FILE (--token.file) or BORGBASE_TOKEN_DIR "
        "(--token.dir); to look around without one: --demo",
    ),
    Mistake(
        "a token in quotes, as `docker --env-file` leaves them",
        "BORGBASE_TOKEN: holds quotes; give the token alone",
        variables={"BORGBASE_TOKEN": f'"{JWT}"'},
    ),
    Mistake(
        "`Bearer` in front of the token",
        'BORGBASE_TOKEN: holds the word "Bearer"; give the token alone',
        variables={"BORGBASE_TOKEN": f"Bearer {JWT}"},
    ),
    Mistake(
        "a token that was broken into two lines",
        "BORGBASE_TOKEN: holds more than one line; give the token alone",
        variables={"BORGBASE_TOKEN": JWT.replace(".", ".\n", 1)},
    ),
    Mistake(
        "a path in `BORGBASE_TOKEN`",
        "BORGBASE_TOKEN: holds a path, which belongs into BORGBASE_TOKEN_FILE; give the token "
        "alone",
        variables={"BORGBASE_TOKEN": "/run/secrets/borgbase"},
    ),
    Mistake(
        "an example's placeholder",
        "BORGBASE_TOKEN: holds JSON, a placeholder or the like; give the token alone",
        variables={"BORGBASE_TOKEN": "<your token>"},
    ),
    Mistake(
        "a token by flag",
        "--token: no such flag, as others could see it; use BORGBASE_TOKEN or --token.file",
        f"check --token {JWT}",
        NO_MATTER,
    ),
    Mistake(
        "a token in place of its file",
        "--token.file: looks like a token; put it into BORGBASE_TOKEN, or into a file that "
        "--token.file names",
        f"check --token.file {JWT}",
    ),
    Mistake(
        "a token in two places",
        "BORGBASE_TOKEN and --token.file: give only one of them",
        FILE,
        NO_MATTER,
    ),
    Mistake(
        "a token folder that is not there",
        "--token.dir: tokens: No such file or directory",
        FOLDER,
    ),
    Mistake(
        "a file in place of a token folder",
        "--token.dir: tokens: is no folder; a single token file is given by --token.file",
        FOLDER,
        files={"tokens": JWT},
    ),
    Mistake(
        "a name for one account, and a folder of several",
        "--account: with --token.dir the accounts are named by their files",
        "check --token.dir . --account home",
    ),
    Mistake(
        "http in place of https",
        '--api.url: "http://api.borgbase.com/graphql" must be https: the token would travel in '
        "the clear",
        "check --api.url http://api.borgbase.com/graphql",
        NO_MATTER,
    ),
    Mistake(
        "an address without https",
        '--api.url: "api.borgbase.com/graphql" is not a URL such as https://host/path',
        "check --api.url api.borgbase.com/graphql",
        NO_MATTER,
    ),
    Mistake(
        "a SOCKS proxy",
        "--api.proxy: is a SOCKS proxy; only an HTTP one such as http://proxy:3128 will do",
        "check --api.proxy socks5://proxy:1080",
        NO_MATTER,
    ),
    Mistake(
        "a proxy without http",
        "--api.proxy: is not the URL of a proxy, such as http://proxy:3128",
        "check --api.proxy proxy:3128",
        NO_MATTER,
    ),
    Mistake(
        "a missing CA file",
        '--api.ca-file: "ca.pem" cannot be read: No such file or directory',
        "check --api.ca-file ca.pem",
        NO_MATTER,
    ),
    Mistake(
        "a CA file without certificates",
        '--api.ca-file: "ca.pem" holds no PEM certificate',
        "check --api.ca-file ca.pem",
        NO_MATTER,
        {"ca.pem": "nothing of the kind"},
    ),
    Mistake(
        "a duration without its unit",
        f'--poll.interval: "15" {DURATION}',
        "--poll.interval 15",
        NO_MATTER,
    ),
    Mistake(
        "a duration in words",
        f'BORGBASE_POLL_INTERVAL: "15 min" {DURATION}',
        "serve",
        {**NO_MATTER, "BORGBASE_POLL_INTERVAL": "15 min"},
    ),
    Mistake(
        "half an hour as a fraction",
        f'--poll.interval: "0.5h" {DURATION}',
        "--poll.interval 0.5h",
        NO_MATTER,
    ),
    Mistake(
        "a negative duration",
        f'--poll.interval: "-1m" {DURATION}',
        "--poll.interval -1m",
        NO_MATTER,
    ),
    Mistake(
        "polls without a pause",
        "--poll.interval: must be 1s or longer",
        "--poll.interval 500ms",
        NO_MATTER,
    ),
    Mistake(
        "a flag with a typing error",
        "--poll.intervall: no such flag; did you mean --poll.interval?",
        "--poll.intervall 5m",
        NO_MATTER,
    ),
    Mistake(
        "a flag that other programs have",
        "--port: no such flag; did you mean --web.listen-address?",
        "--port 9000",
        NO_MATTER,
    ),
    Mistake(
        "a single dash",
        '"-poll.interval": no such flag; did you mean --poll.interval?',
        "-poll.interval 5m",
        NO_MATTER,
    ),
    Mistake(
        "a flag without its value", "--poll.timeout: needs a value", "--poll.timeout", NO_MATTER
    ),
    Mistake(
        "a flag twice",
        "--poll.timeout: given 2 times, and not with the same value",
        "--poll.timeout 5s --poll.timeout 6s",
        NO_MATTER,
    ),
    Mistake(
        "a flag of another command",
        "--json: not for serve",
        "serve --json",
        NO_MATTER,
    ),
    Mistake(
        "a command with a typing error",
        '"chekc": no such command; did you mean check?',
        "chekc",
        NO_MATTER,
    ),
    Mistake("`help`", '"help": no such command; did you mean --help?', "help", NO_MATTER),
    Mistake("a word too many", '"again": one word too many', "check again", NO_MATTER),
    Mistake(
        "a switch that is neither on nor off",
        'BORGBASE_COLLECTOR_TOKENS: "perhaps" is neither true nor false',
        variables={**NO_MATTER, "BORGBASE_COLLECTOR_TOKENS": "perhaps"},
    ),
    Mistake(
        "an address without a port",
        '--web.listen-address: "127.0.0.1" is not an address such as :10133, 127.0.0.1:10133 or '
        "[::1]:10133",
        "--web.listen-address 127.0.0.1",
        NO_MATTER,
    ),
    Mistake(
        "`backfill` without a file to write",
        "--output: say which file to write",
        "backfill",
        NO_MATTER,
    ),
    Mistake(
        "a web configuration file that is not there",
        "--web.config.file: web.yml: No such file or directory",
        WEB,
    ),
    Mistake(
        "a web configuration file with a tab",
        "--web.config.file: web.yml: not YAML in line 2: a tab, where YAML wants spaces",
        WEB,
        files={"web.yml": "basic_auth_users:\n\tanna: x\n"},
    ),
    Mistake(
        "a web configuration file with a typing error",
        "--web.config.file: web.yml: basic_auth_user: no such setting; did you mean "
        "basic_auth_users?",
        WEB,
        files={"web.yml": "basic_auth_user: {}\n"},
    ),
    Mistake(
        "a password in place of its hash",
        "--web.config.file: web.yml: basic_auth_users.anna: not a bcrypt hash of a cost from 4 to "
        "19, as `htpasswd -nBC 12 NAME` makes it",
        WEB,
        files={"web.yml": "basic_auth_users: {anna: secret}\n"},
    ),
    Mistake(
        "a certificate that is not there",
        "--web.config.file: web.yml: tls_server_config.cert_file: none.pem: No such file or "
        "directory",
        WEB,
        files={"web.yml": "tls_server_config: {cert_file: none.pem, key_file: other.key}\n"},
        scene=certified,
    ),
    Mistake(
        "a key of another certificate",
        "--web.config.file: web.yml: tls_server_config.cert_file and key_file: cert.pem, "
        "other.key: the key is not that of the certificate",
        WEB,
        files={"web.yml": "tls_server_config: {cert_file: cert.pem, key_file: other.key}\n"},
        scene=certified,
    ),
]
"""The answer is a list of faults, on standard error, with status 2."""

CHECK = [
    Mistake(
        "a token file that is not there",
        f"token: borgbase.token: No such file or directory → {FAULTY_FILE}",
        FILE,
    ),
    Mistake(
        "a token file of another user",
        f"token: borgbase.token: Permission denied → {FAULTY_FILE}",
        FILE,
        files={"borgbase.token": JWT},
        scene=forbidden,
    ),
    Mistake(
        "a folder in place of a token file",
        f"token: .: is a folder; one of token files is given by --token.dir → {FAULTY_FILE}",
        "check --token.file .",
    ),
    Mistake(
        "an empty token file",
        f"token: borgbase.token: is empty → {FAULTY_FILE}",
        FILE,
        files={"borgbase.token": ""},
    ),
    Mistake(
        "a token file in UTF-16, as PowerShell writes it",
        f"token: borgbase.token: not a text file in UTF-8 → {FAULTY_FILE}",
        FILE,
        files={"borgbase.token": f"{JWT}\n".encode("utf-16")},
    ),
    Mistake(
        "an `.env` file as a token file",
        f"token: borgbase.token: holds an assignment; give the token alone → {FAULTY_FILE}",
        FILE,
        files={"borgbase.token": f"BORGBASE_TOKEN={JWT}\n"},
    ),
    Mistake(
        "a token file that all may read",
        "token: borgbase.token can be read by other users → chmod 600 it, or 640 for a group of "
        "its own",
        f"{API} --token.file borgbase.token",
        files={"borgbase.token": "{good}\n"},
        scene=borgbase,
        mode=0o644,
    ),
    Mistake(
        "an empty token folder",
        "token folder: . holds no token files → put a file into it for each account, named like "
        "the account",
        "check --token.dir .",
    ),
    Mistake(
        "an editor's backup in the token folder",
        "token folder: home~ has not the name of an account, but is taken for one → move it "
        "elsewhere",
        f"{API} --token.dir .",
        files={"home": "{good}", "home~": "{good}"},
        scene=borgbase,
    ),
    Mistake(
        "a token file with an extension in the token folder",
        'token folder: home.txt: the account is then called "home.txt" → call the file "home", '
        "unless that is meant",
        f"{API} --token.dir .",
        files={"home.txt": "{good}"},
        scene=borgbase,
    ),
    Mistake(
        "a revoked or wrong token",
        "token: the API does not accept the token: You do not have permission to perform this "
        "action → check that the token is whole, else make a new one with the permission Read Only",
        API,
        {"BORGBASE_TOKEN": "{revoked}"},
        scene=borgbase,
    ),
    Mistake(
        "an expired token",
        "token: expired {ended} (8 d ago) → make a new one with the permission Read Only",
        API,
        {"BORGBASE_TOKEN": "{expired}"},
        scene=borgbase,
    ),
    Mistake(
        "a token with the permission Create Only",
        'account, tokens: the token may not ask for "me": You do not have permission to perform '
        "this action; it seems to be Create Only, so plan, bills and tokens stay unknown → make a "
        "token with the permission Read Only, or do without: --no-collector.account "
        "--no-collector.tokens",
        API,
        {"BORGBASE_TOKEN": "{narrow}"},
        scene=borgbase,
    ),
    Mistake(
        "a token with the permission Full Access",
        "token: its permission is Full Access → a token that is Read Only is enough",
        API,
        {"BORGBASE_TOKEN": "{full}"},
        scene=borgbase,
    ),
    Mistake(
        "no network, or no such host",
        f"API: no answer from {{host}}: Name or service not known → {UNREACHED}",
        API,
        NO_MATTER,
        scene=nameless,
    ),
    Mistake(
        "a port that nobody listens on",
        f"API: no answer from {{host}}: Connection refused → {UNREACHED}",
        API,
        NO_MATTER,
        scene=nobody,
    ),
    Mistake(
        "a firewall that swallows everything",
        "API: no complete answer from {host} in time → try again, or give it longer: "
        "--poll.timeout",
        f"{API} --poll.timeout 300ms --no-collector.account --no-collector.ssh_keys "
        "--no-collector.tokens",
        NO_MATTER,
        scene=lab(hold),
    ),
    Mistake(
        "a wrong path in `--api.url`",
        "API: the API answered with HTTP 404 → check --api.url; if it is right, try again later, "
        "the API may be down",
        API,
        NO_MATTER,
        scene=NOT_FOUND,
    ),
    Mistake(
        "an address that leads elsewhere",
        "API: {host} answered with a redirect (HTTP 301), which is not followed → check --api.url",
        API,
        NO_MATTER,
        scene=lab(answers(b"", "301 Moved Permanently", "Location: https://elsewhere.example/")),
    ),
    Mistake(
        "a page for people in place of the API, or its maintenance",
        "API: the answer is an HTML page, not an API's → check --api.url; if it is right, try "
        "again later: it may be under maintenance",
        API,
        NO_MATTER,
        scene=MAINTENANCE,
    ),
    Mistake(
        "a proxy that is not there",
        f"API: no answer from api.example by the proxy {{proxy}}: Connection refused → {UNREACHED}",
        BEHIND,
        NO_MATTER,
        scene=nobody,
    ),
    Mistake(
        "a proxy whose name is unknown",
        "API: no answer from api.example by the proxy {proxy}: Name or service not known → "
        + UNREACHED,
        BEHIND.replace("//{", "//anna:secret@{"),
        NO_MATTER,
        scene=nameless,
    ),
    Mistake(
        "a proxy that wants a password",
        "API: no answer from api.example by the proxy {proxy}: Tunnel connection failed: 407 Proxy "
        f"Authentication Required → {UNREACHED}",
        BEHIND,
        NO_MATTER,
        scene=lab(answers(b"", "407 Proxy Authentication Required")),
    ),
    Mistake(
        "TLS that is intercepted, with an authority that nobody knows",
        f"API: no trusted connection to {{host}}: self-signed certificate → {UNTRUSTED}",
        API,
        NO_MATTER,
        scene=lab(hold, certificate=LOCALHOST),
    ),
    Mistake(
        "an expired certificate, or a clock that is ahead",
        f"API: no trusted connection to {{host}}: certificate has expired → {UNTRUSTED}",
        f"{API} --api.ca-file {EXPIRED}",
        NO_MATTER,
        scene=lab(hold, certificate=EXPIRED),
    ),
    Mistake(
        "a certificate for another name",
        "API: no trusted connection to {host}: IP address mismatch, certificate is not valid for "
        f"'{{host}}' → {UNTRUSTED}",
        f"{API} --api.ca-file {ELSEWHERE}",
        NO_MATTER,
        scene=lab(hold, certificate=ELSEWHERE),
    ),
    Mistake(
        "https to a port of http",
        f"API: no trusted connection to {{host}}: it does not speak TLS → {UNTRUSTED}",
        API,
        NO_MATTER,
        scene=lab(blurts(b"HTTP/1.1 400 Bad Request\r\n\r\n"), scheme="https"),
    ),
    Mistake(
        "a clock that is behind",
        "clock: a repo was written to {late} in the future → set this machine's clock",
        API,
        GIVEN,
        scene=ahead,
    ),
]
"""The answer is a list of problems, on standard output, with status 1."""

OTHERS = [
    Mistake(
        "a port in use",
        "cannot listen on 127.0.0.1:{port}: Address already in use; choose another "
        "--web.listen-address",
        "serve --demo --web.listen-address 127.0.0.1:{port}",
        scene=taken,
    ),
    Mistake(
        "an address that is not this machine's",
        "cannot listen on 192.0.2.1:10133: Cannot assign requested address; choose another "
        "--web.listen-address",
        "serve --demo --web.listen-address 192.0.2.1:10133",
    ),
    Mistake(
        "a port below 1024 without the right to it",
        "cannot listen on :443: Permission denied; choose another --web.listen-address",
        "serve --demo --web.listen-address :443",
        scene=privileged,
    ),
    Mistake(
        "a folder to write into that is not there",
        "borgbase-exporter: nowhere/history.om: cannot be written: No such file or directory",
        "backfill --demo --output nowhere/history.om",
    ),
]
"""The answer is the last line of standard error, with status 1."""

WARNED = [
    Mistake(
        "a variable with a typing error",
        "BORGBASE_POLL_INTERVALL: no such setting; did you mean BORGBASE_POLL_INTERVAL?",
        API,
        {**GIVEN, "BORGBASE_POLL_INTERVALL": "5m"},
        scene=borgbase,
    ),
    Mistake(
        "an interval that is too short to be polite",
        "--poll.interval is shorter than 5m; BorgBase asks not to be polled that often",
        f"{API} --poll.interval 1m",
        GIVEN,
        scene=borgbase,
    ),
    Mistake(
        "an empty web configuration file",
        "--web.config.file turns nothing on: neither TLS nor users nor headers",
        f"{API} --web.config.file web.yml",
        GIVEN,
        {"web.yml": "# to be filled in\n"},
        scene=borgbase,
    ),
]
"""The answer is told, and the work goes on."""

FORGIVEN = {
    "a newline at the end": "{good}\n",
    "one of Windows": "{good}\r\n",
    "blanks around it": "  {good}\t\n",
    "a mark of the byte order": "\ufeff{good}\n",
}


@dataclass(frozen=True)
class Answer:
    status: int
    out: str
    err: str
    places: Places


Made = Callable[[Mistake], Answer]


@pytest.fixture
def made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Made:
    """Give a function that makes a mistake, in an empty folder of its own."""
    return partial(_make, folder=tmp_path, capsys=capsys, patch=monkeypatch)


def _make(
    mistake: Mistake, folder: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
) -> Answer:
    patch.chdir(folder)
    with ExitStack() as stack:
        places = stack.enter_context(mistake.scene()) if mistake.scene else {}
        for name, content in mistake.files.items():
            data = content if isinstance(content, bytes) else filled(content, places).encode()
            path = folder / name
            path.write_bytes(data)
            path.chmod(mistake.mode)
        variables = {name: filled(value, places) for name, value in mistake.variables.items()}
        words = [filled(word, places) for word in mistake.words.split()]
        status = cli.main(words, variables)
    said = capsys.readouterr()
    secrets = [JWT, "anna:secret", *(places[k] for k in places.keys() & {"good", "full", "narrow"})]
    assert not any(secret in said.out + said.err for secret in secrets), "a secret shows"
    assert "Traceback" not in said.err
    return Answer(status, said.out, said.err, places)


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    """Undo what the program does to the log of its process."""
    names = ("", "borgbase_exporter.poller", "urllib3")
    levels = {name: logging.getLogger(name).level for name in names}
    handlers = logging.root.handlers[:]
    yield
    logging.root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def filled(text: str, places: Places) -> str:
    for name, value in places.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def ids(mistakes: list[Mistake]) -> list[str]:
    return [mistake.id for mistake in mistakes]


@pytest.mark.parametrize("mistake", CONFIGURATION, ids=ids(CONFIGURATION))
def test_faults_of_the_configuration(mistake: Mistake, made: Made) -> None:
    answer = made(mistake)
    assert (answer.status, answer.out) == (2, "")
    assert answer.err == (
        "borgbase-exporter: 1 fault in the configuration\n"
        f"  {mistake.answer}\n"
        "See borgbase-exporter --help.\n"
    )


@pytest.mark.parametrize("mistake", CHECK, ids=ids(CHECK))
def test_problems_that_check_finds(mistake: Mistake, made: Made) -> None:
    answer = made(mistake)
    assert (answer.status, answer.err) == (1, "")
    expected = re.escape(filled(mistake.answer, answer.places)).replace(r"\{late\}", r"\d+ (h|d)")
    (told,) = re.findall(r"^  ● (.*)$", answer.out, re.MULTILINE)
    assert re.fullmatch(expected, told), told


@pytest.mark.parametrize("mistake", OTHERS, ids=ids(OTHERS))
def test_what_ends_the_program(mistake: Mistake, made: Made) -> None:
    answer = made(mistake)
    assert (answer.status, answer.out) == (1, "")
    last = re.sub(r'^ts=\S+ level=error msg="(.*)"$', r"\1", answer.err.splitlines()[-1])
    assert last == filled(mistake.answer, answer.places)


@pytest.mark.parametrize("mistake", WARNED, ids=ids(WARNED))
def test_what_is_worth_a_warning(mistake: Mistake, made: Made) -> None:
    answer = made(mistake)
    assert answer.err == f"borgbase-exporter: {mistake.answer}\n"
    assert answer.status == 0
    assert "All is well." in answer.out


@pytest.mark.parametrize("content", FORGIVEN.values(), ids=FORGIVEN.keys())
def test_what_is_forgiven(content: str, made: Made) -> None:
    mistake = Mistake(
        "",
        "",
        f"{API} --token.file borgbase.token",
        files={"borgbase.token": content},
        scene=borgbase,
    )
    answer = made(mistake)
    assert (answer.status, answer.err) == (0, "")


def test_a_folder_that_all_may_write_to(tmp_path: Path, made: Made) -> None:
    tmp_path.chmod(0o777)
    mistake = Mistake("", "", f"{API} --token.dir .", files={"home": "{good}"}, scene=borgbase)
    answer = made(mistake)
    assert answer.status == 1
    assert "● token folder: other users may put files into . → chmod o-w it\n" in answer.out


def test_a_token_that_went_astray_is_in_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--token", CANARY], [CANARY], ["check", "--token.dir", CANARY]):
        assert cli.main(words, {}) == 2
        assert not betrays(capsys.readouterr().err)


@pytest.mark.parametrize("token", [CANARY, f"eyJhbGciOiJIUzI1NiJ9.e30.{TRACES[2]}"])
@pytest.mark.parametrize(
    "dressed", ["{}", '"{}"', "Bearer {}", "token {}", "BORGBASE_TOKEN={}", "{}=", "./{}", "{}\n"]
)
def test_a_token_in_place_of_anything_else_is_refused_unseen(
    token: str, dressed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stray = dressed.format(token)
    for option in options({}):
        if option.is_switch:
            continue
        command = next(command for command in COMMANDS if command in option.commands)
        for words, variables in (
            ([command, f"{option.flag}={stray}"], {}),
            ([command], {option.variable: stray}),
        ):
            assert cli.main(words, {"BORGBASE_DEMO": "true", **variables}) == 2, option.flag
            said = "".join(capsys.readouterr())
            assert f"  {option.flag if not variables else option.variable}: " in said
            assert not betrays(said), option.flag
    assert cli.main(["textfile", stray], {}) == 2
    said = "".join(capsys.readouterr())
    assert "  PATH: looks like a token" in said
    assert not betrays(said)


def test_a_variable_with_a_typing_error_is_told_beside_what_comes_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for wrong, right in (
        ("BORGBASE_TOKENS_DIR", "BORGBASE_TOKEN_DIR"),
        ("BORGBASE_TOKENFILE", "BORGBASE_TOKEN_FILE"),
        ("BORGBASE_API_TOKEN", "BORGBASE_TOKEN"),
    ):
        assert cli.main(["check"], {wrong: CANARY}) == 2
        title, fault, also, hint, end = capsys.readouterr().err.splitlines()
        assert title == "borgbase-exporter: 1 fault in the configuration"
        assert fault.startswith("  no token: ")
        assert also == "And, which may be why:"
        assert hint == f"  {wrong}: no such setting; did you mean {right}?"
        assert end == "See borgbase-exporter --help."


def test_a_defect_is_a_problem_of_its_account_and_costs_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def poll(poller: Poller) -> float:
        if poller.status.name == "home":
            raise KeyError("x")
        return real(poller)

    real = Poller.poll
    monkeypatch.setattr(Poller, "poll", poll)
    (tmp_path / "tokens").mkdir()
    with borgbase() as places:
        for name in ("home", "work"):
            (tmp_path / "tokens" / name).write_text(places["good"])
            (tmp_path / "tokens" / name).chmod(0o600)
        words = ["check", "--api.url", places["api"], "--token.dir", str(tmp_path / "tokens")]
        assert cli.main(words, {}) == 1
    said = capsys.readouterr()
    (told,) = re.findall(r"^  ● (.*)$", said.out, re.MULTILINE)
    assert told == ("check: a defect of the exporter; its log has the details → please report it")
    assert 'msg="a defect, please report it" account=home' in said.err
    assert "Account work" in said.out


def table() -> str:
    """Return the table of mistakes as the page shows it."""
    places = {
        "host": "api.borgbase.com",
        "proxy": "proxy:3128",
        "port": "10133",
        "ended": "2026-01-31",
        "late": "5 h",
    }
    rows = [
        f"| {mistake.did} | {_code(filled(mistake.answer, places))} |\n"
        for mistake in (*CONFIGURATION, *CHECK, *OTHERS, *WARNED)
    ]
    return "".join(["| what was done | the answer |\n", "| --- | --- |\n", *rows])


def _code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}"


def test_the_page_shows_the_answers_as_they_are() -> None:
    shown = PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    assert shown == table(), "stale: run python -m tests.test_mistakes"


def test_the_page_knows_every_reason_of_a_failed_poll() -> None:
    page = PAGE.read_text("utf-8").partition("\n## A poll fails")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(["reason", *REASONS])


def test_the_page_knows_every_field_of_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    with borgbase() as places:
        words = ["check", "--json", "--api.url", places["api"]]
        assert cli.main(words, {"BORGBASE_TOKEN": places["good"]}) == 0
    report = json.loads(capsys.readouterr().out)
    (account,) = report.pop("accounts")
    grouped = ("token", "api", "units")
    fields = {*report} | {f"accounts[].{name}" for name in account.keys() - set(grouped)}
    fields |= {f"accounts[].{group}.{name}" for group in grouped for name in account[group]}
    page = PAGE.read_text("utf-8").partition("\n## `check` for machines")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([\w.\[\]]+)` \|", page, re.MULTILINE)) == fields


if __name__ == "__main__":
    head, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(head + BEGIN + table() + END + rest.partition(END)[2], "utf-8")
