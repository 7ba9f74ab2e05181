"""Ending a command on SIGINT, SIGTERM or SIGHUP, after its clean-up."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def ending() -> list[signal.Signals]:
    """The signals that end a command: SIGINT, SIGTERM, and SIGHUP of a terminal that was closed.

    Not SIGHUP where it is ignored, as below `nohup`: that stays so.
    """
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]


class Interrupted(Exception):
    """One of the signals was received, and the work has ended.

    Attributes:
        number: the number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


async def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Do the work; the first of the signals cancels it, later ones do not disturb its clean-up.

    Raises Interrupted once the cancelled work has ended.
    """
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    received: list[int] = []

    def interrupt(number: int) -> None:
        if not received:
            received.append(number)
            task.cancel()

    for number in ending():
        loop.add_signal_handler(number, interrupt, number)
    try:
        return await task
    except asyncio.CancelledError:
        if received:
            raise Interrupted(received[0]) from None
        raise
