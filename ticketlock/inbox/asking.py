"""Questions to the inbox on Redis: outcomes, what waits, what is dead; and withdrawals."""

from __future__ import annotations

from typing import Any

from ..locks.incoming import field
from .followed import Followed
from .inbox import Inbox
from .look import Look
from .scripts import InboxScripts
from .served import Served
from .submission import FINISHED, MessageOutcome


class AskedInbox(Inbox):
    """The part of `RedisInbox` that begins no turns."""

    followed: Followed
    look: Look

    def connected(self) -> InboxScripts:
        """The scripts, once there is a connection. Raises LockStoreConnectionError."""
        raise NotImplementedError

    async def call(self, args: tuple[Any, ...]) -> Any:
        """Send a command and return its answer."""
        raise NotImplementedError

    async def outcome(
        self, conversation_id: str, message_id: str, listener: str = ""
    ) -> MessageOutcome:
        args = self.connected().outcome(conversation_id, field(message_id), listener)
        state, *rest = await self.call(args)
        return _outcome(state.decode(), rest)

    async def awaited(self, served: Served) -> bool:
        known = self.followed.listeners(served.conversation_id, served.message_id)
        if not served.awaited or any(listener.sends_again for listener in known):
            return served.awaited
        return bool(await self.call(self.connected().awaited(served)))

    async def wait(self, conversation_id: str, message_id: str, seconds: float) -> MessageOutcome:
        self.connected()
        return await self.followed.wait(conversation_id, message_id, seconds)


def _outcome(state: str, rest: list[Any]) -> MessageOutcome:
    if state in FINISHED:
        return MessageOutcome(FINISHED[state], text=rest[0].decode())
    if state == "r":
        return MessageOutcome("running", rest[0], 0, rest[2])
    if state == "q":
        return MessageOutcome("waiting", rest[0], rest[1], rest[2])
    return MessageOutcome("unknown")
