"""Run by Rasa's Python: `by_hand.py PORT`. What the tracker stores keep and refuse, and how that ends.

Through the wrapper that Rasa puts around a tracker store: it swallows any `Exception`, and goes on
with an empty tracker.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from rasa.core.lock_store import LockStore
from rasa.core.tracker_store import FailSafeTrackerStore, TrackerStore
from rasa.shared.core.events import ActionExecuted, UserUttered
from rasa.utils.endpoints import EndpointConfig

from ticketlock import ConfigurationError, StaleFence, TrackerStoreConnectionError
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.rasa.trackers import NotStored

Store = FailSafeTrackerStore


def opened(kind: str, **keys: Any) -> Store:
    section = EndpointConfig(type=f"ticketlock.rasa.{kind}", **keys)
    return FailSafeTrackerStore(TrackerStore.create(section))


def refused_sql() -> None:
    """Not by an ImportError, at which Rasa would use a tracker store in memory."""
    said = ""
    try:
        opened("SQLTrackerStore", dialect="postgresql", db="x")
    except ConfigurationError as error:
        said = str(error)
    assert "SQLAlchemy 2" in said, said or "it was opened"


async def given_up(store: Store, doing: Any) -> NotStored:
    """The error with which `doing` ends."""
    try:
        await doing
    except NotStored as error:
        return error
    raise AssertionError("it went on")


async def outside_of_a_turn(url: str) -> None:
    """As with another lock store: no write without a fence, and advice."""
    store = opened("RedisTrackerStore", url=url)
    tracker = await store.get_or_create_tracker("plain", append_action_listen=False)
    tracker.update(UserUttered("hello"))
    error = await given_up(store, store.save(tracker))
    assert "type: ticketlock.rasa.ConcurrentRedisLockStore" in str(error), error
    assert await store.retrieve("plain") is None


async def after_a_later_claim(url: str) -> None:
    """What a turn that was lost unnoticed writes is refused, all of it."""
    store = opened("RedisTrackerStore", url=url)
    locks = LockStore.create(
        EndpointConfig(type="ticketlock.rasa.ConcurrentRedisLockStore", url=url)
    )
    later = create_tracker_store({"type": "redis", "url": url})
    async with locks.lock("stale") as grant:
        tracker = await store.get_or_create_tracker("stale", append_action_listen=False)
        ahead = grant.fence + 10**9  # of the next turn too, as if Redis had lost its memory
        claim = await later.claim("stale", ahead, "the next replica")
        await later.append(claim, [{"event": "restart"}])
        tracker.update(UserUttered("late"))
        error = await given_up(store, store.save(tracker))
        assert isinstance(error.__cause__, StaleFence), error
    found = await store.retrieve_full_tracker("stale")
    assert [event.type_name for event in found.events] == ["restart"], found.events
    async with locks.lock("stale"):  # its fence is lower than what is stored: it is raised
        tracker = await store.retrieve("stale")
        tracker.update(UserUttered("next"))
        await store.save(tracker)
    found = await store.retrieve_full_tracker("stale")
    assert [event.type_name for event in found.events] == ["restart", "user"], found.events
    await later.close()
    await locks.close()


async def saved_twice(url: str) -> None:
    """A turn that saves what it has so far, and a session that starts between two saves."""
    store = opened("RedisTrackerStore", url=url)
    locks = LockStore.create(
        EndpointConfig(type="ticketlock.rasa.ConcurrentRedisLockStore", url=url)
    )
    async with locks.lock("twice"):
        tracker = await store.get_or_create_tracker("twice", append_action_listen=False)
        for text in ("one", "two"):
            tracker.update(UserUttered(text))
            tracker.update(ActionExecuted("action_session_start"))
            await store.save(tracker)
            await store.save(tracker)
    async with locks.lock("twice"):
        tracker = await store.retrieve("twice")  # the latest session alone
        kinds = [event.type_name for event in tracker.events]
        assert kinds == ["action"], kinds
        for text in ("three", "four"):
            tracker.update(UserUttered(text))
            await store.save(tracker)
    found = await store.retrieve_full_tracker("twice")
    kinds = [getattr(event, "text", event.type_name) for event in found.events]
    assert kinds == ["one", "action", "two", "action", "three", "four"], kinds
    assert set(await store.keys()) == {"stale", "twice"}  # as `rasa export` asks
    await locks.close()


async def without_a_server() -> None:
    """A history that cannot be read is not an empty one."""
    store = opened("RedisTrackerStore", url="redis://127.0.0.1:1/0", socket_timeout=1)
    error = await given_up(store, store.retrieve("gone"))
    assert isinstance(error.__cause__, TrackerStoreConnectionError), error


async def main(port: str) -> None:
    url = f"redis://127.0.0.1:{port}/3"
    refused_sql()
    await outside_of_a_turn(url)
    await after_a_later_claim(url)
    await saved_twice(url)
    await without_a_server()


asyncio.run(main(sys.argv[1]))
