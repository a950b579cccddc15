"""What one-shot commands share: interruption, concurrent work, atomic files."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from borgbase_exporter.errors import TokenError

T = TypeVar("T")
INTERRUPTED = 130  # the exit status after SIGINT or SIGTERM; shells use it for SIGINT
AT_ONCE = 8


class CommandError(Exception):
    """Why a command cannot do its work, in words."""


def run(
    work: Callable[[], int], complain: Callable[[str], object], failed: int, written: Path | None
) -> int:
    """Return a command's exit status: that of its work, or `failed` after an error."""
    try:
        with _interruptible():
            return work()
    except (TokenError, CommandError) as error:
        complain(str(error))
    except OSError as error:
        complain(f"{written}: cannot be written: {error.strerror}")
    except KeyboardInterrupt:
        return INTERRUPTED
    return failed


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt, so that files are cleaned up."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def at_once(work: Callable[[T], object], items: Iterable[T]) -> None:
    """Do work for each item, a few at a time, in threads that do not delay the process's end."""
    turns = threading.Semaphore(AT_ONCE)

    def in_turn(item: T) -> None:
        with turns:
            work(item)

    threads = [threading.Thread(target=in_turn, args=(item,), daemon=True) for item in items]
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
