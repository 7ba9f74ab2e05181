"""The backends of the event broker contract: one row each, the tests do not know them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ticketlock.publishing.broker import EventBroker

_numbers = itertools.count(1)


class Backend:
    """Where a test publishes to, and how an independent client reads it back.

    Attributes:
        largest: bytes of the largest message; None where there is no limit to test.
        server: the child process behind it, with `stop` and `start`; None if there is none.
    """

    largest: int | None = None
    server: Any = None

    def section(self) -> dict[str, Any]:
        """The section of `event_broker`; the same place each time."""
        raise NotImplementedError

    def read(self, count: int) -> list[dict[str, Any]]:
        """What is there, in order; waits for `count` events, and returns more if there are."""
        raise NotImplementedError


class KafkaBackend(Backend):
    largest = 200_000

    def __init__(self, server: Any, folder: Path) -> None:
        from servers import kafka_server

        self._tools = kafka_server
        self.given = server
        self.server = server if hasattr(server, "stop") else None
        self.topic = f"contract-{time.time_ns()}-{next(_numbers)}"
        limit = {"max.message.bytes": str(self.largest)}
        kafka_server.make_topic(server.bootstrap, self.topic, 3, **limit)

    def section(self) -> dict[str, Any]:
        return dict(self.given.section(topic=self.topic))

    def read(self, count: int) -> list[dict[str, Any]]:
        found = self._tools.consume(self.given.bootstrap, self.topic, count)
        return [json.loads(message.value()) for message in found]

    def headers(self) -> dict[str, str]:
        """Those of the only message."""
        (message,) = self._tools.consume(self.given.bootstrap, self.topic, 1)
        return {name: value.decode() for name, value in message.headers()}


class PikaBackend(Backend):
    def __init__(self, server: Any, folder: Path) -> None:
        from servers import rabbitmq

        self.given = server
        self.server = server if hasattr(server, "stop") else None
        self.largest = rabbitmq.LARGEST if self.server else None
        self.name = f"contract {next(_numbers)}"

    def section(self) -> dict[str, Any]:
        return dict(self.given.section(queues=[self.name], exchange_name=f"{self.name} x"))

    def read(self, count: int) -> list[dict[str, Any]]:
        connection = self.given.connect()
        try:
            channel = connection.channel()
            found: list[dict[str, Any]] = []
            end = time.monotonic() + 10
            # Not acknowledged: they stay.
            for method, _, body in channel.consume(self.name, inactivity_timeout=0.1):
                if method is not None:
                    found.append(json.loads(body))
                    end = time.monotonic() + 10
                elif len(found) >= count or time.monotonic() > end:
                    break
            return found
        finally:
            connection.close()

    def headers(self) -> dict[str, str]:
        """Those of the only message."""
        connection = self.given.connect()
        _, properties, _ = connection.channel().basic_get(self.name)
        connection.close()
        return dict(properties.headers)


class SQLBackend(Backend):
    def __init__(self, server: Any, folder: Path) -> None:
        self.path = folder / "events.db"

    def section(self) -> dict[str, Any]:
        return {"type": "SQL", "db": str(self.path)}

    def read(self, count: int) -> list[dict[str, Any]]:
        def rows() -> list[Any]:
            with contextlib.closing(sqlite3.connect(self.path)) as connection:
                query = "SELECT sender_id, data FROM events ORDER BY id"
                return connection.execute(query).fetchall()

        found = [(sender, json.loads(data)) for sender, data in _wait(rows, count)]
        assert all(sender == event.get("sender_id", "") for sender, event in found)
        return [event for _, event in found]


class FileBackend(Backend):
    def __init__(self, server: Any, folder: Path) -> None:
        self.path = folder / "events.log"

    def section(self) -> dict[str, Any]:
        return {"type": "file", "path": str(self.path)}

    def read(self, count: int) -> list[dict[str, Any]]:
        lines = _wait(lambda: self.path.read_text(encoding="ascii").splitlines(), count)
        return [json.loads(line) for line in lines]


class PlainBroker:
    """A custom broker with the four documented methods, plain, and no base class."""

    kept: dict[str, list[dict[str, Any]]] = {}  # noqa: RUF012  # shared on purpose

    def __init__(self, place: str) -> None:
        self.events = self.kept.setdefault(place, [])
        self.closed = False

    @classmethod
    async def from_endpoint_config(cls, broker_config: Any, event_loop: Any = None) -> PlainBroker:
        return cls(broker_config.url)

    def publish(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def is_ready(self) -> bool:
        return not self.closed

    def close(self) -> None:
        self.closed = True


class AsyncBroker(EventBroker):
    """The same with the base class, and async methods."""

    def __init__(self, plain: PlainBroker) -> None:
        self.plain = plain

    @classmethod
    async def from_endpoint_config(cls, broker_config: Any, event_loop: Any = None) -> AsyncBroker:
        return cls(await PlainBroker.from_endpoint_config(broker_config))

    async def publish(self, event: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        self.plain.publish(event)

    async def is_ready(self) -> bool:
        return self.plain.is_ready()

    async def close(self) -> None:
        self.plain.close()


class CustomBackend(Backend):
    kind = PlainBroker

    def __init__(self, server: Any, folder: Path) -> None:
        self.place = str(folder)

    def section(self) -> dict[str, Any]:
        return {"type": f"servers.event_brokers.{self.kind.__name__}", "url": self.place}

    def read(self, count: int) -> list[dict[str, Any]]:
        return list(PlainBroker.kept.get(self.place, []))


class AsyncBackend(CustomBackend):
    kind = AsyncBroker  # type: ignore[assignment]  # another class with the same methods


#: name -> the fixture of its server, and the class above
BACKENDS: dict[str, tuple[str | None, Callable[[Any, Path], Backend]]] = {
    "kafka": ("kafka", KafkaBackend),
    "pika": ("rabbitmq", PikaBackend),
    "sql": (None, SQLBackend),
    "file": (None, FileBackend),
    "custom-plain": (None, CustomBackend),
    "custom-async": (None, AsyncBackend),
}


def _wait(look: Callable[[], list[Any]], count: int) -> list[Any]:
    end = time.monotonic() + 10
    while len(found := look()) < count and time.monotonic() < end:
        time.sleep(0.02)
    return found
