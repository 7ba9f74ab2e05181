"""What is exported is what was published live: the same events under the same names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from contract_events import LEGACY_TYPES, session, user
from servers.documented import FORMATS

from ticketlock import Conversations
from ticketlock.publishing.broker import EventBroker
from ticketlock.publishing.export.export import EventExport
from ticketlock.publishing.message import DELIVERED, BrokerMessage, Outcome
from ticketlock.tracker.store import TrackerStore
from ticketlock.tracker.tracker import Tracker

Name = tuple[str, int, int]


class Broker(EventBroker):
    """Keeps the published objects as a consumer gets them."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []

    async def deliver(
        self, batch: Sequence[BrokerMessage], timeout: float | None = None
    ) -> list[Outcome]:
        self.got += [json.loads(message.encode()) for message in batch]
        return [DELIVERED] * len(batch)

    def named(self) -> dict[Name, dict[str, Any]]:
        """The objects by their names, none of which is there twice."""
        found = {(e["sender_id"], e.get("history", 0), e["sequence"]): e for e in self.got}
        assert len(found) == len(self.got)
        return found


async def drained(store: TrackerStore) -> None:
    while (await store.outbox.backlog()).events:
        await asyncio.sleep(0.01)


async def exported(store: TrackerStore) -> dict[Name, dict[str, Any]]:
    broker = Broker()
    await EventExport(store, broker, batch_size=7).run()
    return broker.named()


async def test_the_export_repeats_what_was_published(stores: Any) -> None:
    """Event for event: of several turns, of a history that was replaced, of a second life."""
    live = Broker()
    async with Conversations(None, stores.open(), live) as conversations:
        store = conversations.tracker_store
        for name, events in (("a", session(1)), ("b", LEGACY_TYPES), ("a", [user("x", 2)])):
            async with conversations.turn(name) as turn:
                turn.add(*events)
        await drained(store)
        assert await exported(store) == live.named()
        first_life = {name for name in live.named() if name[0] == "a"}
        await asyncio.sleep(0.002)  # lives are told apart by milliseconds
        await store.delete("a")
        await store.update(Tracker.from_dict("b", [user("all that is left", 3)]))
        async with conversations.turn("a") as turn:
            turn.add(user("back again", 4))
        await drained(store)
        after = await exported(store)
    second = {name: event for name, event in live.named().items() if name in after}
    assert after == second
    assert [(name, number) for name, _, number in sorted(after)] == [
        ("a", 0),
        ("b", len(LEGACY_TYPES)),
    ]
    assert min(after) > max(first_life), "the second life has a greater number"


@pytest.mark.parametrize("stores", FORMATS, indirect=True)
async def test_documented_data_has_no_history(stores: Any) -> None:
    """Until its first turn, which carries it over: from then on it is one life with a number."""
    FORMATS[stores.backend].write(stores.section, "old", [user("before", 1)])
    live = Broker()
    async with Conversations(None, stores.open(), live) as conversations:
        store = conversations.tracker_store
        assert list(await exported(store)) == [("old", 0, 0)]
        async with conversations.turn("old") as turn:
            turn.add(user("after", 2))
        await drained(store)
        after = await exported(store)
    (published,) = live.named()
    assert published[2] == 1
    assert set(after) == {("old", published[1], 0), published}
