"""Conversations in the memory of this process; they are lost when it ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ticketlock import process
from ticketlock.aio.running import AtOnce
from ticketlock.errors import StaleFence
from ticketlock.events.codec import EncodedEvent
from ticketlock.settings.section import Section
from ticketlock.settings.store_keys import NoKeys
from ticketlock.tracker.fenced import EventLog, FencedTrackerStore, Write
from ticketlock.tracker.memory_outbox import MemoryOutbox
from ticketlock.tracker.outbox import now_ms
from ticketlock.tracker.stored import StoredEvents

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass
class _Conversation:
    fence: int = 0
    owner: str = ""
    mark: str = ""
    sequence: int = 0
    #: Index in `events` at which the latest session begins.
    session: int = 0
    events: list[EncodedEvent] = field(default_factory=list)
    history: int = field(default_factory=now_ms)

    def tail(self, start: int) -> StoredEvents:
        """The events from an index on."""
        return StoredEvents([event.text for event in self.events[max(0, start) :]])

    def append(self, events: Sequence[EncodedEvent]) -> None:
        for event in events:
            if event.starts_session:
                self.session = len(self.events)
            self.events.append(event)
        self.sequence += len(events)


class InMemoryTrackerStore(FencedTrackerStore):
    """A tracker store in memory, for one process and one event loop."""

    shared = False
    waits = False
    unconnected = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.waits = True  # in what it overrides, perhaps

    def __init__(
        self,
        domain: Any = None,
        event_broker: Any = None,
        *,
        where: str = "tracker_store",
        **values: Unpack[NoKeys],
    ) -> None:
        super().__init__(domain, event_broker)
        Section(values, where).finish()
        self._running = AtOnce()
        self._conversations: dict[str, _Conversation] = {}
        self._waiting = MemoryOutbox()
        self.outbox = self._waiting

    @property
    def histories_at(self) -> str:
        return f"memory of {process.place()}, {id(self):x}"

    # None of the operations awaits, so each is atomic, and needs no task.

    async def _do_claim(self, sender_id: str, fence: int, owner: str) -> EventLog:
        found = self._conversations.setdefault(sender_id, _Conversation())
        if found.fence > fence or (found.fence == fence and found.owner != owner):
            raise StaleFence(sender_id, fence, found.fence)
        found.fence, found.owner = fence, owner
        events = found.tail(found.session)
        return EventLog(events, found.sequence, found.history, mark=found.mark)

    async def _do_write(self, write: Write) -> int:
        found = self._conversations.get(write.sender_id) or _Conversation()
        if write.guard is not None and write.guard != (found.fence, found.owner):
            raise StaleFence(write.sender_id, write.guard[0], found.fence)
        new = write.events
        if write.replace:
            found.events, found.session = [], 0
        elif (beyond := found.sequence - write.sequence) > 0:
            new = write.new_events(found.tail(len(found.events) - beyond))
        if write.publish:
            wires = [json.loads(event.text) for event in new]
            place = (found.history, found.sequence)
            self._waiting.put(write.sender_id, wires, write.publish, place)
        found.append(new)
        if write.mark is not None:
            found.mark = write.mark
        self._conversations[write.sender_id] = found
        return found.sequence

    async def _do_read(self, sender_id: str, full: bool) -> EventLog:
        found = self._conversations.get(sender_id) or _Conversation()
        return EventLog(found.tail(0 if full else found.session), found.sequence, found.history)

    async def _do_keys(self) -> list[str]:
        return [sender_id for sender_id, found in self._conversations.items() if found.events]

    async def _do_delete(self, sender_id: str) -> bool:
        self._waiting.drop(sender_id)
        found = self._conversations.pop(sender_id, None)
        return found is not None and bool(found.events)

    async def _do_count(self, after_timestamp: float) -> int:
        return sum(
            any((event.timestamp or 0.0) >= after_timestamp for event in found.events)
            for found in self._conversations.values()
        )
