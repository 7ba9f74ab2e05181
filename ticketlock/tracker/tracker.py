"""`Tracker`: the events of a conversation, and the state that follows from them."""

from __future__ import annotations

import enum
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any

from .. import events as e
from ..domain.slots import DeclaredSlots
from ..events.event import Event
from .state import TrackerState
from .stored import Unmade, changing


class EventVerbosity(enum.Enum):
    """Which events `current_state` has."""

    #: No events: `events` is null.
    NONE = 1
    #: Those after the last restart or session start, without reverted ones.
    APPLIED = 2
    #: All from the last restart on.
    AFTER_RESTART = 3
    ALL = 4


@dataclass
class Origin:
    """How many of a tracker's events are stored; kept by the stores.

    Attributes:
        store: token of the store object that has them.
        stored: how many of the tracker's events are known to be stored.
        sequence: the sequence number of the next event at that time.
        guard: fence and owner of the claim under which the tracker was read, if any: saving it is fenced.
        claim: that claim, which has the tracker; None if it is gone.
        history: when the conversation was created, in milliseconds since the epoch; it differs
            after a deletion. 0: not known.
    """

    store: object
    stored: int
    sequence: int
    guard: tuple[int, str] | None = None
    claim: Callable[[], Claim | None] = NoneType
    history: int = 0

    def claimed(self, claim: Claim) -> None:
        """The tracker was read under a claim."""
        # Weak, because the claim has the tracker: each turn would wait for the garbage collector.
        self.guard, self.claim = (claim.fence, claim.owner), weakref.ref(claim)

    def __getstate__(self) -> dict[str, Any]:
        """For a copy, also in another process: a reference cannot be pickled."""
        return {**vars(self), "claim": NoneType}


@dataclass
class Claim:
    """The right to append to a conversation until a later turn claims it.

    Attributes:
        sender_id: the conversation.
        fence: the fence of the turn; higher than that of every earlier one.
        owner: the name of the claimant, by which a retried claim is recognised.
        tracker: the latest session when it was claimed; empty for a new conversation.
        sequence: how many events the conversation has ever had: the sequence number of the
            next one. `append` advances it.
        size: the `weight` of the JSON of the tracker's events.
        mark: the mark as it was when the conversation was claimed, see `TrackerStore.append`;
            "": none was stored; None: the store keeps no marks.
    """

    sender_id: str
    fence: int
    owner: str
    tracker: Tracker
    sequence: int
    size: int = 0
    mark: str | None = None


