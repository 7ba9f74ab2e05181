"""Messages that come due later, in every inbox."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
from servers.inboxes import Desk, until

from ticketlock import QueueFull
from ticketlock.inbox import due
from ticketlock.inbox.due import When
from ticketlock.inbox.submission import Submission

pytestmark = pytest.mark.anyio
_prefixes = itertools.count(1)


@pytest.fixture(params=["local", "redis"])
async def desk(request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    url = None
    if request.param == "redis":
        url = request.getfixturevalue("redis_server").url
    async with Desk.on(url, f"later{next(_prefixes)}") as made:
        yield made


async def test_it_comes_due_by_its_time(desk: Desk) -> None:
    """In the order of their times, not of their submission; none before its time."""
    desk.serve()
    begun = time.time()
    second = await desk.later("c", "second", after=1.0)
    first = await desk.later("c", "first", at=begun + 0.5)
    third = await desk.later("c", "past", at=1.0)
    assert second.due == pytest.approx(begun + 1, abs=0.3)
    assert first.due == pytest.approx(begun + 0.5, abs=0.01)
    assert (third.number, third.known, third.due) == (0, False, 1.0)
    await desk.until("past", "first", "second")
    assert 1.0 <= time.time() - begun < 2.5


async def test_the_outcome_of_a_due_message(desk: Desk) -> None:
    """`due` with its time, until it is handled."""
    desk.serve()
    receipt = await desk.later("c", "1", "name", after=0.7)
    name, _, generation = receipt.message_id.rpartition("@")
    assert name == "name"
    assert generation
    found = await desk.inbox.outcome("c", receipt.message_id)
    assert (found.state, found.due, found.finished) == ("due", receipt.due, False)
    assert (await desk.inbox.outcome("c", "name")).state == "unknown"
    assert (await desk.inbox.outcome("c", "name@other")).state == "unknown"
    assert (await desk.inbox.wait("c", receipt.message_id, 0.1)).state == "due"
    assert (await desk.inbox.wait("c", receipt.message_id, 5)).state == "replied"
    gone = await desk.later("c", "2", "name", after=60)
    waits = asyncio.create_task(desk.inbox.wait("c", gone.message_id, 10))
    await asyncio.sleep(0.1)
    await desk.inbox.cancel("c", "name")
    assert (await waits).state == "unknown"


async def test_it_ends_in_the_moment_in_which_a_message_is_taken(desk: Desk) -> None:
    """The message wakes the task that is stopped."""
    desk.serve()
    await desk.later("c", "1", "first", after=60)
    await asyncio.sleep(0.1)  # the task waits
    await desk.later("c", "2", "second", after=60)
    await asyncio.wait_for(desk.inbox.drain(), 5)


async def test_the_name_has_one_message(desk: Desk) -> None:
    """A later one takes the place of the first, also at an earlier time; other names stay."""
    await desk.later("c", "0", "put off", after=0.1)
    await desk.later("c", "0", "put off", after=0.8)
    first = await desk.later("c", "1", "name", after=30)
    second = await desk.later("c", "2", "name", after=0.2)
    await desk.later("c", "3", "other", after=0.4)
    await desk.later("d", "4", "name", after=30)
    await desk.later("d", "4", "name", after=0.6)
    assert first.message_id != second.message_id
    assert [one.text for one in await desk.inbox.due("c")] == ["2", "3", "0"]
    desk.serve()
    await desk.until("2", "3", "4", "0")
    again = await desk.later("c", "5", "name", after=0)
    assert again.message_id != second.message_id
    await desk.until("2", "3", "4", "0", "5")


async def test_a_generation_is_submitted_once(desk: Desk) -> None:
    """Submitted again it stays as it is; once it was handled, it is known by its id."""
    first = await desk.later("c", "1", "name", after=0.3, generation="g")
    again = await desk.later("c", "2", "name", after=60, generation="g")
    assert not first.known
    assert again.known
    assert (again.message_id, again.due) == ("name@g", first.due)
    desk.serve()
    await desk.until("1")
    await desk.later("c", "3", "name", after=0, generation="g")
    await desk.later("c", "4", after=0.1)
    await desk.until("1", "4")


async def test_without_a_name(desk: Desk) -> None:
    """The message keeps its id, and is cancelled by it."""
    receipt = await desk.later("c", "1", after=60, generation="id@host")
    assert receipt.message_id == "id@host"
    assert (await desk.inbox.outcome("c", "id@host")).state == "due"
    assert await desk.inbox.cancel("c", "id@host") == "cancelled"
    assert (await desk.inbox.outcome("c", "id@host")).state == "unknown"


async def test_cancel(desk: Desk) -> None:
    """What is cancelled is never handled; what has come due is said to be."""
    desk.serve()
    await desk.later("c", "1", "name", after=0.3)
    assert await desk.inbox.cancel("d", "name") == "unknown"
    assert await desk.inbox.cancel("c", "name") == "cancelled"
    assert await desk.inbox.cancel("c", "name") == "unknown"
    await desk.later("c", "2", "other", after=0.4)
    await desk.until("2")
    assert await desk.inbox.cancel("c", "other") == "submitted"
    assert await desk.inbox.cancel("c", "name") == "unknown"


async def test_withdraw_by_its_id(desk: Desk) -> None:
    """Only that generation; a later one of the name stays."""
    first = await desk.later("c", "1", "name", after=60)
    second = await desk.later("c", "2", "name", after=60)
    assert await desk.inbox.withdraw("c", first.message_id) == "unknown"
    assert await desk.inbox.withdraw("c", second.message_id) == "withdrawn"
    assert await desk.inbox.due("c") == []


async def test_list_and_remove_those_of_a_conversation(desk: Desk) -> None:
    """The first due first; a name may hold any character."""
    names = ["b", "a b", "ü}{@ \n\0", "!x", " "]
    for i, name in enumerate(names):
        await desk.later("c", str(i), name, after=60 - i)
    await desk.later("d}%", "other", "b", after=60)
    found = await desk.inbox.due("c")
    assert [one.name for one in found] == names[::-1]
    assert [one.text for one in found] == ["4", "3", "2", "1", "0"]
    assert {one.conversation_id for one in found} == {"c"}
    assert found[-1].at == pytest.approx(time.time() + 60, abs=2)
    assert len(await desk.inbox.due("c", 2)) == 2
    assert await desk.inbox.cancel_all("c") == 5
    assert await desk.inbox.cancel_all("c") == 0
    assert await desk.inbox.due("c") == []
    assert [one.text for one in await desk.inbox.due("d}%")] == ["other"]


async def test_a_full_queue_leaves_it_due(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """It is tried again, in order; one that may wait longer is not held up by it."""
    desk.serve(room=1)
    desk.gate.clear()
    await desk.inbox.submit(Submission("c", "runs", "runs"))
    await desk.inbox.submit(Submission("c", "waits", "waits"))
    await desk.later("c", "refused 1", "1", at=1.0, max_waiting=1)
    await desk.later("c", "refused 2", "2", at=2.0, max_waiting=1)
    await desk.later("c", "passes", "3", at=3.0, max_waiting=2)
    last = await desk.later("d", "other", "4", at=4.0)

    async def refused() -> bool:
        left = [one.text for one in await desk.inbox.due("c")]
        found = await desk.inbox.outcome("d", last.message_id)
        return left == ["refused 1", "refused 2"] and found.state != "due"

    await until(refused)
    assert "is tried again" in caplog.text
    assert await desk.inbox.cancel("c", "2") == "cancelled"  # it was refused, so it can be
    desk.gate.set()
    await until(lambda: len(desk.handled) == 5)
    of_c = [text for name, _, text in desk.handled if name == "c"]
    assert of_c == ["runs", "waits", "passes", "refused 1"]


async def error_of(call: Awaitable[object]) -> Exception | None:
    try:
        await call
    except (ValueError, QueueFull) as error:
        return error
    return None


async def test_bounds(desk: Desk) -> None:
    """Of the time, of the text, and of how many there are."""
    far = desk.later("c", "1", at=time.time() + 367 * 86_400)
    assert "ahead of the clock" in str(await error_of(far))
    await desk.later("c", "1", at=time.time() + 365 * 86_400)
    assert "65536 bytes" in str(await error_of(desk.later("c", "é" * 32_769, after=1)))
    for i in range(due.MAX_OF_CONVERSATION - 1):
        await desk.later("c", "1", str(i), after=60)
    assert isinstance(await error_of(desk.later("c", "1", "one more", after=60)), QueueFull)
    await desk.later("c", "1", "0", after=70)  # it takes a place that is there
    assert await desk.inbox.cancel_all("c") == due.MAX_OF_CONVERSATION


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "give one of at and after"),
        ({"at": 1, "after": 1}, "give one of at and after"),
        ({"after": -1}, "after is a number"),
        ({"after": 367 * 86_400}, "after is at most"),
        ({"after": float("nan")}, "after is a number"),
        ({"at": float("inf")}, "at is a number"),
        ({"at": True}, "at is a number"),
        ({"at": -1}, "at is a number"),
        ({"at": 1, "name": ""}, "non-empty"),
        ({"at": 1, "name": "n" * 256}, "256 characters"),
        ({"at": 1, "name": "n", "generation": "a@b"}, "must not contain @"),
    ],
)
def test_invalid_times(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        When(**arguments)
