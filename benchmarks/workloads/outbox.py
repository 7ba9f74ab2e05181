"""(l) How fast the relay empties a full outbox, against the broker's own client alone."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from ticketlock import Conversations
from ticketlock.publishing.relay import CONVERSATIONS, LEFT_SECONDS

from ..bench import Bench
from ..rows import Bar, Rows, number, table
from ..stores import Section, events, of_tests, tracker_sections

TITLE = "outbox drain rate"

#: Events that a bare client sends or writes together: those of a round of the relay.
BATCH = 10 * CONVERSATIONS

#: Publishes events, and returns when the broker has all of them.
Publish = Callable[[Iterator[str]], None]

#: broker -> the least part of its own client's rate. A file and SQLite do less for an event than
#: reading it from a store takes.
LEAST = {"kafka": 0.7, "pika": 0.7, "file": 0.4, "sql": 0.4}


def run(bench: Bench) -> None:
    url = bench.server()
    turns = bench.pick(1000, 4000)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make = stack.enter_context(tracker_sections("redis"))
        brokers: dict[str, Any] = {"file": File(folder), "sql": SQL(folder)}
        if bench.full:  # they take long to start
            brokers |= {"kafka": Kafka(stack), "pika": Pika(stack)}
        for index, name in enumerate(brokers):  # what a process does once: imports, connections
            brokers[name].renew(2000 + index)
            asyncio.run(drain(url, make, brokers[name].section(), 10))
        for round_, name in bench.turns(list(brokers), bench.pick(3, 5)):
            broker = brokers[name]
            sent = [{"sender_id": "c", **event} for event in events("hello")] * 5 * turns
            broker.renew(round_)
            leave_out_of_garbage()
            with broker.client() as publish:
                publish(map(json.dumps, sent[:BATCH]))
                start = time.perf_counter()
                publish(map(json.dumps, sent[BATCH:]))
                bare = (len(sent) - BATCH) / (time.perf_counter() - start)
            bench.add("bare", name, round=round_, per_s=bare)
            broker.renew(1000 + round_)
            drained = asyncio.run(drain(url, make, broker.section(), turns))
            bench.add("ticketlock", name, round=round_, per_s=drained)


async def drain(url: str, make: Section, broker: dict[str, Any], turns: int) -> float:
    """Events a second, from the first round that the broker has confirmed until it has all.

    They were left by a process that has no broker: the relay of one that has would publish the
    first of them while the last are committed. The first round is not counted: it waits for what
    a producer does once, such as Kafka's, which has its number from the server after half a second.
    """
    tracker = make()
    async with Conversations({"type": "concurrent_redis", "url": url}, tracker) as others:
        others.tracker_store.publishes = True

        async def fill(i: int) -> None:
            async with others.turn(f"c{i}") as turn:
                turn.add(*events("hello") * 5)

        for first in range(0, turns, 50):
            await asyncio.gather(*map(fill, range(first, min(first + 50, turns))))
    await asyncio.sleep(LEFT_SECONDS)  # a relay leaves what is younger to others
    conversations = Conversations(None, tracker, broker)
    relay = conversations.relay
    assert relay is not None  # there is a broker
    leave_out_of_garbage()
    relay.start()

    async def reach(events: int) -> float:
        """When that many are published."""
        end = time.perf_counter() + 60
        while relay.counts.published < events:
            if time.perf_counter() > end:
                raise RuntimeError(f"published {relay.counts} in a minute")
            await asyncio.sleep(0.001)
        return time.perf_counter()

    start = await reach(1)
    left = 10 * turns - relay.counts.published
    seconds = await reach(10 * turns) - start
    await conversations.close()
    return left / seconds


def leave_out_of_garbage() -> None:
    """Collect what filled the outbox left, and look at what is alive no more.

    `ticketlock run` does the same when it starts. One look at it takes as long as thousands of
    events, at any moment of the drain or in none.
    """
    gc.collect()
    gc.freeze()


class File:
    """Lines in batches as large as the relay's, each on the disk before the next."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def renew(self, number: int) -> None:
        self._path = self._folder / f"{type(self).__name__}{number}"

    def section(self) -> dict[str, Any]:
        return {"type": "file", "path": str(self._path)}

    @contextmanager
    def client(self) -> Iterator[Publish]:
        with self._path.open("a") as file:

            def publish(bodies: Iterator[str]) -> None:
                while batch := list(islice(bodies, BATCH)):
                    file.write("\n".join(batch) + "\n")
                    file.flush()
                    os.fsync(file.fileno())

            yield publish


