"""What a LockTimeout can tell of who had the turn, whatever the lock store is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..errors import LockError, LockTimeout
from ..process import clock

if TYPE_CHECKING:
    from .inspection import Inspection
    from .waiter import Waiter

#: Seconds that a LockTimeout may take to find out who held the lock.
_DECORATION = 0.5


class Explaining:
    """The part of a lock store that makes LockTimeouts."""

    async def inspect(self, conversation_id: str, limit: int = 100) -> Inspection:
        raise NotImplementedError

    async def position(self, conversation_id: str, ticket_number: int) -> int | None:
        raise NotImplementedError

    async def _timed_out(self, waiter: Waiter) -> LockTimeout:
        """The LockTimeout for a waiter, with what can be found out about the holder."""
        waited = clock() - waiter.started
        try:
            return await asyncio.wait_for(self._described(waiter, waited), _DECORATION)
        except (asyncio.TimeoutError, LockError):  # the time-out is the news, the rest is not
            return LockTimeout(waiter.conversation_id, waited)

    async def _described(self, waiter: Waiter, waited: float) -> LockTimeout:
        holder = (await self.inspect(waiter.conversation_id, 0)).holder
        position = None
        if waiter.number >= 0:
            position = await self.position(waiter.conversation_id, waiter.number)
        return LockTimeout(
            waiter.conversation_id,
            waited,
            position,
            str(holder) if holder else None,
            holder.held_for if holder else None,
        )
