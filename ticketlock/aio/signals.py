"""Ending a command on SIGINT or SIGTERM, after its clean-up."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Interrupted(Exception):
    """SIGINT or SIGTERM was received, and the work has ended.

    Attributes:
        number: the number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


async def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Do the work; the first SIGINT or SIGTERM cancels it, later ones do not disturb its clean-up.

    Raises Interrupted once the cancelled work has ended.
    """
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    received: list[int] = []

    def interrupt(number: int) -> None:
        if not received:
            received.append(number)
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt, number)
    try:
        return await task
    except asyncio.CancelledError:
        if received:
            raise Interrupted(received[0]) from None
        raise
