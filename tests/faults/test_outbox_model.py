"""The outbox against a naive model of it, and a consumer: hypothesis looks for what tells them apart.

The clock is the test's own: leases end when hypothesis says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import pytest
from contract_events import user
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.errors import EventsWaiting
from ticketlock.tracker import fenced as fenced_store
from ticketlock.tracker import outbox
from ticketlock.tracker.outbox import Batch, DeadLetter, Lease
from ticketlock.tracker.store import TrackerStore
from ticketlock.tracker.tracker import Tracker

T = TypeVar("T")

# Most of it meets, or it would seldom be interesting.
RELAYS = st.sampled_from(["one", "one", "two"])
NAMES = st.sampled_from(["a", "a", "a", "b"])

#: Stories that hypothesis tries on SQL; in memory it is four times as many.
EXAMPLES = int(os.environ.get("TICKETLOCK_OUTBOX_EXAMPLES", "30"))

#: Milliseconds of a lease.
LEASE = 1000


class Clock:
    """Stands still but for what the test does."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def time_ns(self) -> int:
        return self.ms * 1_000_000


CLOCK = Clock()


@dataclass
class Conversation:
    """One life of a conversation, as it should be.

    Attributes:
        texts: of all events it has had; the place of each is its number.
        out: the first of them that waits.
        arrived: how many of them a consumer has.
    """

    texts: list[str] = field(default_factory=list)
    history: int = 0
    out: int = 0
    arrived: int = 0
    relay: str = ""
    free_at: int = 0
    since: int = 0

    @property
    def waits(self) -> bool:
        return self.out < len(self.texts)

    def add(self, texts: list[str]) -> None:
        if not self.waits:
            self.free_at = self.since = CLOCK.ms
        self.texts += texts

    def can_be_taken(self, relay: str) -> bool:
        return self.waits and (self.relay == relay or self.free_at <= CLOCK.ms)


@dataclass
class Taken:
    """A batch in the hands of a relay, and how much of it is published."""

    batch: Batch
    relay: str
    life: Conversation
    published: int = 0


