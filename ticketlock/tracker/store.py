"""`TrackerStore`: the interface of every tracker store.

It is also all that a custom store needs: a subclass with `save`, `retrieve` and `keys` inherits
the rest. Its fence is then kept in this process only: it stops stale turns of this process, not
those of other replicas. The built-in stores enforce it in the database, see
`ticketlock.tracker.fenced`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..aio.running import result
from ..checks import check_sender_id
from ..domain.domain import Domain
from ..errors import StaleFence
from ..events import LISTEN, ActionExecuted, Event
from ..events.codec import check_claim, check_mark, encode_events
from ..imports import registry
from ..plain_json import weight
from .memory_outbox import MemoryOutbox
from .outbox import Outbox
from .tracker import Claim as Claim  # noqa: PLC0414  # `turn` imports it from here
from .tracker import Tracker

T = TypeVar("T")
S = TypeVar("S", bound="TrackerStore")

#: A conversation id that is never used, for checks of readiness.
PROBE = "ticketlock ready"


@dataclass
class _LocalClaim:
    """A claim on a custom store, kept in this process."""

    fence: int
    owner: str
    base: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)


class TrackerStore:
    """Keeps the events of conversations.

    Args:
        domain: a `Domain`; a mapping whose `slots` say initial values, an object with such an
            attribute, or None: slots appear when they are set.
        event_broker: kept for the caller; a store never publishes by itself.
    """

    #: Whether events that are written from now on go to the outbox; a relay sets it.
    publishes = False
    #: Whether the store writes events and their outbox entry in one atomic step.
    feeds_outbox = False
    #: Whether `append` stores the mark that it is given.
    keeps_marks = False
    #: Whether its operations may wait, so that they can be cancelled half way.
    waits = True
    #: Whether all processes read the same histories.
    shared = True
    #: Whether a turn connects it before it takes a ticket: the first use makes clients, and tables.
    unconnected = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls).get("append")
        if own is not None and "mark" not in inspect.signature(own).parameters:
            cls.keeps_marks = False  # a user's class, written before there were marks

    def __init__(self, domain: Any = None, event_broker: Any = None, **kwargs: Any) -> None:
        self.domain = domain
        self.event_broker = event_broker
        self._local_claims: dict[str, _LocalClaim] = {}
        #: The events that wait to be published. For a custom store they wait in this process,
        #: and are lost when it ends.
        self.outbox: Outbox = MemoryOutbox()

    # -- what a custom store implements, plain or async --------------------------------------

    async def save(self, tracker: Tracker) -> None:
        """Append the tracker's events that are not stored yet; saving twice adds nothing.

        A tracker that came from `claim` is saved under that claim: raises StaleFence when a
        later turn has claimed the conversation. Any other tracker is appended without a fence,
        and never overwrites stored events. A tracker without events stores nothing.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement save")

    async def retrieve(self, sender_id: str) -> Tracker | None:
        """The latest session, from its `action_session_start` on; None without events."""
        raise NotImplementedError(f"{type(self).__name__} must implement retrieve")

    async def keys(self) -> list[str]:
        """The ids of all conversations that have events, in any order."""
        raise NotImplementedError(f"{type(self).__name__} must implement keys")

    # -- inherited by a custom store -----------------------------------------------------------

    async def retrieve_full_tracker(self, sender_id: str) -> Tracker | None:
        """All sessions; None without events."""
        return await result(self.retrieve(sender_id))

    async def exists(self, sender_id: str) -> bool:
        """Whether the conversation has any event; looking never creates one."""
        return await result(self.retrieve(sender_id)) is not None

    async def get_or_create_tracker(
        self,
        sender_id: str,
        max_event_history: int | None = None,
        append_action_listen: bool = True,
    ) -> Tracker:
        """The latest session, or a new conversation as `create_tracker` makes it.

        Args:
            max_event_history: how many events the `current_state` of this tracker shows; the
                stored events are not touched.
        """
        tracker = await result(self.retrieve(sender_id))
        if tracker is None:
            tracker = await self.create_tracker(sender_id, append_action_listen)
        tracker.max_event_history = max_event_history
        return tracker

    async def get_or_create_full_tracker(
        self, sender_id: str, append_action_listen: bool = True
    ) -> Tracker:
        """As `get_or_create_tracker`, with all sessions."""
        tracker = await result(self.retrieve_full_tracker(sender_id))
        return tracker or await self.create_tracker(sender_id, append_action_listen)

    async def create_tracker(self, sender_id: str, append_action_listen: bool = True) -> Tracker:
        """A new tracker, saved with an `action_listen`; nothing is stored without one."""
        tracker = self.init_tracker(check_sender_id(sender_id))
        if append_action_listen:
            tracker.update(ActionExecuted(LISTEN))
            await result(self.save(tracker))
        return tracker

    def init_tracker(self, sender_id: str) -> Tracker:
        """An empty tracker with the domain's slots; it is not stored."""
        return Tracker(sender_id, slots=initial_slots(self.domain))

    @property
    def histories_at(self) -> str:
        """Where the histories are, without secrets: equal for stores that share them; "": not known."""
        return ""

    async def delete(self, sender_id: str) -> bool:
        """Remove a conversation; return whether it had events.

        Claims on it become invalid: a later `append` under one raises StaleFence.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement delete")

    async def update(self, tracker: Tracker) -> None:
        """Replace all stored events of the conversation by those of the tracker.

        Sequence numbers go on: none is used twice. Fenced as `save` is.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement update")

    async def count_conversations(self, after_timestamp: float = 0.0) -> int:
        """How many conversations have an event of that time (epoch seconds) or later.

        An event without a timestamp counts as one at time 0.
        """
        count = 0
        for sender_id in await result(self.keys()):
            tracker = await result(self.retrieve_full_tracker(sender_id))
            times = [event.timestamp or 0.0 for event in tracker.events] if tracker else []
            count += any(moment >= after_timestamp for moment in times)
        return count

    async def claim(self, sender_id: str, fence: int, owner: str) -> Claim:
        """Make the turn with this fence the only one that may write, and read the tracker.

        Claiming again with the same fence and owner changes nothing.

        Raises StaleFence if a later turn, or another owner with this fence, has claimed it.
        """
        sender_id = check_sender_id(sender_id)
        check_claim(fence, owner)
        held = self._local_claims.get(sender_id)
        if held and (held.fence > fence or (held.fence == fence and held.owner != owner)):
            raise StaleFence(sender_id, fence, held.fence)
        self._local_claims[sender_id] = mine = _LocalClaim(fence, owner)
        tracker = await result(self.retrieve(sender_id)) or self.init_tracker(sender_id)
        mine.base = len(tracker.events)
        size = weight(json.dumps(event.as_dict(), default=str) for event in tracker.events)
        return Claim(sender_id, fence, owner, tracker, mine.base, size)

    async def append(
        self, claim: Claim, events: Sequence[Mapping[str, Any]], mark: str | None = None
    ) -> None:
        """Append events under a claim: all of them or, if this raises, none.

        After a lost reply, call it again with the same events: no event is stored twice.

        Args:
            mark: a text for later turns, at most 64 KiB of UTF-8, which is stored with the
                conversation in the same atomic step, also without events; the next `claim`
                returns it. It is no event: it is neither published nor exported, `update`
                leaves it, and it goes with the conversation. None leaves the stored one.
                A store that keeps no marks (`Claim.mark` is None) ignores it.

        Raises:
            StaleFence: a later turn has claimed the conversation. Give up the turn.
            InvalidEvent: an event cannot be stored without loss.
            ValueError: the mark is too long, or cannot be stored.
            TrackerStoreConnectionError: the events may or may not be stored; try again with
                the same claim, the same events and the same mark.
        """
        check_mark(mark)
        encode_events(events)
        held = self._local_claims.get(claim.sender_id)
        if held is None or (held.fence, held.owner) != (claim.fence, claim.owner):
            raise StaleFence(claim.sender_id, claim.fence, held.fence if held else 0)
        known = held.events[claim.sequence - held.base :]
        held.events += [dict(event) for event in events[common_start(known, events) :]]
        tracker = await result(self.retrieve(claim.sender_id)) or self.init_tracker(claim.sender_id)
        for event in held.events[self._kept(tracker, held) :]:
            tracker.update(Event.from_dict(event, stamp=False))
        await result(self.save(tracker))
        claim.sequence = held.base + len(held.events)

    @staticmethod
    def _kept(tracker: Tracker, held: _LocalClaim) -> int:
        """How many of the claim's events the stored tracker ends with."""
        stored = [event.as_dict() for event in tracker.events[-len(held.events) :]]
        for size in range(min(len(stored), len(held.events)), 0, -1):
            if stored[-size:] == held.events[:size]:
                return size
        return 0

    async def connect(self) -> None:
        """Connect now, so that wrong settings are reported at the start.

        Raises TrackerStoreConnectionError. Without this call the first use connects.
        """

    async def check_ready(self) -> None:
        """Raise TrackerStoreError unless conversations can be read and written now.

        Changes nothing. This implementation only reads.
        """
        await result(self.exists(PROBE))

    async def close(self) -> None:
        """Close all connections. The store cannot be used afterwards."""

    async def __aenter__(self: S) -> S:
        try:
            await self.connect()
        except BaseException:
            await self.close()  # a failed or cancelled `connect` may have opened connections
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    @staticmethod
    def create(obj: Any = None, domain: Any = None, event_broker: Any = None) -> TrackerStore:
        """Create a store from a `tracker_store` section. A store is returned as it is; None
        gives a store in memory.

        Raises ConfigurationError; never falls back to another store.
        """
        created: TrackerStore = registry().create_tracker_store(
            obj, domain=domain, event_broker=event_broker
        )
        return created


def common_start(stored: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]) -> int:
    """How many events both lists begin with: a retried append finds them stored already."""
    count = 0
    for one, other in zip(stored, events):  # noqa: B905  # they differ in length
        if one != other:
            break
        count += 1
    return count


def initial_slots(domain: Any) -> Mapping[str, Any]:
    """The initial values in a domain's `slots`: plain values or mappings with `initial_value`."""
    if isinstance(domain, Domain):
        return domain.initial_slots
    slots = domain.get("slots") if isinstance(domain, Mapping) else getattr(domain, "slots", None)
    if isinstance(slots, Mapping):
        return {
            name: slot.get("initial_value") if isinstance(slot, Mapping) else slot
            for name, slot in slots.items()
        }
    return {slot.name: getattr(slot, "initial_value", None) for slot in slots or ()}
