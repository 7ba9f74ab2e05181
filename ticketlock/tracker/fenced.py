"""`FencedTrackerStore`: the whole contract of a tracker store, on six operations of a backend.

For each conversation a backend keeps the highest fence with its owner, the events, and how many
events the conversation has ever had (`sequence`). The rules are here, the same for all backends:
which events are checked, which are new, and what an answer means.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import process
from ..aio.running import Running
from ..aio.slices import sliced
from ..checks import check_sender_id
from ..errors import EventsWaiting, TicketLockError, UnreadableHistory
from ..events.codec import MAX_EVENT_BYTES, EncodedEvent, check_claim, check_mark, encoding
from ..events.event import Event
from .outbox import now_ms
from .store import TrackerStore, common_start, initial_slots
from .stored import RecentEvents, StoredEvents, Unmade
from .tracker import Claim, Origin, Tracker

log = logging.getLogger("ticketlock.tracker")

_TAKEN_UP = (
    "conversation %r: another program, such as Rasa, has written %d events beside its history, which "
    "it cannot read; they were added to the history. If it still runs, stop it: see docs/rasa.md"
)

#: What reading foreign data may raise.
_FOREIGN = (LookupError, TypeError, ValueError, AttributeError, RecursionError)

#: Seconds that `update` waits for events that are being published, and between its attempts.
_WAIT_FOR_OUTBOX, _RETRY_SECONDS = 5.0, 0.05


@dataclass(slots=True)
class EventLog:
    """The latest events of a conversation, or all of them, oldest first.

    Attributes:
        events: with `StoredEvents` a claim parses only those that it has not read before.
        sequence: how many events it has ever had; the last one here has `sequence - 1`.
        history: milliseconds since the epoch at which the conversation was created. A
            conversation that is deleted and comes back has a greater one. 0 for documented data
            that has not been converted yet.
        size: the `weight` of the events' JSON; 0: not measured, or of `StoredEvents`, which know it.
        mark: what a claim found as the conversation's mark; "" without one.
        beside: there are documented data of the conversation too, written by another program since
            it was converted.
    """

    events: Sequence[Mapping[str, Any]]
    sequence: int
    history: int = 0
    size: int = 0
    mark: str = ""
    beside: bool = False

    @property
    def first(self) -> int:
        """Sequence number of the first event here."""
        return self.sequence - len(self.events)


@dataclass(slots=True)
class Write:
    """One atomic change of a conversation.

    Attributes:
        events: the events to append; with `replace`, all events of the conversation.
        sequence: the stored sequence, as the writer knows it. If the stored one is higher, the
            stored events from this number on are compared with `events`: those that both
            begin with were stored before (a lost reply), and only the rest is appended.
        guard: (fence, owner) that must be the stored ones, else StaleFence. None: no fence.
        replace: drop the stored events; numbering goes on. Raises EventsWaiting while some of
            them wait to be published.
        publish: put the events into the outbox at this time, in milliseconds since the epoch.
            0: do not publish them.
        mark: replaces the stored mark; None: it stays, with `replace` too.
    """

    sender_id: str
    events: Sequence[EncodedEvent]
    sequence: int = 0
    guard: tuple[int, str] | None = None
    replace: bool = False
    publish: int = 0
    mark: str | None = None

    def new_events(self, stored: Sequence[Mapping[str, Any]]) -> Sequence[EncodedEvent]:
        """The events to append, given the stored events from number `sequence` on."""
        if not stored:
            return self.events
        wires = [json.loads(event.text) for event in self.events]  # as a store returns them
        return self.events[common_start(stored, wires) :]


def _identity(wire: Mapping[str, Any]) -> tuple[str, ...]:
    """What of an event stays the same in whichever program stores it."""
    return tuple(repr(wire.get(key)) for key in ("event", "timestamp", "text", "name", "value"))


class _Readable:
    """Raises UnreadableHistory if what is read in the block is foreign data."""

    __slots__ = ("_sender_id",)

    def __init__(self, sender_id: str) -> None:
        self._sender_id = sender_id

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _FOREIGN) and not isinstance(error, TicketLockError):
            raise UnreadableHistory(
                f"the stored history of conversation {self._sender_id!r} cannot be read: "
                f"{error!r:.300}; repair or remove it"
            ) from error


class FencedTrackerStore(TrackerStore):
    """Base of the built-in stores; a backend implements the methods that begin with `_do_`.

    An operation that has begun runs to its end, even if its caller is cancelled: a cancelled
    write is waited for, a cancelled claim or read goes on in the background, and `close` waits
    for all of them.
    """

    #: Characters of a conversation id that the backend can store; None: any number.
    max_id_length: int | None = None
    #: Bytes of one event's JSON that the backend can store.
    max_event_bytes = MAX_EVENT_BYTES
    feeds_outbox = True
    keeps_marks = True
    unconnected = True

    def __init__(self, domain: Any = None, event_broker: Any = None) -> None:
        super().__init__(domain, event_broker)
        self._token = object()
        self._running = Running()
        self._recent = RecentEvents()
        self._connecting: asyncio.Future[None] | None = None
        process.tell_of_forks(self)

    def forked(self) -> None:
        """Begin anew in a forked child: what runs, and each connection, is the parent's."""
        process.leave_to_parent(self._running, self._connecting)
        self._running, self._connecting = type(self._running)(), None
        self.unconnected = type(self).unconnected

    # -- implemented by a backend ----------------------------------------------------------------

    async def _do_claim(self, sender_id: str, fence: int, owner: str) -> EventLog:
        """Record fence and owner if newer (or the same), return the latest session and the mark.

        A conversation without events gives an empty EventLog. Raises
        StaleFence(sender_id, fence, stored fence).
        """
        raise NotImplementedError

    async def _do_write(self, write: Write) -> int:
        """Carry out `write`, mark and outbox included, atomically; return the sequence after it.

        Raises StaleFence and EventsWaiting.
        """
        raise NotImplementedError

    async def _do_read(self, sender_id: str, full: bool) -> EventLog:
        """Return the latest session, or all events; empty without events. Writes nothing."""
        raise NotImplementedError

    async def _do_keys(self) -> list[str]:
        """Return the ids of the conversations that have events."""
        raise NotImplementedError

    async def _do_delete(self, sender_id: str) -> bool:
        """Remove a conversation with its fence; return whether it had events."""
        raise NotImplementedError

    async def _do_count(self, after_timestamp: float) -> int:
        """Count conversations with an event at `after_timestamp` or later; no timestamp is 0."""
        raise NotImplementedError

    async def _do_beside(self, sender_id: str) -> tuple[Sequence[EncodedEvent], Any]:
        """The events that another program has written beside, and what `_do_drop_beside` needs."""
        raise NotImplementedError

    async def _do_drop_beside(self, sender_id: str, seen: Any) -> None:
        """Remove the documented data, unless they are no longer those that were seen."""
        raise NotImplementedError

    async def _do_connect(self) -> None:
        """Connect to the server."""

    async def _do_close(self) -> None:
        """Close connections; no operation is running any more."""

    # -- the contract ------------------------------------------------------------------------------

    async def connect(self) -> None:
        # One for all who ask meanwhile, in their order. Its error is read: they may be gone.
        if (connecting := self._connecting) is None or connecting.done():
            connecting = asyncio.ensure_future(self._running.finish(self._do_connect()))
            connecting.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._connecting = connecting
        await asyncio.wait({connecting})
        connecting.result()  # another one may have begun since
        self.unconnected = False

    async def close(self) -> None:
        await self._running.settle()
        await self._running.finish(self._do_close(), wait=True)

    async def save(self, tracker: Tracker) -> None:
        sender_id = check_sender_id(tracker.sender_id, self.max_id_length)
        wires = [event.as_dict() for event in self._beyond(tracker)]
        if not wires:
            return
        # Before the first read: an invalid event costs no request.
        encoded = await self._encoded(wires)
        origin = self._origin(tracker)
        if origin is None:
            origin = await self._locate(sender_id, [json.loads(event.text) for event in encoded])
            encoded = encoded[origin.stored :]
        if not encoded:
            tracker.origin = origin
            return
        write = Write(sender_id, encoded, origin.sequence, origin.guard, publish=self._stamp())
        count = origin.stored + len(encoded)
        self._settle(tracker, origin, count, await self._carry_out(write))

    async def update(self, tracker: Tracker) -> None:
        sender_id = check_sender_id(tracker.sender_id, self.max_id_length)
        wires = [event.as_dict() for event in tracker.events]
        encoded = await self._encoded(wires)
        origin = self._origin(tracker) or Origin(self._token, 0, 0)
        write = Write(sender_id, encoded, origin.sequence, origin.guard, True, self._stamp())
        self._settle(tracker, origin, len(encoded), await self._replace_published(write))

    async def _replace_published(self, write: Write) -> int:
        """Carry out a replacement once the relay has published the events that it drops."""
        end = asyncio.get_running_loop().time() + _WAIT_FOR_OUTBOX
        while True:
            try:
                return await self._carry_out(write)
            except EventsWaiting:
                if asyncio.get_running_loop().time() > end:
                    raise
            await asyncio.sleep(_RETRY_SECONDS)

    async def retrieve(self, sender_id: str) -> Tracker | None:
        return await self._read(sender_id, full=False)

    async def retrieve_full_tracker(self, sender_id: str) -> Tracker | None:
        return await self._read(sender_id, full=True)

    async def keys(self) -> list[str]:
        return await self._running.finish(self._do_keys())

    async def delete(self, sender_id: str) -> bool:
        sender_id = check_sender_id(sender_id, self.max_id_length)
        self._recent.forget(sender_id)
        return await self._running.finish(self._do_delete(sender_id), wait=True)

    async def count_conversations(self, after_timestamp: float = 0.0) -> int:
        return await self._running.finish(self._do_count(float(after_timestamp)))

    async def claim(self, sender_id: str, fence: int, owner: str) -> Claim:
        sender_id = check_sender_id(sender_id, self.max_id_length)
        check_claim(fence, owner)
        while True:
            with _Readable(sender_id):
                found = await self._running.finish(self._do_claim(sender_id, fence, owner))
                if not found.beside:
                    events, size = self._made(sender_id, found)
                    break
            sequence, more, seen = await self._beside(sender_id)
            if more:
                log.warning(_TAKEN_UP, sender_id, len(more))
                await self._carry_out(Write(sender_id, more, sequence, (fence, owner)))
            await self._running.finish(self._do_drop_beside(sender_id, seen), wait=True)
        tracker = self._tracker(sender_id, found, events)
        mark = found.mark if self.keeps_marks else None
        claim = Claim(sender_id, fence, owner, tracker, found.sequence, size, mark)
        origin = claim.tracker.origin
        assert origin is not None  # _tracker has just made it
        origin.claimed(claim)
        return claim

    async def append(
        self, claim: Claim, events: Sequence[Mapping[str, Any]], mark: str | None = None
    ) -> None:
        check_mark(mark)
        encoded = await self._encoded(events)
        write = Write(
            claim.sender_id, encoded, claim.sequence, (claim.fence, claim.owner),
            publish=self._stamp() if encoded else 0, mark=mark if self.keeps_marks else None,
        )  # fmt: skip
        claim.sequence = await self._carry_out(write)

    def _encoded(self, wires: Sequence[Mapping[str, Any]]) -> Awaitable[list[EncodedEvent]]:
        """The events, checked and encoded. Raises InvalidEvent."""
        return sliced(encoding(wires, self.max_event_bytes))

    def _carry_out(self, write: Write) -> Awaitable[int]:
        return self._running.finish(self._do_write(write), wait=True)

    # -- how much of a tracker is stored -------------------------------------------------------------

    async def _read(self, sender_id: str, full: bool) -> Tracker | None:
        sender_id = check_sender_id(sender_id, self.max_id_length)
        found = await self._load(sender_id, self._do_read(sender_id, full))
        if found.beside:
            _, more, _ = await self._beside(sender_id)
            all_ = [*found.events, *(event.wire for event in more)]
            found = replace(found, events=all_, sequence=found.sequence + len(more))
        if not found.events:
            return None
        # A full read may be large, and unlike a turn it is not urgent: let others run meanwhile.
        events = await sliced(Event.from_dict(wire, stamp=False) for wire in found.events)
        return self._tracker(sender_id, found, events)

    async def _beside(self, sender_id: str) -> tuple[int, Sequence[EncodedEvent], Any]:
        """What another program has written beside the history and is not in it yet: the number
        from which on it may be, the events, and what `_do_drop_beside` needs."""
        events, seen = await self._running.finish(self._do_beside(sender_id))
        if not events:
            return 0, events, seen
        # It may have begun with what it had read before the conversation was converted, or with
        # a copy of all, and does not store each field as it was, nor events that it does not know.
        stored = await self._load(sender_id, self._do_read(sender_id, True))
        known = {_identity(wire) for wire in stored.events}
        new = [event for event in events if _identity(json.loads(event.text)) not in known]
        return stored.sequence, new, seen

    async def _load(self, sender_id: str, reading: Coroutine[Any, Any, EventLog]) -> EventLog:
        """The events that `reading` returns, parsed. Raises UnreadableHistory for foreign data."""
        with _Readable(sender_id):
            found = await self._running.finish(reading)
            return replace(found, events=found.events[:])

    def _made(self, sender_id: str, found: EventLog) -> tuple[Unmade | list[Event], int]:
        """The events that were claimed, and their size."""
        if isinstance(found.events, StoredEvents):
            return self._recent.made(sender_id, found.events)
        return [Event.from_dict(wire, stamp=False) for wire in found.events], found.size

    def _tracker(self, sender_id: str, found: EventLog, events: Unmade | list[Event]) -> Tracker:
        tracker = Tracker(sender_id, events, initial_slots(self.domain))
        tracker.origin = Origin(
            self._token, len(found.events), found.sequence, history=found.history
        )
        return tracker

    def _origin(self, tracker: Tracker) -> Origin | None:
        """How much of the tracker is stored; None if this store has not read or saved it."""
        origin = tracker.origin
        known = origin is not None and origin.store is self._token
        return origin if known and origin.stored <= len(tracker.events) else None  # type: ignore[union-attr]  # known says so

    def _beyond(self, tracker: Tracker) -> list[Any]:
        origin = self._origin(tracker)
        return tracker.events[origin.stored if origin else 0 :]

    def _stamp(self) -> int:
        return now_ms() if self.publishes else 0

    def _settle(self, tracker: Tracker, origin: Origin, count: int, sequence: int) -> None:
        """Note that the first `count` events of the tracker are stored."""
        tracker.origin = replace(origin, store=self._token, stored=count, sequence=sequence)
        if (claim := origin.claim()) is not None:
            claim.sequence = max(claim.sequence, sequence)

    async def _locate(self, sender_id: str, wires: list[dict[str, Any]]) -> Origin:
        """Find the events of a tracker made by hand, or by another store object, in the store.

        Usually the tracker holds the latest session or all events, and new ones after them. So
        the longest match is taken.
        """
        best = Origin(self._token, 0, 0)
        for full in (False, True):
            stored = await self._load(sender_id, self._do_read(sender_id, full))
            if not best.stored:
                best.sequence = stored.sequence
            for place, event in enumerate(stored.events):
                if event == wires[0]:
                    count = common_start(stored.events[place:], wires)
                    if count > best.stored:
                        best = Origin(self._token, count, stored.first + place + count)
            if best.stored == len(wires):
                break  # otherwise a similar session may have hidden a longer match
        return best
