"""What an answer says of the conversation when its message could not be handled now."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import LockStoreConnectionError, LockTimeout, QueueFull, TicketLockError
from ..locks.store import LockStore
from ..process import clock
from ..turn import Turn

#: Seconds that the lock store has to say what is going on; the answer does not wait for more.
_PATIENCE = 1.0


@dataclass
class Situation:
    """Who holds the conversation, as far as it is known; None: it is not.

    Attributes:
        holder_alive: a turn holds it, and its process is heard of.
        held_for: seconds for which it has held it.
        ahead: how many turns are before the message's, the one being served included.
    """

    holder_alive: bool | None = None
    held_for: float | None = None
    ahead: int | None = None

    def as_dict(self) -> dict[str, Any]:
        made = asdict(self)
        if self.held_for is not None:
            made["held_for"] = round(self.held_for, 3)
        return made


async def situation(
    store: LockStore, sender_id: str, turn: Turn | None, error: Exception
) -> Situation:
    """The situation of a turn that failed with `error`, is still waited for, or was not begun.

    It never fails: what cannot be found out is not known.
    """
    grant = turn.lock.grant if turn is not None else None
    if grant is not None and grant.reason is None and clock() < grant.deadline:
        return Situation(True, clock() - grant.granted_at, 0)  # it goes on, here
    if isinstance(error, LockTimeout) and error.position is not None:
        return Situation(error.holder is not None, error.held_for, error.position)
    if isinstance(error, LockStoreConnectionError):
        return Situation()
    try:
        return await asyncio.wait_for(_look(store, sender_id, turn, error), _PATIENCE)
    except (TicketLockError, asyncio.TimeoutError):
        return Situation()


async def _look(store: LockStore, sender_id: str, turn: Turn | None, error: Exception) -> Situation:
    found = await store.inspect(sender_id, 0)
    held = found.holder is not None and found.holder.lease > 0
    ahead = found.waiting_count + held
    if turn is not None and turn.lock.grant is None and not isinstance(error, QueueFull):
        place = await store.position(sender_id, turn.lock.waiter.number)
        ahead = ahead if place is None else place  # None: it has no ticket, or none any more
    return Situation(held, found.holder.held_for if found.holder else None, ahead)
