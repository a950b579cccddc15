from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from borgbase_exporter import config
from borgbase_exporter.collectors import COLLECTORS
from borgbase_exporter.config import Address, Backfill, Config, ConfigError
from borgbase_exporter.credentials import GivenToken, OneToken, TokenFile, TokenFolder
from tests.canary import CANARY

NAMES = {collector.name: collector.help for collector in COLLECTORS}
TOKEN = {"BORGBASE_TOKEN": CANARY}


def load(*arguments: str, **environment: str) -> Config:
    return config.load(arguments, {**TOKEN, **environment}, NAMES, "1.2.3")


def faults(*arguments: str, environment: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        config.load(arguments, TOKEN if environment is None else environment, NAMES, "1.2.3")
    return caught.value.faults


def test_defaults_are_those_of_the_contract() -> None:
    settings = load()
    assert settings.command == "serve"
    assert settings.listen == (Address("", 10133),)
    assert settings.telemetry_path == "/metrics"
    assert (settings.interval, settings.timeout, settings.max_age) == (900, 30, 21_600)
    assert settings.collectors == {"repos", "account", "ssh_keys", "tokens"}
    assert settings.api.url == "https://api.borgbase.com/graphql"
    assert settings.api.max_response == 64 * 2**20
    assert (settings.log_level, settings.log_format) == ("info", "logfmt")
    assert settings.tokens == OneToken("default", GivenToken("BORGBASE_TOKEN", CANARY))
    assert settings.warnings == ()


def test_flags_stand_before_the_environment_and_that_before_defaults() -> None:
    variables = {"BORGBASE_POLL_INTERVAL": "20m", "BORGBASE_POLL_TIMEOUT": "20s"}
    settings = load("--poll.interval", "10m", **variables)
    assert (settings.interval, settings.timeout, settings.max_age) == (600, 20, 21_600)


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert load(BORGBASE_POLL_INTERVAL="").interval == 900


def test_flags_stand_before_or_after_the_command() -> None:
    for words in (("check", "--poll.timeout=5s"), ("--poll.timeout", "5s", "check")):
        settings = load(*words)
        assert (settings.command, settings.timeout) == ("check", 5)


def test_several_addresses() -> None:
    both = (Address("127.0.0.1", 1), Address("::1", 2))
    flags = ("--web.listen-address", "127.0.0.1:1", "--web.listen-address", "[::1]:2")
    assert load(*flags).listen == both
    assert load(BORGBASE_WEB_LISTEN_ADDRESS="127.0.0.1:1, [::1]:2").listen == both
    assert [str(address) for address in both] == ["127.0.0.1:1", "[::1]:2"]


def test_a_port_alone_is_one_of_all_addresses() -> None:
    assert load("--web.listen-address=9000").listen == (Address("", 9000),)


def test_switches_by_flag_and_by_environment() -> None:
    assert load("--no-collector.account").collectors == {"repos", "ssh_keys", "tokens"}
    assert load(BORGBASE_COLLECTOR_ACCOUNT="false").collectors == {"repos", "ssh_keys", "tokens"}
    assert "account" in load("--collector.account", BORGBASE_COLLECTOR_ACCOUNT="no").collectors
    assert load().status_page
    assert not load("--web.no-status-page").status_page
    assert not load(BORGBASE_WEB_STATUS_PAGE="false").status_page


def test_the_places_of_a_token(tmp_path: Path) -> None:
    def tokens(*arguments: str, **environment: str) -> object:
        return config.load(arguments, environment, NAMES, "1").tokens

    file = OneToken("home", TokenFile(Path("/run/token")))
    assert tokens("--token.file", "/run/token", "--account", "home") == file
    assert tokens(BORGBASE_TOKEN_FILE="/run/token", BORGBASE_ACCOUNT="home") == file
    assert tokens("--token.dir", str(tmp_path)) == TokenFolder(tmp_path)
    assert tokens(BORGBASE_TOKEN_DIR=str(tmp_path)) == TokenFolder(tmp_path)
    assert tokens("--demo") is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("1h30m", 5400),
        ("1d", 86_400),
        ("2w", 1_209_600),
        ("5s100ms", 5.1),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert config.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("4096", 4096), ("64MiB", 2**26), ("10MB", 10**7), ("1 GiB", 2**30), ("5k", 5000)],
)
def test_sizes(text: str, bytes_: int) -> None:
    assert config.size(text) == bytes_


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (
            ["--poll.interval=15x"],
            '--poll.interval: "15x" is not a duration such as 90s, 15m or 6h',
        ),
        (["--poll.interval=15"], '--poll.interval: "15" is not a duration such as 90s, 15m or 6h'),
        (["--poll.interval"], "--poll.interval: needs a value"),
        (
            ["--poll.interval=999999999999ms"],
            '--poll.interval: "999999999999ms" is not a duration such as 90s, 15m or 6h',
        ),
        (["--poll.timeout=0s"], '--poll.timeout: "0s" must be longer than 0s, and 1y at most'),
        (["--poll.max-age=2y"], '--poll.max-age: "2y" must be longer than 0s, and 1y at most'),
        (["--poll.interval=500ms"], "--poll.interval: must be 1s or longer"),
        (["--api.max-response=lots"], '--api.max-response: "lots" is not a size such as 64MiB'),
        (["--api.max-response=0"], '--api.max-response: "0" is not a size such as 64MiB'),
        (["--log.level=loud"], '--log.level: "loud" is none of debug, info, warning, error'),
        (["--log.format=xml"], '--log.format: "xml" is none of logfmt, json'),
        (
            ["--web.telemetry-path=metrics"],
            '--web.telemetry-path: "metrics" is not a path such as /metrics',
        ),
        (
            ["--web.telemetry-path=/-/healthy"],
            '--web.telemetry-path: "/-/healthy" is not a path such as /metrics',
        ),
        (
            ["--api.url=http://api.borgbase.com/graphql"],
            '--api.url: "http://api.borgbase.com/graphql" must be https: the token would travel '
            "in the clear",
        ),
        (["--api.url=ftp://x/"], '--api.url: "ftp://x/" is not a URL such as https://host/path'),
        (["--api.url=https://"], '--api.url: "https://" is not a URL such as https://host/path'),
        (
            ["--api.url=https://x:y"],
            '--api.url: "https://x:y" is not a URL such as https://host/path',
        ),
        (
            ["--api.ca-file=/none"],
            '--api.ca-file: "/none" cannot be read: No such file or directory',
        ),
        (["--account= "], '--account: " " is not a name'),
        (["--frobnicate=1"], "--frobnicate: no such flag"),
        (
            ["--poll.intervall", "5m"],
            "--poll.intervall: no such flag; did you mean --poll.interval?",
        ),
        (
            ["check", "--poll.intervall", "5m"],
            "--poll.intervall: no such flag; did you mean --poll.interval?",
        ),
        (
            ["--no-collector.acount"],
            "--no-collector.acount: no such flag; did you mean --no-collector.account?",
        ),
        (["-x"], '"-x": no such flag'),
        (["--port=9000"], "--port: no such flag; did you mean --web.listen-address?"),
        (["--repos"], "--repos: no such flag"),
        (["backfill", "--output=x", "--repos"], "--repos: no such flag; did you mean --repo?"),
        (["--interval=5m"], "--interval: no such flag; did you mean --poll.interval?"),
        (["--verbose"], "--verbose: no such flag"),
        (
            ["--poll.interval", "-5m"],
            '--poll.interval: "-5m" is not a duration such as 90s, 15m or 6h',
        ),
        (["chekc"], '"chekc": no such command; did you mean check?'),
        (["help"], '"help": no such command; did you mean --help?'),
        (
            ["--api.proxy=socks5://proxy:1080"],
            "--api.proxy: is a SOCKS proxy; only an HTTP one such as http://proxy:3128 will do",
        ),
        (
            ["--api.proxy=proxy:3128"],
            "--api.proxy: is not the URL of a proxy, such as http://proxy:3128",
        ),
        (["watch"], '"watch": no such command; there are serve, check, textfile, backfill'),
        (["check", "again"], '"again": one word too many'),
        (["--json"], "--json: not for serve"),
        (["textfile", "/x.prom", "--poll.interval=5m"], "--poll.interval: not for textfile"),
        (["textfile"], "PATH: needs a value"),
        (
            ["textfile", "/x.txt"],
            'PATH: "/x.txt" does not end in .prom, and node_exporter reads no other files',
        ),
        (
            ["textfile", "/no/such/x.prom"],
            'PATH: "/no/such/x.prom" is in a folder that does not exist',
        ),
        (["textfile", "/x.prom", "/y.prom"], '"/y.prom": one word too many'),
        (["check", "--since=1d"], "--since: not for check"),
        (["backfill"], "--output: say which file to write"),
        (
            ["backfill", "--output=x", "--since=yesterday"],
            '--since: "yesterday" is neither a moment (2026-01-31T12:00Z) nor how long ago (90d)',
        ),
        (
            ["backfill", "--output=x", "--until=99999999999y"],
            '--until: "99999999999y" is neither a moment (2026-01-31T12:00Z) nor how long ago '
            "(90d)",
        ),
        (
            ["backfill", "--output=x", "--label=job"],
            '--label: "job" is not a label such as job=borgbase',
        ),
        (
            ["backfill", "--output=x", "--label=__name__=x"],
            '--label: "__name__=x" is not a label such as job=borgbase',
        ),
        (
            ["backfill", "--output=x", "--label=repo=x"],
            '--label: "repo=x" is one of the series\' own labels',
        ),
        (
            [f"--no-collector.{name}" for name in NAMES],
            "--no-collector.…: all collectors are off, nothing is left to do",
        ),
        (["--token.file=/x"], "BORGBASE_TOKEN and --token.file: give only one of them"),
    ],
)
def test_each_fault_says_what_and_where(flags: list[str], fault: str) -> None:
    assert faults(*flags) == (fault,)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "x:99999",
        "x:",
        "::1",
        "::1:10133",
        "host:http",
        ":-1",
        "a..b:80",
        f"{'x' * 70}:1",
    ],
)
def test_odd_addresses(text: str) -> None:
    (fault,) = faults(f"--web.listen-address={text}")
    assert fault.startswith("--web.listen-address: ")
    assert "is not an address" in fault


