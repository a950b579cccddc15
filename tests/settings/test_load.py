from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from borgbase_exporter import __version__, settings
from borgbase_exporter.settings import Backfill, Check, Command, Serve, SettingsError, Textfile
from borgbase_exporter.settings.loading import SETTINGS
from borgbase_exporter.settings.readers import Address, duration, moment, size
from borgbase_exporter.text import DAY
from borgbase_exporter.tokens import GivenToken, OneToken, TokenFile, TokenFolder
from tests.canary import CANARY, TRACES, betrays

TOKEN = {"BORGBASE_TOKEN": CANARY}
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
EXPORTER = "https://anna:hunter2@exporter.example:10133/"


C = TypeVar("C", bound=Command)


def load(kind: type[C], *arguments: str, **environment: str) -> C:
    loaded = settings.load([kind.command, *arguments], environment)
    assert isinstance(loaded, kind)
    return loaded


serve, check = partial(load, Serve, **TOKEN), partial(load, Check)
backfill = partial(load, Backfill, "--output=a.om", **TOKEN)
textfile = partial(load, Textfile, **TOKEN)


def faults(*arguments: str, **environment: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        settings.load(arguments, environment)
    return caught.value.faults


def test_defaults_are_those_of_the_contract() -> None:
    loaded = settings.load([], TOKEN)
    assert isinstance(loaded, Serve)
    assert loaded.command == "serve"
    assert loaded.web.listen_addresses == (Address("", 10133),)
    assert loaded.web.telemetry_path == "/metrics"
    assert loaded.web.config.path is None
    assert (loaded.web.allowed_hosts, loaded.web.grafana_url) == ((), None)
    assert (loaded.web.status_page, loaded.web.open_probes) == (True, False)
    assert (loaded.poll.interval, loaded.poll.timeout, loaded.poll.max_age) == (900, 30, 21_600)
    assert loaded.collectors == {"repos", "account", "ssh_keys", "tokens"}
    assert loaded.api.url == "https://api.borgbase.com/graphql"
    assert (loaded.api.ca_file, loaded.api.proxy) == (None, None)
    assert loaded.api.max_response == 64 * 2**20
    assert (loaded.log.level, loaded.log.format) == ("info", "logfmt")
    assert loaded.tokens == OneToken("default", GivenToken("BORGBASE_TOKEN", CANARY))
    assert (loaded.account, loaded.demo, loaded.warnings) == ("default", False, ())


def test_flags_override_the_environment_which_overrides_defaults() -> None:
    variables = {"BORGBASE_POLL_INTERVAL": "20m", "BORGBASE_POLL_TIMEOUT": "20s"}
    poll = serve("--poll.interval", "10m", **variables).poll
    assert (poll.interval, poll.timeout, poll.max_age) == (600, 20, 21_600)
    assert serve(BORGBASE_POLL_INTERVAL="").poll.interval == 900, "it counts as unset"


def test_flags_come_before_or_after_the_command() -> None:
    for words in (("check", "--poll.timeout=5s"), ("--poll.timeout", "5s", "check")):
        loaded = settings.load(words, TOKEN)
        assert (loaded.command, loaded.poll.timeout) == ("check", 5)


def test_addresses() -> None:
    both = (Address("127.0.0.1", 1), Address("::1", 2))
    flags = ("--web.listen-address", "127.0.0.1:1", "--web.listen-address", "[::1]:2")
    assert serve(*flags).web.listen_addresses == both
    variable = {"BORGBASE_WEB_LISTEN_ADDRESS": "127.0.0.1:1, [::1]:2"}
    assert serve(**variable).web.listen_addresses == both
    assert [str(address) for address in both] == ["127.0.0.1:1", "[::1]:2"]
    assert serve("--web.listen-address=9000").web.listen_addresses == (Address("", 9000),)


def test_switches_by_flag_and_by_environment() -> None:
    assert serve("--no-collector.account").collectors == {"repos", "ssh_keys", "tokens"}
    assert serve(BORGBASE_COLLECTOR_ACCOUNT="false").collectors == {"repos", "ssh_keys", "tokens"}
    assert "account" in serve("--collector.account", BORGBASE_COLLECTOR_ACCOUNT="no").collectors
    assert not serve("--web.no-status-page").web.status_page
    assert not serve(BORGBASE_WEB_STATUS_PAGE="false").web.status_page
    assert serve("--web.open-probes").web.open_probes


def test_hosts_and_grafana() -> None:
    flags = ("--web.allowed-host=Exporter.example", "--web.allowed-host=[::1]")
    assert serve(*flags).web.allowed_hosts == ("exporter.example", "[::1]")
    web = serve(BORGBASE_WEB_ALLOWED_HOST="a, b.c", BORGBASE_WEB_GRAFANA_URL="http://g/").web
    assert (web.allowed_hosts, web.grafana_url) == (("a", "b.c"), "http://g/")


def test_places_of_a_token(tmp_path: Path) -> None:
    file = OneToken("home", TokenFile(Path("/run/token")))
    assert check("--token.file", "/run/token", "--account", "home").tokens == file
    assert check(BORGBASE_TOKEN_FILE="/run/token", BORGBASE_ACCOUNT="home").tokens == file
    assert check("--token.dir", str(tmp_path)).tokens == TokenFolder(tmp_path)
    assert check(BORGBASE_TOKEN_DIR=str(tmp_path)).tokens == TokenFolder(tmp_path)


def test_the_demo_needs_no_token_and_names_its_account() -> None:
    loaded = check("--demo")
    assert (loaded.demo, loaded.account, loaded.tokens) == (True, "demo", None)
    assert check("--demo", "--account=x", **TOKEN).warnings == (
        "BORGBASE_TOKEN is not used: --demo is on",
        "--account is not used: --demo is on",
    )


def test_a_flag_may_be_repeated_but_not_contradicted() -> None:
    assert check("--json", "--format=json", **TOKEN).format == "json"
    assert faults("check", "--json", "--format=nagios", **TOKEN) == (
        "--json, --format: given 2 times, with different values",
    )
    assert faults("--collector.account", "--no-collector.account", **TOKEN) == (
        "--collector.account, --no-collector.account: given 2 times, with different values",
    )


def test_a_check_of_a_running_exporter_needs_no_token_and_keeps_its_password() -> None:
    loaded = check("--from", EXPORTER)
    assert (loaded.source, loaded.tokens) == (EXPORTER, None)
    assert "hunter2" not in repr(loaded)
    assert check(BORGBASE_FROM=EXPORTER).source == EXPORTER
    assert check("--report", "r.json", **TOKEN).report == Path("r.json")
    (fault,) = faults("check", "--from", EXPORTER.replace("https", "ftp"))
    assert fault == '--from: "…" is not a URL such as https://host/path'


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        *((duration, *pair) for pair in (("90s", 90), ("15m", 900), ("1h30m", 5400), ("1d", DAY))),
        *((duration, *pair) for pair in (("2w", 14 * DAY), ("5s100ms", 5.1), ("1y", 365 * DAY))),
        *((size, *pair) for pair in (("4096", 4096), ("64MiB", 2**26), ("10MB", 10**7), ("7B", 7))),
        *((size, *pair) for pair in (("1 GiB", 2**30), ("5k", 5000), ("1tib", 2**40))),
        (moment, "90d", timedelta(days=90)),
        (moment, "2y", timedelta(days=730)),
        (moment, "2026-01-31", NOON.replace(hour=0)),
        (moment, "2026-01-31T12:00", NOON),
        (moment, "2026-01-31T12:00Z", NOON),
        (moment, "2026-01-31T13:00+01:00", NOON),
        (moment, "1769860800.5", NOON.replace(microsecond=500_000)),
    ],
)
def test_values(read: Callable[[str], object], text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1", "x:99999", "x:", "::1", "::1:10133"),
        *("host:http", ":-1", "a..b:80", f"{'x' * 70}:1"),
    ],
)
def test_odd_addresses(text: str) -> None:
    (fault,) = faults(f"--web.listen-address={text}", **TOKEN)
    assert fault.startswith("--web.listen-address: ")
    assert "is not an address" in fault


