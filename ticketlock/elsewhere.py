"""Waiters whose message another ticket has: they wait for its reply instead of a turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .errors import DuplicateMessage, LockStoreConnectionError

if TYPE_CHECKING:
    from .engine import Engine
    from .lock import Waiter

#: Seconds between two looks where no bell rings: it was lost, or the message's owner died.
_LOOK = 1.0


class Elsewhere:
    """The duplicates among an engine's waiters, and the messages that another turn has carried.

    Each asks for the reply, and is told by a bell when it is there. Where the message turns out
    to be nobody's, its owner having died or ended without a reply, the waiter gets a ticket.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._following: dict[int, tuple[Waiter, asyncio.Task[None]]] = {}
        self._bells: dict[int, asyncio.Event] = {}

    def follow(self, waiter: Waiter, reply: bytes | None = None) -> None:
        """Another ticket has the waiter's message; with its reply, if that is known."""
        self._engine.waits(waiter)
        waiter.number = max(waiter.number, 0)
        if reply is not None:
            return self._answered(waiter, reply)
        self._bells[waiter.request] = asyncio.Event()
        task = self._engine.loop.create_task(self._follow(waiter))
        self._following[waiter.request] = (waiter, task)
        return None

    async def _follow(self, waiter: Waiter) -> None:
        bell = self._bells[waiter.request]
        while True:
            bell.clear()
            try:
                state, *reply = await self._ask(waiter)
            except LockStoreConnectionError as error:
                self._drop(waiter)
                if waiter.future is not None and not waiter.future.done():
                    waiter.future.set_exception(error)
                return
            if state != 0:
                break
            await self._pause(bell)
        self._drop(waiter)
        if state == 1:
            self._answered(waiter, reply[0])
        else:
            self._engine.wait_again(waiter)

    async def _pause(self, bell: asyncio.Event) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(bell.wait(), _LOOK)

    async def _ask(self, waiter: Waiter) -> list[Any]:
        assert waiter.incoming is not None  # else it would not be here
        words = self._engine.scripts.reply(
            waiter.conversation_id, waiter.incoming.field, waiter.request
        )
        answer: list[Any] = await self._engine.link.call(words)
        return answer

    def _answered(self, waiter: Waiter, reply: bytes) -> None:
        assert waiter.incoming is not None  # else it would not be here
        if waiter.future is not None and not waiter.future.done():
            waiter.future.set_exception(
                DuplicateMessage(waiter.conversation_id, waiter.incoming.message_id, reply.decode())
            )

    def ring(self, request: int, waiter: Waiter | None) -> None:
        """The reply is there; the waiter of a carried message still thinks it waits for a turn."""
        if waiter is not None:
            self.follow(waiter)
        elif request in self._bells:
            self._bells[request].set()

    def _drop(self, waiter: Waiter) -> None:
        self._following.pop(waiter.request, None)
        self._bells.pop(waiter.request, None)

    def forget(self, waiter: Waiter) -> None:
        """The waiter has given up."""
        followed = self._following.get(waiter.request)
        self._drop(waiter)
        if followed is not None:
            followed[1].cancel()

    def waiters(self) -> Iterable[Waiter]:
        """Those who wait for a reply."""
        return [waiter for waiter, _ in self._following.values()]

    def stop(self) -> None:
        """End it all."""
        for waiter in list(self.waiters()):
            self.forget(waiter)