class Machine(RuleBasedStateMachine):
    """What replicas and relays do to two conversations."""

    store: TrackerStore
    loop: asyncio.AbstractEventLoop
    #: Whether a replacement waits for the relay; in memory it has no need to.
    replaces_late: bool

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[str, Conversation] = {}
        self.taken: list[Taken] = []
        self.letters: list[DeadLetter] = []
        self.count = 0

    def do(self, operation: Coroutine[Any, Any, T]) -> T:
        CLOCK.ms += 1  # nothing happens twice at the same time
        return self.loop.run_until_complete(operation)

    def texts(self, count: int) -> list[str]:
        self.count += count
        return [str(self.count - i) for i in range(count)]

    # -- replicas ------------------------------------------------------------------------------

    @rule(name=NAMES, count=st.integers(1, 4))
    def commit(self, name: str, count: int) -> None:
        texts = self.texts(count)
        events = [user(text, 1) for text in texts]
        self.do(self.store.save(Tracker.from_dict(name, events)))
        self.live.setdefault(name, Conversation()).add(texts)

    @rule(name=NAMES, count=st.integers(0, 2))
    def replace(self, name: str, count: int) -> None:
        texts = self.texts(count)
        tracker = Tracker.from_dict(name, [user(text, 1) for text in texts])
        life = self.live.get(name)
        if self.replaces_late and life and life.waits:
            with pytest.raises(EventsWaiting):
                self.do(self.store.update(tracker))
            return
        self.do(self.store.update(tracker))
        if life or texts:
            self.live.setdefault(name, Conversation()).add(texts)

    @rule(name=NAMES, count=st.integers(0, 2))
    def delete(self, name: str, count: int) -> None:
        """And perhaps it comes back."""
        self.do(self.store.delete(name))
        self.live.pop(name, None)
        if count:
            self.commit(name, count)

    # -- relays --------------------------------------------------------------------------------

    @rule(name=NAMES, relay=RELAYS, limit=st.integers(1, 5))
    def take(self, name: str, relay: str, limit: int) -> None:
        CLOCK.ms += 1
        lease = Lease(relay, CLOCK.ms, CLOCK.ms + LEASE)
        batch = self.loop.run_until_complete(self.store.outbox.take(name, lease, limit))
        life = self.live.get(name)
        if life is None or not life.can_be_taken(relay):
            assert batch is None
            return
        assert batch is not None
        life.relay, life.free_at = relay, lease.until
        life.history = life.history or batch.history
        assert (batch.history, batch.first) == (life.history, life.out)
        assert batch.sequence == len(life.texts)
        said = [event["text"] for event in batch.events]
        assert said == life.texts[life.out : life.out + limit]
        self.taken.append(Taken(batch, relay, life))

    @rule(place=st.integers(0, 9), count=st.integers(1, 5))
    def publish(self, place: int, count: int) -> None:
        """The consumer has the next ones; it knows repeats, and nothing was left out."""
        if not self.taken:
            return
        taken = self.taken[place % len(self.taken)]
        for event in taken.batch.events[taken.published :][:count]:
            number = taken.batch.first + taken.published
            assert taken.life.texts[number] == event["text"]
            assert number <= taken.life.arrived, "an event was left out"
            taken.life.arrived = max(taken.life.arrived, number + 1)
            taken.published += 1

    @rule(place=st.integers(0, 9))
    def advance(self, place: int) -> None:
        if not self.taken:
            return
        taken = self.taken.pop(place % len(self.taken))
        batch, life = taken.batch, taken.life
        CLOCK.ms += 1
        lease = Lease(taken.relay, CLOCK.ms, CLOCK.ms + LEASE)
        to = batch.first + taken.published
        stays = self.loop.run_until_complete(self.store.outbox.advance(batch, lease, to))
        alive = self.live.get(batch.sender_id) is life
        if not alive or (life.relay, life.out) != (taken.relay, batch.first) or not life.waits:
            assert stays is False
            return
        life.out, life.free_at = to, lease.until
        if not life.waits:
            life.relay = ""
        assert stays is life.waits

    @rule(place=st.integers(0, 9))
    def bury(self, place: int) -> None:
        """The next event of a batch is set apart; a consumer cannot tell that from having it."""
        if not self.taken:
            return
        taken = self.taken[place % len(self.taken)]
        if taken.published == len(taken.batch.events):
            return
        number = taken.batch.first + taken.published
        event = taken.batch.events[taken.published]
        letter = DeadLetter(taken.batch.sender_id, taken.batch.history, number, event, "bad", 1)
        self.do(self.store.outbox.add_dead_letters([letter]))
        if letter not in self.letters:
            self.letters.append(letter)
        taken.life.arrived = max(taken.life.arrived, number + 1)
        taken.published += 1

    @rule(name=NAMES, relay=RELAYS)
    def release(self, name: str, relay: str) -> None:
        self.do(self.store.outbox.release(name, relay))
        life = self.live.get(name)
        if life and life.waits and life.relay == relay:
            life.relay, life.free_at = "", CLOCK.ms

    @rule(relay=RELAYS)
    def crash(self, relay: str) -> None:
        self.taken = [taken for taken in self.taken if taken.relay != relay]

    @rule()
    def leases_end(self) -> None:
        CLOCK.ms += LEASE

    # -- what is always true -------------------------------------------------------------------

    @invariant()
    def what_waits_is_found(self) -> None:
        waits = {name: life for name, life in self.live.items() if life.waits}
        free = [name for name in waits if waits[name].free_at <= CLOCK.ms]
        expected = sorted(free, key=lambda name: waits[name].free_at)
        look = self.store.outbox.waiting(10, CLOCK.ms)
        assert self.loop.run_until_complete(look) == expected
        backlog = self.loop.run_until_complete(self.store.outbox.backlog())
        events = sum(len(life.texts) - life.out for life in waits.values())
        assert (backlog.conversations, backlog.events) == (len(waits), events)
        assert backlog.since == min((life.since for life in waits.values()), default=None)

    @invariant()
    def nothing_is_passed_over(self) -> None:
        assert all(life.out <= life.arrived for life in self.live.values())

    def teardown(self) -> None:
        """Whoever comes last publishes all the rest; nothing is left for the next example."""
        self.leases_end()
        self.taken.clear()
        for name in sorted(self.live):
            while self.live[name].waits:
                self.take(name, "last", 3)
                self.publish(0, 3)
                self.advance(0)
            assert self.live[name].arrived == len(self.live[name].texts)
        kept = self.loop.run_until_complete(self.store.outbox.dead_letters())
        assert {(v.sender_id, v.history, v.sequence): v for v in self.letters} == {
            (v.sender_id, v.history, v.sequence): v for v in kept
        }
        for letter in kept:
            self.do(self.store.outbox.remove_dead_letter(letter))
        for name in ("a", "b"):
            self.do(self.store.delete(name))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["in_memory", "sql"])
def test_the_outbox_is_as_its_model(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fenced_store, "_WAIT_FOR_OUTBOX", -1.0)  # a replacement does not wait
    section = {"type": "sql", "db": str(tmp_path / "a.db")} if kind == "sql" else {"type": kind}
    loop = asyncio.new_event_loop()
    store = create_tracker_store(section)
    store.publishes = True
    made = {"store": store, "loop": loop, "replaces_late": kind == "sql"}
    with contextlib.closing(loop), mock.patch.object(outbox, "time", CLOCK):
        examples = settings(
            max_examples=EXAMPLES if kind == "sql" else 4 * EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(type("Of", (Machine,), made), settings=examples)
        loop.run_until_complete(store.close())
