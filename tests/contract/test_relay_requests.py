"""How many conversations a relay takes with a request, and when it looks for more of them."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import until
from contract.test_relay import Broker, drained
from contract.test_relay_ahead import Gate, begun, left, one_store
from contract_events import user


@one_store
async def test_long_backlogs_are_taken_few_at_a_time(
    stores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While some have more than a request reads of each: so it can read more of each."""
    monkeypatch.setattr("ticketlock.publishing.relay.LEFT_SECONDS", 0)
    monkeypatch.setattr("ticketlock.publishing.relay.BATCH_EVENTS", 2)
    monkeypatch.setattr("ticketlock.publishing.relay.FEW", 1)
    store, gate = stores.open(), Gate()
    await left(store, "a", "b", "c")
    for name in "abc":
        claim = await store.claim(name, 2, "another")
        await store.append(claim, [user("3", 1)])
    conversations, _, exchanges = begun(stores, gate)
    await until(lambda: len(gate.inside) == 3, "all are at the broker")
    gate.open.set()
    await drained(store)
    await conversations.close()
    assert exchanges.asked[0] == ([], ["a", "b", "c"])
    assert exchanges.asked[1:4] == [([name], [name]) for name in "abc"]
    assert [gate.texts(name) for name in "abc"] == [["1", "2", "3"]] * 3


@one_store
async def test_many_that_others_left_are_looked_for_as_they_are_needed(
    stores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not once a round, nor only once a sweep is due."""
    monkeypatch.setattr("ticketlock.publishing.relay.CONVERSATIONS", 1)  # a sweep finds 4
    monkeypatch.setattr("ticketlock.publishing.relay.LEFT_SECONDS", 0)
    monkeypatch.setattr("ticketlock.publishing.relay.SWEEP_SECONDS", 3600)
    store, broker = stores.open(), Broker()
    await left(store, *"abcdefghij")
    looks: list[int] = []
    other = stores.open()
    waiting = other.outbox.waiting

    async def noted(limit: int, before: int) -> list[str]:
        found: list[str] = await waiting(limit, before)
        looks.append(len(found))
        return found

    monkeypatch.setattr(other.outbox, "waiting", noted)
    monkeypatch.setattr(stores, "open", lambda: other)
    conversations, _, _ = begun(stores, broker)
    await drained(store)
    await conversations.close()
    assert [broker.texts(name) for name in "abcdefghij"] == [["1", "2"]] * 10
    assert looks == [4, 4, 2]


@one_store
async def test_a_round_has_hundreds_of_conversations(
    stores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that is slow to confirm, however few events it has, is waited for once for all of them."""
    monkeypatch.setattr("ticketlock.publishing.relay.LEFT_SECONDS", 0)
    store, gate = stores.open(), Gate()
    names = [f"c{number}" for number in range(200)]
    await left(store, *names)
    conversations, _, _ = begun(stores, gate)
    await until(lambda: gate.inside, "the first round is at the broker")
    assert sorted(gate.inside) == sorted(names)
    gate.open.set()
    await drained(store)
    await conversations.close()
    assert gate.sent == 400
