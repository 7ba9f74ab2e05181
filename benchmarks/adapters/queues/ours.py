"""ticketlock's inbox: messages are submitted, and nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from ticketlock.inbox.redis import RedisInbox
from ticketlock.inbox.served import Served
from ticketlock.turn import Turn

from ...stores import events
from .base import HANDLER, ROOM, Queue


class Inbox(RedisInbox):
    """Tells when Redis has stored the end of a message."""

    queue: Queue

    def finish(self, served: Served) -> asyncio.Future[None]:
        done, settled = super().finish(served), served.settled
        if settled:
            done.add_done_callback(
                lambda _: self.queue.replied(served.message_id.partition(" ")[2])
            )
        return done


class Adapter(Queue):
    async def start(self) -> None:
        inbox = Inbox(self.conversations.lock_store)  # type: ignore[arg-type]  # concurrent_redis
        inbox.queue = self
        self.conversations._inbox = inbox
        self._stack = AsyncExitStack()
        serving = self.conversations.serving(self._handle, room=ROOM)
        await self._stack.enter_async_context(serving)

    async def stop(self) -> None:
        await self._stack.aclose()

    async def _handle(self, turn: Turn, message: Mapping[str, Any]) -> list[dict[str, str]]:
        turn.add(*events(message["text"]))
        await asyncio.sleep(HANDLER)
        return [{"text": "you said it"}]

    async def submit(self, name: str, number: int) -> None:
        text = self.now()
        await self.conversations.submit(name, text, message_id=f"{number} {text}")
