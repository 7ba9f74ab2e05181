"""The lock store whose turns a tracker store of Rasa finds: Rasa passes no grant between them."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from ..locks.concurrent.store import ConcurrentRedisLockStore as LockStore
from ..locks.grant import Grant
from ..locks.lock import Lock
from ..tracker.tracker import Claim

#: Conversation -> the lock in whose turn this task is. Tasks that it starts inherit it.
_inside: ContextVar[Mapping[str, RasaLock]] = ContextVar("inside", default=MappingProxyType({}))


class RasaLock(Lock):
    """A lock that is found by its conversation while its turn lasts.

    Attributes:
        claim: the tracker store's, once the turn has read the conversation.
    """

    claim: Claim | None = None

    def begun(self, grant: Grant) -> None:
        super().begun(grant)
        _inside.set({**_inside.get(), self.waiter.conversation_id: self})

    def forget(self) -> None:
        super().forget()
        name = self.waiter.conversation_id
        others = {key: lock for key, lock in _inside.get().items() if key != name}
        _inside.set(others)

    async def raise_fence(self, floor: int) -> None:
        """See `LockStore.raise_fence`."""
        assert self.grant is not None  # inside the turn
        await self._turns.raise_fence(self.grant, floor)
        self.grant.ensure_held()


def current(conversation_id: str) -> RasaLock | None:
    """The lock of a conversation in whose turn this task is."""
    lock = _inside.get().get(conversation_id)
    return None if lock is None or lock.over else lock  # a task may outlive the turn


class ConcurrentRedisLockStore(LockStore):
    """`ticketlock.ConcurrentRedisLockStore`, for the tracker stores of `ticketlock.rasa`.

    It has the same keys in Redis: replicas with either of them share their queues.
    """

    def __init__(self, endpoint_config: Any = None, **values: Any) -> None:
        super().__init__(endpoint_config, **values)
        self._lock_type = RasaLock
