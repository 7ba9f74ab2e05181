"""What the Redis, Mongo and Dynamo stores must do beyond the contract of all stores."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from contract_events import session, user
from pymongo import MongoClient
from redis import Redis
from servers.redis_tracker import sentinel_sections
from servers.tracker_stores import Stores
from ticketlock.stores.dynamo.client import DynamoClient
from ticketlock.stores.mongo import database as mongo_database

from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.errors import StaleFence, TrackerStoreError
from ticketlock.stress.proxy import Proxy
from ticketlock.tracker.store import TrackerStore
from ticketlock.tracker.tracker import Tracker

NAMES = ("redis", "redis-cluster", "mongo", "dynamo")


@pytest.fixture(params=NAMES)
def stores(request: pytest.FixtureRequest, tracker_sections: Any) -> Stores:
    return Stores(request.param, tracker_sections(request.param))


@pytest.fixture
def one(request: pytest.FixtureRequest, tracker_sections: Any) -> Stores:
    return Stores(request.param, tracker_sections(request.param))


async def texts(store: TrackerStore, sender_id: str = "a") -> list[str]:
    tracker = await store.retrieve_full_tracker(sender_id)
    return [event.as_dict()["text"] for event in tracker.events] if tracker else []


async def test_one_of_two_owners_gets_an_equal_fence(stores: Any) -> None:
    """However often they race, new conversations included; only the winner may write."""
    writers = [stores.open() for _ in range(4)]
    for number in range(15):
        sender_id = f"{number}"

        async def turn(place: int, sender_id: str = sender_id) -> bool:
            store = writers[place]
            try:
                claim = await store.claim(sender_id, 5, f"owner {place}")
                await store.append(claim, [user(f"{place}", 1)])
            except StaleFence:
                return False
            return True

        won = await asyncio.gather(*(turn(place) for place in range(4)))
        assert sum(won) == 1
        assert await texts(writers[0], sender_id) == [f"{won.index(True)}"]


@pytest.mark.parametrize("megabytes", [1, 5, 14])
async def test_large_events(stores: Any, megabytes: int) -> None:
    """They come back whole, between small ones, and the next turn is a usual one."""
    store = stores.open()
    big = "x" * (megabytes * 1_000_000)
    claim = await store.claim("a", 1, "x")
    await store.append(claim, [user("before", 0)])
    await store.append(claim, [user(big, 1), user("after", 2)])
    await store.append(claim, [user("later", 3)])
    assert await texts(stores.open()) == ["before", big, "after", "later"]
    claim = await store.claim("a", 2, "y")
    await store.append(claim, [*session(4), user("new", 4)])
    latest = await store.retrieve("a")
    assert [event.as_dict() for event in latest.events] == [*session(4), user("new", 4)]


@pytest.mark.parametrize("starts", [False, True], ids=["no session", "sessions"])
async def test_writes_larger_than_any_document(stores: Any, starts: bool) -> None:
    """20 MB at once, as an import makes them: appended, replaced, and appended to again. An item of
    Dynamo has 400 kB: there it is 10 MB."""
    store, size = stores.open(), 500_000 if stores.backend == "dynamo" else 1_000_000
    events = [user(f"{n} " + "x" * size, n) for n in range(20)]
    if starts:
        events[11:11] = session(10.5)
    claim = await store.claim("a", 1, "x")
    await store.append(claim, events)
    await store.append(claim, [user("more", 30)])
    full = await store.retrieve_full_tracker("a")
    assert [event.as_dict() for event in full.events] == [*events, user("more", 30)]
    latest = await store.retrieve("a")
    first = 11 if starts else 0
    assert [e.as_dict() for e in latest.events] == [*events[first:], user("more", 30)]
    await store.append(claim, events)
    assert (await store.claim("a", 2, "x")).sequence == 2 * len(events) + 1
    await store.update(Tracker.from_dict("a", events))
    full = await store.retrieve_full_tracker("a")
    assert [event.as_dict() for event in full.events] == events
    with pytest.raises(StaleFence):
        await store.append(claim, events)
    assert await store.delete("a")
    await store.save(Tracker.from_dict("a", [user("anew", 1)]))
    assert await texts(store) == ["anew"]


async def test_large_writes_that_race(stores: Any) -> None:
    """Without fences: all of them are stored whole, one after another."""
    writers = [stores.open() for _ in range(3)]
    size = 500_000 if stores.backend == "dynamo" else 2_000_000
    trackers = [
        Tracker.from_dict("a", [user(f"{n}.{part} " + "x" * size, part) for part in range(8)])
        for n in range(3)
    ]
    await asyncio.gather(*(w.save(t) for w, t in zip(writers, trackers)))  # noqa: B905  # equal
    stored = [text.split()[0] for text in await texts(writers[0])]
    runs = [stored[at : at + 8] for at in range(0, 24, 8)]
    assert sorted(runs) == [[f"{n}.{part}" for part in range(8)] for n in range(3)]


async def test_reading_the_latest_session_while_it_is_replaced(stores: Any) -> None:
    """A reader sees the old history or the new one, never a mixture (and never half of one)."""
    store, reader = stores.open(), stores.open()
    histories = [[user(f"{n}", part) for part in range(150 + 60 * n)] for n in range(2)]
    await store.save(Tracker.from_dict("a", histories[0]))
    done = False

    async def replace() -> None:
        nonlocal done
        for number in range(20):
            await store.update(Tracker.from_dict("a", histories[number % 2]))
        done = True

    task = asyncio.create_task(replace())
    while not done:
        seen = await texts(reader)
        assert seen in ([event["text"] for event in history] for history in histories)
    await task


async def test_a_claim_reads_a_session_longer_than_what_is_at_hand(stores: Any) -> None:
    """Of hundreds of events, which Mongo and Dynamo keep in several places."""
    store = stores.open()
    claim = await store.claim("a", 1, "x")
    await store.append(claim, [*session(0), user("old", 1), *session(2)])
    for start in range(0, 330, 3):
        await store.append(claim, [user(f"{n}", n) for n in range(start, start + 3)])
    claim = await store.claim("a", 2, "y")
    events = [event.as_dict() for event in claim.tracker.events]
    assert events == [*session(2), *(user(f"{n}", n) for n in range(330))]
    assert claim.sequence == 3 + 1 + 3 + 330


# -- Redis ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", ["redis"], indirect=True)
async def test_record_exp(one: Any) -> None:
    """Each write starts it again; a conversation expires whole; 1.5 seconds are allowed (T19)."""
    store = one.open(record_exp="1.5")
    with Redis(port=one.section["port"]) as plain:
        claim = await store.claim("a", 1, "x")
        [key] = plain.keys(f"{one.section['key_prefix']}:*")
        assert 1000 < plain.pttl(key) <= 1500
        plain.pexpire(key, 100)
        await store.append(claim, [user("one", 1)])
        assert 1000 < plain.pttl(key) <= 1500
        plain.pexpire(key, 1)
        await asyncio.sleep(0.01)
        assert await store.keys() == []
        assert await store.retrieve("a") is None
        with pytest.raises(StaleFence):
            await store.append(claim, [user("two", 2)])
        forever = one.open()
        await forever.save(Tracker.from_dict("b", [user("one", 1)]))
        assert plain.pttl(key.replace(b"{a}", b"{b}")) == -1


@pytest.mark.parametrize("one", ["redis"], indirect=True)
async def test_foreign_values_are_errors(one: Any) -> None:
    store = one.open()
    with Redis(port=one.section["port"]) as plain:
        plain.set(f"{one.section['key_prefix']}:tracker:a", "no tracker")
        plain.set(f"{one.section['key_prefix']}:tracker:{{b}}:events", "no hash")
        with pytest.raises(TrackerStoreError, match="tracker:a' is not a tracker"):
            await store.retrieve("a")
        with pytest.raises(TrackerStoreError, match="another program"):
            await store.retrieve("b")


@pytest.mark.parametrize("one", ["redis"], indirect=True)
async def test_redis_takes_one_connection(one: Any) -> None:
    """However many turns there are at once; a server that forgets the scripts is told again."""
    store = one.open()
    with Redis(port=one.section["port"]) as plain:
        await store.connect()
        before = plain.info("stats")["total_connections_received"]
        claims = await asyncio.gather(*(store.claim(f"{n}", 1, "x") for n in range(50)))
        plain.script_flush()
        await asyncio.gather(*(store.append(claim, [user("one", 1)]) for claim in claims))
        assert plain.info("stats")["total_connections_received"] == before
        assert await texts(store, "49") == ["one"]


async def test_redis_behind_a_sentinel() -> None:
    with sentinel_sections() as section:
        async with create_tracker_store(section()) as store:
            claim = await store.claim("a", 1, "x")
            await store.append(claim, [user("one", 1)])
            assert await texts(store) == ["one"]
            assert await store.keys() == ["a"]


# -- Mongo ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", ["mongo"], indirect=True)
async def test_documents_stay_small(one: Any) -> None:
    """After 1000 turns the current document is as small as after 50 (T17), and it is unique."""
    store = one.open()
    claim = await store.claim("a", 1, "x")
    for start in range(0, 1000, 4):
        await store.append(claim, [user(f"{n}", n) for n in range(start, start + 4)])
    with MongoClient[dict[str, Any]](one.section["url"]) as client:
        database = client[one.section["db"]]
        [current] = database["conversations_current"].find()
        assert len(current["tail"]) <= 104
        buckets = list(database["conversations_history"].find().sort("first", 1))
        assert sum(len(bucket["events"]) for bucket in buckets) + len(current["tail"]) == 1000
        assert all(len(bucket["events"]) <= 50 for bucket in buckets)


@pytest.mark.parametrize("one", ["mongo"], indirect=True)
async def test_what_a_killed_process_leaves_is_no_history(one: Any) -> None:
    """A bucket that was copied but not cut off, and one of a write that was never committed."""
    store = one.open()
    claim = await store.claim("a", 1, "x")
    await store.append(claim, [user(f"{n}", n) for n in range(90)])
    with MongoClient[dict[str, Any]](one.section["url"]) as client:
        database = client[one.section["db"]]
        [current] = database["conversations_current"].find()
        copied = {"sender_id": "a", "run": current["runs"][0], "first": 0}
        lost = {"sender_id": "a", "run": "dead", "first": 90, "events": ['{"event": "never"}']}
        buckets = [{**copied, "events": current["tail"][:30]}, lost]
        database["conversations_history"].insert_many(buckets)
    assert await texts(store) == [f"{n}" for n in range(90)]
    await store.append(claim, [user(f"{n}", n) for n in range(90, 140)])
    assert await texts(store) == [f"{n}" for n in range(140)]
    with MongoClient[dict[str, Any]](one.section["url"]) as client:
        found = client[one.section["db"]]["conversations_history"].find({"run": copied["run"]})
        assert [len(bucket["events"]) for bucket in found.sort("first", 1)] == [30, 50, 10]


@pytest.mark.parametrize("one", ["mongo"], indirect=True)
async def test_two_documented_documents_of_one_conversation(one: Any) -> None:
    """A race of the old version made them, one with a number as its id: both count (T16)."""
    with MongoClient[dict[str, Any]](one.section["url"]) as client:
        old = client[one.section["db"]]["conversations"]
        old.insert_one({"sender_id": 12, "events": [user("one", 1)]})
        old.insert_one({"sender_id": "12", "events": [user("two", 2)]})
        store = one.open()
        assert await texts(store, "12") == ["one", "two"]
        assert await store.keys() == ["12"]
        await store.claim("12", 1, "x")
        assert await texts(store, "12") == ["one", "two"]
        assert old.count_documents({}) == 0


# -- Dynamo --------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", ["dynamo"], indirect=True)
async def test_tables_are_made_once_by_whoever_is_first(one: Any) -> None:
    """Replicas that start together all get them; items stay far below 400 KB (T17)."""
    replicas = [one.open() for _ in range(4)]
    await asyncio.gather(*(store.connect() for store in replicas))
    claim = await replicas[0].claim("a", 1, "x")
    await replicas[1].append(claim, [user("x" * 900_000, 1)])
    client = boto3.client(
        "dynamodb", region_name="us-east-1", endpoint_url=one.section["endpoint_url"]
    )
    items = client.scan(TableName=one.section["table_name"] + "_events")["Items"]
    assert max(len(item["body"]["S"]) for item in items) == 300_000
    assert len(items) == 4
    client.close()


@pytest.mark.parametrize("one", ["dynamo"], indirect=True)
async def test_a_turn_is_three_requests_however_long_the_history(
    one: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, because moto copies its tables for a transaction and so grows slower (T12)."""
    store = one.open()
    await store.save(Tracker.from_dict("a", [user(f"{n}", n) for n in range(3000)]))
    claim = await store.claim("a", 1, "x")
    await store.append(claim, session(3000))
    asked: list[tuple[str, int]] = []
    call = DynamoClient.call

    def counted(self: DynamoClient, operation: str, **parameters: Any) -> Any:
        answer = call(self, operation, **parameters)
        asked.append((operation, len(answer.get("Items", ()))))
        return answer

    monkeypatch.setattr(DynamoClient, "call", counted)
    claim = await store.claim("a", 2, "x")
    await store.append(claim, [user("hello", 3001)])
    assert asked == [("update_item", 0), ("query", 1), ("transact_write_items", 0)]


@pytest.mark.parametrize("one", ["mongo"], indirect=True)
async def test_idle_connections_are_not_used_again(
    one: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network has forgotten them: what is sent on them is never answered."""
    monkeypatch.setattr(mongo_database, "IDLE", 1)
    url = urlsplit(one.section["url"])
    async with Proxy(url.port or 27017) as proxy:
        login = f"{url.netloc.rpartition('@')[0]}@".lstrip("@")
        one.section["url"] = f"mongodb://{login}127.0.0.1:{proxy.port}/?directConnection=true"
        store = one.open(socket_timeout=10)
        await asyncio.gather(*(store.claim(f"c{number}", 1, "me") for number in range(8)))
        proxy.swallow()
        await asyncio.sleep(1.5)
        again = (store.claim(f"c{number}", 2, "me") for number in range(8))
        await asyncio.wait_for(asyncio.gather(*again), 8)  # before the first one is given up
        await one.close()
