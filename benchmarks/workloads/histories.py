"""(k) The same message to `ticketlock run`, on conversations with longer and longer histories."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from itertools import islice
from typing import Any

from ..bench import Bench
from ..rows import Bar, Rows, number, table
from . import served

TITLE = "message cost against history length"
STORES = ("memory", "sqlite", "postgres", "mariadb", "redis", "mongo")
#: Messages of one sender, imported, without any session start among them.
LENGTHS = (10, 1000, 100_000)
#: Messages that are imported with one request, which may have no more.
_IMPORTED = 1000


def run(bench: Bench) -> None:
    for store in bench.pick(("sqlite", "redis"), STORES):
        with ExitStack() as stack:
            server = served.ours(stack, bench, store, {})
            server.wait()
            measure(bench, store, stack.enter_context(closing(Client(server.port))))


def measure(bench: Bench, store: str, client: Client) -> None:
    rounds, turns = 9, bench.pick(15, 40)
    for length in LENGTHS:
        events = history(length)
        while some := list(islice(events, _IMPORTED)):
            client.post(f"/conversations/c{length}/tracker/events", some)
    for round_ in range(rounds):
        # Each round begins with a session of its own, so that all read as much.
        for length in LENGTHS:
            client.say(f"c{length}", "/session_start")
        took: dict[int, list[float]] = {length: [] for length in LENGTHS}
        for turn in range(turns):  # by turns: what else the machine does hits all alike
            for length in LENGTHS[turn % 3 :] + LENGTHS[: turn % 3]:
                start = time.perf_counter()
                client.say(f"c{length}", "hello")
                took[length].append(time.perf_counter() - start)
        for length, seconds in took.items():
            us = 1e6 * statistics.median(seconds)
            bench.add(store, length, round=round_, us=us)


class Client:
    """One connection, which stays open."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=120)

    def say(self, sender: str, text: str) -> None:
        self.post("/webhooks/rest/webhook", {"sender": sender, "message": text})

    def post(self, path: str, content: Any) -> None:
        headers = {"content-type": "application/json"}
        self._connection.request("POST", path, json.dumps(content), headers)
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the server answered {answer.status}: {said[:200]!r}")

    def close(self) -> None:
        self._connection.close()


def history(length: int) -> Iterator[dict[str, object]]:
    """So many messages of long ago."""
    said = {"event": "user", "text": "hello", "parse_data": {}, "metadata": {}}
    return ({**said, "timestamp": float(i)} for i in range(length))


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