def test_a_fault_names_the_variable_it_stands_in() -> None:
    (fault,) = faults(environment={**TOKEN, "BORGBASE_COLLECTOR_TOKENS": "perhaps"})
    assert fault == 'BORGBASE_COLLECTOR_TOKENS: "perhaps" is neither true nor false'


def test_a_variable_for_another_command_is_none_of_this_ones_business() -> None:
    assert load(BORGBASE_SINCE="whenever", BORGBASE_JSON="perhaps").json is False


def test_all_faults_are_told_at_once() -> None:
    found = faults("--poll.interval=x", "--what", "--log.level=x", environment={})
    assert len(found) == 4
    assert found[0] == "--what: no such flag"
    assert found[-1].startswith("no token: set BORGBASE_TOKEN, ")


def test_a_folder_names_its_accounts_itself(tmp_path: Path) -> None:
    (fault,) = faults("--token.dir", str(tmp_path), "--account=x", environment={})
    assert fault == "--account: with --token.dir the accounts are named by their files"


@pytest.mark.parametrize(
    "words",
    [
        ["--token", CANARY],
        [f"--token={CANARY}"],
        [CANARY],
        ["check", "--token", CANARY],
        ["check", "--tokenfile", CANARY, "--demo"],
        [f"-t{CANARY}"],
        [f"--{CANARY}"],
        ["--api.url", CANARY[-52:]],
        ["--token.file", CANARY],
        ["--token.dir", CANARY],
        [f"--api.proxy=http//{CANARY}"],
    ],
)
def test_a_token_in_the_wrong_place_is_not_repeated(words: list[str]) -> None:
    found = faults(*words, environment={})
    assert CANARY not in "\n".join(found)
    assert len(found) >= 1


