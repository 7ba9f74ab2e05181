"""`FencedTrackerStore`: the whole contract of a tracker store, on six operations of a backend.

A backend keeps, for each conversation, the highest fence with its owner, the number of events
it has ever had (`sequence`), and the events. It decides nothing: what is new, what is checked
and what an answer means is decided here, the same for all.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..aio.running import Running
from ..aio.slices import sliced
from ..checks import check_sender_id
from ..errors import EventsWaiting, TicketLockError, UnreadableHistory
from ..events.codec import MAX_EVENT_BYTES, EncodedEvent, check_claim, encoding
from ..events.event import Event
from .outbox import now_ms
from .store import TrackerStore, common_start, initial_slots
from .tracker import Claim, Origin, Tracker

#: Seconds for which `update` waits for events that are being published, and between two looks.
_WAIT_FOR_OUTBOX, _LOOK_AGAIN = 5.0, 0.05


@dataclass(frozen=True)
class History:
    """Events of a conversation, oldest first, to the very end.

    Attributes:
        sequence: how many events it has ever had; the last one here has `sequence - 1`.
        born: milliseconds since the epoch at which the conversation was made, which tells its
            lives apart; 0 for documented data that has not been carried over.
        size: the `weight` of their JSON; 0: it was not looked at.
    """

    events: Sequence[Mapping[str, Any]]
    sequence: int
    born: int = 0
    size: int = 0

    @property
    def first(self) -> int:
        """Sequence number of the first event here."""
        return self.sequence - len(self.events)


@dataclass(frozen=True)
class Write:
    """One atomic change of a conversation.

    Attributes:
        events: what to append; with `replace`, the whole new history.
        sequence: what the writer believes the stored sequence to be. If it is higher, the
            stored events from there on are compared with `events`: those that both begin
            with are stored already (a lost reply), and the rest goes to the end.
        guard: (fence, owner) that must be the stored ones, else StaleFence. None: no fence.
        replace: drop the events there were; numbering goes on. Raises EventsWaiting while
            some of them wait to be published.
        publish: the events are for the outbox: milliseconds since the epoch. 0: they are not.
    """

    sender_id: str
    events: Sequence[EncodedEvent]
    sequence: int = 0
    guard: tuple[int, str] | None = None
    replace: bool = False
    publish: int = 0

    def new_events(self, stored: Sequence[Mapping[str, Any]]) -> Sequence[EncodedEvent]:
        """What is left to store, given the stored events from number `sequence` on."""
        if not stored:
            return self.events
        wires = [json.loads(event.text) for event in self.events]  # as they come back
        return self.events[common_start(stored, wires) :]


class FencedTrackerStore(TrackerStore):
    """Base of the built-in stores; a backend implements the methods that begin with `_do_`.

    What one of them has begun goes to its end, also when its caller is cancelled: who is
    cancelled in a write waits for it, a claim or a read goes on by itself, and `close` waits
    for all.
    """

    #: Characters of a conversation id that the backend keeps; None: any number.
    max_id_length: int | None = None
    #: Bytes of one event's JSON that the backend keeps.
    max_event_bytes = MAX_EVENT_BYTES
    feeds_outbox = True

    def __init__(self, domain: Any = None, event_broker: Any = None) -> None:
        super().__init__(domain, event_broker)
        self._token = object()
        self._running = Running()

    # -- what a backend does ---------------------------------------------------------------------

    async def _do_claim(self, sender_id: str, fence: int, owner: str) -> History:
        """Record fence and owner if newer (or the same), return the latest session.

        Raises StaleFence(sender_id, fence, stored fence). A conversation without events
        gives an empty History.
        """
        raise NotImplementedError

    async def _do_write(self, write: Write) -> int:
        """Carry out `write` atomically, the outbox's part included; return the sequence after it.

        Raises StaleFence and EventsWaiting.
        """
        raise NotImplementedError

    async def _do_read(self, sender_id: str, full: bool) -> History:
        """The latest session, or all; an empty History if there is nothing. Writes nothing."""
        raise NotImplementedError

    async def _do_keys(self) -> list[str]:
        """Ids of the conversations that have events."""
        raise NotImplementedError

    async def _do_delete(self, sender_id: str) -> bool:
        """Remove events, fence and all; whether there was anything."""
        raise NotImplementedError

    async def _do_count(self, after_timestamp: float) -> int:
        """Conversations with an event at `after_timestamp` or later; no timestamp is 0."""
        raise NotImplementedError

    async def _do_connect(self) -> None:
        """Reach the server."""

    async def _do_close(self) -> None:
        """Let go of connections; nothing is running any more."""

    # -- the contract ------------------------------------------------------------------------------

    async def connect(self) -> None:
        await self._running.finish(self._do_connect())

    async def close(self) -> None:
        await self._running.settle()
        await self._running.finish(self._do_close(), wait=True)

    async def save(self, tracker: Tracker) -> None:
        sender_id = check_sender_id(tracker.sender_id, self.max_id_length)
        wires = [event.as_dict() for event in self._beyond(tracker)]
        if not wires:
            return
        # Checked before anything is read, so that a bad event costs nothing.
        encoded = await self._encoded(wires)
        origin = self._origin(tracker)
        if origin is None:
            origin = await self._find(sender_id, [json.loads(event.text) for event in encoded])
            encoded = encoded[origin.stored :]
        if not encoded:
            tracker.origin = origin
            return
        write = Write(
            sender_id, encoded, origin.sequence, self._guard(origin), publish=self._stamp()
        )
        count = origin.stored + len(encoded)
        self._settle(tracker, origin, count, await self._carry_out(write))

    async def update(self, tracker: Tracker) -> None:
        sender_id = check_sender_id(tracker.sender_id, self.max_id_length)
        wires = [event.as_dict() for event in tracker.events]
        encoded = await self._encoded(wires)
        origin = self._origin(tracker) or Origin(self._token, 0, 0)
        write = Write(sender_id, encoded, origin.sequence, self._guard(origin), True, self._stamp())
        self._settle(tracker, origin, len(encoded), await self._replace_published(write))

    async def _replace_published(self, write: Write) -> int:
        """Carry out a replacement, once the relay is through with what it drops."""
        end = asyncio.get_running_loop().time() + _WAIT_FOR_OUTBOX
        while True:
            try:
                return await self._carry_out(write)
            except EventsWaiting:
                if asyncio.get_running_loop().time() > end:
                    raise
            await asyncio.sleep(_LOOK_AGAIN)

    async def retrieve(self, sender_id: str) -> Tracker | None:
        return await self._read(sender_id, full=False)

    async def retrieve_full_tracker(self, sender_id: str) -> Tracker | None:
        return await self._read(sender_id, full=True)

    async def keys(self) -> list[str]:
        return await self._running.finish(self._do_keys())

    async def delete(self, sender_id: str) -> bool:
        check_sender_id(sender_id, self.max_id_length)
        return await self._running.finish(self._do_delete(sender_id), wait=True)

    async def count_conversations(self, after_timestamp: float = 0.0) -> int:
        return await self._running.finish(self._do_count(float(after_timestamp)))

    async def claim(self, sender_id: str, fence: int, owner: str) -> Claim:
        check_sender_id(sender_id, self.max_id_length)
        check_claim(fence, owner)
        history = await self._history(sender_id, self._do_claim(sender_id, fence, owner))
        events = [Event.from_dict(wire, stamp=False) for wire in history.events]
        tracker = self._tracker(sender_id, history, events)
        claim = Claim(sender_id, fence, owner, tracker, history.sequence, history.size)
        origin = claim.tracker.origin
        assert origin is not None  # _tracker has just made it
        origin.claim = claim
        return claim

    async def append(self, claim: Claim, events: Sequence[Mapping[str, Any]]) -> None:
        encoded = await self._encoded(events)
        guard = (claim.fence, claim.owner)
        write = Write(claim.sender_id, encoded, claim.sequence, guard, publish=self._stamp())
        claim.sequence = await self._carry_out(write)

    async def _encoded(self, wires: Sequence[Mapping[str, Any]]) -> list[EncodedEvent]:
        """The events, checked and encoded. Raises InvalidEvent."""
        return await sliced(encoding(wires, self.max_event_bytes))

    async def _carry_out(self, write: Write) -> int:
        return await self._running.finish(self._do_write(write), wait=True)

    # -- where a tracker stands ----------------------------------------------------------------------

    async def _read(self, sender_id: str, full: bool) -> Tracker | None:
        check_sender_id(sender_id, self.max_id_length)
        history = await self._history(sender_id, self._do_read(sender_id, full))
        if not history.events:
            return None
        # All that there is may be much, and is no turn that others wait for.
        events = await sliced(Event.from_dict(wire, stamp=False) for wire in history.events)
        return self._tracker(sender_id, history, events)

    async def _history(self, sender_id: str, reading: Coroutine[Any, Any, History]) -> History:
        """What is read of a conversation. Raises UnreadableHistory for what no store wrote."""
        try:
            return await self._running.finish(reading)
        except TicketLockError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise UnreadableHistory(
                f"the stored history of conversation {sender_id!r} cannot be read: {error!r:.300}; "
                "repair or remove it"
            ) from error

    def _tracker(self, sender_id: str, history: History, events: list[Event]) -> Tracker:
        tracker = Tracker(sender_id, events, initial_slots(self.domain))
        tracker.origin = Origin(
            self._token, len(history.events), history.sequence, history=history.born
        )
        return tracker

    def _origin(self, tracker: Tracker) -> Origin | None:
        """What we know of the tracker; None if it came from elsewhere."""
        origin = tracker.origin
        known = origin is not None and origin.store is self._token
        return origin if known and origin.stored <= len(tracker.events) else None  # type: ignore[union-attr]  # known says so

    def _beyond(self, tracker: Tracker) -> list[Any]:
        origin = self._origin(tracker)
        return tracker.events[origin.stored if origin else 0 :]

    def _stamp(self) -> int:
        return now_ms() if self.publishes else 0

    @staticmethod
    def _guard(origin: Origin) -> tuple[int, str] | None:
        return (origin.claim.fence, origin.claim.owner) if origin.claim else None

    def _settle(self, tracker: Tracker, origin: Origin, count: int, sequence: int) -> None:
        """Note that `count` events of the tracker are stored now."""
        tracker.origin = Origin(self._token, count, sequence, origin.claim, origin.history)
        if origin.claim is not None:
            origin.claim.sequence = max(origin.claim.sequence, sequence)

    async def _find(self, sender_id: str, wires: list[dict[str, Any]]) -> Origin:
        """Where a tracker made by hand, or by another store object, meets what is stored.

        It usually is the latest session or the whole history with something behind; so
        the place is taken where most of its events are found, in that order.
        """
        best = Origin(self._token, 0, 0)
        for full in (False, True):
            history = await self._history(sender_id, self._do_read(sender_id, full))
            if not best.stored:
                best.sequence = history.sequence
            for place, event in enumerate(history.events):
                if event == wires[0]:
                    count = common_start(history.events[place:], wires)
                    if count > best.stored:
                        best = Origin(self._token, count, history.first + place + count)
            if best.stored == len(wires):
                break  # else sessions that are alike may have hidden a longer match
        return best
