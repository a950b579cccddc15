"""`programs` finds, fetches, builds and shares programs: shown with stand-ins for its tools."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import programs

# Knows packages only after `update`; keeps a log of what it was asked.
APT_GET = """\
#!/bin/sh
config=${2#--config-file=}
lists=$(sed -n 's/^Dir::State::lists "\\(.*\\)";/\\1/p' "$config")
echo "$3" >>"$(dirname "$0")/asked"
test -d "$lists/partial" || { echo "E: no lists folder" >&2; exit 100; }
case $3 in
update)
  test -z "$OFFLINE" || { echo "W: Could not connect" >&2; exit 0; }
  touch "$lists/index" ;;
download)
  test -e "$lists/index" || { echo "E: Unable to locate package $4" >&2; exit 100; }
  shift 3
  for name; do echo >"$name.deb"; done ;;
install)
  test -e "$lists/index" || { echo "E: Unable to locate package $6" >&2; exit 100; }
  echo "Inst libnss3 (2:3.87 Debian:12 [amd64])"
  echo "Inst $6 (1.0 Debian:12 [amd64]) []"
  echo "Conf $6 (1.0 Debian:12 [amd64])" ;;
esac
"""
DPKG = """\
#!/bin/sh
test -s "$2" && mkdir -p "$3/usr/bin" && echo >"$3/usr/bin/promtool"
echo "<<</usr/share/prometheus/alertmanager>>>" >"$3/usr/bin/prometheus-alertmanager"
test -z "$TORN" || { echo "dpkg: unexpected end of file" >&2; exit 2; }
case $2 in
*/libnss3.deb) mkdir -p "$3/usr/lib/x/nss" && echo >"$3/usr/lib/x/nss/libnss3.so.1" ;;
*/chromium*)
  mkdir -p "$3/usr/lib/chromium" && echo >"$3/usr/lib/chromium/chromium-headless-shell" ;;
esac
"""
# Has one module's sources; keeps a log of what it was asked, where, and with which settings.
GO = """\
#!/bin/sh
here=$(dirname "$0")
echo "$1 $PWD $CGO_ENABLED $GOFLAGS $GOWORK" >>"$here/asked"
echo "go: downloading all sorts of things" >&2
test -z "$OFFLINE" || { echo "go: no such host" >&2; exit 1; }
case $* in
"mod download -json helm.sh/helm/v3@v"*)
  mkdir -p "$here/helm-sources" && echo "{\\"Dir\\": \\"$here/helm-sources\\"}" ;;
"mod download "*) ;;
"build -trimpath -ldflags=-s -w -o "*" ./cmd/helm")
  mkdir -p "$(dirname "$5")" && echo >"$5"
  test -z "$TORN" || { echo "link: no space left on device" >&2; exit 1; } ;;
