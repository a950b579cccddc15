"""The mistakes that new users make in a configuration, and the exact answers.

docs/troubleshooting.md shows the same table: `python -m tests.settings.test_mistakes` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from borgbase_exporter import settings
from borgbase_exporter.errors import TokenError
from borgbase_exporter.settings import SettingsError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"
BEGIN, END = "<!-- configuration: begin -->\n", "<!-- configuration: end -->\n"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.bm9ib2R5cw"


@dataclass(frozen=True)
class Mistake:
    """What was done, and the answer: a fault, a warning, or why a token cannot be read."""

    did: str
    answer: str
    words: str = "check"
    variables: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str | bytes] = field(default_factory=dict)


GIVEN = {"BORGBASE_TOKEN": JWT}
FILE = "check --token.file borgbase.token"
FOLDER = "check --token.dir tokens"
DURATION = "is not a duration such as 90s, 15m or 6h"
ALONE = (
    'is not a token alone: remove quotes, spaces, line breaks, names and "Bearer"; a path belongs '
    "in BORGBASE_TOKEN_FILE"
)
MOMENT = "is neither a moment (2026-01-31T12:00Z) nor how long ago (90d)"
WEB = "serve --demo --web.config.file web.yml"
BACKFILL = "backfill --output x"

FAULTS = [
    Mistake(
        "no token",
        "no token: set BORGBASE_TOKEN, BORGBASE_TOKEN_FILE (--token.file) or BORGBASE_TOKEN_DIR "
        "(--token.dir); to try it without one: --demo",
    ),
    Mistake(
        "a token in quotes, as `docker --env-file` leaves them",
        f"BORGBASE_TOKEN: {ALONE}",
        variables={"BORGBASE_TOKEN": f'"{JWT}"'},
    ),
    Mistake(
        "`Bearer` in front of the token",
        f"BORGBASE_TOKEN: {ALONE}",
        variables={"BORGBASE_TOKEN": f"Bearer {JWT}"},
    ),
    Mistake(
        "a token that was broken into two lines",
        f"BORGBASE_TOKEN: {ALONE}",
        variables={"BORGBASE_TOKEN": JWT.replace(".", ".\n", 1)},
    ),
    Mistake(
        "a path in `BORGBASE_TOKEN`",
        f"BORGBASE_TOKEN: {ALONE}",
        variables={"BORGBASE_TOKEN": "/run/secrets/borgbase"},
    ),
    Mistake(
        "an example's placeholder",
        f"BORGBASE_TOKEN: {ALONE}",
        variables={"BORGBASE_TOKEN": "<your token>"},
    ),
    Mistake(
        "a token by flag",
        "--token: no such flag; did you mean --token.dir?",
        f"check --token {JWT}",
    ),
    Mistake(
        "a token in place of its file",
        '--token.file: "…" looks like a token; put it into BORGBASE_TOKEN, or into a file for '
        "--token.file",
        f"check --token.file {JWT}",
    ),
    Mistake(
        "a token in two places",
        "BORGBASE_TOKEN and --token.file: give only one of them",
        FILE,
        GIVEN,
    ),
    Mistake(
        "a token folder that does not exist",
        "--token.dir: tokens: No such file or directory",
        FOLDER,
    ),
    Mistake(
        "a file in place of a token folder",
        "--token.dir: tokens: Not a directory",
        FOLDER,
        files={"tokens": JWT},
    ),
    Mistake(
        "a name for one account, and a folder of several",
        "--account: not with --token.dir, where the names of files are the accounts'",
        "check --token.dir . --account home",
    ),
    Mistake(
        "`--demo` and a running exporter",
        "--demo and --from: give only one of them",
        "check --demo --from http://localhost:10133",
    ),
    Mistake(
        "a running exporter without http",
        '--from: "…" is not a URL such as https://host/path',
        "check --from localhost:10133",
    ),
    Mistake(
        "http in place of https",
        '--api.url: "http://api.borgbase.com/graphql" must be https: http would send the token '
        "unencrypted",
        "check --api.url http://api.borgbase.com/graphql",
        GIVEN,
    ),
    Mistake(
        "an address without https",
        '--api.url: "api.borgbase.com/graphql" is not a URL such as https://host/path',
        "check --api.url api.borgbase.com/graphql",
        GIVEN,
    ),
    Mistake(
        "a password in the API's address",
        '--api.url: "…" must not contain a user or password',
        "check --api.url https://anna:secret@api.borgbase.com/graphql",
        GIVEN,
    ),
    Mistake(
        "a local API by a proxy",
        "--api.proxy: not with http in --api.url: it would send the token unencrypted",
        "check --api.url http://127.0.0.1:8000/graphql --api.proxy http://proxy:3128",
        GIVEN,
    ),
    Mistake(
        "a SOCKS proxy",
        '--api.proxy: "…" is not the URL of an HTTP proxy such as http://proxy:3128',
        "check --api.proxy socks5://proxy:1080",
        GIVEN,
    ),
    Mistake(
        "a proxy without http",
        '--api.proxy: "…" is not the URL of an HTTP proxy such as http://proxy:3128',
        "check --api.proxy proxy:3128",
        GIVEN,
    ),
    Mistake(
        "a missing CA file",
        '--api.ca-file: "ca.pem" is not a file of certificates: No such file or directory',
        "check --api.ca-file ca.pem",
        GIVEN,
    ),
    Mistake(
        "a CA file without certificates",
        '--api.ca-file: "ca.pem" is not a file of certificates: no PEM',
        "check --api.ca-file ca.pem",
        GIVEN,
        {"ca.pem": "nothing"},
    ),
    Mistake(
        "a size without a number",
        '--api.max-response: "lots" is not a size such as 64MiB',
        "check --api.max-response lots",
        GIVEN,
    ),
    Mistake(
        "no room for any answer",
        '--api.max-response: "0" is not a size such as 64MiB',
        "check --api.max-response 0",
        GIVEN,
    ),
    Mistake(
        "a duration without its unit",
        f'--poll.interval: "15" {DURATION}',
        "--poll.interval 15",
        GIVEN,
    ),
    Mistake(
        "a duration in words",
        f'BORGBASE_POLL_INTERVAL: "15 min" {DURATION}',
        "serve",
        {**GIVEN, "BORGBASE_POLL_INTERVAL": "15 min"},
    ),
    Mistake(
        "half an hour as a fraction",
        f'--poll.interval: "0.5h" {DURATION}',
        "--poll.interval 0.5h",
        GIVEN,
    ),
    Mistake(
        "a negative duration", f'--poll.interval: "-1m" {DURATION}', "--poll.interval -1m", GIVEN
    ),
    Mistake(
        "polls without a pause",
        '--poll.interval: "500ms" is not between 1s and 100y',
        "--poll.interval 500ms",
        GIVEN,
    ),
    Mistake(
        "no time for a poll",
        '--poll.timeout: "0s" is not between 0.001s and 100y',
        "--poll.timeout 0s",
        GIVEN,
    ),
    Mistake(
        "a flag with a typing error",
        "--poll.intervall: no such flag; did you mean --poll.interval?",
        "--poll.intervall 5m",
    ),
    Mistake(
        "a flag without its group",
        "--interval: no such flag; did you mean --poll.interval?",
        "--interval=5m",
    ),
    Mistake(
        "a switch with a typing error",
        "--no-collector.acount: no such flag; did you mean --no-collector.account?",
        "--no-collector.acount",
    ),
    Mistake("a flag that resembles none", "--verbose: no such flag", "check --verbose"),
    Mistake(
        "a single dash",
        "-poll.interval: no such flag; did you mean --poll.interval?",
        "-poll.interval 5m",
    ),
    Mistake("a flag without its value", "--poll.timeout: needs a value", "--poll.timeout", GIVEN),
    Mistake("a switch with a value", "--demo: takes no value", f"check --demo={JWT}"),
    Mistake(
        "a flag twice",
        "--poll.timeout: given 2 times, with different values",
        "--poll.timeout 5s --poll.timeout 6s",
        GIVEN,
    ),
    Mistake("a flag of another command", "--json: not for serve", "serve --json", GIVEN),
    Mistake(
        "an interval for a command that polls once",
        "--poll.interval: not for textfile",
        "textfile ./x.prom --poll.interval 5m",
        GIVEN,
    ),
    Mistake(
        "a command with a typing error", '"chekc": no such command; did you mean check?', "chekc"
    ),
    Mistake(
        "an unknown command",
        '"watch": no such command; possible are serve, check, textfile, backfill',
        "watch",
    ),
    Mistake("`help`", '"help": no such command; did you mean --help?', "help"),
    Mistake("a word too many", '"again": one word too many', "check again"),
    Mistake(
        "a switch that is neither on nor off",
        'BORGBASE_COLLECTOR_TOKENS: "perhaps" is not true or false',
        variables={**GIVEN, "BORGBASE_COLLECTOR_TOKENS": "perhaps"},
    ),
    Mistake(
        "all collectors off",
        "--no-collector.…: all collectors are off, so nothing is left to do",
        "--no-collector.repos --no-collector.account --no-collector.ssh_keys --no-collector.tokens",
        GIVEN,
    ),
    Mistake(
        "an unknown format",
        '--format: "xml" is not one of text, json, nagios, checkmk',
        "check --format xml",
        GIVEN,
    ),
    Mistake(
        "an unknown level of the log",
        '--log.level: "loud" is not one of debug, info, warning, error',
        "--log.level loud",
        GIVEN,
    ),
    Mistake(
        "an address without a port",
        '--web.listen-address: "127.0.0.1" is not an address such as :10133, 127.0.0.1:10133 or '
        "[::1]:10133",
        "--web.listen-address 127.0.0.1",
        GIVEN,
    ),
    Mistake(
        "a path without a slash",
        '--web.telemetry-path: "metrics" is not a path such as /metrics',
        "--web.telemetry-path metrics",
        GIVEN,
    ),
    Mistake(
        "a path that is in use",
        '--web.telemetry-path: "/-/healthy" is not a path such as /metrics',
        "--web.telemetry-path /-/healthy",
        GIVEN,
    ),
    Mistake(
        "an allowed host with a port",
        '--web.allowed-host: "localhost:10133" is not a host name such as exporter.example.org, '
        "without a port",
        "--web.allowed-host localhost:10133",
        GIVEN,
    ),
    Mistake(
        "Grafana's address with a password",
        '--web.grafana-url: "…" must not contain a user or password',
        "--web.grafana-url https://anna:secret@grafana.example",
        GIVEN,
    ),
    Mistake("`textfile` without a path", "PATH: needs a value", "textfile", GIVEN),
    Mistake(
        "a textfile with another extension",
        'PATH: "./x.txt" does not end in .prom, and node_exporter reads no other files',
        "textfile ./x.txt",
        GIVEN,
    ),
    Mistake(
        "a textfile in a folder that does not exist",
        'PATH: "nowhere/x.prom" is in a folder that does not exist',
        "textfile nowhere/x.prom",
        GIVEN,
    ),
    Mistake("two textfiles", '"y.prom": one word too many', "textfile ./x.prom y.prom", GIVEN),
    Mistake("`backfill` without a file to write", "--output: needs a value", "backfill", GIVEN),
    Mistake(
        "a day in words", f'--since: "yesterday" {MOMENT}', f"{BACKFILL} --since yesterday", GIVEN
    ),
    Mistake(
        "a moment before all time",
        f'--until: "99999999999y" {MOMENT}',
        f"{BACKFILL} --until 99999999999y",
        GIVEN,
    ),
    Mistake(
        "a label without a value",
        '--label: "job" is not a label such as job=borgbase',
        f"{BACKFILL} --label job",
        GIVEN,
    ),
    Mistake(
        "a label that Prometheus reserves",
        '--label: "__name__=x" is not a label such as job=borgbase',
        f"{BACKFILL} --label __name__=x",
        GIVEN,
    ),
    Mistake(
        "a label that the series have already",
        '--label: "repo=x" is one of the series\' own labels',
        f"{BACKFILL} --label repo=x",
        GIVEN,
    ),
    Mistake(
        "a web configuration file that does not exist",
        "--web.config.file: web.yml: No such file or directory",
        WEB,
    ),
    Mistake(
        "a web configuration file with a tab",
        "--web.config.file: web.yml: not YAML in line 2",
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
        "cipher suites, which this server cannot choose",
        "--web.config.file: web.yml: tls_server_config.cipher_suites: not supported by this server",
        WEB,
        files={
            "web.yml": "tls_server_config: {cert_file: cert.pem, key_file: cert.key, "
            "cipher_suites: [TLS_AES_128_GCM_SHA256]}\n"
        },
    ),
    Mistake(
        "a certificate that does not exist",
        "--web.config.file: web.yml: tls_server_config.cert_file: none.pem: cannot be read",
        WEB,
        files={"web.yml": "tls_server_config: {cert_file: none.pem, key_file: other.key}\n"},
    ),
    Mistake(
        "a key of another certificate",
        "--web.config.file: web.yml: tls_server_config.cert_file and key_file: cert.pem, "
        "other.key: the key is not that of the certificate",
        WEB,
        files={"web.yml": "tls_server_config: {cert_file: cert.pem, key_file: other.key}\n"},
    ),
]
"""Each is the only fault."""

WARNINGS = [
    Mistake(
        "a variable with a typing error",
        "BORGBASE_POLL_INTERVALL: no such setting; did you mean BORGBASE_POLL_INTERVAL?",
        variables={**GIVEN, "BORGBASE_POLL_INTERVALL": "5m"},
    ),
    Mistake(
        "an interval that is too short to be polite",
        "--poll.interval is shorter than 5m; BorgBase asks not to be polled that often",
        "serve --poll.interval 1m",
        GIVEN,
    ),
    Mistake(
        "values that expire between two polls",
        "--poll.max-age is shorter than --poll.interval: values disappear between two polls",
        "serve --poll.max-age 10m",
        GIVEN,
    ),
    Mistake("a token and `--demo`", "BORGBASE_TOKEN is not used: --demo is on", "--demo", GIVEN),
    Mistake(
        "an empty web configuration file",
        "--web.config.file turns nothing on: no TLS, users, headers or rate limit",
        "serve --web.config.file web.yml",
        GIVEN,
        {"web.yml": "# to be filled in\n"},
    ),
]
"""Each is the only warning, and the command goes on."""

TOKEN_FILES = [
    Mistake("a token file that does not exist", "borgbase.token: No such file or directory", FILE),
    Mistake(
        "a folder in place of a token file",
        ".: not a regular file; --token.dir takes a folder",
        "check --token.file .",
    ),
    Mistake(
        "a device in place of a token file",
        "/dev/null: not a regular file; --token.dir takes a folder",
        "check --token.file /dev/null",
    ),
    Mistake("an empty token file", "borgbase.token: is empty", FILE, files={"borgbase.token": ""}),
    Mistake(
        "some other, large file",
        "borgbase.token: larger than 64 KiB, so no token file",
        FILE,
        files={"borgbase.token": b"x" * 65_537},
    ),
    Mistake(
        "a token file in UTF-16, as PowerShell writes it",
        "borgbase.token: not a text file in UTF-8",
        FILE,
        files={"borgbase.token": f"{JWT}\n".encode("utf-16")},
    ),
    Mistake(
        "an `.env` file as a token file",
        f"borgbase.token: {ALONE}",
        FILE,
        files={"borgbase.token": f"BORGBASE_TOKEN={JWT}\n"},
    ),
]
"""Each is the answer of every poll, as a token file may become valid later."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder of one's own, with a certificate, its key and another one."""
    monkeypatch.chdir(tmp_path)
    certified = trustme.CA().issue_cert("a")
    certified.cert_chain_pems[0].write_to_path("cert.pem")
    certified.private_key_pem.write_to_path("cert.key")
    trustme.CA().issue_cert("b").private_key_pem.write_to_path("other.key")
    return tmp_path


