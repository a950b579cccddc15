"""The mistakes that new users make in a configuration.

docs/troubleshooting.md has the answers; mistakes.md has those that explain themselves.
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

PAGES = (
    Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md",
    Path(__file__).with_name("mistakes.md"),
)
BEGIN, END = "<!-- configuration: begin -->\n", "<!-- configuration: end -->\n"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.bm9ib2R5cw"


@dataclass(frozen=True)
class Mistake:
    """The words of the command line, the variables, and the files in the current folder."""

    words: str
    token: str = JWT
    variables: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str | bytes] = field(default_factory=dict)


def web_file(content: str) -> Mistake:
    return Mistake("serve --demo --web.config.file web.yml", "", files={"web.yml": content})


def token_file(content: str | bytes) -> Mistake:
    return Mistake("check --token.file borgbase.token", "", files={"borgbase.token": content})


FAULTS = {
    "no token": Mistake("check", ""),
    "a token in quotes, as `docker --env-file` leaves them": Mistake("check", f'"{JWT}"'),
    "`Bearer` in front of the token": Mistake("check", f"Bearer {JWT}"),
    "a token that was broken into two lines": Mistake("check", JWT.replace(".", ". ", 1)),
    "a path in `BORGBASE_TOKEN`": Mistake("check", "/run/secrets/borgbase"),
    "an example's placeholder": Mistake("check", "<your token>"),
    "a token by flag": Mistake(f"check --token {JWT}", ""),
    "a token in place of its file": Mistake(f"check --token.file {JWT}", ""),
    "a token in two places": Mistake("check --token.file borgbase.token"),
    "a token folder that does not exist": Mistake("check --token.dir tokens", ""),
    "a file in place of a token folder": Mistake(
        "check --token.dir tokens", "", files={"tokens": JWT}
    ),
    "a name for one account, and a folder of several": Mistake(
        "check --token.dir . --account home", ""
    ),
    "`--demo` and a running exporter": Mistake("check --demo --from http://localhost:10133", ""),
    "a report from a running exporter": Mistake(
        "check --from http://localhost:10133 --report report.json", ""
    ),
    "a running exporter without http": Mistake("check --from localhost:10133", ""),
    "http in place of https": Mistake("check --api.url http://api.borgbase.com/graphql"),
    "an address without https": Mistake("check --api.url api.borgbase.com/graphql"),
    "a password in the API's address": Mistake(
        "check --api.url https://anna:secret@api.borgbase.com/graphql"
    ),
    "a local API by a proxy": Mistake(
        "check --api.url http://127.0.0.1:8000/graphql --api.proxy http://proxy:3128"
    ),
    "a SOCKS proxy": Mistake("check --api.proxy socks5://proxy:1080"),
    "a proxy without http": Mistake("check --api.proxy proxy:3128"),
    "a missing CA file": Mistake("check --api.ca-file ca.pem"),
    "a CA file without certificates": Mistake(
        "check --api.ca-file ca.pem", files={"ca.pem": "nothing"}
    ),
    "a size without a number": Mistake("check --api.max-response lots"),
    "no room for any answer": Mistake("check --api.max-response 0"),
    "a duration without its unit": Mistake("--poll.interval 15"),
    "a duration in words": Mistake("serve", variables={"BORGBASE_POLL_INTERVAL": "15 min"}),
    "half an hour as a fraction": Mistake("--poll.interval 0.5h"),
    "a negative duration": Mistake("--poll.interval -1m"),
    "polls without a pause": Mistake("--poll.interval 500ms"),
    "no time for a poll": Mistake("--poll.timeout 0s"),
    "a flag with a typing error": Mistake("--poll.intervall 5m", ""),
    "a flag without its group": Mistake("--interval=5m", ""),
    "a switch with a typing error": Mistake("--no-collector.acount", ""),
    "a flag that resembles none": Mistake("check --verbose", ""),
    "a single dash": Mistake("-poll.interval 5m", ""),
    "a flag without its value": Mistake("--poll.timeout"),
    "a switch with a value": Mistake(f"check --demo={JWT}", ""),
    "a flag twice": Mistake("--poll.timeout 5s --poll.timeout 6s"),
    "a flag of another command": Mistake("serve --json"),
    "an interval for a command that polls once": Mistake("textfile ./x.prom --poll.interval 5m"),
    "a command with a typing error": Mistake("chekc", ""),
    "an unknown command": Mistake("watch", ""),
    "`help`": Mistake("help", ""),
    "a word too many": Mistake("check again", ""),
    "a switch that is neither on nor off": Mistake(
        "check", variables={"BORGBASE_COLLECTOR_TOKENS": "perhaps"}
    ),
    "all collectors off": Mistake(
        "--no-collector.repos --no-collector.account --no-collector.ssh_keys --no-collector.tokens"
    ),
    "an unknown format": Mistake("check --format xml"),
    "an unknown level of the log": Mistake("--log.level loud"),
    "an address without a port": Mistake("--web.listen-address 127.0.0.1"),
    "a path without a slash": Mistake("--web.telemetry-path metrics"),
    "a path that is in use": Mistake("--web.telemetry-path /-/healthy"),
    "an allowed host with a port": Mistake("--web.allowed-host localhost:10133"),
    "Grafana's address with a password": Mistake(
        "--web.grafana-url https://anna:secret@grafana.example"
    ),
    "`textfile` without a path": Mistake("textfile"),
    "a textfile with another extension": Mistake("textfile ./x.txt"),
    "a textfile in a folder that does not exist": Mistake("textfile nowhere/x.prom"),
    "two textfiles": Mistake("textfile ./x.prom y.prom"),
    "`backfill` without a file to write": Mistake("backfill"),
    "a day in words": Mistake("backfill --output x --since yesterday"),
    "a moment before all time": Mistake("backfill --output x --until 99999999999y"),
    "a label without a value": Mistake("backfill --output x --label job"),
    "a label that Prometheus reserves": Mistake("backfill --output x --label __name__=x"),
    "a label that the series have already": Mistake("backfill --output x --label repo=x"),
    "a web configuration file that does not exist": Mistake(
        "serve --demo --web.config.file web.yml", ""
    ),
    "a web configuration file with a tab": web_file("basic_auth_users:\n\tanna: x\n"),
    "a web configuration file with a typing error": web_file("basic_auth_user: {}\n"),
    "a password in place of its hash": web_file("basic_auth_users: {anna: secret}\n"),
    "cipher suites, which this server cannot choose": web_file(
        "tls_server_config: {cert_file: cert.pem, key_file: cert.key, cipher_suites: [TLS_AES]}\n"
    ),
    "a certificate that does not exist": web_file(
        "tls_server_config: {cert_file: none.pem, key_file: other.key}\n"
    ),
    "a key of another certificate": web_file(
        "tls_server_config: {cert_file: cert.pem, key_file: other.key}\n"
    ),
}
"""Each is the only fault."""

WARNINGS = {
    "a variable with a typing error": Mistake("check", variables={"BORGBASE_POLL_INTERVALL": "5m"}),
    "an interval that is too short to be polite": Mistake("serve --poll.interval 1m"),
    "values that expire between two polls": Mistake("serve --poll.max-age 10m"),
    "a token and `--demo`": Mistake("--demo"),
    "an empty web configuration file": Mistake(
        "serve --web.config.file web.yml", files={"web.yml": "# to be filled in\n"}
    ),
}
"""Each is the only warning, and the command goes on."""

TOKEN_FILES = {
    "a token file that does not exist": Mistake("check --token.file borgbase.token", ""),
    "a folder in place of a token file": Mistake("check --token.file .", ""),
    "a device in place of a token file": Mistake("check --token.file /dev/null", ""),
    "an empty token file": token_file(""),
    "some other, large file": token_file(b"x" * 65_537),
    "a token file in UTF-16, as PowerShell writes it": token_file(JWT.encode("utf-16")),
    "an `.env` file as a token file": token_file(f"BORGBASE_TOKEN={JWT}\n"),
}
"""Each is the answer of every poll, as a token file may become valid later."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a new folder with a certificate, its key and another key."""
    monkeypatch.chdir(tmp_path)
    certified = trustme.CA().issue_cert("a")
    certified.cert_chain_pems[0].write_to_path("cert.pem")
    certified.private_key_pem.write_to_path("cert.key")
    trustme.CA().issue_cert("b").private_key_pem.write_to_path("other.key")
    return tmp_path