class SQL(File):
    """Rows in transactions as large as the relay's."""

    def section(self) -> dict[str, Any]:
        return {"type": "sql", "db": str(self._path)}

    @contextmanager
    def client(self) -> Iterator[Publish]:
        with closing(sqlite3.connect(self._path)) as connection:
            connection.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, sender_id, data)")
            insert = "INSERT INTO events (sender_id, data) VALUES (?, ?)"

            def publish(bodies: Iterator[str]) -> None:
                while rows := [("c", body) for body in islice(bodies, BATCH)]:
                    connection.executemany(insert, rows)
                    connection.commit()

            yield publish


class Kafka:
    """An idempotent producer; flushed at the end."""

    def __init__(self, stack: ExitStack) -> None:
        self._tools = of_tests("servers.kafka_server")
        self._server = self._tools.given() or stack.enter_context(self._tools.Kafka())

    def renew(self, number: int) -> None:
        self._topic = f"bench-{time.time_ns()}-{number}"
        self._tools.make_topic(self._server.bootstrap, self._topic, 1)

    def section(self) -> dict[str, Any]:
        return dict(self._server.section(topic=self._topic))

    @contextmanager
    def client(self) -> Iterator[Publish]:
        from confluent_kafka import Producer

        settings = {"bootstrap.servers": self._server.bootstrap, "enable.idempotence": True}
        producer = Producer({**settings, "linger.ms": 1})

        def publish(bodies: Iterator[str]) -> None:
            for body in bodies:
                producer.produce(self._topic, body.encode(), key=b"c")
                producer.poll(0)
            producer.flush()

        yield publish


class Pika:
    """Persistent messages without confirmations, then one request that is answered behind them."""

    def __init__(self, stack: ExitStack) -> None:
        rabbitmq = of_tests("servers.rabbitmq")
        self._server = rabbitmq.given() or stack.enter_context(rabbitmq.RabbitMQ())
        self._queue = "bench"

    def renew(self, number: int) -> None:
        """Another queue. The one before goes: with some 300,000 messages the server of the tests is
        short of memory, and blocks its clients.
        """
        with closing(self._server.connect()) as connection:
            connection.channel().queue_delete(self._queue)
        self._queue = f"bench {number}"

    def section(self) -> dict[str, Any]:
        return dict(self._server.section(queues=[self._queue], exchange_name=f"{self._queue} x"))

    @contextmanager
    def client(self) -> Iterator[Publish]:
        import pika

        with closing(self._server.connect()) as connection:
            channel = connection.channel()
            channel.queue_declare(self._queue, durable=True)
            persistent = pika.BasicProperties(delivery_mode=2)

            def publish(bodies: Iterator[str]) -> None:
                for body in bodies:
                    channel.basic_publish("", self._queue, body.encode(), persistent)
                channel.queue_declare(self._queue, passive=True)

            yield publish


def report(rows: Rows) -> str:
    lines = [
        [
            name,
            rows.cell("bare", "per_s", name, spread=True),
            rows.cell("ticketlock", "per_s", name, spread=True),
            number(rows.ratio("ticketlock", "bare", "per_s", name)),
        ]
        for name in rows.xs()
    ]
    return table(["events/s", "bare client", "relay, from Redis", "ratio"], lines)


def bars(rows: Rows) -> list[Bar]:
    return [
        Bar(
            f"{name}: drain rate by the bare client's",
            rows.ratio("ticketlock", "bare", "per_s", name),
            LEAST[name],
            at_most=False,
        )
        for name in rows.xs()
    ]
