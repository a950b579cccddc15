"""`serve`: poll and serve until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from borgbase_exporter.commands.main import make_poller
from borgbase_exporter.metrics.exposition import Pages, Renderer
from borgbase_exporter.model import AccountStatus
from borgbase_exporter.polling.accounts import AT_ONCE, RESCAN, Accounts
from borgbase_exporter.polling.board import Board
from borgbase_exporter.settings import Serve, webfile
from borgbase_exporter.settings.webfile import WebConfigError
from borgbase_exporter.web.app import App
from borgbase_exporter.web.page import StatusPage
from borgbase_exporter.web.server import Server

log = logging.getLogger(__name__)

SWITCH_SECONDS = 0.0002
"""How long a computing thread may hold the interpreter: a large answer needs it a dozen times, and
a thread that decodes or renders a poll would hold it for 5 ms each time. Each waiting thread wakes
up that often, which costs more than the polls themselves when it is not longer with many."""
FEW = 16  # accounts, up to which it stays that short
M_MMAP_THRESHOLD, MMAP_THRESHOLD = -3, 256 << 10  # mallopt(3): freed blocks of that size return
M_ARENA_MAX = -8


class Exporter:
    """The exporter's accounts, board and pages: the source of everything that is served."""

    def __init__(self, settings: Serve) -> None:
        assert settings.tokens  # noqa: S101  # missing with --demo only, and then filled in
        self._renderer = Renderer()
        self.page = StatusPage(self, settings) if settings.web.status_page else None
        self.board: Board[Pages] = Board(self._render, settings.poll.max_age)
        self.view = self.board.view
        self.accounts = Accounts(
            settings.tokens,
            functools.partial(make_poller, settings),
            self.board,
            rescan=min(RESCAN, settings.poll.interval),
        )

    def _render(self, accounts: Mapping[str, AccountStatus]) -> Pages:
        if self.page:
            self.page.usage.note(accounts)
        return self._renderer.render(accounts)

    def troubles(self) -> list[str]:
        """Return in words what is wrong with the exporter itself."""
        stuck = [f"account {name}: its polls hang or have ended" for name in self.accounts.stuck()]
        failed = [
            f"account {name}: its metrics cannot be rendered; the log has the details"
            for name in sorted(self._renderer.failed)
        ]
        return stuck + failed


def run(settings: Serve) -> int:
    """Poll and serve until a signal ends it; return the exit status."""
    try:
        return asyncio.run(_serve(settings))
    finally:  # the loop has removed its handlers; a second SIGTERM must not change the status
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


async def _serve(settings: Serve) -> int:
    stop, hangup = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number, event in ((signal.SIGTERM, stop), (signal.SIGINT, stop), (signal.SIGHUP, hangup)):
        loop.add_signal_handler(number, event.set)
    exporter = Exporter(settings)
    app = App(exporter, settings.web, exporter.page)
    try:
        server = Server(app, settings.web)
    except OSError as error:
        where = ", ".join(map(str, settings.web.listen_addresses))
        why = (error.strerror or str(error)).partition(" (")[0]
        log.error("cannot listen on %s: %s; choose another --web.listen-address", where, why)  # noqa: TRY400  # the traceback says no more
        return 1
    async with exporter.accounts.starting:  # polls would slow the first rendering down
        await exporter.accounts.sync()  # before the first scrape, so that it finds every account
        await exporter.board.refresh()
    _settle(len(exporter.board.latest.accounts))
    serving = asyncio.create_task(server.serve())
    tasks = [
        asyncio.create_task(exporter.board.run()),
        asyncio.create_task(exporter.accounts.run()),
        asyncio.create_task(_reload(settings, app, server, exporter, hangup)),
    ]
    for address in server.addresses:
        secured, users = bool(settings.web.config.tls), len(settings.web.config.users)
        log.info("listening", extra={"address": address, "tls": secured, "users": users})
    notify("READY=1")
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    ended = [task for task in (serving, *tasks) if task.done()]
    if stop.is_set() or not ended:
        log.info("stopping")
        notify("STOPPING=1")
        exporter.accounts.stop()
        await server.stop()
        return 0
    log.error("a task of the exporter ended unexpectedly", exc_info=ended[0].exception())
    return 1


def _settle(accounts: int) -> None:
    sys.setswitchinterval(SWITCH_SECONDS * max(1.0, min(accounts, AT_ONCE) / FEW))
    # Objects from the start are never freed; a full garbage collection that visits them would delay
    # a scrape by 20 ms.
    gc.collect()
    gc.freeze()
    # After a large block is freed, glibc allocates blocks of its size on the heap, where they leave
    # gaps: 20 MB with 10,000 repos. glibc does not raise a threshold that was set.
    with contextlib.suppress(AttributeError):  # musl has none
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        mallopt(M_ARENA_MAX, 1)  # else each thread's first blocks cost memory
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _reload(
    settings: Serve, app: App, server: Server, exporter: Exporter, hangup: asyncio.Event
) -> None:
    """On each SIGHUP read the web configuration file again, and poll."""
    while True:
        await hangup.wait()
        hangup.clear()
        log.debug("SIGHUP received")
        if settings.web.config.path:
            reconfigure(settings.web.config.path, settings, app, server)
        exporter.accounts.poll_now()


def reconfigure(path: Path, settings: Serve, app: App, server: Server) -> None:
    """Read the web configuration file again; keep the last good one if it is unusable."""
    try:
        web = webfile.read(path)
    except WebConfigError as error:
        for fault in str(error).splitlines():
            log.error("%s", fault)  # noqa: TRY400  # the traceback says no more
        return
    if settings.web.config.users and not web.users:
        log.error("%s: no users left; restart the exporter to serve without passwords", path)
    elif server.configure(web.tls):
        app.configure(web)
        log.info("web configuration reloaded", extra={"file": str(path)})
    else:
        log.error("%s: to turn TLS on or off restart the exporter; nothing has changed", path)


def notify(state: str) -> None:
    """Report a state to systemd, if it waits for one: sd_notify(3)."""
    if path := os.environ.get("NOTIFY_SOCKET"):
        address = f"\0{path[1:]}" if path.startswith("@") else path
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.sendto(state.encode(), address)
