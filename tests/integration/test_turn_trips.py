"""Requests of a turn to its tracker store, counted at the drivers; docs/operations/capacity.md has
the table. A turn reads, adds two events, and writes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from contract_events import session, user
from pymongo.monitoring import CommandListener
from redis import Redis
from servers.tracker_stores import Stores

from ticketlock import Conversations
from ticketlock.redis.link import Link
from ticketlock.tracker.store import TrackerStore

#: store -> requests of the first turn of a conversation, of each later one, and with an outbox.
REQUESTS = {
    # A script each: claim and read, write.
    "redis": (["evalsha"] * 2, ["evalsha"] * 2, ["evalsha"] * 2),
    # The find is sent with the claim: what another program has written beside the history.
    "mongo": (
        ["findAndModify+find", "insert", "findAndModify"],
        ["findAndModify+find", "findAndModify"],
        ["findAndModify+find", "findAndModify"],
    ),
    # An update cannot return the events, which are items of their own.
    "dynamo": (
        ["UpdateItem", "TransactWriteItems"],
        ["UpdateItem", "Query", "TransactWriteItems"],
        ["UpdateItem", "Query", "TransactWriteItems"],
    ),
}

Drain = Callable[[], list[str]]


def counted(store: Any, backend: str) -> Drain:
    """A function that returns the requests since it was called last, those sent at once as one."""
    return {"redis": _redis, "mongo": _mongo, "dynamo": _dynamo}[backend](store)


def _redis(store: Any) -> Drain:
    client = Redis(port=store.settings.port, decode_responses=True)

    def drain() -> list[str]:
        stats: Any = client.info("commandstats")
        client.config_resetstat()
        return ["evalsha"] * stats.get("cmdstat_evalsha", {"calls": 0})["calls"]

    return drain


def _mongo(store: Any) -> Drain:
    requests: list[str] = []

    class Listener(CommandListener):
        open = 0

        def started(self, event: Any) -> None:
            if self.open:
                requests[-1] += "+" + event.command_name
            else:
                requests.append(event.command_name)
            self.open += 1

        def succeeded(self, event: Any) -> None:
            self.open -= 1

        failed = succeeded

    store._db._options = {**store._db._options, "event_listeners": [Listener()]}
    return _emptied(requests)


def _dynamo(store: Any) -> Drain:
    requests: list[str] = []
    events = store._client._live().meta.events
    events.register("before-send.dynamodb", lambda request, **_: requests.append(
        request.headers["X-Amz-Target"].decode().rpartition(".")[2]
    ))  # fmt: skip
    return _emptied(requests)


def _emptied(requests: list[str]) -> Drain:
    def drain() -> list[str]:
        found = list(requests)
        requests.clear()
        return found

    return drain


async def turn(store: TrackerStore, fence: int, *events: dict[str, Any]) -> None:
    claim = await store.claim("a", fence, "one")
    await store.append(claim, events)


@pytest.mark.parametrize("backend", REQUESTS)
async def test_requests_of_a_turn(backend: str, tracker_sections: Any) -> None:
    stores = Stores(backend, tracker_sections(backend))
    store = stores.open()
    drain = counted(store, backend)
    await turn_of_another(store)
    drain()
    await turn(store, 1, *session(0), user("1", 1))
    first = drain()
    await turn(store, 2, user("2", 1), user("3", 1))
    later = drain()
    store.publishes = True
    await turn(store, 3, user("4", 1), user("5", 1))
    assert (first, later, drain()) == REQUESTS[backend]
    await stores.close()


async def test_claims_share_a_look_in_mongodb(tracker_sections: Any) -> None:
    """What another program has written is asked for once, for all that claim at the moment."""
    stores = Stores("mongo", tracker_sections("mongo"))
    store: Any = stores.open()
    drain = counted(store, "mongo")
    await turn_of_another(store)
    await store._db.documented.insert_many(
        [{"sender_id": name, "events": [user("beside", 1)]} for name in ("3", 5)]
    )
    for fence in (1, 2):  # the first converts the two
        drain()
        claims = await asyncio.gather(*(store.claim(f"{i}", fence, "one") for i in range(8)))
        assert [len(claim.tracker.events) for claim in claims] == [0, 0, 0, 1, 0, 1, 0, 0]
    assert sorted("+".join(drain()).split("+")) == ["find"] + 8 * ["findAndModify"]
    await stores.close()


async def turn_of_another(store: TrackerStore) -> None:
    """What a process does once: connections, scripts, tables."""
    claim = await store.claim("another", 1, "one")
    await store.append(claim, [user("1", 1)])


async def turns_of_the_loop(stopped: asyncio.Event, count: list[int]) -> None:
    """Count the rounds of the event loop: in each one, every callback that is ready runs once."""
    loop = asyncio.get_running_loop()

    def round_() -> None:
        count[0] += 1
        if not stopped.is_set():
            loop.call_soon(round_)

    loop.call_soon(round_)


@pytest.mark.parametrize("backend", ["memory", "sqlite", "redis", "mongo", "dynamo"])
async def test_the_release_follows_the_commit(
    backend: str, tracker_sections: Any, redis_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written one round of the event loop after the store's answer was read, never before; at once
    behind a store that never waits.
    """
    stores = Stores(backend, tracker_sections(backend))
    store: Any = stores.open()
    locks = {"type": "concurrent_redis", "url": redis_server.url, "key_prefix": f"trips{backend}"}
    async with Conversations(locks, store) as conversations:
        for number in range(2):  # what a process does once
            async with conversations.turn("a") as begun:
                begun.add(user(str(number), 1))
        stopped, rounds, written, released = asyncio.Event(), [0], list[int](), list[int]()
        await turns_of_the_loop(stopped, rounds)
        write, send = store._do_write, Link.send

        async def noted(work: Any) -> Any:
            done = await write(work)
            written.append(rounds[0])
            return done

        def sent(link: Link, command: Any) -> None:
            if written:
                released.append(rounds[0])
            send(link, command)

        monkeypatch.setattr(store, "_do_write", noted)
        monkeypatch.setattr(Link, "send", sent)
        async with conversations.turn("a") as begun:
            begun.add(user("last", 1))
        stopped.set()
        assert released[0] - written[0] == store.waits
    await stores.close()