def test_neither_a_token_nor_a_proxys_password_is_in_the_representation() -> None:
    settings = load("--api.proxy", "http://user:hunter2@proxy:8080")
    assert settings.api.proxy == "http://user:hunter2@proxy:8080"
    assert "hunter2" not in repr(settings)
    assert CANARY not in repr(settings)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"])
def test_http_is_allowed_to_this_very_machine(host: str) -> None:
    assert load(f"--api.url=http://{host}:8080/graphql").api.url == f"http://{host}:8080/graphql"


@pytest.mark.parametrize(
    "url", ["http://localhost.example.org/", "http://10.0.0.1/", "https://user:pw@host/"]
)
def test_addresses_that_would_give_the_token_away(url: str) -> None:
    assert len(faults(f"--api.url={url}")) == 1


def test_what_is_allowed_but_unwise_is_told() -> None:
    (warning,) = load("--poll.interval=1m").warnings
    assert "5m" in warning
    (warning,) = load("--poll.max-age=10m").warnings
    assert "vanish" in warning
    demo = config.load(["--demo", "--poll.interval=1m"], {}, NAMES, "1")
    assert demo.warnings == ()


def test_no_command_is_warned_of_what_it_does_not_know(tmp_path: Path) -> None:
    assert load("textfile", str(tmp_path / "x.prom"), "--poll.max-age=10m").warnings == ()


def test_warnings_are_told_with_the_faults() -> None:
    with pytest.raises(ConfigError) as caught:
        config.load([], {"BORGBASE_TOKENFILE": "x"}, NAMES, "1")
    assert len(caught.value.faults) == 1
    assert caught.value.warnings == (
        "BORGBASE_TOKENFILE: no such setting; did you mean BORGBASE_TOKEN_FILE?",
    )


@pytest.mark.parametrize(
    "name",
    ["my-long-config.production.example-file", "monkey.example.international", "/run/keyJ.a.b"],
)
def test_names_of_files_and_hosts_are_not_taken_for_tokens(name: str) -> None:
    assert load("--account", name).account == name
    assert config.load(["--token.file", name], {}, NAMES, "1").tokens == OneToken(
        "default", TokenFile(Path(name))
    )


