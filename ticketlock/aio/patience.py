"""Operations that are waited for shortly: one that is slow holds up no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Mapping
from functools import partial
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Patience(Generic[K]):
    """Runs operations side by side; those that are slow go on, and are not begun twice.

    Args:
        seconds: how long the others wait for one.
        failed: called with the error of each that fails.

    Attributes:
        running: those that have not ended, by their keys.
    """

    def __init__(self, seconds: float, failed: Callable[[Exception], None]) -> None:
        self._seconds = seconds
        self._failed = failed
        self.running: dict[K, asyncio.Task[Any]] = {}

    async def run(self, begin: Callable[[K], Coroutine[Any, Any, Any]], *keys: K) -> list[K]:
        """Begin an operation of each key that has none, and wait; returns the keys of those that
        have ended without an error.
        """
        tasks: Mapping[asyncio.Task[Any], K] = {
            asyncio.create_task(begin(key)): key for key in keys if key not in self.running
        }
        for task, key in tasks.items():
            self.running[key] = task
            task.add_done_callback(partial(self._ended, key))
        if tasks:
            await asyncio.wait(tasks, timeout=self._seconds)
        return [
            key
            for task, key in tasks.items()
            if task.done() and not task.cancelled() and task.exception() is None
        ]

    def _ended(self, key: K, task: asyncio.Task[Any]) -> None:
        del self.running[key]
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._failed(error)

    async def stop(self) -> None:
        """Cancel what is running, and wait until it has ended."""
        tasks = list(self.running.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