def load(mistake: Mistake, folder: Path) -> settings.Command:
    for name, content in mistake.files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return settings.load(mistake.words.split(), mistake.variables)


def rows(mistakes: list[Mistake]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("mistake", mistakes, ids=[mistake.did for mistake in mistakes])


@rows(FAULTS)
def test_faults(mistake: Mistake, folder: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(mistake, folder)
    assert caught.value.faults == (mistake.answer,)
    assert JWT not in str(caught.value)
    assert "anna:secret" not in str(caught.value)


@rows(WARNINGS)
def test_warnings(mistake: Mistake, folder: Path) -> None:
    assert load(mistake, folder).warnings == (mistake.answer,)


@rows(TOKEN_FILES)
def test_token_files(mistake: Mistake, folder: Path) -> None:
    tokens = load(mistake, folder).tokens
    assert tokens is not None
    with pytest.raises(TokenError) as caught:
        tokens.sources()["default"].read()
    assert str(caught.value) == mistake.answer


def table() -> str:
    """Return the table of mistakes as the page shows it."""
    lines = [
        f"| {mistake.did} | {_code(mistake.answer)} |\n"
        for mistake in (*FAULTS, *WARNINGS, *TOKEN_FILES)
    ]
    return "".join(["| what was done | the answer |\n", "| --- | --- |\n", *lines])


def _code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}"


def test_the_page_shows_the_answers_as_they_are() -> None:
    shown = PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    assert shown == table(), "stale: run python -m tests.settings.test_mistakes"


if __name__ == "__main__":
    head, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(head + BEGIN + table() + END + rest.partition(END)[2], "utf-8")