*) exit 64 ;;
esac
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("apt-get", APT_GET), ("dpkg", DPKG), ("go", GO)):
        _command(folder / name, text)
    for name in ("sed", "dirname", "touch", "mkdir", "env"):
        (folder / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(programs, "CACHE", tmp_path / "cache")
    programs._module.cache_clear()  # the others are kept by the cache's folder
    return folder


def _command(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def asked(tools: Path) -> list[str]:
    return (tools / "asked").read_text().split()


@pytest.mark.parametrize(
    ("name", "command"),
    [("promtool", "promtool"), ("alertmanager", "prometheus-alertmanager")],
)
def test_path_comes_first_by_either_name(tools: Path, name: str, command: str) -> None:
    installed = _command(tools / command)
    assert programs.program(name) == installed
    assert not programs.CACHE.exists()


def test_a_fresh_machine_fetches_index_and_package_once(tools: Path) -> None:
    found = programs.program("promtool")
    assert found == programs.CACHE / "prometheus/usr/bin/promtool"
    assert found.is_file()
    assert asked(tools) == ["download", "update", "download"]
    programs._unpacked.cache_clear()
    assert programs.program("promtool") == found
    assert len(asked(tools)) == 3
    assert sorted(path.name for path in programs.CACHE.iterdir()) == ["apt", "lock", "prometheus"]


def test_concurrent_use_fetches_once(tools: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: programs.program("promtool"), range(8)))
    assert len(found) == 1
    assert asked(tools).count("download") == 2


def test_a_browser_comes_with_the_libraries_that_are_missing(tools: Path) -> None:
    path = programs.program("chromium")
    folder = programs.CACHE / "chromium-headless-shell"
    assert path == folder / "usr/lib/chromium/chromium-headless-shell"
    assert asked(tools) == ["install", "update", "install", "download"]
    assert programs.settings(path) == {
        "LD_LIBRARY_PATH": str(folder / "usr/lib/x/nss"),
        "XDG_DATA_HOME": str(folder / "usr/share"),
    }
    assert programs.settings(Path("/usr/bin/chromium")) == {}


def test_a_torn_package_leaves_nothing_behind(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORN", "1")
    with pytest.raises(programs.UnavailableError, match="unexpected end of file"):
        programs.program("promtool")
    assert sorted(path.name for path in programs.CACHE.iterdir()) == ["apt", "lock"]
    monkeypatch.delenv("TORN")
    programs._unpacked.cache_clear()
    assert programs.program("promtool").is_file()


def test_offline_says_why_and_asks_once(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLINE", "1")
    why = (
        r"^promtool is not on PATH and Debian's package prometheus cannot be had: "
        r"W: Could not connect; E: Unable to locate package prometheus$"
    )
    for _ in range(2):
        with pytest.raises(programs.UnavailableError, match=why):
            programs.program("promtool")
    assert asked(tools) == ["download", "update", "download"]


def test_a_package_without_the_binary_is_named(tools: Path) -> None:
    with pytest.raises(programs.UnavailableError, match=r"prometheus has no usr/bin/prometheus$"):
        programs.program("prometheus")


@pytest.mark.parametrize("ci", ["", "true"])
def test_a_missing_program_skips_but_fails_in_ci(
    tools: Path, monkeypatch: pytest.MonkeyPatch, ci: str
) -> None:
    monkeypatch.setenv("CI", ci)
    (tools / "apt-get").unlink()
    outcome = pytest.fail.Exception if ci else pytest.skip.Exception
    with pytest.raises(outcome, match=r"promtool is not on PATH .* 'apt-get'"):
        programs.require("promtool")


def test_alertmanagers_templates_are_looked_for_where_it_is_started(tools: Path) -> None:
    path = programs.program("alertmanager")
    assert path.read_text() == "<<<usr//share/prometheus/alertmanager>>>\n"
    assert programs.root(path) == programs.CACHE / "prometheus-alertmanager"
    for _, absolute, relative in programs.RELOCATED.values():
        assert len(absolute) == len(relative)


def test_go_builds_a_pinned_version_once_whatever_is_on_path(tools: Path) -> None:
    _command(tools / "helm")
    version = programs.MODULES["helm.sh/helm/v3"]
    found = programs.program("helm")
    assert found == programs.CACHE / f"go/helm-{version}/helm"
    assert found.is_file()
    settings = ["0", "-mod=readonly", "off"]
    download = ["mod", "/", *settings]
    assert asked(tools) == [*download, *download, "build", str(tools / "helm-sources"), *settings]
    programs._built.cache_clear()
    assert programs.program("helm") == found
    assert asked(tools).count("build") == 1
    assert [path.name for path in (programs.CACHE / "go").iterdir()] == [f"helm-{version}"]


def test_concurrent_use_builds_once(tools: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: programs.program("helm"), range(8)))
    assert len(found) == 1
    assert asked(tools).count("build") == 1


def test_a_failed_build_leaves_nothing_behind(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORN", "1")
    for _ in range(2):
        with pytest.raises(programs.UnavailableError, match=r"^helm cannot be built: link: no"):
            programs.program("helm")
    assert asked(tools).count("build") == 1
    assert list((programs.CACHE / "go").iterdir()) == []
    monkeypatch.delenv("TORN")
    programs._built.cache_clear()
    assert programs.program("helm").is_file()


def test_a_modules_files_are_where_go_keeps_them(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert programs.require("helm.sh/helm/v3", programs.module) == tools / "helm-sources"
    programs._module.cache_clear()
    monkeypatch.setenv("OFFLINE", "1")
    with pytest.raises(programs.UnavailableError, match=r"helm/v3 cannot be had: go: no such host"):
        programs.module("helm.sh/helm/v3")


@pytest.mark.parametrize("ci", ["", "true"])
def test_without_go_a_test_skips_but_fails_in_ci(
    tools: Path, monkeypatch: pytest.MonkeyPatch, ci: str
) -> None:
    monkeypatch.setenv("CI", ci)
    (tools / "go").unlink()
    outcome = pytest.fail.Exception if ci else pytest.skip.Exception
    with pytest.raises(outcome, match=r"^helm cannot be built: .*helm/v3 cannot be had: .*go.*No "):
        programs.require("helm")
