"""Every committed event reaches the broker, in order, whatever happens to broker and relays."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest
from conftest import until
from contract_events import user

from ticketlock import Conversations
from ticketlock.publishing import reached
from ticketlock.publishing.broker import EventBroker
from ticketlock.publishing.message import DELIVERED, BrokerMessage, Outcome, in_order, poisoned
from ticketlock.publishing.message import retry as again
from ticketlock.tracker.store import TrackerStore


class Broker(EventBroker):
    """Keeps what it confirmed, and fails in the ways that a test asks for."""

    def __init__(self, moods: Sequence[str] = ()) -> None:
        self.got: dict[tuple[str, int], list[tuple[int, str]]] = {}
        self.moods = list(moods)
        self.mood = "well"
        self.calls = 0
        self.closed = False
        self.bad: dict[str, Outcome] = {}

    async def deliver(
        self, batch: Sequence[BrokerMessage], timeout: float | None = None
    ) -> list[Outcome]:
        self.calls += 1
        mood = random.choice(self.moods) if self.moods else self.mood
        if mood == "slow":
            await asyncio.sleep(0.02)
        if mood == "away":
            return [again("it is away")] * len(batch)
        if mood == "hangs":
            await asyncio.sleep(3600)
        outcomes = []
        for message in batch:
            outcome = self.bad.get(message.body["text"], DELIVERED)
            if mood == "drops some" and random.random() < 0.2:
                outcome = again("not confirmed")
            if outcome.status == "delivered" or mood == "drops some":
                assert message.sequence is not None
                kept = self.got.setdefault((message.conversation_id, message.history), [])
                kept.append((message.sequence, message.body["text"]))
            outcomes.append(outcome)
        if mood == "dies afterwards":  # it has them, and its confirmation is lost
            return [again("no answer")] * len(batch)
        return in_order(batch, outcomes)

    async def close(self) -> None:
        self.closed = True

    def texts(self, name: str) -> list[str]:
        """As a consumer sees them that drops repeats; raises if one was left out."""
        texts: list[str] = []
        for (sender_id, _), kept in sorted(self.got.items()):
            if sender_id != name:
                continue
            seen = 0
            for number, text in kept:
                if number == seen:
                    texts.append(text)
                    seen += 1
                assert number < seen, f"{name}: event {seen} is left out before {number}"
        return texts


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits longer than a test wants to."""
    monkeypatch.setattr("ticketlock.publishing.relay.SWEEP_SECONDS", 0.05)
    monkeypatch.setattr("ticketlock.publishing.relay.LEFT_SECONDS", 0.05)
    monkeypatch.setattr("ticketlock.publishing.relay.LONGEST_PAUSE", 0.1)
    monkeypatch.setattr("ticketlock.publishing.relay.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("ticketlock.publishing.relay.CLOSE_SECONDS", 0.5)
    monkeypatch.setattr("ticketlock.publishing.reached.REFUSED_SECONDS", 0.0)
    monkeypatch.setattr("ticketlock.tracker.outbox.LEASE_MS", 400)


async def say(conversations: Conversations, name: str, *texts: str) -> None:
    async with conversations.turn(name) as turn:
        turn.add(*(user(text, 1) for text in texts))


#: Seconds within which all that waits has to be published.
DRAIN_SECONDS = 20.0


async def drained(store: TrackerStore) -> None:
    end = time.monotonic() + DRAIN_SECONDS
    while (backlog := await store.outbox.backlog()).events:
        assert time.monotonic() < end, f"not published: {backlog}"
        await asyncio.sleep(0.02)


async def test_what_a_turn_commits_is_published(stores: Any) -> None:
    broker = Broker()
    async with Conversations(None, stores.open(), broker) as conversations:
        await say(conversations, "a", "1", "2")
        await say(conversations, "b", "x")
        await say(conversations, "a", "3")
        await drained(conversations.tracker_store)
        assert (broker.texts("a"), broker.texts("b")) == (["1", "2", "3"], ["x"])
        assert sum(map(len, broker.got.values())) == 4  # nothing twice while all is well
        assert conversations.relay is not None
        assert conversations.relay.counts.published == 4
    assert broker.closed


async def test_a_turn_that_fails_publishes_nothing(stores: Any) -> None:
    broker = Broker()
    async with Conversations(None, stores.open(), broker) as conversations:
        with pytest.raises(ZeroDivisionError):
            async with conversations.turn("a") as turn:
                turn.add(user("kept", 1))
                await turn.commit()
                turn.add(user("lost", 1))
                raise ZeroDivisionError
        await drained(conversations.tracker_store)
        assert broker.texts("a") == ["kept"]


async def test_a_broker_that_is_away_delays_no_turn(stores: Any, quick: None) -> None:
    """Turns go on while it hangs; when it is back, all of it arrives."""
    broker = Broker()
    broker.mood = "away"
    async with Conversations(None, stores.open(), broker) as conversations:
        for number in range(20):
            await say(conversations, f"c{number % 3}", str(number))
        await until(lambda: broker.calls > 3, "it has tried again")
        assert broker.got == {}
        assert (await conversations.tracker_store.outbox.backlog()).events == 20
        broker.mood = "well"
        await drained(conversations.tracker_store)
        assert broker.texts("c0") == [str(number) for number in range(0, 20, 3)]


async def test_a_broker_that_is_away_from_one_replica_only(
    stores: Any, quick: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another one publishes its events at once: it does not keep what it cannot send."""
    monkeypatch.setattr("ticketlock.tracker.outbox.LEASE_MS", 30_000)
    away, well = Broker(["away"]), Broker()
    async with Conversations(None, stores.open(), away) as one:
        await say(one, "a", "1", "2")
        await say(one, "b", "3")
        await until(lambda: away.calls > 3, "it has tried all of them")
        async with Conversations(one.lock_store, stores.open(), well) as other:
            await drained(other.tracker_store)
            assert (well.texts("a"), well.texts("b")) == (["1", "2"], ["3"])
            assert caplog.text.count("events wait to be published") == 1  # not at each attempt


async def test_every_mood_of_a_broker(stores: Any, quick: None) -> None:
    """Two replicas relay for three conversations; each event arrives, none is passed over."""
    broker = Broker(["well", "slow", "away", "drops some", "dies afterwards"])
    locks = Conversations(None, None).lock_store
    replicas = [Conversations(locks, stores.open(), broker) for _ in range(2)]
    if stores.backend == "memory":
        del replicas[1]
    for replica in replicas:
        assert replica.relay is not None
        replica.relay.start()

    async def talk(name: str) -> None:
        for number in range(12):
            await say(random.choice(replicas), name, f"{number}a", f"{number}b")

    await asyncio.gather(*(talk(name) for name in "abc"))
    broker.moods = []
    await drained(replicas[0].tracker_store)
    for replica in replicas:
        await replica.close()
    expected = [f"{number}{part}" for number in range(12) for part in "ab"]
    assert {name: broker.texts(name) for name in "abc"} == dict.fromkeys("abc", expected)


async def test_a_dead_relay_is_taken_over(stores: Any, quick: None) -> None:
    """It had taken a conversation, and hangs for ever."""
    if stores.backend == "memory":
        stores.open()
    hanging, well = Broker(), Broker()
    hanging.mood = "hangs"
    dead = Conversations(None, stores.open(), hanging)
    await say(dead, "a", "1", "2")
    assert dead.relay is not None
    await until(lambda: hanging.calls, "the dead one has taken it")
    assert dead.relay._task is not None
    dead.relay._task.cancel()
    async with Conversations(dead.lock_store, stores.open(), well) as conversations:
        await drained(conversations.tracker_store)
        await say(conversations, "a", "3")
        await drained(conversations.tracker_store)
    assert well.texts("a") == ["1", "2", "3"]


async def test_close_publishes_and_then_lets_go(
    stores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be published waits for the next replica, which need not wait for a lease."""
    if stores.backend == "memory":
        pytest.skip("what waits in memory ends with it")
    # How long a replica leaves it to others; the lease stays at half a minute.
    monkeypatch.setattr("ticketlock.publishing.relay.SWEEP_SECONDS", 0.05)
    monkeypatch.setattr("ticketlock.publishing.relay.LEFT_SECONDS", 0.05)
    broker, later = Broker(), Broker()
    first = Conversations(None, stores.open(), broker)
    await say(first, "a", "1")
    await first.close()
    assert broker.texts("a") == ["1"]
    broker.mood = "away"
    second = Conversations(None, stores.open(), broker)
    await say(second, "a", "2")
    await asyncio.wait_for(second.close(), 15)  # half of a lease
    async with Conversations(None, stores.open(), later) as third:
        await drained(third.tracker_store)
    assert [text for kept in later.got.values() for _, text in kept] == ["2"]


async def test_poisoned_events_are_set_apart(stores: Any, quick: None) -> None:
    broker = Broker()
    broker.bad["2"] = poisoned("too large")
    async with Conversations(None, stores.open(), broker) as conversations:
        await say(conversations, "a", "1", "2", "3")
        await drained(conversations.tracker_store)
        letters = await conversations.tracker_store.outbox.dead_letters()
        assert len(letters) == 1
        letter = letters[0]
        assert (letter.sender_id, letter.sequence, letter.reason) == ("a", 1, "too large")
        assert letter.event == user("2", 1)
        kept = [pair for pairs in broker.got.values() for pair in pairs]
        assert kept == [(0, "1"), (2, "3")]
        assert conversations.relay is not None
        assert conversations.relay.counts.dead_lettered == 1


async def test_a_suspect_is_set_apart_only_when_others_pass(stores: Any, quick: None) -> None:
    broker = Broker()
    broker.bad["bad"] = Outcome("retry", "it raises", suspect=True)
    async with Conversations(None, stores.open(), broker) as conversations:
        await say(conversations, "a", "bad", "after")
        await until(lambda: broker.calls > reached.REFUSALS, "it is tried again and again")
        assert (await conversations.tracker_store.outbox.backlog()).events == 2
        assert await conversations.tracker_store.outbox.dead_letters() == []

        async def others() -> None:
            for number in range(1000):
                await say(conversations, "b", str(number))
                await asyncio.sleep(0.01)

        talking = asyncio.create_task(others())
        while not await conversations.tracker_store.outbox.dead_letters():
            assert not talking.done(), "it is not set apart"
            await asyncio.sleep(0.01)
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        await drained(conversations.tracker_store)
        kept = [pair for (name, _), pairs in broker.got.items() if name == "a" for pair in pairs]
        assert set(kept) == {(1, "after")}


async def test_a_suspect_is_set_apart_when_others_pass_between(stores: Any, quick: None) -> None:
    broker = Broker()
    broker.bad["bad"] = Outcome("retry", "it raises", suspect=True)
    async with Conversations(None, stores.open(), broker) as conversations:
        outbox = conversations.tracker_store.outbox
        await say(conversations, "a", "bad")
        for number in range(reached.REFUSALS):
            assert await outbox.dead_letters() == [], "it is set apart early"
            calls = broker.calls
            await until(lambda: broker.calls > calls + 1, "it is tried again and again")  # noqa: B023
            await say(conversations, "b", str(number))
            await until(lambda: len(broker.texts("b")) > number, "others pass")  # noqa: B023
        await drained(conversations.tracker_store)
        assert [letter.sender_id for letter in await outbox.dead_letters()] == ["a"]
