"""Fixtures for all tests: the servers (see `servers/`), and waiting for a condition."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import os
import sys
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import first_logs
import pytest
from hypothesis import HealthCheck, settings
from servers import left_out, missing
from servers.processes import persistent
from servers.tracker_stores import TRACKER_STORES, Stores

from ticketlock.redis.embedded import EmbeddedRedis

# Tests start a thousand processes: without stored bytecode each compiles all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


#: Seconds that an asynchronous test may take; the mark `bound` names others.
BOUND = 60


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, each in an event loop of its own."""
    return "asyncio"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Bound an asynchronous test in time, and close its tracker stores in its event loop."""
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return
    mark = pyfuncitem.get_closest_marker("bound")
    seconds = mark.args[0] if mark else BOUND

    @functools.wraps(test)
    async def bounded(**arguments: Any) -> None:
        try:
            await asyncio.wait_for(test(**arguments), seconds)
        finally:
            for used in arguments.values():
                if isinstance(used, Stores):
                    await used.close()

    pyfuncitem.obj = bounded


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several workers share the tests, those of a group go to the same worker."""
    from workers import Groups

    return Groups(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """No garbage is collected while a failure is written down.

    Python 3.11 parses sources in two places there: for pytest, and for the traceback of a task
    that is collected with its exception unread. The second inside the first is a SystemError
    ("AST constructor recursion depth mismatch") that ends the whole run.
    """
    if call.excinfo is None:
        return (yield)
    gc.collect()
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Several workers begin with the groups."""
    from workers import place

    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: place(item.nodeid))


def pytest_collection_finish() -> None:
    """What is alive now stays: a test that looks for garbage need not go through thousands of tests."""
    gc.collect()
    gc.freeze()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """`.ci/tests` repeats what failed; its first log must not be lost."""
    file = os.environ.get(first_logs.VARIABLE)
    if file and report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        first_logs.keep(report, Path(file))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Whoever has declined to install the servers is shown what was left out."""
    if lines := left_out(terminalreporter.stats.get("skipped", ())):
        terminalreporter.section("left out, because a server is not here")
        terminalreporter.line("\n".join(lines))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """One Redis for the session, the given one if there is one; tests use own conversations."""
    if port := os.environ.get("TICKETLOCK_TEST_REDIS_PORT"):
        yield EmbeddedRedis(port=int(port))
        return
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[EmbeddedRedis]:
    """A Redis that the test may stop, kill, flush or reconfigure."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def run() -> Callable[[Awaitable[None]], None]:
    """Run a coroutine in an event loop of its own, bounded in time.

    For tests that need several loops, or that go on when theirs is closed.
    """

    def run(body: Awaitable[None], seconds: float = BOUND) -> None:
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
    with persistent(kafka_server.Kafka, "Kafka") as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Any]:
    """One RabbitMQ for the session, the given one if there is one; tests use own names."""
    from servers import rabbitmq

    if found := rabbitmq.given():
        yield found
        return
    with persistent(rabbitmq.RabbitMQ, "RabbitMQ") as server:
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
