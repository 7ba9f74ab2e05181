"""What a turn reads does not depend on how long the history is: in rows and bytes, each store.

The bot server's turns, over HTTP, on histories of 10 and of 10,000 messages of one sender in
which nothing has ever started a session.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from servers.tracker_stores import TRACKER_STORES
from serving import client, send

from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.server import Message
from ticketlock.stress.proxy import Proxy
from ticketlock.tracker.store import TrackerStore
from ticketlock.tracker.tracker import Tracker
from ticketlock.turn import Turn

Run = Callable[..., None]

#: What grows with the history shows: it is compared to the byte. The benchmark (k) has 100,000.
SHORT, LONG = 10, 10_000


def history(messages: int, since: float) -> Iterator[dict[str, Any]]:
    """A slot and messages, one a second."""
    yield {"event": "slot", "timestamp": since, "name": "city", "value": "Oslo"}
    for i in range(messages):
        now = since + i
        yield {"event": "user", "timestamp": now, "text": "hi", "parse_data": {}, "metadata": {}}


class Watched:
    """A bot that notes what each of its turns has read."""

    def __init__(self, meter: Callable[[], int]) -> None:
        self.rows: list[int] = []
        self.slots: list[dict[str, Any]] = []
        self._meter = meter

    async def __call__(self, turn: Turn, message: Message) -> AsyncIterator[str]:
        self.rows.append(len(turn.tracker.events))
        self.slots.append(dict(turn.tracker.slots))
        yield "heard it"

    async def talk(self, http: Any, sender: str, count: int) -> list[int]:
        """What each of some messages has cost, by the meter."""
        costs = []
        for i in range(count):
            before = self._meter()
            answer = await send(http, "hello", sender=sender, message_id=f"m{i}")
            assert answer.status_code == 200, answer.text
            costs.append(self._meter() - before)
        return costs


@asynccontextmanager
async def metered(section: dict[str, Any]) -> AsyncIterator[tuple[TrackerStore, Callable[[], int]]]:
    """A store, and a meter of what is read from it: bytes; of SQLite steps of its machine."""
    place = {"mongod": "url", "dynamo": "endpoint_url"}.get(section["type"])
    target = section.get("port") or (place and section[place].rpartition(":")[2])
    async with AsyncExitStack() as stack:
        if target is not None:
            proxy = await stack.enter_async_context(Proxy(int(target)))
            moved = f"{section[place].rpartition(':')[0]}:{proxy.port}" if place else proxy.port
            if section["type"] == "mongod":  # else it asks for the address, and goes there
                moved = f"{moved}/?directConnection=true"
            section = {**section, place or "port": moved}
        store = await stack.enter_async_context(create_tracker_store(section))
        if target is not None:
            yield store, lambda: proxy.answered
        elif section["type"] == "sql":
            yield store, await steps(store)
        else:
            yield store, lambda: 0


async def steps(store: Any) -> Callable[[], int]:
    """Counts the steps that SQLite takes on the connection that writes."""
    taken = [0]

    def step() -> int:
        taken[0] += 1
        return 0

    def watch(connection: Any) -> None:
        connection.connection.driver_connection.set_progress_handler(step, 1)

    await store._engine.run(watch)
    return lambda: taken[0]


@pytest.mark.parametrize("backend", [name for name in TRACKER_STORES if name != "redis-cluster"])
def test_a_turn_reads_the_same(backend: str, tracker_sections: Any, run: Run) -> None:
    """After the first message, which finds that the session has expired, to the byte."""

    section = tracker_sections(backend)

    async def body() -> None:
        async with create_tracker_store(dict(section)) as plain:
            importing = plain
            async with metered(dict(section)) as (store, meter):
                if backend == "memory":
                    importing = store
                for count in (SHORT, LONG):
                    wires = history(count, 1.0)
                    await importing.update(Tracker.from_dict(f"c{count:06}", wires))
                bot = Watched(meter)
                async with client(bot, (None, store)) as http:
                    costs = {n: await bot.talk(http, f"c{n:06}", 6) for n in (SHORT, LONG)}
                rows = {SHORT: bot.rows[:6], LONG: bot.rows[6:]}
                print(backend, rows, costs)
                assert rows[SHORT] == rows[LONG] == [5, 7, 9, 11, 13, 15]
                assert all(slots == {"city": "Oslo"} for slots in bot.slots)
                # Numbers of events have more digits in the one than in the other.
                for short, long in list(zip(costs[SHORT], costs[LONG], strict=True))[2:]:
                    assert abs(long - short) <= 64

    run(body(), 240)


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
def test_a_session_that_never_ends_is_bound(backend: str, tracker_sections: Any, run: Run) -> None:
    """With no expiry, and messages of a moment ago: at `max_session_events`, slots carried."""

    section = tracker_sections(backend)

    async def body() -> None:
        async with metered(dict(section)) as (store, meter):
            wires = history(20_000, time.time() - 20_000)
            await store.update(Tracker.from_dict("long", wires))
            bot = Watched(meter)
            bounds = {"session_expiration_time": 0, "max_session_events": 200}
            async with client(bot, (None, store), **bounds) as http:
                await bot.talk(http, "long", 3)
                assert bot.rows == [5, 7, 9]
                assert bot.slots[-1] == {"city": "Oslo"}
                await bot.talk(http, "full", 110)
                # 200 events, those of the start and of the turn that passes it.
                assert 200 <= max(bot.rows) <= 200 + 4 + 2
                assert min(bot.rows[-20:]) < 50

    run(body(), 240)
