"""Histories of the tracker stores here, written into Rasa's own tracker store.

By Rasa's own class, in Rasa's environment; each conversation in one write, then read back. What is
stored here stays as it is: the tracker stores here know a copy of it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from rasa.core import tracker_store as rasa_stores
from rasa.shared.core.trackers import DialogueStateTracker, EventVerbosity

from ..aio.running import result
from ..endpoints.registry import create_event_broker
from ..errors import ConfigurationError
from ..publishing.relay import Relay
from ..tracker.store import TrackerStore
from ..tracker.transfer import Tally, TransferError, as_rasa_reads, history_of

#: Seconds that waiting events have to be published: more than the lease of a relay that was killed.
_PATIENCE = 60.0


def _replace_in_redis(store: Any, tracker: DialogueStateTracker) -> None:
    key = store.key_prefix + tracker.sender_id
    store.red.set(key, store.serialise_tracker(tracker), ex=store.record_exp)


def _replace_in_mongo(store: Any, tracker: DialogueStateTracker) -> None:
    state = tracker.current_state(EventVerbosity.ALL)
    query = {"sender_id": tracker.sender_id}
    store.conversations.update_one(query, {"$set": state}, upsert=True)


#: Rasa's `save` merges with what is there, or appends. These replace it, in Rasa's format.
_REPLACE: dict[type, Callable[[Any, DialogueStateTracker], None]] = {
    rasa_stores.RedisTrackerStore: _replace_in_redis,
    rasa_stores.MongoTrackerStore: _replace_in_mongo,
}


def open_target(section: Any) -> Any:
    """Rasa's own tracker store of a section. Raises ConfigurationError for another one."""
    store = rasa_stores.create_tracker_store(section)
    # DynamoDB is not among them: Rasa would replace the item that refers to the events here.
    if type(store) not in (*_REPLACE, rasa_stores.SQLTrackerStore):
        raise ConfigurationError(
            "--to: the section tracker_store must have Rasa's type: redis, mongod or sql; "
            f"this one is a {type(store).__name__}"
        )
    return store


async def publish(store: TrackerStore, section: Any, seconds: float = _PATIENCE) -> int:
    """Publish the events that still wait for the broker; how many do not get through."""
    left = (await store.outbox.backlog()).events
    broker = await create_event_broker(section) if left else None
    if broker is None:
        return left

    async def give() -> Any:
        return broker

    relay = Relay(store, give)
    relay.start()
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while left and loop.time() < end:
        await asyncio.sleep(0.2)
        left = (await store.outbox.backlog()).events
    await relay.close()
    return left


async def copy(source: TrackerStore, target: Any) -> Tally:
    """Write every conversation of a store into Rasa's."""
    tally = Tally()
    for sender_id in sorted(await result(source.keys())):
        with tally.naming(sender_id):
            events = as_rasa_reads(await history_of(source, sender_id), tally.left_out)
            if events:
                await _copy_one(target, DialogueStateTracker.from_dict(sender_id, events), tally)
            else:
                tally.gone.append(sender_id)
    return tally


async def _copy_one(target: Any, tracker: DialogueStateTracker, tally: Tally) -> None:
    wires = [event.as_dict() for event in tracker.events]
    there = await _wires(target, tracker.sender_id)
    if there == wires:
        tally.skipped += 1
        return
    stamps = {(wire["event"], wire["timestamp"]) for wire in wires}
    if any((wire["event"], wire["timestamp"]) not in stamps for wire in there):
        raise TransferError("Rasa's tracker store has other events of it; it was left unchanged")
    replace = _REPLACE.get(type(target))
    if replace is not None:
        replace(target, tracker)
    elif there:
        raise TransferError(
            f"Rasa's {type(target).__name__} has fewer events of it, and only appends: remove them there"
        )
    else:
        await target.save(tracker)
    kept = await _wires(target, tracker.sender_id)
    if kept != wires:
        raise TransferError(f"{len(wires)} events were written, and {len(kept)} read back")
    tally.conversations += 1
    tally.events += len(wires)


async def _wires(target: Any, sender_id: str) -> list[dict[str, Any]]:
    tracker = await target.retrieve_full_tracker(sender_id)
    return [event.as_dict() for event in tracker.events] if tracker is not None else []