class Tracker:
    """A conversation: its events in order, and the state that they lead to.

    Args:
        sender_id: the conversation id.
        events: the events so far; those of a store may be unmade.
        slots: initial values of the slots; others appear when they are set, but not beside those
            of a `Domain`.
        max_event_history: how many events `current_state` shows; all are kept and stored.
    """

    def __init__(
        self,
        sender_id: str,
        events: Iterable[Event] | Unmade = (),
        slots: Mapping[str, Any] | None = None,
        max_event_history: int | None = None,
    ) -> None:
        self.sender_id = sender_id
        self.max_event_history = max_event_history
        self.initial_slots: Mapping[str, Any] = (
            slots if isinstance(slots, DeclaredSlots) else dict(slots or {})
        )
        #: Stored events that nobody has asked for so far, and those behind them; of one moment.
        self._held: tuple[Unmade | None, list[Event]] = (
            (events, []) if isinstance(events, Unmade) else (None, list(events))
        )
        self.origin: Origin | None = None
        self._state: TrackerState | None = None

    @classmethod
    def from_dict(
        cls,
        sender_id: str,
        events_as_dict: Iterable[Mapping[str, Any]],
        slots: Mapping[str, Any] | None = None,
        max_event_history: int | None = None,
    ) -> Tracker:
        """A tracker of events as dictionaries, which are not changed; raises InvalidEvent."""
        events = (Event.from_dict(wire, stamp=False) for wire in events_as_dict)
        return cls(sender_id, events, slots, max_event_history)

    @classmethod
    def from_events(
        cls, sender_id: str, evts: Iterable[Event], slots: Mapping[str, Any] | None = None
    ) -> Tracker:
        """A tracker of these events; `slots` are the initial ones."""
        return cls(sender_id, evts, slots)

    @property
    def events(self) -> list[Event]:
        """The events so far."""
        unmade, events = self._held
        if unmade is None:
            return events
        made = unmade.make()
        with changing:
            if self._held[0] is unmade:  # else another thread was first
                self._held = None, made + events
        return self._held[1]

    @events.setter
    def events(self, events: list[Event]) -> None:
        self._held = None, events

    def __getstate__(self) -> dict[str, Any]:
        """For a copy, also in another process: of the events, not of what a store keeps."""
        return {**vars(self), "_held": (None, self.events)}

    # -- what each turn asks, without making the stored events ---------------------------------------

    def _known(self) -> tuple[Unmade | None, list[Event]]:
        """The stored events, and those behind them; all are made if a later turn has found others."""
        outdated = self._held[0] is not None and self._held[0].outdated
        return (None, self.events) if outdated else self._held

    @property
    def count(self) -> int:
        """How many events there are."""
        unmade, events = self._held
        return len(events) + (0 if unmade is None else unmade.count)

    def since(self, place: int) -> list[Event]:
        """The events from an index on."""
        unmade, events = self._held
        if unmade is not None and place >= unmade.count:
            return events[place - unmade.count :]
        return self.events[place:]

    @property
    def kinds(self) -> list[type[Event]]:
        """The types of the events."""
        unmade, events = self._held
        return [*(() if unmade is None else unmade.kinds), *map(type, events)]

    @property
    def first_with_metadata(self) -> Event | None:
        """The first event, if it has metadata."""
        if (unmade := self._held[0]) is not None and unmade.count and not unmade.headed:
            return None
        return next((event for event in self.events[:1] if event.metadata), None)

    def find_message(self, message_id: str) -> tuple[int, float] | None:
        """Index and time of the last event of the user with a message id; None: there is none."""
        unmade, events = self._known()
        before = 0 if unmade is None else unmade.count
        for place, event in reversed([*enumerate(events, before)]):
            if isinstance(event, e.UserUttered) and event.message_id == message_id:
                return place, event.timestamp
        return None if unmade is None else unmade.find(message_id)

    @property
    def last_message_at(self) -> float | None:
        """The time of the last event of the user; None without one."""
        unmade, events = self._known()
        behind = (x.timestamp for x in reversed(events) if isinstance(x, e.UserUttered))
        return next(behind, None if unmade is None else unmade.last_message_at)

    def update(self, event: Event | Mapping[str, Any]) -> None:
        """Append an event and apply it; a mapping gets a timestamp if it has none."""
        made, state = event if isinstance(event, Event) else Event.from_dict(event), self._state
        with changing:
            self._held[1].append(made)
        if state is not None and not state.apply(made):
            self._state = None  # the event reverts others: apply all of them again

    def update_with_events(self, new_events: Iterable[Event | Mapping[str, Any]]) -> None:
        """Apply events, typed or plain, in order."""
        for event in new_events:
            self.update(event)

    @property
    def state(self) -> TrackerState:
        """The state after all events. `update` changes this object."""
        if self._state is None:
            self._state = TrackerState(self.initial_slots)
            for event in _effective(self.events):
                self._state.apply(event)
        return self._state

    @property
    def slots(self) -> dict[str, Any]:
        """The slots and their values."""
        return self.state.slots

    @property
    def latest_message(self) -> dict[str, Any]:
        """The last message of the user: `text`, `intent`, `entities` and so on."""
        return self.state.latest_message

    @property
    def followup_action(self) -> str | None:
        """The action that must run next; None if none is set."""
        return self.state.followup_action

    @property
    def active_loop(self) -> dict[str, Any]:
        """The active form or loop, with its `name`; empty without one."""
        return self.state.active_loop

    @property
    def latest_action_name(self) -> str | None:
        """The name of the last action, if any."""
        return self.state.latest_action_name

    def is_paused(self) -> bool:
        """Whether the conversation is paused: the bot is silent."""
        return self.state.paused

    @property
    def latest_input_channel(self) -> str | None:
        """The channel of the user's last message, of any session."""
        users = (x for x in reversed(self.events) if isinstance(x, e.UserUttered))
        return next((user.input_channel for user in users), None)

    @property
    def latest_event_time(self) -> float | None:
        """Epoch seconds of the last event, if any."""
        return self.events[-1].timestamp if self.events else None

    def applied_events(self) -> list[Event]:
        """The events that form the state, in order, without the restart or session start."""
        return [x for x in _effective(self.events) if not isinstance(x, _RESETS)]

    def sessions(self) -> Iterator[list[Event]]:
        """The events cut before each `action_session_start`, oldest session first."""
        session: list[Event] = []
        for event in self.events:
            if session and _starts_session(event):
                yield session
                session = []
            session.append(event)
        if session:
            yield session

    def latest_session(self) -> list[Event]:
        """The events from the last `action_session_start` on, or all without one."""
        return self.events[_last(self.events, _starts_session) :]

    def forget_earlier_sessions(self) -> None:
        """Drop the events before the latest session from this object, not from the store."""
        cut = _last(self.events, _starts_session)
        del self.events[:cut]
        if self.origin is not None:
            self.origin.stored = max(0, self.origin.stored - cut)

    def events_after_latest_restart(self) -> list[Event]:
        """The events from the latest restart on, or all without one."""
        return self.events[_last(self.events, lambda x: isinstance(x, e.Restarted)) :]

    def unsaved_events(self) -> list[dict[str, Any]]:
        """The events added since a store returned or saved this tracker."""
        return [x.as_dict() for x in self.events[self.origin.stored if self.origin else 0 :]]

    def current_state(self, verbosity: EventVerbosity = EventVerbosity.NONE) -> dict[str, Any]:
        """The state as a dictionary of the documented keys."""
        state, shown = self.state, self.shown(verbosity)
        return {
            "sender_id": self.sender_id,
            "slots": dict(state.slots),
            "latest_message": dict(state.latest_message),
            "latest_event_time": self.latest_event_time,
            "followup_action": state.followup_action,
            "paused": state.paused,
            "events": None if shown is None else [event.as_dict() for event in shown],
            "latest_input_channel": self.latest_input_channel,
            "active_loop": dict(state.active_loop),
            "latest_action": dict(state.latest_action),
            "latest_action_name": state.latest_action_name,
        }

    def shown(self, verbosity: EventVerbosity) -> list[Event] | None:
        """The events that `current_state` has at this verbosity."""
        if verbosity is EventVerbosity.NONE:
            return None
        shown = self.events
        if verbosity is EventVerbosity.APPLIED:
            shown = self.applied_events()
        elif verbosity is EventVerbosity.AFTER_RESTART:
            shown = self.events_after_latest_restart()
        if self.max_event_history is not None:
            shown = shown[max(0, len(shown) - self.max_event_history) :]
        return shown

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Tracker)
            and self.sender_id == other.sender_id
            and self.events == other.events
        )

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"<Tracker {self.sender_id!r} with {self.count} events>"


