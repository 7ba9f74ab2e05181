"""While the broker has one round of events, the relay reads the next: of other conversations, and
nothing is lost, repeated or out of order when either end fails meanwhile."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from typing import Any

import pytest
from conftest import until
from contract.test_relay import Broker, drained, quick
from contract_events import user

from ticketlock import Conversations
from ticketlock.errors import TrackerStoreConnectionError
from ticketlock.publishing.message import BrokerMessage, Outcome
from ticketlock.publishing.relay import Relay
from ticketlock.tracker.store import TrackerStore

__all__ = ["quick"]  # a fixture

two_replicas = pytest.mark.parametrize("stores", ["sqlite", "redis"], indirect=True)
one_store = pytest.mark.parametrize("stores", ["sqlite"], indirect=True)


class Gate(Broker):
    """Answers for a batch once it is let through."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.inside: list[str] = []

    async def deliver(
        self, batch: Sequence[BrokerMessage], timeout: float | None = None
    ) -> list[Outcome]:
        assert not self.inside, "two rounds are at the broker at once"
        self.inside = list(dict.fromkeys(message.conversation_id for message in batch))
        await self.open.wait()
        await asyncio.sleep(0)  # as any real broker
        self.inside = []
        return await super().deliver(batch, timeout)

    @property
    def sent(self) -> int:
        return sum(map(len, self.got.values()))


class Exchanges:
    """Notes what a relay asks its store for; one of them may fail, or be held back."""

    def __init__(self, store: TrackerStore) -> None:
        self.asked: list[tuple[list[str], list[str]]] = []
        self.failing = self.held = -1
        self.taken, self.go_on = asyncio.Event(), asyncio.Event()
        original = store.outbox.exchange

        async def exchange(reached: Any, names: Sequence[str], *rest: Any) -> Any:
            place = len(self.asked)
            self.asked.append(([batch.sender_id for batch, _ in reached], list(names)))
            if place == self.failing:
                raise TrackerStoreConnectionError("it is away")
            answer = await original(reached, names, *rest)
            if place == self.held:
                self.taken.set()
                await self.go_on.wait()
            return answer

        store.outbox.exchange = exchange  # type: ignore[method-assign]  # seen from outside

    def took(self, name: str) -> int:
        return sum(name in names for _, names in self.asked)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round has one conversation, and a relay finds at once what others left."""
    monkeypatch.setattr("ticketlock.publishing.relay.CONVERSATIONS", 1)
    monkeypatch.setattr("ticketlock.publishing.relay.LEFT_SECONDS", 0)


async def left(store: TrackerStore, *names: str) -> None:
    """Conversations with two events each, which a replica has left behind."""
    store.publishes = True
    for name in names:
        claim = await store.claim(name, 1, "another")
        await store.append(claim, [user("1", 1), user("2", 1)])


def begun(stores: Any, broker: Broker) -> tuple[Conversations, Relay, Exchanges]:
    conversations = Conversations(None, stores.open(), broker)
    exchanges, relay = Exchanges(conversations.tracker_store), conversations.relay
    assert relay is not None
    relay.start()
    return conversations, relay, exchanges


async def both_read(gate: Gate, relay: Relay) -> tuple[str, str]:
    """Which conversation is at the broker, and which is read."""
    await until(lambda: gate.inside and relay._ahead, "one is sent, the next is read")
    return gate.inside[0], relay._ahead[0].sender_id


async def test_the_next_round_is_read_while_one_is_delivered(stores: Any, narrow: None) -> None:
    """One request notes what was published and takes what comes next."""
    store, gate = stores.open(), Gate()
    await left(store, "a", "b", "c")
    conversations, relay, exchanges = begun(stores, gate)
    sent, read = await both_read(gate, relay)
    assert exchanges.asked == [([], [sent]), ([], [read])]
    gate.open.set()
    await drained(store)
    await conversations.close()
    (last,) = {"a", "b", "c"} - {sent, read}
    assert exchanges.asked[2:] == [([sent], [last]), ([read], []), ([last], [])]
    assert [gate.texts(name) for name in "abc"] == [["1", "2"]] * 3
    assert gate.sent == 6  # nothing twice


@two_replicas
async def test_a_relay_dies_between_reading_ahead_and_the_confirmation(
    stores: Any, quick: None, narrow: None
) -> None:
    """Another one takes over both rounds, once the leases are over."""
    store, gate, well = stores.open(), Gate(), Broker()
    await left(store, "a", "b", "c")
    dead, relay, _ = begun(stores, gate)
    await both_read(gate, relay)
    assert relay._task is not None
    relay._task.cancel()
    other, _, _ = begun(stores, well)
    await drained(store)
    await other.close()
    assert [well.texts(name) for name in "abc"] == [["1", "2"]] * 3
    await dead.close()


@two_replicas
async def test_a_relay_is_closed_between_reading_ahead_and_the_confirmation(
    stores: Any, narrow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It releases both: the next replica need not wait for half a minute."""
    monkeypatch.setattr("ticketlock.publishing.relay.CLOSE_SECONDS", 0.2)
    monkeypatch.setattr("ticketlock.publishing.relay.SWEEP_SECONDS", 0.05)
    store, gate, well = stores.open(), Gate(), Broker()
    await left(store, "a", "b", "c")
    closed, relay, _ = begun(stores, gate)
    await both_read(gate, relay)
    await closed.close()
    other, _, _ = begun(stores, well)
    await drained(store)
    await other.close()
    assert [well.texts(name) for name in "abc"] == [["1", "2"]] * 3


