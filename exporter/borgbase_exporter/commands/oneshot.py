"""What commands share that do one thing and end: interruption, work at once, atomic files."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

INTERRUPTED = 130
"""The exit status after SIGINT or SIGTERM, as shells report the former."""
AT_ONCE = 8


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
    waiting: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.get_nowait()()

    threads = [threading.Thread(target=work, daemon=True) for _ in jobs[:AT_ONCE]]
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
