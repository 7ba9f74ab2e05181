"""The stores that are compared: Rasa's own, our lock store alone, and all of ours."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers import kafka_server, mongo, rabbitmq
from servers.event_brokers import Backend, FileBackend, KafkaBackend, PikaBackend

from .fleet import Fleet


@dataclass
class Kind:
    """A configuration, and what is asked of it.

    Attributes:
        sections: given the port of a Redis.
        ours: a failure counts.
        fenced: the tracker store is ours, too.
        wait: seconds within which the queue of a killed replica goes on.
        events: compares what the broker has with the histories.
    """

    sections: Callable[[int], dict[str, Any]]
    ours: bool = True
    fenced: bool = False
    wait: float = 10.0
    events: Callable[[Fleet], Awaitable[Any]] | None = None


def _locks(port: int, module: str = "ticketlock") -> dict[str, Any]:
    return {"type": f"{module}.ConcurrentRedisLockStore", "url": f"redis://127.0.0.1:{port}/1"}


def _rasa_tracker(port: int) -> dict[str, Any]:
    return {"type": "redis", "url": "127.0.0.1", "port": port, "db": 2}


@contextmanager
def stock() -> Iterator[Kind]:
    """Rasa's own stores: for comparison, so that nothing of it fails the run."""

    def sections(port: int) -> dict[str, Any]:
        lock = {"type": "redis", "url": "127.0.0.1", "port": port, "db": 1}
        return {"lock_store": lock, "tracker_store": _rasa_tracker(port)}

    yield Kind(sections, ours=False, wait=90.0)


@contextmanager
def locks() -> Iterator[Kind]:
    """Our lock store, and Rasa's tracker store."""
    yield Kind(
        lambda port: {"lock_store": _locks(port), "tracker_store": _rasa_tracker(port)},
    )


def _fenced(backend: Backend, broker: str, tracker: Callable[[int], dict[str, Any]]) -> Kind:
    def sections(port: int) -> dict[str, Any]:
        return {
            "lock_store": _locks(port, "ticketlock.rasa"),
            "tracker_store": tracker(port),
            "event_broker": {**backend.section(), "type": f"ticketlock.brokers.{broker}"},
        }

    async def events(fleet: Fleet) -> str:
        names = ("queue", "killed", "frozen", "sessions", "storm0", "storm1")
        wanted = {name: await fleet.history(1, name) for name in names}
        count = sum(map(len, wanted.values()))

        def published() -> dict[str, list[Any]]:
            found: dict[str, list[Any]] = {name: [] for name in wanted}
            for event in backend.read(count):
                if event["sender_id"] in found:
                    found[event["sender_id"]].append((event["sequence"], event))
            return found

        for _ in range(10):
            found = await asyncio.to_thread(published)
            if sum(len({sequence for sequence, _ in one}) for one in found.values()) >= count:
                break
            await asyncio.sleep(1)
        for name, events in wanted.items():
            once = dict(found[name])  # at least once: what came again has the same number
            assert list(once) == sorted(once), f"{name}: out of order"
            kinds = [event["event"] for event in once.values()]
            assert kinds == [event["event"] for event in events], f"{name}: {kinds}"
        return f"{count} of {len(names)} conversations, in order"

    return Kind(sections, fenced=True, events=events)


def _redis_tracker(port: int) -> dict[str, Any]:
    return {"type": "ticketlock.rasa.RedisTrackerStore", "url": f"redis://127.0.0.1:{port}/2"}


@contextmanager
def redis_and_file() -> Iterator[Kind]:
    """The fenced Redis store, and events in a file."""
    with tempfile.TemporaryDirectory() as folder:
        backend = FileBackend(None, Path(folder))
        yield _fenced(backend, "FileEventBroker", _redis_tracker)


@contextmanager
def redis_and_pika() -> Iterator[Kind]:
    """The fenced Redis store, and events at RabbitMQ."""
    with rabbitmq.RabbitMQ() as server:
        backend = PikaBackend(server, Path())
        yield _fenced(backend, "PikaEventBroker", _redis_tracker)


@contextmanager
def mongo_and_kafka() -> Iterator[Kind]:
    """The fenced MongoDB store on the pymongo that Rasa pins, and events at Kafka."""
    with mongo.url() as found, kafka_server.Kafka() as server:
        backend = KafkaBackend(server, Path())
        tracker = {"type": "ticketlock.rasa.MongoTrackerStore", "url": found, "db": "inside-rasa"}
        yield _fenced(backend, "KafkaEventBroker", lambda port: tracker)


KINDS: dict[str, Callable[[], AbstractContextManager[Kind]]] = {
    "stock": stock,
    "locks": locks,
    "redis+file": redis_and_file,
    "redis+pika": redis_and_pika,
    "mongo+kafka": mongo_and_kafka,
}