@two_replicas
async def test_a_broker_fails_after_the_next_round_was_read(
    stores: Any, narrow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read is released too: another replica may reach the broker."""
    monkeypatch.setattr("ticketlock.publishing.relay.SWEEP_SECONDS", 0.05)
    monkeypatch.setattr("ticketlock.tracker.outbox.LEASE_MS", 30_000)
    monkeypatch.setattr("ticketlock.publishing.relay.FIRST_PAUSE", 60)  # it does not try again
    monkeypatch.setattr("ticketlock.publishing.relay.LONGEST_PAUSE", 60)
    store, gate, well = stores.open(), Gate(), Broker()
    await left(store, "a", "b")
    away, relay, _ = begun(stores, gate)
    await both_read(gate, relay)
    gate.mood = "away"
    gate.open.set()
    other, _, _ = begun(stores, well)
    await drained(store)
    assert [well.texts(name) for name in "ab"] == [["1", "2"]] * 2
    await other.close()
    assert relay._task is not None
    relay._task.cancel()
    await away.close()


@one_store
async def test_a_slow_broker_does_not_outlive_the_lease_of_what_was_read(
    stores: Any, narrow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once half of it is over, the conversation is taken again."""
    store, gate = stores.open(), Gate()
    await left(store, "a", "b")
    conversations, relay, exchanges = begun(stores, gate)
    sent, read = await both_read(gate, relay)
    far = relay._ahead_lease.until
    monkeypatch.setattr("ticketlock.tracker.outbox.now_ms", lambda: far - 14_000)
    gate.open.set()
    await drained(store)
    assert (exchanges.took(sent), exchanges.took(read)) == (1, 2)
    assert gate.sent == 4
    await conversations.close()


async def test_a_conversation_is_at_the_broker_once_at_a_time(stores: Any, narrow: None) -> None:
    """What it says meanwhile is read when what came before is confirmed."""
    store, gate = stores.open(), Gate()
    await left(store, "a", "b")
    conversations = Conversations(None, stores.open(), gate)
    exchanges, relay = Exchanges(conversations.tracker_store), conversations.relay
    assert relay is not None
    exchanges.held = 0
    relay.start()
    await exchanges.taken.wait()
    (first,) = exchanges.asked[0][1]
    claim = await store.claim(first, 2, "another")
    await store.append(claim, [user("3", 1)])
    relay.committed(first, [])
    relay._known = dict(reversed(relay._known.items()))  # it would be the next one
    exchanges.go_on.set()
    gate.open.set()
    await drained(store)
    await conversations.close()
    assert gate.texts(first) == ["1", "2", "3"]
    assert gate.sent == 5


@one_store
async def test_a_store_fails_while_the_broker_confirms(
    stores: Any, quick: None, narrow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it could not read ahead comes later, and what was confirmed is not sent again."""
    monkeypatch.setattr("ticketlock.publishing.relay.SWEEP_SECONDS", 3600)  # after the first one
    store, gate = stores.open(), Gate()
    await left(store, "a", "b", "c")
    conversations = Conversations(None, stores.open(), gate)
    exchanges, relay = Exchanges(conversations.tracker_store), conversations.relay
    assert relay is not None
    exchanges.failing = 1
    relay.start()
    await until(lambda: gate.inside and len(exchanges.asked) > 1, "it failed meanwhile")
    gate.open.set()
    await drained(store)
    await conversations.close()
    assert [gate.texts(name) for name in "abc"] == [["1", "2"]] * 3
    assert gate.sent == 6


async def test_a_long_backlog_is_noted_before_it_is_taken_again(
    stores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two conversations in parts, with one of them in a request."""
    monkeypatch.setattr("ticketlock.publishing.relay.LEFT_SECONDS", 0)
    monkeypatch.setattr("ticketlock.publishing.relay.BATCH_EVENTS", 2)
    store, gate = stores.open(), Gate()
    await left(store, "a", "b")
    for name in "ab":
        claim = await store.claim(name, 2, "another")
        await store.append(claim, [user(str(number), 1) for number in range(3, 8)])
    store.outbox.parallel = 1
    other = stores.open()
    other.outbox.parallel = 1
    conversations = Conversations(None, other, gate)
    relay = conversations.relay
    assert relay is not None
    relay.start()
    await until(lambda: len(gate.inside) == 2, "both are at the broker")
    relay.committed(gate.inside[1], [])  # it is known before the other one is
    gate.open.set()
    await drained(store)
    await conversations.close()
    assert [gate.texts(name) for name in "ab"] == [[str(n) for n in range(1, 8)]] * 2
    assert gate.sent == 14


@one_store
async def test_a_forked_child_has_nothing_at_the_broker(stores: Any, narrow: None) -> None:
    """It leaves what its parent has sent and read to its parent, and publishes what comes."""
    store, gate = stores.open(), Gate()
    await left(store, "a", "b")
    conversations, relay, _ = begun(stores, gate)
    sent, _ = await both_read(gate, relay)
    parent = relay._task
    assert parent is not None
    relay.forked()  # in a child
    relay.start()
    assert (relay._in_flight, relay._ahead, relay._reached) == (set(), [], [])
    assert relay._next(1, relay._in_flight) == []
    relay.committed(sent, [])
    assert relay._next(1, relay._in_flight) == [sent]
    for task in (parent, relay._task):
        assert task is not None
        task.cancel()
    await asyncio.gather(parent, relay._task, return_exceptions=True)  # type: ignore[arg-type]  # both are
    await conversations.close()


@one_store
async def test_a_store_that_does_not_answer_at_the_end(
    stores: Any, narrow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay gives up its leases a few at a time; what is not begun by then leaves no trace."""
    monkeypatch.setattr("ticketlock.publishing.relay.CLOSE_SECONDS", 0.2)
    store, gate = stores.open(), Gate()
    await left(store, "a", "b")
    conversations, relay, _ = begun(stores, gate)
    await both_read(gate, relay)
    outbox, begins, go_on = conversations.tracker_store.outbox, 0, asyncio.Event()
    outbox.parallel = 1

    async def release(sender_id: str, name: str) -> None:
        nonlocal begins
        begins += 1
        await go_on.wait()

    monkeypatch.setattr(outbox, "release", release)
    closing = asyncio.create_task(conversations.close())
    await until(lambda: begins, "the first one is asked for")
    await asyncio.sleep(0.3)
    go_on.set()
    await closing
    gc.collect()  # a coroutine that nothing awaited would be reported now
    assert begins == 1