_RESETS = (e.Restarted, e.SessionStarted)


def _starts_session(event: Event) -> bool:
    return isinstance(event, e.ActionExecuted) and event.name == e.SESSION_START


def _last(events: list[Event], wanted: Any) -> int:
    """Index of the last wanted event; 0 without one."""
    return next((i for i in range(len(events) - 1, -1, -1) if wanted(events[i])), 0)


#: Indexes of the events of some kinds. Searching the list each time would be quadratic.
_Places = dict[type[Event], list[int]]


def _effective(events: list[Event]) -> list[Event]:
    """The last reset, and the events after it that were not reverted."""
    kept: list[Event] = []
    places: _Places = {e.ActionExecuted: [], e.UserUttered: []}
    for event in events:
        if isinstance(event, _RESETS):
            _cut(kept, places, 0)
            kept.append(event)
        elif isinstance(event, e.ActionReverted):
            _take_back(kept, places, e.ActionExecuted)
        elif isinstance(event, e.UserUtteranceReverted):
            # The `action_listen` before the message is reverted with it.
            if _take_back(kept, places, e.UserUttered) and _is_listen(kept):
                _cut(kept, places, len(kept) - 1)
        else:
            for kind, found in places.items():
                if isinstance(event, kind):
                    found.append(len(kept))
            kept.append(event)
    return kept


def _is_listen(events: list[Event]) -> bool:
    last = events[-1] if events else None
    return isinstance(last, e.ActionExecuted) and last.name == e.LISTEN


def _take_back(events: list[Event], places: _Places, kind: type[Event]) -> bool:
    """Cut the list before its last event of a kind; False if it has none."""
    if not places[kind]:
        return False
    _cut(events, places, places[kind][-1])
    return True


def _cut(events: list[Event], places: _Places, length: int) -> None:
    """Shorten the list."""
    del events[length:]
    for found in places.values():
        while found and found[-1] >= length:
            found.pop()
