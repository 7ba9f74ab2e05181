"""(k) The same message to the bot server, on conversations with longer and longer histories."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from contextlib import ExitStack
from typing import Any

from ticketlock import Conversations
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.server import Settings, create_app
from ticketlock.tracker.tracker import Tracker

from ..bench import Bench
from ..rows import Bar, Rows, number, table
from ..stores import Section, tracker_sections

TITLE = "message cost against history length"
STORES = ("memory", "sqlite", "postgres", "redis", "mongo")
#: Messages of one sender, imported, without any session start among them.
LENGTHS = (10, 1000, 100_000)


def run(bench: Bench) -> None:
    url = bench.server()
    with ExitStack() as stack:
        for store in bench.pick(("sqlite", "redis"), STORES):
            make = stack.enter_context(tracker_sections(store))
            asyncio.run(measure(bench, store, make, url))


async def measure(bench: Bench, store: str, make: Section, url: str) -> None:
    locks = {"type": "concurrent_redis", "url": url}
    rounds, turns = 9, bench.pick(15, 40)
    tracker_store = create_tracker_store(make())
    async with Conversations(locks, tracker_store) as conversations:
        app = create_app(conversations, settings=Settings())
        for length in LENGTHS:
            await tracker_store.update(Tracker.from_dict(f"c{length}", history(length)))
        for round_ in range(rounds):
            # Each round begins with a session of its own, so that all read as much.
            for length in LENGTHS:
                await post(app, f"c{length}", "/session_start")
            took: dict[int, list[float]] = {length: [] for length in LENGTHS}
            for turn in range(turns):  # by turns: what else the machine does hits all alike
                for length in LENGTHS[turn % 3 :] + LENGTHS[: turn % 3]:
                    start = time.perf_counter()
                    await post(app, f"c{length}", "hello")
                    took[length].append(time.perf_counter() - start)
            for length, seconds in took.items():
                us = 1e6 * statistics.median(seconds)
                bench.add(store, length, round=round_, us=us)


async def post(app: Any, sender: str, text: str) -> None:
    """A message to the REST channel, as the HTTP server hands it to the application."""
    body = json.dumps({"sender": sender, "message": text}).encode()
    incoming = [{"type": "http.request", "body": body, "more_body": False}]
    statuses = []

    async def receive() -> dict[str, Any]:
        return incoming.pop() if incoming else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        statuses.append(message.get("status"))

    path = "/webhooks/rest/webhook"
    head = [(b"host", b"bot"), (b"content-length", b"%d" % len(body))]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "",
        "query_string": b"", "headers": [*head, (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    if statuses[0] != 200:
        raise RuntimeError(f"the server answered {statuses[0]}")


def history(length: int) -> list[dict[str, object]]:
    """So many messages of long ago."""
    said = {"event": "user", "text": "hello", "parse_data": {}, "metadata": {}}
    return [{**said, "timestamp": float(i)} for i in range(length)]


def report(rows: Rows) -> str:
    lines = [
        [
            store,
            *(rows.cell(store, "us", n, spread=True) for n in LENGTHS),
            number(_ratio(rows, store)),
        ]
        for store in rows.peers()
    ]
    head = ["µs a message", *(f"after {n:,}" for n in LENGTHS), "longest by shortest"]
    return table(head, lines)


def _ratio(rows: Rows, store: str) -> float | None:
    return rows.ratio(store, store, "us", LENGTHS[-1], LENGTHS[0])


def bars(rows: Rows) -> list[Bar]:
    return [
        Bar(f"{store}: message after 100,000 by that after 10", _ratio(rows, store), 1.25)
        for store in rows.peers()
    ]
