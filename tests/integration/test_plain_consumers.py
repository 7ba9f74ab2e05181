"""Consumers that know nothing of us read what turns publish: those of docs/guides/consumers.md."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from contract_events import LEGACY_TYPES, action, user
from documents import ROOT, blocks

from ticketlock import Conversations

TURNS = [
    ("ä b", [user("hello", 1.5), action("utter", 2)]),
    ("b", LEGACY_TYPES),
    ("ä b", [user("x", 3)]),
]


def example(imported: str, **literals: str) -> str:
    """The example that imports a driver, with other texts in the place of some of its own."""
    every = [block.code for block in blocks(ROOT / "docs/guides/consumers.md")]
    (code,) = (c for c in every if f"import {imported}\n" in c or f"from {imported} " in c)
    for old, new in literals.items():
        assert code.count(f'"{old}"') == 1, old
        code = code.replace(f'"{old}"', repr(new))
    return code


def publish(folder: Path, broker: dict[str, Any]) -> None:
    """Turns in a process that publishes; it ends when the broker has confirmed them."""
    endpoints = folder / "endpoints.yml"
    store = {"type": "sql", "db": str(folder / "bot.db")}
    endpoints.write_text(json.dumps({"tracker_store": store, "event_broker": broker}))

    async def body() -> None:
        async with Conversations.from_endpoints(endpoints) as conversations:
            for name, events in TURNS:
                async with conversations.turn(name) as turn:
                    turn.add(*events)
            while (await conversations.tracker_store.outbox.backlog()).events:
                await asyncio.sleep(0.02)

    asyncio.run(body())


class Reader:
    """The example as a process; what it prints."""

    def __init__(self, code: str) -> None:
        command = [sys.executable, "-u", "-c", code]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True)
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines += iter(self.process.stdout.readline, "")

    def wait(self, count: int, seconds: float = 30) -> list[str]:
        end = time.monotonic() + seconds
        while len(self.lines) < count and time.monotonic() < end:
            assert self.process.poll() is None, self.lines
            time.sleep(0.02)
        return [line.rstrip("\n") for line in self.lines]

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def judge(lines: list[str]) -> None:
    """All events, those of each conversation in order, under one history each."""
    expected: dict[str, list[str]] = {}
    for name, events in TURNS:
        expected.setdefault(name, []).extend(event["event"] for event in events)
    seen: dict[str, list[str]] = {name: [] for name in expected}
    lives = set()
    for line in lines:
        found = re.fullmatch(r"(ä b|b) ([1-9][0-9]*) ([0-9]+) (.*)", line)
        assert found, line
        name, history, number, kind = found.groups()
        lives.add((name, history))
        assert int(number) == len(seen[name])
        seen[name].append(kind)
    assert seen == expected
    assert len(lives) == len(expected)


COUNT = sum(len(events) for _, events in TURNS)


def test_pika(rabbitmq: Any, tmp_path: Path) -> None:
    """A callback that is given to basic_consume."""
    if not hasattr(rabbitmq, "stop"):
        pytest.skip("the given RabbitMQ's URL is not ours to write")
    name = f"plain {time.time_ns()}"
    section = rabbitmq.section(queues=[name], exchange_name=f"{name} x")
    publish(tmp_path, section)
    login = f"{section['username']}:{quote(section['password'], safe='')}"
    url = f"amqp://{login}@127.0.0.1:{section['port']}"
    with Reader(example("pika", **{"amqp://localhost": url, "rasa_core_events": name})) as reader:
        judge(reader.wait(COUNT))
    connection = rabbitmq.connect()
    left = connection.channel().queue_declare(name, passive=True).method.message_count
    connection.close()
    assert left == 0, "it has confirmed them"


def test_kafka(kafka: Any, tmp_path: Path) -> None:
    """A group of confluent-kafka's consumer, on a topic of several partitions."""
    from servers.kafka_server import make_topic

    topic = f"plain-{time.time_ns()}"
    make_topic(kafka.bootstrap, topic)
    publish(tmp_path, kafka.section(topic=topic))
    places = {"localhost:9092": kafka.bootstrap, "my-service": topic, "rasa_core_events": topic}
    with Reader(example("confluent_kafka", **places)) as reader:
        judge(reader.wait(COUNT))
