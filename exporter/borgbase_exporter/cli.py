"""The composition root: puts the parts together and runs them."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import queue
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from borgbase_exporter import __version__, logs, webconfig
from borgbase_exporter.api.client import connect
from borgbase_exporter.collectors import COLLECTORS
from borgbase_exporter.config import PROGRAM, Address, Config, ConfigError, load
from borgbase_exporter.credentials import AccountTokens, GivenToken, OneToken, TokenSource
from borgbase_exporter.diagnosis import Finding
from borgbase_exporter.errors import TokenError
from borgbase_exporter.exposition import Pages, Renderer
from borgbase_exporter.loops import Loops
from borgbase_exporter.model import AccountStatus
from borgbase_exporter.poller import Poller, Schedule
from borgbase_exporter.state import State
from borgbase_exporter.web.app import App, Health
from borgbase_exporter.web.page import StatusPage
from borgbase_exporter.web.server import Server
from borgbase_exporter.webconfig import WebConfigError

log = logging.getLogger(__name__)

CHECKED_AT_ONCE = 8
INTERRUPTED = 130
RESCAN = 15.0
"""Seconds between two looks at which accounts there are."""


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the program; return its exit status."""
    try:
        config = load(arguments, environment, {c.name: c.help for c in COLLECTORS}, __version__)
    except ConfigError as error:
        print_faults(error)
        return 2
    logs.set_up(config.log_level if config.command == "serve" else "warning", config.log_format)
    if config.command in {"check", "backfill"}:
        # What happens to the polls is told by the command's own output.
        logging.getLogger("borgbase_exporter.poller").setLevel(logging.ERROR)
    for warning in config.warnings:
        if config.command in {"check", "backfill"}:
            print(f"{PROGRAM}: {warning}", file=sys.stderr)  # noqa: T201  # for a person
        else:
            log.warning("%s", warning)
    with simulated(config) as real:
        return COMMANDS[real.command](real)


def print_faults(error: ConfigError) -> None:
    """Tell all that is wrong with the configuration."""
    count = len(error.faults)
    title = "1 fault" if count == 1 else f"{count} faults"
    lines = [f"{PROGRAM}: {title} in the configuration", *(f"  {f}" for f in error.faults)]
    if error.warnings:
        lines += ["And, which may be why:", *(f"  {warning}" for warning in error.warnings)]
    print(*lines, f"See {PROGRAM} --help.", sep="\n", file=sys.stderr)  # noqa: T201  # for a person


@contextlib.contextmanager
def simulated(config: Config) -> Iterator[Config]:
    """With --demo, start the simulated account and give a configuration that uses it."""
    if not config.demo:
        yield config
        return
    # Imported here: nobody else pays for a GraphQL server.
    from borgbase_exporter.simulator import SimulatedAccount, SimulatedApi  # noqa: PLC0415

    account = SimulatedAccount()
    with SimulatedApi([account]) as api:
        log.info("a simulated account stands in for BorgBase", extra={"url": api.url})
        token = GivenToken("the simulated account", account.token)
        yield replace(
            config,
            api=replace(config.api, url=api.url, proxy=None),
            tokens=OneToken(config.account, token),
        )


def poller(
    config: Config,
    account: str,
    source: TokenSource,
    publish: Callable[[AccountStatus], None],
) -> Poller:
    """Return the poller of an account."""
    return Poller(
        account,
        source,
        [collector for collector in COLLECTORS if collector.name in config.collectors],
        functools.partial(connect, config.api, config.timeout),
        publish,
        Schedule(config.interval, config.timeout),
    )


def serve(config: Config) -> int:
    """Poll and serve until a signal ends it."""
    renderer = Renderer(config.max_age)
    state = State(renderer.render, renderer.expiry, time.time)
    loops = Loops(_tokens(config), functools.partial(poller, config), state)
    status_page = StatusPage(
        state.view,
        lambda: troubles(loops, state),
        config.telemetry_path,
        config.max_age,
    )
    app = App(
        lambda: state.view().rendered,
        healthy=lambda: healthy(loops, state),
        ready=lambda: ready(state),
        telemetry_path=config.telemetry_path,
        open_probes=config.open_probes,
        status_page=status_page if config.status_page else None,
    )
    app.configure(config.web)
    with _signals() as caught:
        try:
            places = [(address.host, address.port) for address in config.listen]
            server = Server(app, places, config.web.tls)
        except OSError as error:
            where = ", ".join(map(str, config.listen))
            why = (error.strerror or str(error)).partition(" (")[0]
            log.error("cannot listen on %s: %s; choose another --web.listen-address", where, why)  # noqa: TRY400  # the traceback says no more
            return 1
        loops.sync()  # before the first scrape, so that it finds every account
        server.start()
        for host, port in server.addresses:
            log.info(
                "listening",
                extra={
                    "address": Address(host, port),
                    "tls": bool(config.web.tls),
                    "users": len(config.web.users),
                },
            )
        period = min(RESCAN, config.interval)
        while server.alive:
            received = caught(period)
            if {signal.SIGTERM, signal.SIGINT} & received:
                log.info("stopping")
                loops.stop()
                server.stop()
                return 0
            if signal.SIGHUP in received:
                reload(config, app, server)
                loops.poll_now()
            loops.sync()
            loops.stuck()
    log.error("the web server has ended by itself")
    return 1


