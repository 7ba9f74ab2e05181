"""Group commit: what waits while the database is busy goes to it together.

A commit waits for the disk or the network, and the others wait for it meanwhile. What is there when
a writer is free is the next batch; none waits for it to fill.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

#: The most operations of a batch, and the bytes of events from which on none is added.
MAX_OPERATIONS, MAX_BYTES = 64, 1_000_000


@dataclass(eq=False)
class Operation:
    """What is to be done, about how many bytes it stores, and what came of it."""

    what: Any
    size: int
    answer: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class Batches:
    """Takes operations in the order in which they come. A subclass carries them out."""

    def __init__(self) -> None:
        self._waiting: deque[Operation] = deque()

    async def run(self, what: Any, size: int = 0) -> Any:
        """Carry out `what` in a batch; return its result or raise its error after the commit.

        A caller that is cancelled before its batch begins writes nothing, and later everything.
        """
        operation = Operation(what, size, asyncio.get_running_loop().create_future())
        self._waiting.append(operation)
        self._wake()
        return await operation.answer

    def _wake(self) -> None:
        """Have `_take` called once more, soon."""
        raise NotImplementedError

    def _take(self) -> list[Operation]:
        """The next batch; only one thread takes."""
        batch: list[Operation] = []
        size = 0
        while self._waiting and len(batch) < MAX_OPERATIONS:
            if not (operation := self._waiting[0]).answer.cancelled():
                size += operation.size
                if batch and size > MAX_BYTES:
                    break
                batch.append(operation)
            self._waiting.popleft()
        return batch


def settle(batch: list[Operation]) -> None:
    """Give its callers the results, in their event loop."""
    for operation in batch:
        if operation.answer.done():  # its caller is cancelled
            continue
        if operation.error is None:
            operation.answer.set_result(operation.result)
        else:
            operation.answer.set_exception(operation.error)
