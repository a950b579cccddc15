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
from borgbase_exporter.errors import TokenError
from borgbase_exporter.exposition import Pages, Renderer
from borgbase_exporter.loops import Loops
from borgbase_exporter.model import AccountStatus
from borgbase_exporter.poller import Poller, Schedule
from borgbase_exporter.state import State
from borgbase_exporter.web.app import App, Health
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
    if config.command != "serve":
        # What happens to the polls is told by the command's own output.
        logging.getLogger("borgbase_exporter.poller").setLevel(logging.ERROR)
    for warning in config.warnings:
        log.warning("%s", warning)
    with simulated(config) as real:
        return {"serve": serve, "check": check, "backfill": backfill}[real.command](real)


def print_faults(error: ConfigError) -> None:
    """Tell all that is wrong with the configuration."""
    count = len(error.faults)
    title = "1 fault" if count == 1 else f"{count} faults"
    lines = [f"{PROGRAM}: {title} in the configuration", *(f"  {f}" for f in error.faults)]
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
    app = App(
        lambda: state.view().rendered,
        healthy=lambda: healthy(loops, state),
        ready=lambda: ready(state),
        telemetry_path=config.telemetry_path,
        open_probes=config.open_probes,
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
    troubles = [f"account {account}: the poll loop is dead or stuck" for account in loops.stuck()]
    if state.stale:
        troubles.append("the metrics cannot be rendered; the log has the details")
    return _health(troubles)


def ready(state: State[Pages]) -> Health:
    """Tell whether there are accounts, and what came of the first poll of each shows."""
    accounts = state.view().accounts
    troubles = [
        f"account {status.name}: the first poll has not ended yet"
        for status in accounts.values()
        if not status.polls
    ]
    return _health(troubles if accounts else ["there is no account to poll"])


def _health(troubles: Sequence[str]) -> Health:
    return Health(ok=not troubles, words="\n".join(troubles) or "OK")


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
    from borgbase_exporter import diagnosis, report  # noqa: PLC0415  # rich is slow to import

    try:
        sources = _tokens(config).sources()
    except TokenError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)  # noqa: T201  # for a person
        return 1
    pollers = [
        poller(config, account, source, lambda _: None) for account, source in sources.items()
    ]
    try:
        _poll_all(pollers)
    except KeyboardInterrupt:
        return INTERRUPTED
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal knows a check mark
    findings = [
        diagnosis.examine(poller.status, sources[poller.status.name].origin, time.time())
        for poller in pollers
    ]
    report.print_json(findings) if config.json else report.print_tables(findings)
    return 0 if findings and all(f.well for f in findings) else 1


def _poll_all(pollers: Sequence[Poller]) -> None:
    """Poll a few at a time, in threads that do not hold up the process's end."""
    todo: queue.SimpleQueue[Poller] = queue.SimpleQueue()
    for one in pollers:
        todo.put(one)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                todo.get_nowait().poll()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(CHECKED_AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def backfill(config: Config) -> int:
    """Write the usage of past days to a file."""
    from borgbase_exporter.backfill import backfill as write  # noqa: PLC0415  # so is this

    return write(config, _tokens(config))


def run() -> int:
    """Run the program with the words of its command line."""
    return main(sys.argv[1:], os.environ)