def test_a_proxys_password_may_look_like_a_token() -> None:
    proxy = f"http://user:{CANARY}@proxy:3128"
    assert load("--api.proxy", proxy).api.proxy == proxy


def test_a_token_beside_the_demo_and_a_mistyped_variable_are_told() -> None:
    assert load("--demo").warnings == ("BORGBASE_TOKEN is not used: --demo is on",)
    assert load(BORGBASE_API_TOKEN="x").warnings == (
        "BORGBASE_API_TOKEN: no such setting; did you mean BORGBASE_TOKEN?",
    )


def test_a_token_folder_must_be_there_at_the_start(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    (fault,) = faults("--token.dir", str(missing), environment={})
    assert fault == f"--token.dir: {missing}: No such file or directory"


def test_a_token_that_can_be_none_is_a_fault_at_the_start() -> None:
    (fault,) = faults(environment={"BORGBASE_TOKEN": "two words"})
    assert fault == "BORGBASE_TOKEN: holds a space; give the token alone"


def test_what_kubernetes_sets_for_a_service_called_like_us_is_no_typing_error() -> None:
    address = "BORGBASE_EXPORTER_PORT_10133_TCP"
    variables = {
        "BORGBASE_EXPORTER_SERVICE_HOST": "10.0.0.1",
        "BORGBASE_EXPORTER_SERVICE_PORT_METRICS": "10133",
        "BORGBASE_EXPORTER_PORT": "tcp://10.0.0.1:10133",
        **{f"{address}{suffix}": "x" for suffix in ("", "_PROTO", "_PORT", "_ADDR")},
    }
    assert load(**variables).warnings == ()


def test_a_web_configuration_of_nothing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text("# to be filled in\n")
    assert load(f"--web.config.file={path}").warnings == (
        "--web.config.file turns nothing on: neither TLS nor users nor headers",
    )


def test_a_flag_may_be_repeated_but_not_contradicted() -> None:
    assert load("--demo", "--demo").demo
    for flags in (
        ("--poll.timeout=5s", "--poll.timeout=6s"),
        ("--collector.account", "--no-collector.account"),
    ):
        (fault,) = faults(*flags)
        assert fault.endswith(": given 2 times, and not with the same value")


def test_a_file_without_certificates_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("nothing of the kind")
    assert faults(f"--api.ca-file={path}")[0].endswith("holds no PEM certificate")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("90d", timedelta(days=90)),
        ("2y", timedelta(days=730)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00+01:00", datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=1)))),
        ("1769860800.5", datetime(2026, 1, 31, 12, microsecond=500_000, tzinfo=UTC)),
    ],
)
def test_moments(text: str, read: object) -> None:
    assert config.moment(text) == read


def test_what_to_write_of_the_past() -> None:
    settings = load("backfill", "--output=a.om").backfill
    assert settings == Backfill(
        Path("a.om"), timedelta(days=90), timedelta(hours=3), 90 * 86_400, (), (), None
    )
    settings = load(
        *("backfill", "--output=a.om", "--dense=2y", "--label=job=a=b", "--label", "pod="),
        *("--repo=x", "--repo=y z", "--unit=1MiB"),
    ).backfill
    assert settings
    assert settings.dense == 730 * 86_400
    assert settings.labels == (("job", "a=b"), ("pod", ""))
    assert settings.repos == ("x", "y z")
    assert settings.unit == 2**20
    assert load().backfill is None


def test_where_to_write_the_metrics_stands_anywhere_after_the_command(tmp_path: Path) -> None:
    path, folder = tmp_path / "x.prom", tmp_path / "folder"
    assert load("textfile", "--poll.timeout", "5s", str(path), "--demo").textfile == path
    assert load("--demo", "textfile", str(path)).textfile == path
    assert load().textfile is None
    folder.symlink_to(tmp_path, target_is_directory=True)
    path.symlink_to("y.prom")
    assert load("textfile", str(folder / "x.prom")).textfile == tmp_path / "y.prom"


def test_a_link_that_leads_nowhere_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    path.symlink_to(path)
    (fault,) = faults("textfile", str(path))
    assert fault.startswith("PATH: ")
    assert fault.endswith("is a link that leads nowhere")


def test_help_names_every_flag_with_its_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        load("--help")
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for option in config.options(NAMES):
        assert option.flag in text
        assert f"${option.variable}" in text


def test_the_help_of_a_command_shows_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load("textfile", "--help")
    text = capsys.readouterr().out
    assert text.startswith("usage: borgbase-exporter textfile PATH [flags]\n")
    assert "--poll.timeout DURATION " in text
    assert "--poll.interval" not in text
    assert "--since" not in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        load("--version")
    assert exit_.value.code == 0
    assert capsys.readouterr().out == "borgbase-exporter 1.2.3\n"
