"""Fixtures for all tests: the servers (see `servers/`), and waiting for a condition."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from typing import Any

import pytest
from servers import missing
from servers.tracker_stores import TRACKER_STORES

from ticketlock.embedded import EmbeddedRedis

#: Parameters and fixtures of tests whose server is slow to start -> what they have in common.
SERVERS = {
    name: name for name in ("postgres", "mariadb", "mongo", "dynamo", "redis-cluster", "kafka")
} | {"own_kafka": "kafka", "pika": "pika", "rabbitmq": "pika", "own_rabbitmq": "pika"}
#: Files whose tests are a group: those of the demo keep all processors busy, mutants only wait.
FILES = {"test_demo.py": "demo", "test_demo_stores.py": "demo", "test_mutants.py": "mutants"}
#: Begun in this order, what takes longest first, and what waits beside what works.
GROUPS = [
    "demo", "dynamo", "kafka", "mutants", "postgres", "mariadb", "mongo", "pika", "redis-cluster",
]  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several workers share the tests, those of a group go to the same worker."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    groups = {item: group(item) for item in items}
    for item in items:
        if groups[item]:
            item.add_marker(pytest.mark.xdist_group(groups[item]))
    order = {name: place for place, name in enumerate(GROUPS)}
    items.sort(key=lambda item: order.get(groups[item] or "", len(order)))


def group(item: pytest.Item) -> str | None:
    """The tests that a test should follow in the same worker."""
    if item.path.name in FILES and item.path.parent.name != "unit":
        return FILES[item.path.name]
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    names = [*values, *getattr(item, "fixturenames", ())]
    return next((SERVERS[n] for n in names if isinstance(n, str) and n in SERVERS), None)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """One Redis for the session; tests use conversations of their own."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[EmbeddedRedis]:
    """A Redis that the test may stop, kill, flush or reconfigure."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def run() -> Callable[[Awaitable[None]], None]:
    """Run one asynchronous test body, bounded in time."""

    def run(body: Awaitable[None], seconds: float = 60) -> None:
        async def bounded() -> None:
            await asyncio.wait_for(body, seconds)

        asyncio.run(bounded())

    return run


async def until(condition: Callable[[], object], what: str, seconds: float = 10) -> None:
    """Wait for a condition, never for a duration."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.005)


@pytest.fixture(scope="session")
def tracker_sections() -> Iterator[Callable[[str], dict[str, Any]]]:
    """Sections of every backend; a server is started when the first test wants it."""
    with ExitStack() as stack:
        started: dict[str, Callable[[], dict[str, Any]]] = {}

        def section(backend: str) -> dict[str, Any]:
            if backend not in started:
                module, _, name = TRACKER_STORES[backend].partition(":")
                try:
                    manager = getattr(import_module(module), name)
                except ImportError as error:
                    missing(f"the tracker store {backend}", str(error))
                started[backend] = stack.enter_context(manager())
            return started[backend]()

        yield section


@pytest.fixture(scope="session")
def kafka() -> Iterator[Any]:
    """One Kafka for the session, the given one if there is one; tests use topics of their own."""
    from servers import kafka_server

    if found := kafka_server.given():
        yield found
        return
    with kafka_server.Kafka() as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Any]:
    """One RabbitMQ for the session, the given one if there is one; tests use own names."""
    from servers import rabbitmq

    if found := rabbitmq.given():
        yield found
        return
    with rabbitmq.RabbitMQ() as server:
        yield server


@pytest.fixture
def own_kafka(kafka: Any) -> Any:
    """The Kafka of the session where it is our child, to be killed, and started again."""
    if not hasattr(kafka, "stop"):
        pytest.skip("the given Kafka is not ours to stop")
    yield kafka
    if kafka.process is None:
        kafka.start()


@pytest.fixture
def own_rabbitmq(rabbitmq: Any) -> Any:
    """The RabbitMQ of the session where it is our child, to be killed, and started again."""
    if not hasattr(rabbitmq, "stop"):
        pytest.skip("the given RabbitMQ is not ours to stop")
    yield rabbitmq
    if rabbitmq.process is None:
        rabbitmq.start()
