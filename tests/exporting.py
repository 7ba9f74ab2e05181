"""A broker, histories and an export of them, for tests without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from contract_events import user
from ticketlock.stores.memory import InMemoryTrackerStore

from ticketlock.publishing.broker import EventBroker
from ticketlock.publishing.export.export import EventExport
from ticketlock.publishing.export.options import ExportResult
from ticketlock.publishing.message import DELIVERED, BrokerMessage, Outcome
from ticketlock.tracker.tracker import Tracker

Judge = Callable[[BrokerMessage], Outcome]


class Broker(EventBroker):
    """Keeps what it confirms; `judge` says what becomes of a message."""

    def __init__(self, judge: Judge = lambda _: DELIVERED) -> None:
        self.judge = judge
        self.kept: list[BrokerMessage] = []
        self.batches: list[int] = []

    async def deliver(
        self, batch: Sequence[BrokerMessage], timeout: float | None = None
    ) -> list[Outcome]:
        await asyncio.sleep(0)
        self.batches.append(len(batch))
        outcomes = [self.judge(message) for message in batch]
        self.kept += [m for m, o in zip(batch, outcomes, strict=True) if o == DELIVERED]
        return outcomes

    def names(self) -> list[tuple[str, int | None]]:
        return [(message.conversation_id, message.sequence) for message in self.kept]


#: Stored order is not the order of the timestamps, and conversations overlap in time.
HISTORIES = {
    "b": [user("b0", 50), user("b1", 10), user("b2", 30)],
    "a": [user("a0", 20), user("a1", 40), user("a2", 60), user("a3", 5)],
    "c": [user("c0", 1)],
}

ALL = [("a", 0), ("a", 1), ("a", 2), ("a", 3), ("b", 0), ("b", 1), ("b", 2), ("c", 0)]


async def filled(histories: dict[str, list[dict[str, Any]]] = HISTORIES) -> InMemoryTrackerStore:
    store = InMemoryTrackerStore()
    for sender_id, events in histories.items():
        await store.update(Tracker.from_dict(sender_id, events))
        store._conversations[sender_id].history = 1  # each run fills its own: of one life
    return store


def export(broker: EventBroker, store: Any = None, **arguments: Any) -> ExportResult:
    async def body() -> ExportResult:
        made = EventExport(store or await filled(), broker, **{"patience": 0.3, **arguments})
        return await made.run()

    return asyncio.run(body())