def reload(config: Config, app: App, server: Server) -> None:
    """Read the web configuration file again; where it is unfit, the last good one stays."""
    if not config.web_file:
        return
    try:
        web = webconfig.read(config.web_file)
    except WebConfigError as error:
        for fault in error.faults:
            log.error("%s", fault)  # noqa: TRY400  # the traceback says no more
        return
    if config.web.users and not web.users:
        log.error(
            "%s: names no users any more; dropping passwords takes a restart", config.web_file
        )
    elif server.configure(web.tls):
        app.configure(web)
        log.info("the web configuration was read again", extra={"file": str(config.web_file)})
    else:
        log.error("%s: turning TLS on or off takes a restart; nothing has changed", config.web_file)


def healthy(loops: Loops, state: State[Pages]) -> Health:
    """Tell whether every loop lives and what it brings can be shown."""
    return _health(troubles(loops, state))


def troubles(loops: Loops, state: State[Pages]) -> list[str]:
    """Return in words what is wrong with the exporter itself."""
    found = [f"account {account}: the poll loop is dead or stuck" for account in loops.stuck()]
    if state.stale:
        found.append("the metrics cannot be rendered; the log has the details")
    return found


def ready(state: State[Pages]) -> Health:
    """Tell whether there are accounts, and what came of the first poll of each shows."""
    accounts = state.view().accounts
    waiting = [
        f"account {status.name}: the first poll has not ended yet"
        for status in accounts.values()
        if not status.polls
    ]
    return _health(waiting if accounts else ["there is no account to poll"])


def _health(words: Sequence[str]) -> Health:
    return Health(ok=not words, words="\n".join(words) or "OK")


def _tokens(config: Config) -> AccountTokens:
    assert config.tokens  # noqa: S101  # missing with --demo only, and then filled in
    return config.tokens


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[float], set[signal.Signals]]]:
    """Give a function that waits for so many seconds and returns the signals that came.

    The handlers do nothing: what Python writes to the wake-up descriptor cannot run in the
    middle of something else, as a handler does.
    """
    ours = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    before = {number: signal.signal(number, lambda *_: None) for number in ours}
    previous = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)

    def caught(seconds: float) -> set[signal.Signals]:
        readable, _, _ = select.select([receiver], [], [], seconds)
        return {signal.Signals(number) for number in receiver.recv(64)} if readable else set()

    try:
        with receiver, sender:
            yield caught
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in before.items():
            signal.signal(number, handler)


def check(config: Config) -> int:
    """Poll once, print what was found, and return 0 only if all is well."""
    from borgbase_exporter import checkup, report  # noqa: PLC0415  # rich is slow to import

    sources, problems = checkup.sources_of(_tokens(config))
    ask = functools.partial(connect, config.api, config.timeout)
    findings: dict[str, Finding] = {}

    def look(account: str, advance: Callable[[], None]) -> None:
        polling = poller(config, account, sources[account], lambda _: None)
        findings[account] = checkup.look(polling, sources[account], ask, time.time)
        advance()

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal knows a check mark
    try:
        with report.progress("Asking BorgBase", len(sources)) as advance:
            _at_once([functools.partial(look, account, advance) for account in sources])
        found = [findings[account] for account in sources]
        show = report.print_json if config.json else report.print_tables
        show(found, problems)
        print(end="", flush=True)  # noqa: T201  # the last of it may fail, too
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        _give_up_printing(error)
        return 1
    return 0 if found and not problems and all(finding.well for finding in found) else 1


def _give_up_printing(error: OSError) -> None:
    """Tell that standard output takes no more; a reader that has seen enough knows."""
    if not isinstance(error, BrokenPipeError):
        print(f"{PROGRAM}: standard output: {error.strerror}", file=sys.stderr)  # noqa: T201
    # What is still buffered would be tried again, and fail again, at the process's end.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _at_once(jobs: Sequence[Callable[[], object]]) -> None:
    """Do a few jobs at a time, in threads that do not hold up the process's end."""
    todo: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    for job in jobs:
        todo.put(job)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                todo.get_nowait()()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(CHECKED_AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def textfile(config: Config) -> int:
    """Poll once, write the metrics to a file, and return 0 only if nothing failed."""
    from borgbase_exporter.textfile import Textfile, TextfileError, resumed  # noqa: PLC0415

    assert config.textfile  # noqa: S101  # it comes with the command
    file = Textfile(config.textfile, config.api.url)
    # As Ctrl-C, so that no draft is left behind.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sources = _tokens(config).sources()
        memories = file.read()
        pollers = [poller(config, name, source, lambda _: None) for name, source in sources.items()]
        for one in pollers:
            one.status = resumed(one.status, memories.get(one.status.name), time.time())
        _at_once([one.poll for one in pollers])
        accounts = {one.status.name: one.status for one in pollers}
        file.write(accounts, config.max_age, time.time())
    except (TokenError, TextfileError) as error:
        log.error("%s", error)  # noqa: TRY400  # the traceback says no more
        return 1
    except OSError as error:
        log.error("%s: cannot be written: %s", config.textfile, error.strerror)  # noqa: TRY400
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    if not accounts:
        log.error("there is no account to poll")
    good = [c.success for status in accounts.values() for c in status.collectors.values()]
    return 0 if good and all(good) else 1


def backfill(config: Config) -> int:
    """Write the usage of past days to a file."""
    from borgbase_exporter.backfill import backfill as write  # noqa: PLC0415  # so is this

    return write(config, _tokens(config))


COMMANDS = {"serve": serve, "check": check, "textfile": textfile, "backfill": backfill}


def run() -> int:
    """Run the program with the words of its command line."""
    return main(sys.argv[1:], os.environ)
