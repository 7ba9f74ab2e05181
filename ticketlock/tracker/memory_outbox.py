"""An outbox in the memory of this process, for stores that have no place for one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from .outbox import VOID_MS, Backlog, Batch, DeadLetter, Lease, Outbox, letter_order, now_ms


@dataclass
class _Queue:
    """The waiting events of one conversation, oldest first."""

    history: int
    first: int
    since: int
    free_at: int
    relay: str = ""
    events: deque[Mapping[str, Any]] = field(default_factory=deque)


class MemoryOutbox(Outbox):
    """Its events are lost when the process ends; `Relay.close` logs how many."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}
        self._counted: dict[str, tuple[int, int]] = {}
        self._letters: dict[tuple[str, int, int], DeadLetter] = {}
        self._history = now_ms()

    def put(
        self,
        sender_id: str,
        events: Iterable[Mapping[str, Any]],
        now: int,
        place: tuple[int, int] | None = None,
    ) -> None:
        """Add events.

        Args:
            place: history and number of the first event; None: the outbox numbers them itself.
        """
        added = list(events)
        if not added:
            return
        history, first = place or self._counted.get(sender_id, (self._history, 0))
        if place is None:
            self._counted[sender_id] = (history, first + len(added))
        queue = self._queues.setdefault(sender_id, _Queue(history, first, now, now))
        queue.events.extend(added)

    def drop(self, sender_id: str) -> None:
        """Forget the waiting events of a conversation that was deleted."""
        self._queues.pop(sender_id, None)

    async def waiting(self, limit: int, before: int) -> list[str]:
        void = now_ms() + VOID_MS
        queues = self._queues.items()
        free = [(q.free_at, name) for name, q in queues if not before < q.free_at <= void]
        return [name for _, name in sorted(free)[:limit]]

    async def take(self, sender_id: str, lease: Lease, limit: int) -> Batch | None:
        queue = self._queues.get(sender_id)
        if queue is None:
            return None
        if queue.relay != lease.relay and lease.now < queue.free_at <= lease.beyond:
            return None
        queue.relay, queue.free_at = lease.relay, lease.until
        events = [dict(event) for event in islice(queue.events, limit)]
        end = queue.first + len(queue.events)
        return Batch(sender_id, queue.history, queue.first, end, events)

    async def advance(self, batch: Batch, lease: Lease, to: int) -> bool:
        queue = self._queues.get(batch.sender_id)
        taken = (lease.relay, batch.history, batch.first)
        if queue is None or (queue.relay, queue.history, queue.first) != taken:
            return False
        for _ in range(to - batch.first):
            queue.events.popleft()
        queue.first, queue.free_at = to, lease.until
        if not queue.events:
            del self._queues[batch.sender_id]
        return bool(queue.events)

    async def release(self, sender_id: str, relay: str) -> None:
        queue = self._queues.get(sender_id)
        if queue is not None and queue.relay == relay:
            queue.relay, queue.free_at = "", now_ms()

    async def backlog(self) -> Backlog:
        return Backlog(
            len(self._queues),
            sum(len(queue.events) for queue in self._queues.values()),
            min((queue.since for queue in self._queues.values()), default=None),
        )

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            self._letters[letter_order(letter)] = replace(letter, event=dict(letter.event))

    async def dead_letters(self, limit: int = 1000) -> list[DeadLetter]:
        return sorted(self._letters.values(), key=letter_order)[:limit]

    async def remove_dead_letter(self, letter: DeadLetter) -> bool:
        return self._letters.pop(letter_order(letter), None) is not None
