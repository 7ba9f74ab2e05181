"""What every event broker promises, read back by clients that know nothing of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from servers.event_brokers import BACKENDS, Backend

from ticketlock.endpoints.registry import create_event_broker
from ticketlock.errors import EventBrokerError
from ticketlock.publishing.broker import EventBroker
from ticketlock.publishing.message import BrokerMessage, Outcome


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """A place of its own in each backend."""
    fixture, make = BACKENDS[request.param]
    return make(request.getfixturevalue(fixture) if fixture else None, tmp_path)


@pytest.fixture
def servers_backend(backend: Backend) -> Backend:
    """Only the backends whose server can be killed."""
    if backend.server is None:
        pytest.skip("no server of ours behind it")
    return backend


def message(number: int, conversation: str = "c", **body: Any) -> BrokerMessage:
    return BrokerMessage(conversation, number, {"event": "user", "timestamp": 1.5, **body})


@asynccontextmanager
async def opened(backend: Backend) -> AsyncIterator[EventBroker]:
    broker = await create_event_broker(backend.section())
    assert broker is not None
    try:
        await broker.connect()
        yield broker
    finally:
        await broker.close()


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]


def numbers(events: list[dict[str, Any]], conversation: str = "c") -> list[int]:
    return [event["sequence"] for event in events if event["sender_id"] == conversation]


async def lag_of_loop(stop: asyncio.Event) -> float:
    """The longest time for which the event loop did nothing else."""
    longest = 0.0
    while not stop.is_set():
        before = time.perf_counter()
        await asyncio.sleep(0.005)
        longest = max(longest, time.perf_counter() - before - 0.005)
    return longest


async def test_the_published_object(backend: Backend) -> None:
    """sender_id, the event's fields and the sequence; texts of any kind come out as they were."""
    conversation = "a|b [*] {x}:? ä 🎟 \n"
    fields = {"event": "bot", "text": "two\nlines \u2028 ü", "data": None, "metadata": {"a": [1]}}
    async with opened(backend) as broker:
        sent = [BrokerMessage(conversation, 7, {**fields, "sender_id": "forged", "sequence": 1})]
        assert statuses(await broker.deliver(sent)) == ["delivered"]
        assert broker.is_ready()
    assert backend.read(1) == [{"sender_id": conversation, **fields, "sequence": 7}]


async def test_order_within_a_conversation(backend: Backend) -> None:
    """Batches of many conversations keep the order of each."""
    names = [f"c{i}" for i in range(20)]
    async with opened(backend) as broker:
        for start in range(0, 50, 25):
            batch = [message(n, name) for n in range(start, start + 25) for name in names]
            assert set(statuses(await broker.deliver(batch))) == {"delivered"}
    events = backend.read(1000)
    for name in names:
        assert numbers(events, name) == list(range(50))


async def test_batches_at_once(backend: Backend) -> None:
    """Several deliver calls at a time do not mix up their outcomes."""
    async with opened(backend) as broker:
        calls = [broker.deliver([message(n, f"c{i}") for n in range(10)]) for i in range(8)]
        for outcomes in await asyncio.gather(*calls):
            assert statuses(outcomes) == ["delivered"] * 10
        assert await broker.deliver([]) == []
    events = backend.read(80)
    assert [numbers(events, f"c{i}") for i in range(8)] == [list(range(10))] * 8


@pytest.mark.parametrize(
    "value", [object(), float("nan"), {1, 2}, b"bytes", {(1, 2): 3}], ids=lambda v: type(v).__name__
)
async def test_what_is_not_json_is_poisoned(backend: Backend, value: Any) -> None:
    """It says so at once, and what follows is delivered: no retry cures it."""
    async with opened(backend) as broker:
        batch = [message(1), message(2, text=value), message(3), message(1, "\ud800")]
        outcomes = await broker.deliver(batch)
        assert statuses(outcomes) == ["delivered", "poisoned", "delivered", "poisoned"]
        assert "not JSON" in outcomes[1].reason
    assert numbers(backend.read(2)) == [1, 3]


