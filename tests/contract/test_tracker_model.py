"""Random turns, crashes, lost replies, re-saves and replacements against a list in memory."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest
from contract_events import session, user
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketlock.errors import StaleFence
from ticketlock.tracker.store import TrackerStore
from ticketlock.tracker.tracker import Claim, Tracker

STEPS = st.sampled_from(
    ["turn", "session", "crash", "lost reply", "stale", "save", "save again", "by hand",
     "replace", "delete", "claimed save"],
)  # fmt: skip


class Model:
    """One conversation, twice: in the store, and as the list it should be."""

    def __init__(self, stores: list[TrackerStore], sender_id: str) -> None:
        self.stores = stores
        self.sender_id = sender_id
        self.expected: list[dict[str, Any]] = []
        self.sequence = 0
        self.fence = 0
        self.claims: list[Claim] = []
        self.trackers: list[Tracker] = []
        self.texts = count()

    def new(self, number: int) -> list[dict[str, Any]]:
        # Timestamps go back and forth: they must not matter.
        return [user(str(n), -n % 7) for n, _ in zip(self.texts, range(number))]  # noqa: B905

    def stored(self, events: list[dict[str, Any]]) -> None:
        self.expected += events
        self.sequence += len(events)

    async def claim(self, store: TrackerStore) -> Claim:
        self.fence += 1
        claim = await store.claim(self.sender_id, self.fence, "x")
        assert claim.sequence == self.sequence
        assert [e.as_dict() for e in claim.tracker.events] == self.latest()
        self.claims.append(claim)
        return claim

    def latest(self) -> list[dict[str, Any]]:
        starts = [n for n, e in enumerate(self.expected) if e.get("name") == "action_session_start"]
        return self.expected[starts[-1] if starts else 0 :]

    async def step(self, name: str, size: int, store: TrackerStore) -> None:
        if name in ("turn", "session", "crash", "lost reply", "claimed save"):
            await self._turn(name, size, store)
        elif name == "stale" and len(self.claims) > 1:
            with pytest.raises(StaleFence):
                await store.append(self.claims[size % (len(self.claims) - 1)], self.new(size))
        elif name == "save":
            tracker = await store.retrieve(self.sender_id) or Tracker(self.sender_id)
            events = self.new(size)
            tracker.update_with_events(events)
            await store.save(tracker)
            self.stored(events)
            self.trackers.append(tracker)
        elif name == "save again" and self.trackers:
            await self.stores[0].save(self.trackers[-1])
        elif name == "by hand":
            events = self.new(size)
            await store.save(Tracker.from_dict(self.sender_id, self.expected + events))
            self.stored(events)
        elif name == "replace":
            events = self.expected[:size] + self.new(1)
            await store.update(Tracker.from_dict(self.sender_id, events))
            self.expected, self.sequence = events, self.sequence + len(events)
            self.trackers.clear()
        elif name == "delete":
            await store.delete(self.sender_id)
            self.expected, self.sequence, self.fence = [], 0, self.fence + 1
            self.trackers.clear()
            for claim in self.claims:
                with pytest.raises(StaleFence):
                    await store.append(claim, self.new(1))
            self.claims.clear()

    async def _turn(self, name: str, size: int, store: TrackerStore) -> None:
        claim = await self.claim(store)
        events = session(size) + self.new(size) if name == "session" else self.new(size)
        if name == "crash":
            return
        if name == "claimed save":
            claim.tracker.update_with_events(events)
            await store.save(claim.tracker)
            await store.save(claim.tracker)
        else:
            await store.append(claim, events)
        if name == "lost reply":
            claim.sequence = self.sequence
            await store.append(claim, events)
        self.stored(events)
        assert claim.sequence == self.sequence

    async def check(self, store: TrackerStore) -> None:
        full = await store.retrieve_full_tracker(self.sender_id)
        latest = await store.retrieve(self.sender_id)
        assert ([event.as_dict() for event in latest.events] if latest else []) == self.latest()
        assert ([event.as_dict() for event in full.events] if full else []) == self.expected


def test_any_sequence_of_turns(stores: Any) -> None:
    numbers = count()
    slow = stores.backend == "dynamo"  # its test server takes milliseconds for each call

    @settings(max_examples=12 if slow else 25, deadline=None, database=None)
    @given(st.lists(st.tuples(STEPS, st.integers(0, 4), st.booleans()), max_size=25))
    def histories(steps: list[tuple[str, int, bool]]) -> None:
        async def run() -> None:
            pair = [stores.open(), stores.open()]
            try:
                model = Model(pair, f"conversation {next(numbers)}")
                for name, size, other in steps:
                    store = pair[other]
                    await model.step(name, size, store)
                    await model.check(pair[not other])
            finally:
                await stores.close()

        asyncio.run(run())

    histories()
