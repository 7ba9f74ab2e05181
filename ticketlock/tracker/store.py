"""`TrackerStore`: the interface of every tracker store.

It is also all that a custom store needs: a subclass that offers `save`, `retrieve` and `keys`
gets the rest from here. Its fence is then kept in this process only: it stops a stale turn of
this process, and knows nothing of other replicas. The built-in stores do better, see
`ticketlock.fenced_store`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

from ..aio.running import result
from ..checks import check_sender_id
from ..errors import StaleFence
from ..events import LISTEN, ActionExecuted, Event
from ..events.codec import check_claim, encode_events
from ..imports import registry
from ..plain_json import weight
from .memory_outbox import VolatileOutbox
from .outbox import Outbox
from .tracker import Claim as Claim  # noqa: PLC0414  # `turn` has it from here
from .tracker import Tracker

T = TypeVar("T")
S = TypeVar("S", bound="TrackerStore")

#: A conversation id that nobody uses.
PROBE = "ticketlock ready"


@dataclass
class _Held:
    """What this process knows of a claim on a custom store."""

    fence: int
    owner: str
    base: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)


class TrackerStore:
    """Keeps the events of conversations.

    Args:
        domain: a mapping whose `slots` say initial values, an object with such an attribute,
            or None: slots appear when they are set.
        event_broker: kept for the caller; a store never publishes by itself.
    """

    #: Whether what is written from now on goes to the outbox; set by whoever relays it.
    publishes = False
    #: Whether the store puts what it writes into its outbox by itself, in the same step.
    feeds_outbox = False

    def __init__(self, domain: Any = None, event_broker: Any = None, **kwargs: Any) -> None:
        self.domain = domain
        self.event_broker = event_broker
        self._held: dict[str, _Held] = {}
        #: What waits to be published. A custom store has none of its own: the events wait in
        #: this process, and are lost with it.
        self.outbox: Outbox = VolatileOutbox()

    # -- what a custom store implements, plain or async --------------------------------------

    async def save(self, tracker: Tracker) -> None:
        """Append the tracker's events that are not stored yet; saving twice adds nothing.

        A tracker that came from `claim` is saved under that claim: raises StaleFence when a
        later turn has claimed the conversation. Any other is appended, without a fence, to
        what is there, and never overwrites it. A tracker without events stores nothing.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement save")

    async def retrieve(self, sender_id: str) -> Tracker | None:
        """The latest session, from its `action_session_start` on; None if there is nothing."""
        raise NotImplementedError(f"{type(self).__name__} must implement retrieve")

    async def keys(self) -> list[str]:
        """The ids of all conversations that have events, in no particular order."""
        raise NotImplementedError(f"{type(self).__name__} must implement keys")

    # -- the rest ------------------------------------------------------------------------------

    async def retrieve_full_tracker(self, sender_id: str) -> Tracker | None:
        """All sessions; None if there is nothing."""
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
            max_event_history: a limit of this one tracker's `current_state`; nothing is
                dropped from what is stored.
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

    async def delete(self, sender_id: str) -> bool:
        """Remove everything of a conversation; return whether there was anything.

        A claim on it is void: what its holder appends is refused.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement delete")

    async def update(self, tracker: Tracker) -> None:
        """Make the tracker's events the whole history, the same in every store.

        Sequence numbers go on: none is used for a second event. Fenced as `save` is.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement update")

    async def count_conversations(self, after_timestamp: float = 0.0) -> int:
        """How many conversations have an event of that time (epoch seconds) or later.

        An event without a timestamp counts as one of time 0.
        """
        count = 0
        for sender_id in await result(self.keys()):
            tracker = await result(self.retrieve_full_tracker(sender_id))
            times = [event.timestamp or 0.0 for event in tracker.events] if tracker else []
            count += any(moment >= after_timestamp for moment in times)
        return count

    async def claim(self, sender_id: str, fence: int, owner: str) -> Claim:
        """Record that the turn with this fence writes from now on, and read the tracker.

        A claim that is retried, with the same fence and owner, is harmless.

        Raises StaleFence if a later turn, or another owner with this fence, was here first.
        """
        check_sender_id(sender_id)
        check_claim(fence, owner)
        held = self._held.get(sender_id)
        if held and (held.fence > fence or (held.fence == fence and held.owner != owner)):
            raise StaleFence(sender_id, fence, held.fence)
        self._held[sender_id] = mine = _Held(fence, owner)
        tracker = await result(self.retrieve(sender_id)) or self.init_tracker(sender_id)
        mine.base = len(tracker.events)
        size = weight(json.dumps(event.as_dict(), default=str) for event in tracker.events)
        return Claim(sender_id, fence, owner, tracker, mine.base, size)

    async def append(self, claim: Claim, events: Sequence[Mapping[str, Any]]) -> None:
        """Append events under a claim: all of them or, if this raises, none.

        Call it again with the same events after a lost reply: nothing is stored twice.

        Raises:
            StaleFence: a later turn has claimed the conversation. Give up the turn.
            InvalidEvent: an event cannot be stored without loss.
            TrackerStoreConnectionError: it is not known whether the events were stored;
                try again with the same claim and the same events.
        """
        encode_events(events)
        held = self._held.get(claim.sender_id)
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
    def _kept(tracker: Tracker, held: _Held) -> int:
        """How many of the claim's events the stored tracker ends with."""
        stored = [event.as_dict() for event in tracker.events[-len(held.events) :]]
        for size in range(min(len(stored), len(held.events)), 0, -1):
            if stored[-size:] == held.events[:size]:
                return size
        return 0

    async def connect(self) -> None:
        """Reach the server now, so that a wrong setting is an error at the start.

        Raises TrackerStoreConnectionError. Without it the first use connects.
        """

    async def check_ready(self) -> None:
        """Raise TrackerStoreError unless conversations can be read and written now.

        Changes nothing. A store that does not override it is only read from.
        """
        await result(self.exists(PROBE))

    async def close(self) -> None:
        """Close all connections. The store cannot be used after that."""

    async def __aenter__(self: S) -> S:
        try:
            await self.connect()
        except BaseException:
            await self.close()  # what a cancelled or failed one has opened
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @staticmethod
    def create(obj: Any = None, domain: Any = None, event_broker: Any = None) -> TrackerStore:
        """A store from a `tracker_store` section; a store passes through, None is in-memory.

        Raises ConfigurationError; never falls back to another store.
        """
        created: TrackerStore = registry().create_tracker_store(
            obj, domain=domain, event_broker=event_broker
        )
        return created


def common_start(stored: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]) -> int:
    """How many events both lists begin with: those of a retried append are stored already."""
    count = 0
    for one, other in zip(stored, events):  # noqa: B905  # they differ in length
        if one != other:
            break
        count += 1
    return count


def initial_slots(domain: Any) -> dict[str, Any]:
    """Initial values from a domain's `slots`: plain values, or mappings with `initial_value`."""
    slots = domain.get("slots") if isinstance(domain, Mapping) else getattr(domain, "slots", None)
    if isinstance(slots, Mapping):
        return {
            name: slot.get("initial_value") if isinstance(slot, Mapping) else slot
            for name, slot in slots.items()
        }
    return {slot.name: getattr(slot, "initial_value", None) for slot in slots or ()}