def test_a_variable_for_another_command_is_ignored() -> None:
    assert serve(BORGBASE_SINCE="whenever", BORGBASE_FORMAT="perhaps").warnings == ()
    assert check(BORGBASE_WEB_LISTEN_ADDRESS="nonsense", **TOKEN).warnings == ()


def test_all_faults_are_reported_at_once() -> None:
    found = faults("--poll.interval=x", "--log.level=x", "--api.proxy=x", "--account= ")
    named = ["--poll.interval", "--api.proxy", "--account", "--log.level", "no token"]
    assert [fault.partition(":")[0] for fault in found] == named


def test_a_typing_error_does_not_also_report_a_missing_token_or_argument() -> None:
    assert len(faults("backfill", "--ouput=x")) == 1
    assert faults("textfile", "--what", "x.prom") == ("--what: no such flag",)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("BORGBASE_TOKENS_DIR", "BORGBASE_TOKEN_DIR"),
        ("BORGBASE_TOKENFILE", "BORGBASE_TOKEN_FILE"),
        ("BORGBASE_API_TOKEN", "BORGBASE_TOKEN"),
    ],
)
def test_the_error_lists_faults_and_likely_causes(wrong: str, right: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.load(["check", "--log.level=x"], {wrong: CANARY})
    assert str(caught.value).splitlines() == [
        "borgbase-exporter: 2 errors in the configuration",
        '  --log.level: "x" is not one of debug, info, warning, error',
        "  no token: set BORGBASE_TOKEN, BORGBASE_TOKEN_FILE (--token.file) or BORGBASE_TOKEN_DIR "
        "(--token.dir); to try it without one: --demo",
        "Possible causes:",
        f"  {wrong}: no such setting; did you mean {right}?",
        "See borgbase-exporter --help.",
    ]


@pytest.mark.parametrize(
    "words",
    [
        *("--token {}", "--token={}", "{}", "check --token {}", "check --tokenfile {} --demo"),
        *("-t{}", "--{}", "--api.proxy=http//{}", "check --from={}", "check --from=https://{}/"),
        *(f"--api.url {CANARY[-52:]}", "--api.proxy=http://{}:3128 --demo"),
    ],
)
def test_a_token_in_the_wrong_place_is_not_repeated(words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.load(words.format(CANARY).split(), {})
    assert not betrays(str(caught.value))


@pytest.mark.parametrize("token", [CANARY, f"eyJhbGciOiJIUzI1NiJ9.e30.{TRACES[2]}"])
@pytest.mark.parametrize(
    "form", ["{}", '"{}"', "Bearer {}", "token {}", "BORGBASE_TOKEN={}", "{}=", "./{}", "{}\n"]
)
def test_a_token_in_place_of_anything_else_is_refused_unseen(token: str, form: str) -> None:
    stray = form.format(token)
    cases = [
        (command, setting)
        for command, own in SETTINGS.items()
        for setting in own.values()
        if setting.flag not in setting.shorthands and setting.flag != "BORGBASE_TOKEN"
    ]
    for command, setting in cases:
        word = f"{setting.flag}={stray}" if setting.flag.startswith("--") else stray
        variables = {setting.variable: stray} if setting.variable else {}
        for where, words, given in ((setting.flag, [word], {}), (setting.variable, [], variables)):
            if where:
                with pytest.raises(SettingsError) as caught:
                    settings.load([command, *words], {"BORGBASE_DEMO": "true", **given})
                assert f"\n  {where}: " in str(caught.value)
                assert not betrays(str(caught.value)), where


@pytest.mark.parametrize("password", ["hunter2", CANARY])
def test_a_proxys_password_may_look_like_a_token_and_is_never_shown(password: str) -> None:
    proxy = f"http://user:{password}@proxy:8080"
    loaded = serve("--api.proxy", proxy)
    assert loaded.api.proxy == proxy
    assert password not in repr(loaded)
    assert CANARY not in repr(loaded)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"])
def test_http_is_allowed_to_this_machine(host: str) -> None:
    url = f"http://{host}:8080/graphql"
    assert serve(f"--api.url={url}").api.url == url
    proxy = "--api.proxy=http://proxy:3128"
    (fault,) = faults(f"--api.url={url}", proxy, **TOKEN)
    assert fault.startswith("--api.proxy: not with http in --api.url")
    secured = url.replace("http", "https")
    assert serve(f"--api.url={secured}", proxy).api.url == secured
    for exposing in ("http://localhost.example.org/", "http://10.0.0.1/"):
        assert len(faults(f"--api.url={exposing}", **TOKEN)) == 1


@pytest.mark.parametrize(
    "name",
    ["my-long-config.production.example-file", "monkey.example.international", "/run/keyJ.a.b"],
)
def test_names_of_files_and_hosts_are_not_taken_for_tokens(name: str) -> None:
    assert serve("--account", name).account == name
    assert check("--token.file", name).tokens == OneToken("default", TokenFile(Path(name)))


def test_variables_that_kubernetes_sets_for_a_service_are_no_typing_errors() -> None:
    address = "BORGBASE_EXPORTER_PORT_10133_TCP"
    variables = {
        "BORGBASE_EXPORTER_SERVICE_HOST": "10.0.0.1",
        "BORGBASE_EXPORTER_SERVICE_PORT_METRICS": "10133",
        "BORGBASE_EXPORTER_PORT": "tcp://10.0.0.1:10133",
        **{f"{address}{suffix}": "x" for suffix in ("", "_PROTO", "_PORT", "_ADDR")},
    }
    assert serve(**variables).warnings == ()


def test_no_warning_where_polls_do_not_repeat_or_reach_borgbase(tmp_path: Path) -> None:
    assert textfile(str(tmp_path / "x.prom"), "--poll.max-age=10m").warnings == ()
    assert settings.load(["--demo", "--poll.interval=1m"], {}).warnings == ()


def test_what_to_write_of_the_past() -> None:
    loaded = backfill()
    assert loaded.output == Path("a.om")
    assert (loaded.since, loaded.until) == (timedelta(days=90), timedelta(hours=3))
    assert (loaded.dense, loaded.labels, loaded.repos, loaded.unit) == (90 * 86_400, (), (), None)
    loaded = backfill(
        *("--dense=2y", "--label=job=a=b", "--label", "pod=", "--repo=x", "--repo=y z"),
        "--unit=1MiB",
    )
    assert loaded.dense == 730 * 86_400
    assert loaded.labels == (("job", "a=b"), ("pod", ""))
    assert (loaded.repos, loaded.unit) == (("x", "y z"), 2**20)


def test_the_path_of_the_textfile_is_anywhere_after_the_command(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    assert textfile("--poll.timeout", "5s", str(path), "--demo").path == path
    path.symlink_to("y.prom")
    assert textfile(str(path)).path == tmp_path / "y.prom"


@pytest.mark.parametrize("command", SETTINGS)
def test_help_shows_what_a_command_takes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        settings.load([command, "--help"], {})
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    path = " PATH" if command == "textfile" else ""
    assert text.startswith(f"usage: borgbase-exporter {command}{path} [flags]\n")
    expected = [flag for flag in SETTINGS[command] if flag.startswith("--")]
    assert sorted(re.findall(r"^  (--[\w.-]+)", text, re.MULTILINE)) == sorted(expected)
    assert all(f"${SETTINGS[command][flag].variable}" in text for flag in expected)


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_version(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        settings.load([flag], {})
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"borgbase-exporter {__version__}\n"
