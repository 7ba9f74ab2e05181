"""`ConcurrentRedisLockStore`: FIFO ticket locks for any number of replicas on one Redis."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...redis.durability import Durability
from ...redis.settings import RedisSettings
from ...settings.section import Section, endpoint_values
from ...settings.store_keys import ConcurrentRedisKeys, TimingKeys
from ..store import LockStore
from ..tickets import Ticket, TicketLock
from .scripts import Timing

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .engine import Engine
    from .queue import RedisQueue


class ConcurrentRedisLockStore(LockStore):
    """The lock store for replicas. docs/protocol.md describes how it works.

    Args:
        endpoint_config: the documented drop-in constructor: an object with `url` and `kwargs`.
        keys: the same settings as keyword arguments; each has its meaning, unit and default
            in `ConcurrentRedisKeys` and in docs/reference/endpoints.md.
        where: how error messages name these settings.

    Raises ConfigurationError. It connects at the first use. One store belongs to one event
    loop; after a fork it starts anew, and turns held before the fork are void.
    """

    keeps_messages = True

    def __init__(
        self,
        endpoint_config: Any = None,
        *,
        where: str = "lock_store",
        **keys: Unpack[ConcurrentRedisKeys],
    ) -> None:
        values = endpoint_values(endpoint_config) if endpoint_config is not None else {}
        section = Section({**values, **keys}, where)
        self.settings = RedisSettings.read(section)
        times = section.read(TimingKeys)
        for key, seconds in (("lease", times["lease"]), ("waiter_ttl", times["waiter_ttl"])):
            _check_within(section, key, seconds, times["idle_expiry"])
        self.durability = Durability.read(section, self.settings.deployment_mode)
        self.timing = Timing(
            lease=round(1000 * times["lease"]),
            waiter_ttl=round(1000 * times["waiter_ttl"]),
            idle=round(1000 * times["idle_expiry"]),
        )
        section.finish()
        super().__init__(max_waiting=times["max_waiting"])

    def _make_queue(self) -> RedisQueue:
        from .queue import RedisQueue  # it brings redis-py: a large part of a start

        self._redis_queue = RedisQueue(self.settings, self.timing, self.durability)
        return self._redis_queue

    def engine(self) -> Engine:
        """The engine of this process and event loop, for what is kept beside the locks.

        Raises LockStoreConnectionError while the store is being closed, or on another loop.
        """
        return self._redis_queue.live()

    @property
    def running(self) -> Engine | None:
        """The engine, if the store is in use."""
        return self._redis_queue.engine

    @property
    def not_durable(self) -> Mapping[str, str]:
        """Server -> why what this process writes there is not as durable as it should be by now."""
        engine = self._redis_queue.engine
        return {} if engine is None or engine.durable is None else engine.durable.problems

    async def get_lock(self, conversation_id: str) -> TicketLock | None:
        """The live tickets, None if there are none; `expires` is when each would lapse."""
        state = await self.inspect(conversation_id, limit=1_000_000)
        now, ttl = time.time(), self.timing.waiter_ttl / 1000
        tickets = [Ticket(w.number, now + ttl) for w in state.waiting if w.alive]
        if state.holder is not None:
            tickets.insert(0, Ticket(state.holder.number, now + state.holder.lease))
        return TicketLock(conversation_id, tickets, state.last_issued) if tickets else None

    async def save_lock(self, lock: TicketLock) -> None:
        """Queue the lock's tickets that are not there yet, each for the rest of its life."""
        await self._queue_missing(lock)

    async def delete_lock(self, conversation_id: str) -> None:
        """End the turn and drop the queue; numbers and fences go on growing."""
        await self._redis_queue.drop(conversation_id)


def _check_within(section: Section, key: str, seconds: float, idle: float) -> None:
    """A clock that the keys it is kept in must outlive."""
    if seconds > idle:
        raise section.error(
            key, f"of {seconds:g} s is longer than idle_expiry ({idle:g} s): raise idle_expiry"
        )
