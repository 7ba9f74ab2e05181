"""(k) The same turn on conversations with longer and longer histories."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

from ticketlock import Conversations
from ticketlock.registry import create_tracker_store
from ticketlock.tracker import Tracker

from ..bench import Bench
from ..rows import Bar, Rows, number, table
from ..stores import Section, events, tracker_sections

TITLE = "turn cost against history length"
STORES = ("memory", "sqlite", "postgres", "redis", "mongo")
LENGTHS = (100, 1000, 10_000)
#: Events of a session; a turn reads the latest one.
SESSION = 20


def run(bench: Bench) -> None:
    url = bench.server()
    with ExitStack() as stack:
        for store in bench.pick(("sqlite", "redis"), STORES):
            make = stack.enter_context(tracker_sections(store))
            asyncio.run(measure(bench, store, make, url))


async def measure(bench: Bench, store: str, make: Section, url: str) -> None:
    locks = {"type": "concurrent_redis", "url": url}
    rounds, turns = bench.pick((5, 15), (9, 40))
    tracker_store = create_tracker_store(make())
    async with Conversations(locks, tracker_store) as conversations:
        for length in LENGTHS:
            await tracker_store.update(Tracker.from_dict(f"c{length}", history(length)))
        for round_ in range(rounds):
            # Each round begins with a session of its own, so that all read as much.
            for length in LENGTHS[round_ % 3 :] + LENGTHS[: round_ % 3]:
                for i in range(turns + 1):
                    if i == 1:
                        start = time.perf_counter()
                    async with conversations.turn(f"c{length}") as turn:
                        turn.add(*(session() if i == 0 else events("hello")))
                seconds = time.perf_counter() - start
                bench.add(store, length, round=round_, us=1e6 * seconds / turns)


def session() -> list[dict[str, object]]:
    start = {"event": "action", "name": "action_session_start", "timestamp": 1.0}
    return [start, {"event": "session_started", "timestamp": 1.0}]


def history(length: int) -> list[dict[str, object]]:
    """So many events, a new session each `SESSION`."""
    turn = events("hello")
    one = [*session(), *(turn * ((SESSION - 2) // len(turn)))]
    return one * (length // SESSION)


def report(rows: Rows) -> str:
    lines = [
        [
            store,
            *(rows.cell(store, "us", n, spread=True) for n in LENGTHS),
            number(_ratio(rows, store)),
        ]
        for store in rows.peers()
    ]
    head = ["µs a turn", *(f"{n:,} events" for n in LENGTHS), "longest by shortest"]
    return table(head, lines)


def _ratio(rows: Rows, store: str) -> float | None:
    return rows.ratio(store, store, "us", LENGTHS[-1], LENGTHS[0])


def bars(rows: Rows) -> list[Bar]:
    return [
        Bar(f"{store}: turn with 10,000 events by that with 100", _ratio(rows, store), 1.1)
        for store in rows.peers()
    ]
