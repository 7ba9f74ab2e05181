"""What a turn says, told to listeners in other processes: two inboxes on one Redis."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from conftest import until

from ticketlock import ConcurrentRedisLockStore, Conversations
from ticketlock.inbox.listener import Listener
from ticketlock.inbox.rolling import RollingInbox
from ticketlock.inbox.saying import MAX_BELL, Saying
from ticketlock.inbox.served import Served
from ticketlock.inbox.submission import Submission
from ticketlock.redis.embedded import EmbeddedRedis

Heard = list[tuple[int, str]]


class Talk:
    """Two processes: one serves and speaks as it is told, the other listens.

    Attributes:
        served: the message of the turn that runs at `here`.
        there: who listens.
    """

    def __init__(self, here: Conversations, there: Conversations) -> None:
        assert isinstance(here.inbox, RollingInbox)
        assert isinstance(there.inbox, RollingInbox)
        self.conversations = here
        self.here, self.there = here.inbox.redis, there.inbox.redis
        self.served: Served | None = None
        self.saying: Saying
        self._ended = asyncio.Event()
        self.here.serve(self._start, 10, 60.0)

    def _start(self, served: Served) -> asyncio.Task[Any]:
        async def turn() -> None:
            self.saying = self.here.saying(served, "m")
            self.served = served
            await self._ended.wait()
            self.saying.close()
            served.end("d", "[]")
            await self.here.finish(served)

        return asyncio.create_task(turn())

    async def begun(self) -> None:
        await until(lambda: self.served is not None, "the turn has begun")

    def say(self, *texts: str) -> None:
        for text in texts:
            self.saying.say({"text": text})

    async def end(self) -> None:
        self._ended.set()
        outcome = await self.there.wait("c", "m", 10)
        assert outcome.state == "replied"


@pytest.fixture
async def talk(redis_server: EmbeddedRedis) -> AsyncIterator[Talk]:
    where = {"url": redis_server.url, "key_prefix": uuid.uuid4().hex}
    one, two = (Conversations(ConcurrentRedisLockStore(**where)) for _ in range(2))
    async with one, two:
        yield Talk(one, two)


def listener() -> tuple[Listener, Heard]:
    heard: Heard = []
    return Listener(lambda reply, index: heard.append((index, reply["text"]))), heard


async def test_a_listener_that_came_first(talk: Talk) -> None:
    """It hears each reply at once, in order, whatever is said how fast; and the end."""
    one, heard = listener()
    await talk.there.submit(Submission("c", "m", "{}"), one)
    await talk.begun()
    assert talk.served is not None
    assert talk.served.heard  # known from the start: it is told at once
    talk.say("a")
    await until(lambda: heard, "a bell has come")
    talk.say(*"bcdefgh")
    await until(lambda: len(heard) == 8, "all have come")
    assert heard == list(enumerate("abcdefgh"))
    await talk.end()
    assert (await one.outcome).state == "replied"


async def test_one_that_comes_later(talk: Talk) -> None:
    """It hears what was said before, with what is said then: a second after the turn has begun."""
    await talk.here.submit(Submission("c", "m", "{}"))
    await talk.begun()
    talk.say("a", "b")
    one, heard = listener()
    with talk.there.listening("c", "m", one):
        await until(lambda: len(heard) == 2, "a second has gone by")
        talk.say("c")
        await until(lambda: len(heard) == 3, "the bell has come")
    assert heard == [(0, "a"), (1, "b"), (2, "c")]
    await talk.end()
    assert not one.outcome.done()  # it has left


async def test_nobody_listens(talk: Talk) -> None:
    """Then bells are asked for once a second at most."""
    await talk.here.submit(Submission("c", "m", "{}"))
    await talk.begun()
    before = talk.here.scripts.say
    asked: list[int] = []

    def say(served: Served, message_id: str, first: int, text: str) -> Any:
        asked.append(first)
        return before(served, message_id, first, text)

    talk.here.scripts.say = say  # type: ignore[method-assign]  # counted
    for _ in range(150):
        talk.say("x")
        await asyncio.sleep(0.01)
    assert 1 <= len(asked) <= 3
    await talk.end()


async def test_who_waits_for_the_end_alone(talk: Talk) -> None:
    """It gets no bell before that."""
    one = Listener()
    await talk.there.submit(Submission("c", "m", "{}"), one)
    await talk.begun()
    served = talk.served
    assert served is not None
    assert not served.heard
    args = talk.here.scripts.say(served, "m", 0, '[{"text": "a"}]')
    assert await talk.here.engine().link.call(args) == 0
    await talk.end()
    assert (await one.outcome).state == "replied"


async def test_what_is_too_long(talk: Talk) -> None:
    """A reply that no bell can hold is left out, and the next one has its own index."""
    one, heard = listener()
    await talk.there.submit(Submission("c", "m", "{}"), one)
    await talk.begun()
    talk.say("a", "x" * MAX_BELL, "b", "y" * (MAX_BELL - 100), "z" * (MAX_BELL - 100))
    await until(lambda: len(heard) == 4, "the others have come")
    assert [(index, text[0]) for index, text in heard] == [(0, "a"), (2, "b"), (3, "y"), (4, "z")]
    await talk.end()


async def test_bells_that_are_rung_again_or_too_late(talk: Talk) -> None:
    """A repeated call tells nothing twice; one of a turn that is over rings none."""
    one, heard = listener()
    await talk.there.submit(Submission("c", "m", "{}"), one)
    await talk.begun()
    served = talk.served
    assert served is not None
    link = talk.here.engine().link
    for first, texts in ((0, ["a"]), (0, ["a"]), (0, ["a", "b"]), (2, ["c"])):
        text = json.dumps([{"text": x} for x in texts])
        assert await link.call(talk.here.scripts.say(served, "m", first, text)) == 1
    await until(lambda: len(heard) == 3, "the bells have come")
    assert heard == [(0, "a"), (1, "b"), (2, "c")]
    await talk.end()
    assert await link.call(talk.here.scripts.say(served, "m", 3, '[{"text": "late"}]')) == -1


async def test_a_store_that_is_closed(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    """The bot that speaks on need not know; its message goes back to its place."""
    one, heard = listener()
    await talk.there.submit(Submission("c", "m", "{}"), one)
    await talk.begun()
    await talk.conversations.close()
    with caplog.at_level("DEBUG", "ticketlock.inbox"):
        talk.say("a")
        await until(lambda: "not told to other processes" in caplog.text, "it is noted")
    talk.say("b")
    assert heard == []
    assert (await talk.there.outcome("c", "m")).state == "waiting"


async def test_a_listener_of_the_same_process_gets_no_bell(talk: Talk) -> None:
    """It is called, once."""
    one, heard = listener()
    await talk.here.submit(Submission("c", "m", "{}"), one)
    await talk.begun()
    talk.say("a")
    served = talk.served
    assert served is not None
    assert not served.heard
    args = talk.here.scripts.say(served, "m", 0, '[{"text": "a"}]')
    assert await talk.here.engine().link.call(args) == 0
    assert heard == [(0, "a")]
    await talk.end()
