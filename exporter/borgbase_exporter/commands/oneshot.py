"""What commands share that do one thing and end: interruption, work at once, atomic files."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

INTERRUPTED = 130
"""The exit status after SIGINT or SIGTERM, as shells report the former."""
AT_ONCE = 8


class CommandError(Exception):
    """Why a command cannot do its work, in words."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt, so that files are cleaned up."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def at_once(jobs: Sequence[Callable[[], object]]) -> None:
    """Run jobs, a few at a time, in threads that do not delay the process's end."""
    turns = threading.Semaphore(AT_ONCE)

    def work(job: Callable[[], object]) -> None:
        with turns:
            job()

    threads = [threading.Thread(target=work, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a private draft that replaces a file when the block ends without an error."""
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(number, "wb") as file:  # noqa: PTH123  # a descriptor
            yield file
            file.flush()
            os.fsync(number)
            os.fchmod(number, 0o644)  # other programs read it as other users
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
