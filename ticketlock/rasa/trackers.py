"""Tracker stores that a Rasa server loads by module path, around the fenced ones.

Within a turn of `ticketlock.rasa.ConcurrentRedisLockStore` the first read claims the conversation
under the turn's fence, and `save` appends what is new in one step that a later turn's claim refuses.
Events are published after they were stored, from the outbox.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from rasa.core.tracker_store import TrackerStore as RasaTrackerStore
from rasa.shared.core.trackers import DialogueStateTracker

from .. import process
from ..endpoints.registry import create_tracker_store
from ..errors import ConfigurationError, StaleFence, TicketLockError, TrackerStoreError
from ..events.event import Event
from ..publishing.broker import EventBroker
from ..publishing.custom import CustomEventBroker
from ..publishing.relay import Relay
from ..tracker.tracker import Claim, Tracker
from .locks import RasaLock, current

log = logging.getLogger("ticketlock.rasa")

#: How often a claim is repeated under a higher fence, when the lock store lost its memory.
_CLAIMS = 5

#: The attribute of Rasa's tracker that says how many of its events are stored.
_STORED = "ticketlock_stored"


class NotStored(BaseException):
    """A turn was given up, because its conversation could not be read or written.

    No `Exception`: for those Rasa goes on with an empty tracker, or keeps the turn in memory, and
    its channel answers 200. This one ends the request without an answer, so its sender knows.
    """


class FencedRasaStore(RasaTrackerStore):  # type: ignore[misc]  # no type information
    """Base of the tracker stores here: Rasa's interface around a fenced store.

    Args:
        domain: Rasa's, for the slots.
        event_broker: Rasa's or ours; it is given each event once it is stored, in order.
        host: the section's `url`.
        keys: the other keys of the section, as in docs/reference/endpoints.md.
    """

    #: The `type` of the store.
    backend: ClassVar[str]

    def __init__(
        self, domain: Any = None, event_broker: Any = None, host: str | None = None, **keys: Any
    ) -> None:
        super().__init__(domain, event_broker)
        self.store = create_tracker_store({"type": self.backend, "url": host, **keys})
        self._owner = f"{process.host(24)}:{process.pid}:{secrets.token_hex(4)}"
        self._relay = Relay(self.store, self._broker) if event_broker is not None else None

    async def _broker(self) -> EventBroker:
        broker = self.event_broker
        return broker if isinstance(broker, EventBroker) else CustomEventBroker(broker)

    # -- Rasa's interface --------------------------------------------------------------------------

    async def retrieve(self, sender_id: str) -> DialogueStateTracker | None:
        """The latest session; None without events. Within a turn it claims the conversation."""
        return await self._read(sender_id, full=False)

    async def retrieve_full_tracker(self, conversation_id: str) -> DialogueStateTracker | None:
        """All events; None without any. Within a turn it claims the conversation."""
        return await self._read(conversation_id, full=True)

    async def save(self, tracker: DialogueStateTracker) -> None:
        """Append the events that are not stored yet, all or none, under the turn's fence.

        A tracker that was not read here replaces the conversation, as `PUT .../tracker/events` wants.
        """
        sender_id, events = tracker.sender_id, list(tracker.events)
        stored = getattr(tracker, _STORED, None)
        if len(events) == (stored or 0):
            return
        with _or_give_up(sender_id):
            lock = current(sender_id)
            if lock is None:
                raise TrackerStoreError(
                    "it is saved outside of a turn: set lock_store: type: "
                    "ticketlock.rasa.ConcurrentRedisLockStore"
                )
            claim = lock.claim or await self._claim(lock)
            if stored is None and claim.sequence:
                await self._replace(claim, [event.as_dict() for event in events])
            else:
                wires = [event.as_dict() for event in events[stored or 0 :]]
                await self.store.append(claim, wires)
                self._publish(sender_id, wires)
        setattr(tracker, _STORED, len(events))

    async def keys(self) -> list[str]:
        """The ids of the conversations that have events."""
        with _or_give_up("*"):
            return await self.store.keys()

    async def stream_events(self, tracker: DialogueStateTracker) -> None:
        """Nothing: the relay publishes what is stored."""

    # -- reading and writing -----------------------------------------------------------------------

    async def _read(self, sender_id: str, full: bool) -> DialogueStateTracker | None:
        with _or_give_up(sender_id):
            lock = current(sender_id)
            found: Tracker | None = None
            if lock is not None:
                found = (await self._claim(lock)).tracker
            if full:
                found = await self.store.retrieve_full_tracker(sender_id)
            elif lock is None:
                found = await self.store.retrieve(sender_id)
        if found is None or not found.events:
            return None
        wires = [event.as_dict() for event in found.events]
        tracker = DialogueStateTracker.from_dict(sender_id, wires, self.domain.slots)
        setattr(tracker, _STORED, len(tracker.events))
        return tracker

    async def _claim(self, lock: RasaLock) -> Claim:
        grant = lock.grant
        assert grant is not None  # inside the turn
        for attempt in range(_CLAIMS + 1):
            try:
                lock.claim = await self.store.claim(grant.conversation_id, grant.fence, self._owner)
                break
            except StaleFence as stale:
                if attempt == _CLAIMS:
                    raise
                await lock.raise_fence(stale.stored)
        assert lock.claim is not None  # the loop ends by `break` or an error
        return lock.claim

    async def _replace(self, claim: Claim, wires: list[dict[str, Any]]) -> None:
        tracker = Tracker(claim.sender_id, [Event.from_dict(wire, stamp=False) for wire in wires])
        tracker.origin = claim.tracker.origin
        await self.store.update(tracker)
        self._publish(claim.sender_id, wires)

    def _publish(self, sender_id: str, wires: list[dict[str, Any]]) -> None:
        if self._relay is not None:
            self._relay.start()
            self._relay.committed(sender_id, wires)


@contextmanager
def _or_give_up(sender_id: str) -> Iterator[None]:
    try:
        yield
    except TicketLockError as error:
        text = f"conversation {sender_id!r}: the request is given up: {error}"
        log.error("%s", text)
        raise NotStored(text) from error


class RedisTrackerStore(FencedRasaStore):
    """`ticketlock.stores.RedisTrackerStore` inside Rasa."""

    backend = "redis"


class MongoTrackerStore(FencedRasaStore):
    """`ticketlock.stores.MongoTrackerStore` inside Rasa, on the pymongo that Rasa pins."""

    backend = "mongod"


class SQLTrackerStore:
    """Says why there is none. Raises ConfigurationError."""

    def __init__(self, **_: Any) -> None:
        raise ConfigurationError(
            "tracker_store: type: ticketlock.rasa.SQLTrackerStore cannot run inside Rasa: it needs "
            "SQLAlchemy 2, and Rasa pins 1.4. Keep Rasa's own `type: sql` (its writes are not "
            "fenced), or use ticketlock.rasa.RedisTrackerStore or MongoTrackerStore"
        )
