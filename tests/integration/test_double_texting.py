"""What a second message does while the first one is being handled, at another replica."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from conftest import until
from integration.test_server import begun, said, send, texts
from servers.bot_server import Replica, replicas, write_files

from ticketlock.redis.embedded import EmbeddedRedis

Run = Callable[..., None]
Pair = tuple[Replica, Replica]


@pytest.fixture(scope="module")
def pair(redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two replicas."""
    folder = tmp_path_factory.mktemp("pair")
    write_files(folder, redis_server.url)
    with replicas(folder, [], []) as (one, two):
        yield one, two


async def first_of(http: httpx.AsyncClient, pair: Pair, sender: str) -> asyncio.Task[Any]:
    """A message whose turn has begun, and takes long."""
    task = asyncio.create_task(
        send(http, pair[0], "first", sender=sender, metadata={"seconds": 20})
    )
    while not (await texts_told(http, pair[0], sender)):
        await asyncio.sleep(0.01)
    return task


async def texts_told(http: httpx.AsyncClient, at: Replica, sender: str) -> bool:
    found = (await http.get(f"{at.url}/conversations/{sender}/lock")).json()
    # Half a second after the grant the bot has begun, also on a busy machine.
    return (
        found["holder"] is not None and found["holder"]["held_for"] > 0.5
    )  # the bot has begun, also on a busy machine


def replies(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [reply["text"] for reply in answer.json()]


async def test_interrupt(pair: Pair) -> None:
    """The running turn ends at once and keeps what it had said; the new one comes next.

    So does one that waits between the two: it keeps its message, in its place.
    """
    async with httpx.AsyncClient(timeout=10) as http:
        first = await first_of(http, pair, "i")
        slow = {"sender": "i", "metadata": {"seconds": 20}}
        second = asyncio.create_task(send(http, pair[0], "second", **slow))
        await begun(http, pair[0], "i", waiting=1)
        third = await send(http, pair[1], "third", sender="i", double_texting="interrupt")
        assert replies(await first) == ["begun: first"]
        assert replies(await second) == []
        assert replies(third) == ["begun: third", "done: third"]
        history = ["first", "begun: first", "second", *said("third")]
        assert await texts(http, pair[1], "i") == history
        again = await send(http, pair[1], "first", sender="i")
        assert replies(again) == ["begun: first"]
        assert await texts(http, pair[1], "i") == history


async def test_rollback(pair: Pair) -> None:
    """The running turn is cancelled and leaves nothing; its sender is told, and so is a duplicate."""
    async with httpx.AsyncClient(timeout=10) as http:
        first = await first_of(http, pair, "r")
        second = await send(http, pair[1], "second", sender="r", double_texting="rollback")
        assert replies(second) == ["begun: second", "done: second"]
        for answer in (await first, await send(http, pair[1], "first", sender="r")):
            assert (answer.status_code, answer.json()["reason"]) == (409, "RolledBack")
            assert "retry-after" not in answer.headers
        assert await texts(http, pair[0], "r") == said("second")


async def test_a_stream_that_is_rolled_back_says_so(pair: Pair) -> None:
    """In its last line; one that is interrupted just ends."""

    async def body(policy: str) -> list[Any]:
        async with httpx.AsyncClient(timeout=10) as http:
            lines: list[Any] = []

            async def stream() -> None:
                url = f"{pair[0].url}/webhooks/rest/webhook?stream=true"
                sent = {"message": "first", "sender": policy, "metadata": {"seconds": 20}}
                async with http.stream("POST", url, json=sent) as answer:
                    async for line in answer.aiter_lines():
                        lines.append(json.loads(line))

            task = asyncio.create_task(stream())
            await until(lambda: lines, "the bot has said something")
            await send(http, pair[1], "second", sender=policy, double_texting=policy)
            await task
            return lines

    first, last = await body("rollback")
    assert first["text"] == "begun: first"
    assert last["reason"] == "RolledBack"
    assert [line["text"] for line in await body("interrupt")] == ["begun: first"]


async def test_coalesce(pair: Pair) -> None:
    """What waits together is one turn; the last message has the reply, each has its event."""
    async with httpx.AsyncClient(timeout=10) as http:
        first = asyncio.create_task(
            send(http, pair[0], "first", sender="c", metadata={"seconds": 0.8})
        )
        await begun(http, pair[0], "c")
        tasks = []
        for number, name in enumerate("abcde"):
            policy = "enqueue" if name == "d" else "coalesce"
            more = {"sender": "c", "double_texting": policy}
            tasks.append(asyncio.create_task(send(http, pair[number % 2], name, **more)))
            await begun(http, pair[0], "c", waiting=number + 1)
        assert replies(await first) == ["begun: first", "done: first"]
        told = [replies(await task) for task in tasks]
        together = ["begun: a\nb\nc", "done: a\nb\nc"]
        assert told[:2] == [[], []]
        assert told[2] == together
        assert told[3:] == [[f"begun: {name}", f"done: {name}"] for name in "de"]
        history = [*said("first"), "a", "b", "c", *together, *said("d", "e")]
        assert await texts(http, pair[1], "c") == history
        for name, reply in zip("abc", told, strict=False):
            assert replies(await send(http, pair[0], name, sender="c")) == reply
        assert await texts(http, pair[1], "c") == history


def test_a_killed_turn_loses_no_coalesced_message(
    run: Run, redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """SIGKILL of the replica that had taken them in: each is handled, in order, once."""

    async def body(one: Replica, two: Replica) -> None:
        async with httpx.AsyncClient(timeout=30) as http:
            first = asyncio.create_task(
                send(http, one, "first", sender="k", metadata={"seconds": 3})  # all come meanwhile
            )
            await begun(http, two, "k")
            more = {"sender": "k", "double_texting": "coalesce"}
            tasks = []
            for number, name in enumerate("abc"):
                slow = {"metadata": {"seconds": 20 if name == "c" else 0}}
                tasks.append(asyncio.create_task(send(http, two, name, **more, **slow)))
                await begun(http, two, "k", waiting=number + 1)
            await first
            await begun(http, two, "k", waiting=2)  # carried by a's turn, and still in the queue
            one.process.kill()
            stop = asyncio.create_task(
                send(http, two, "stop", sender="k", double_texting="interrupt")
            )
            await asyncio.gather(*tasks, stop)
            users = [text for text in await texts(http, two, "k") if ": " not in text]
            assert users == ["first", "a", "b", "c", "stop"]  # in their old places, each once

    folder = tmp_path_factory.mktemp("killed")
    write_files(folder, redis_server.url, drain_timeout=1)
    with replicas(folder, [], []) as (one, two):
        run(body(one, two), 60)
