from __future__ import annotations

import gzip
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from borgbase_exporter.metrics import exposition
from borgbase_exporter.metrics.catalogue import BUILD, SCOPES
from borgbase_exporter.metrics.exposition import OPENMETRICS, TEXT, Format, Renderer
from borgbase_exporter.model import AccountStatus, CollectorStatus, Repo, RepoList
from tests.facts import NOW, collector, status

MAX_AGE = 3600.0


def plain(*statuses: AccountStatus, now: float = NOW + 1) -> str:
    shown = {s.name: s.as_of(now, MAX_AGE) for s in statuses}
    return b"".join(Renderer().render(shown)[TEXT].pieces).decode()


def samples(text: str, prefix: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(prefix)]


def test_what_is_unknown_gives_no_sample() -> None:
    lines = [line for line in samples(plain(status()), "borgbase_repo_") if "bbbb2222" in line]
    assert [line.partition("{")[0] for line in lines] == ["borgbase_repo_info"]


def test_an_incomplete_list_is_not_counted() -> None:
    text = plain(status(repos=RepoList((Repo("1", "one", usage=1.0),), complete=False)))
    assert samples(text, "borgbase_repo_usage_bytes{")
    assert not samples(text, "borgbase_account_repos{")
    assert not samples(text, "borgbase_account_usage_bytes{")


def test_the_exporters_own_series_are_there_before_the_first_poll() -> None:
    lines = samples(plain(AccountStatus("new", {"repos": collector()})), "borgbase_")
    # Never polled: the times are unknown, not the year 1970.
    assert [line for line in lines if "_failures_" not in line and "build" not in line] == [
        'borgbase_up{account="new"} 0',
        'borgbase_collector_success{account="new",collector="repos"} 0',
        'borgbase_simulated{account="new"} 0',
        'borgbase_polls_total{account="new"} 0',
        'borgbase_entries_skipped{account="new",collector="repos"} 0',
        'borgbase_fields_skipped{account="new",collector="repos"} 0',
    ]
    assert [line.endswith("} 1") for line in lines if "build_info" in line] == [True]
    failures = [line for line in lines if "_failures_" in line]
    assert [line.endswith(" 0") for line in failures] == [True] * 12


def test_missing_fields_are_reported() -> None:
    gaps = CollectorStatus(gaps=frozenset({"RepoType.sftpEnabled", "RepoType.format"}))
    text = plain(AccountStatus("default", {"repos": gaps}))
    assert samples(text, "borgbase_schema_field_missing") == [
        'borgbase_schema_field_missing{account="default",field="RepoType.format"} 1',
        'borgbase_schema_field_missing{account="default",field="RepoType.sftpEnabled"} 1',
    ]


def test_old_parts_disappear_and_the_exporters_own_series_stay() -> None:
    account = status(taken=NOW)
    assert account.expires(MAX_AGE) == NOW + MAX_AGE
    before, after = (plain(account, now=NOW + MAX_AGE - early) for early in (1, 0))
    assert samples(before, "borgbase_repo_usage_bytes{")
    for prefix in ("borgbase_repo_", "borgbase_account_", "borgbase_ssh_key_", "borgbase_api_"):
        assert not samples(after, prefix), prefix
    assert samples(after, "borgbase_up{")
    assert account.as_of(NOW + MAX_AGE, MAX_AGE).expires(MAX_AGE) == float("inf")
    # Each part ages by itself.
    repos = replace(account.collectors["repos"], taken=NOW - 1)
    mixed = replace(account, collectors={**account.collectors, "repos": repos})
    text = plain(mixed, now=NOW + MAX_AGE - 1)
    assert not samples(text, "borgbase_repo_usage_bytes{")
    assert samples(text, "borgbase_account_auto_renew{")


def test_an_unrenderable_account_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    renderer = Renderer()
    renderer.render({name: status(name) for name in ("good", "odd")})
    broken = replace(status("odd"), collectors={"repos": collector(RepoList((None,), True))})  # type: ignore[arg-type]  # the defect
    for polls in (7, 8):
        statuses = {"good": replace(status("good"), polls=polls), "odd": broken}
        text = b"".join(renderer.render(statuses)[TEXT].pieces).decode()
        assert renderer.failed == {"odd"}
        assert caplog.text.count("cannot be rendered") == 1
    counts = samples(text, "borgbase_polls_total")
    assert [line.partition(" ")[2] for line in counts] == ["8", "3"]
    renderer.render({"good": status("good"), "odd": status("odd")})
    assert renderer.failed == frozenset()


def test_an_account_is_rendered_again_only_when_its_status_changes() -> None:
    renderer, accounts = Renderer(), {"a": status("a")}
    pages = [renderer.render(accounts)[TEXT] for _ in range(2)]
    first, again = ([id(piece) for piece in p.pieces if b"{account=" in piece] for p in pages)
    assert first == again != []


def test_families_of_several_accounts_are_contiguous() -> None:
    text = plain(status("b"), status("a"))
    usage = samples(text, "borgbase_repo_usage_bytes")
    assert [line.split('"')[1] for line in usage] == ["a", "b"]
    start = text.index(usage[0])
    assert text[start:].startswith("\n".join(usage))


def test_both_formats_parse_and_agree() -> None:
    pages = Renderer().render({"default": status()})
    text, openmetrics = (b"".join(pages[f].body()).decode() for f in (TEXT, OPENMETRICS))
    assert openmetrics.endswith("# EOF\n")
    families = (parse_text(text), parse_openmetrics(openmetrics))  # type: ignore[no-untyped-call]
    found, again = (
        {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in parsed
            for sample in family.samples
            if sample.name.startswith("borgbase_")
        }
        for parsed in families
    )
    assert found == again
    assert len(found) > 60
    assert "process_cpu_seconds_total" in text
    assert "python_info" in text


@pytest.mark.parametrize("format_", [TEXT, OPENMETRICS])
def test_the_gzipped_body_is_one_member(format_: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    for process in ("generate_latest", "generate_openmetrics"):
        monkeypatch.setattr(exposition, process, lambda _: b"tail\n")
    page = Renderer().render({"default": status()})[format_]
    body = b"".join(page.gzipped())
    assert gzip.decompress(body) == b"".join(page.body())
    one_member = zlib.decompressobj(wbits=31)
    one_member.decompress(body)
    assert one_member.eof
    assert one_member.unused_data == b""


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@settings(deadline=None)
@given(name=NAMES, repo_id=NAMES, account=NAMES, usage=st.floats(allow_nan=False))
def test_names_and_values_round_trip(name: str, repo_id: str, account: str, usage: float) -> None:
    repos = RepoList((Repo(repo_id, name, usage=usage),), complete=True)
    text = plain(AccountStatus(account, {"repos": collector(repos)}))
    (family,) = (f for f in parse_text(text) if f.name == "borgbase_repo_usage_bytes")
    (sample,) = family.samples
    assert sample.labels == {"account": account, "repo_id": repo_id, "repo": name}
    assert sample.value == usage


def test_names_are_unique_and_follow_the_conventions() -> None:
    metrics = [metric for scope in SCOPES for metric in scope.metrics] + [BUILD]
    names = [metric.name for metric in metrics]
    assert len(names) == len(set(names))
    for metric in metrics:
        assert metric.name.startswith("borgbase_")
        assert metric.help.endswith(".")
        assert not set('\\"\n') & set(metric.help)