async def test_what_is_too_large_is_poisoned(backend: Backend) -> None:
    """The one that the server refuses, and no other one, before or after it."""
    if backend.largest is None:
        pytest.skip("it has no limit within reach")
    large = "x" * (backend.largest + 1000)
    async with opened(backend) as broker:
        for start in (0, 40):
            batch = [message(start + n, text="x" * 3000) for n in range(40)]
            batch[20] = message(start + 20, text=large)
            batch += [message(start + n, "other") for n in range(5)]
            outcomes = await broker.deliver(batch)
            assert [i for i, o in enumerate(outcomes) if o.status != "delivered"] == [20]
            assert outcomes[20].status == "poisoned"
            assert outcomes[20].reason
    found = list(dict.fromkeys(numbers(backend.read(78 + 10))))
    assert found == [n for n in range(80) if n not in (20, 60)]


async def test_published_events_arrive_in_order(backend: Backend) -> None:
    """`publish` takes the documented object, returns at once, and close lets nothing lie."""
    events = [{"sender_id": "c", "event": "user", "text": str(n)} for n in range(300)]
    async with opened(backend) as broker:
        for event in events:
            broker.publish(event)
    assert backend.read(300) == events


async def test_after_close(backend: Backend) -> None:
    """A closed broker refuses events; closing it again does no harm."""
    broker = await create_event_broker(backend.section())
    assert broker is not None
    await broker.connect()
    await broker.close()
    await broker.close()
    with pytest.raises(EventBrokerError, match="closed"):
        broker.publish({"sender_id": "c", "event": "user"})


@pytest.mark.bound(120)
async def test_kill_and_restart_of_the_server(servers_backend: Backend) -> None:
    """SIGKILL mid-stream: what was confirmed is there, in order; the rest is `retry`; the event
    loop is never held up; delivery goes on by itself when the server is back.
    """
    backend = servers_backend
    confirmed: list[int] = []
    async with opened(backend) as broker:
        stop = asyncio.Event()
        lag = asyncio.create_task(lag_of_loop(stop))
        killing: asyncio.Future[None] | None = None
        todo = list(range(6000))
        away = 0
        while (todo and killing is None) or (killing and not killing.done()):
            if len(confirmed) > 500 and killing is None:
                killing = asyncio.get_running_loop().run_in_executor(
                    None, lambda: backend.server.stop(kill=True)
                )
            outcomes = await broker.deliver([message(n) for n in todo[:300]], timeout=3)
            taken = statuses(outcomes).index("retry") if "retry" in statuses(outcomes) else 300
            assert set(statuses(outcomes)[taken:]) <= {"retry"}
            confirmed.extend(todo[:taken])
            todo = todo[taken:]
        start = time.monotonic()
        outcomes = await broker.deliver([message(n) for n in todo[:300]], timeout=2)
        assert time.monotonic() - start < 8  # beside others; without the timeout it is 30
        assert set(statuses(outcomes)) == {"retry"}
        assert "127.0.0.1" in outcomes[0].reason
        assert not broker.is_ready()
        broker.publish({"sender_id": "while away", "event": "user", "sequence": 1})
        starting = asyncio.get_running_loop().run_in_executor(None, backend.server.start)
        while todo[:300]:
            outcomes = await broker.deliver([message(n) for n in todo[:300]], timeout=5)
            away += "retry" in statuses(outcomes)
            assert away < 100
            taken = [*statuses(outcomes), "retry"].index("retry")
            confirmed.extend(todo[:taken])
            todo = todo[taken:]
            await asyncio.sleep(0.1)
        await starting
        assert broker.is_ready()
        stop.set()
        assert await lag < 2  # beside others; a blocked loop shows the 3 s of an attempt
    events = backend.read(6001)
    assert confirmed == list(range(6000))
    assert list(dict.fromkeys(numbers(events))) == confirmed
    assert numbers(events, "while away") == [1]


async def test_close_while_the_server_is_away(
    servers_backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends within its bound, and says how many published events are lost."""
    try:
        async with opened(servers_backend) as broker:
            servers_backend.server.stop(kill=True)
            before = time.perf_counter()
            for _ in range(50):
                broker.publish({"sender_id": "c", "event": "user"})
            assert time.perf_counter() - before < 2  # beside others; one that waits shows seconds
            waiting = asyncio.create_task(broker.deliver([message(1)], timeout=30))
            await asyncio.sleep(0.2)
            before = time.monotonic()
            await broker.close()
            assert time.monotonic() - before < 10  # the delivery's 30 s are not waited for
            assert statuses(await waiting) == ["retry"]
    finally:
        servers_backend.server.stop()
        servers_backend.server.start()
    assert "50 published events unconfirmed" in caplog.text
