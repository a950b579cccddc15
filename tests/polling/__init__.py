"""Tests of the event loop's work are coroutines."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test in an event loop, for 30 seconds at most."""

    async def bounded(*args: P.args, **fixtures: P.kwargs) -> None:
        async with asyncio.timeout(30):
            await test(*args, **fixtures)

    @functools.wraps(test)
    def run(*args: P.args, **fixtures: P.kwargs) -> None:
        asyncio.run(bounded(*args, **fixtures))

    return run
