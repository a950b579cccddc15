"""Blocking work beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def in_thread(name: str, work: Callable[[], T]) -> T:
    """Run `work` in a thread that, unlike an executor's, does not delay the process's end.

    Raises RuntimeError when the system has no thread left. When the caller is cancelled the
    thread goes on, and its result is dropped.
    """
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()  # from now on, nothing can cancel it

    def run() -> None:
        try:
            answer.set_result(work())
        except Exception as error:  # noqa: BLE001  # the caller gets it
            answer.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await asyncio.wrap_future(answer)
