"""The state of a tracker as JSON, which may be large."""

from __future__ import annotations

from ..aio.slices import sliced
from ..plain_json import dumped
from .tracker import EventVerbosity, Tracker


async def state_json(tracker: Tracker, verbosity: EventVerbosity) -> bytes:
    """`Tracker.current_state` as JSON in UTF-8; the events, which may be many, are rendered in slices."""
    state, shown = tracker.current_state(EventVerbosity.NONE), tracker.shown(verbosity)
    if shown is None:
        return dumped(state)
    del state["events"]
    head = dumped(state)
    events = await sliced(dumped(event.as_dict()) for event in list(shown))
    return b'%b,"events":[%b]}' % (head[:-1], b",".join(events))