def answers() -> dict[str, str]:
    """Return the pages' tables: what was done, and the answer."""
    tables = [page.read_text("utf-8").partition(BEGIN)[2].partition(END)[0] for page in PAGES]
    rows = [row.strip("| ").split(" | ", 1) for table in tables for row in table.splitlines()[2:]]
    return {did: answer.strip("`") for did, answer in rows}


ANSWERS = answers()


def load(mistake: Mistake, folder: Path) -> settings.Command:
    for name, content in mistake.files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    variables = {**mistake.variables, "BORGBASE_TOKEN": mistake.token}
    return settings.load(mistake.words.split(), variables)


@pytest.mark.parametrize("did", FAULTS)
def test_faults(did: str, folder: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(FAULTS[did], folder)
    assert caught.value.faults == (ANSWERS[did],)
    assert JWT not in str(caught.value)
    assert "anna:secret" not in str(caught.value)


@pytest.mark.parametrize("did", WARNINGS)
def test_warnings(did: str, folder: Path) -> None:
    assert load(WARNINGS[did], folder).warnings == (ANSWERS[did],)


@pytest.mark.parametrize("did", TOKEN_FILES)
def test_token_files(did: str, folder: Path) -> None:
    tokens = load(TOKEN_FILES[did], folder).tokens
    assert tokens is not None
    with pytest.raises(TokenError) as caught:
        tokens.sources()["default"].read()
    assert str(caught.value) == ANSWERS[did]


def test_the_pages_show_no_other_mistakes() -> None:
    assert ANSWERS.keys() == FAULTS.keys() | WARNINGS.keys() | TOKEN_FILES.keys()
