"""A turn of a client's application, steered by the search."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from ticketlock import ConcurrentRedisLockStore, DuplicateMessage, Incoming, LockError, LockLost
from ticketlock.locks.grant import Grant

from .loop import ModelLoop

CONVERSATION = "c"
#: The one message that all turns are for, where they are for a message.
MESSAGE, REPLY = "m", "reply"


class Turn:
    """One turn of an application.

    Attributes:
        state: waits | inside | lingers | leaves | done | lost | gave up
            | answered: another turn has handled its message.
    """

    def __init__(
        self,
        store: ConcurrentRedisLockStore,
        loop: ModelLoop,
        queue_first: bool,
        slow: bool,
        message: bool,
    ) -> None:
        self.state = "waits"
        self.queue_first = queue_first
        self.message = Incoming(MESSAGE) if message else None
        self.slow = slow
        self.grant: Grant | None = None
        self.waiter: Any = None
        self.leave = loop.create_future()
        self.linger = loop.create_future()
        self.task = loop.create_task(self._run(store))

    def belongs_in_none_of(self, known: list[Any]) -> bool:
        """Whether it waits or holds its turn, and is not among what an engine knows."""
        if self.state == "inside" and self.grant is not None and self.grant.reason is None:
            return self.grant not in known
        # A heartbeat can bring the turn of a ticket whose answer is still to be read.
        requests = [each.request for each in known]
        return self.state == "waits" and self.waiter.request not in requests

    async def _run(self, store: ConcurrentRedisLockStore) -> None:
        lock = store.lock(CONVERSATION, incoming=self.message)
        self.waiter = lock.waiter
        try:
            if self.queue_first:
                await lock.queue()
            self.grant = await lock.__aenter__()
        except DuplicateMessage as duplicate:
            self.state = "answered" if duplicate.reply == REPLY else "answered wrongly"
            return
        except (LockError, asyncio.CancelledError):
            self.state = "gave up"
            return
        self.state = "inside"
        error: BaseException | None = None
        try:
            await self.leave
            if self.message is not None:
                store.answer(self.grant, {MESSAGE: REPLY})
        except asyncio.CancelledError as cancelled:
            error = cancelled
            if self.slow:  # a handler whose `finally` takes its time
                self.state = "lingers"
                while not self.linger.done():
                    with suppress(asyncio.CancelledError):
                        await asyncio.shield(self.linger)
        self.state = "leaves"
        try:
            await lock.__aexit__(type(error) if error else None, error, None)
            self.state = "done"
        except LockLost:
            self.state = "lost"
