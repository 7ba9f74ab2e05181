"""A turn that is too slow, a message that never ends well, and what answers say of the holder."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from conftest import until
from serving import Gate, client, send, talk

from ticketlock import ConcurrentRedisLockStore, InMemoryLockStore, LockStore, RedisLockStore
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.server import Message
from ticketlock.turn import Turn

STORES = {
    "in_memory": lambda url, prefix: InMemoryLockStore(),
    "concurrent_redis": lambda url, prefix: ConcurrentRedisLockStore(url=url, key_prefix=prefix),
    "redis": lambda url, prefix: RedisLockStore(url=url, key_prefix=prefix),
}
_prefixes = itertools.count()


@pytest.fixture(params=STORES)
def lock_store(request: pytest.FixtureRequest, redis_server: EmbeddedRedis) -> LockStore:
    made: LockStore = STORES[request.param](redis_server.url, f"slow{next(_prefixes)}")
    return made


async def events(http: Any, sender: str) -> list[dict[str, Any]]:
    state = (await http.get(f"/conversations/{sender}/tracker?include_events=ALL")).json()
    return talk(state["events"])


def said(answer: Any) -> tuple[int, str, str | None]:
    return answer.status_code, answer.json()["reason"], answer.headers.get("retry-after")


class Slow:
    """A bot that takes too long, as it notices or not, and counts its calls."""

    def __init__(self, stubborn: bool = False) -> None:
        self.attempts: list[int] = []
        self.stubborn = stubborn

    async def __call__(self, turn: Turn, message: Message) -> AsyncIterator[str]:
        self.attempts.append(message.attempt)
        yield "begun"
        if message.text == "quick":
            return
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if not self.stubborn:
                raise
        yield "late"


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_turn_that_is_too_slow(
    stubborn: bool, lock_store: LockStore, caplog: pytest.LogCaptureFixture
) -> None:
    """504 without Retry-After, a WARNING, and after `max_attempts` the bot is left alone."""
    caplog.set_level(logging.WARNING, "ticketlock")
    bot = Slow(stubborn)
    limits = {"lock_lifetime": 0.3, "max_attempts": 2}
    async with client(bot, (lock_store, None), **limits) as http:
        more = {"sender": "slow", "message_id": "m1"}
        for attempt in (1, 2):
            answer = await send(http, "x", **more)
            assert said(answer) == (504, "TurnTooSlow", None)
            details = answer.json()["details"]
            assert details["attempts"] == attempt
            assert details["max_attempts"] == 2
            assert details["lock_lifetime"] == 0.3
            assert details["took"] >= 0.3
            assert "lock_lifetime" in details["hint"]
            assert details["holder_alive"] is False
        for params in ({}, {"stream": "true"}):
            answer = await http.post(
                "/webhooks/rest/webhook", json={"message": "x", **more}, params=params
            )
            found = json.loads(answer.text.splitlines()[-1])
            assert (found["code"], found["reason"]) == (409, "TooManyAttempts")
            assert "retry-after" not in answer.headers
        assert bot.attempts == [1, 2]
        texts = [event.get("text") for event in await events(http, "slow")]
        assert "x" not in texts
        answer = await send(http, "quick", sender="slow", message_id="m2")
        assert answer.status_code == 200  # the conversation is free
    slow = [text for text in caplog.messages if "was given up" in text]
    assert len(slow) == 2
    for attempt, text in enumerate(slow, 1):
        for part in ("'slow'", "'m1'", f"attempt {attempt}", "0.3 s"):
            assert part in text
    # A dead letter in Redis is known by its id, and given up once.
    given_up = sum("is given up" in text and "'m1'" in text for text in caplog.messages)
    assert given_up == (1 if isinstance(lock_store, ConcurrentRedisLockStore) else 2)


async def test_it_is_said_when_nobody_waits(caplog: pytest.LogCaptureFixture) -> None:
    """The request has timed out before: 504 too, but with the turn going on, so with Retry-After."""
    caplog.set_level(logging.WARNING, "ticketlock")
    async with client(Slow(), lock_lifetime=0.4, request_timeout=0.1) as http:
        answer = await send(http, "x", message_id="m1")
        assert said(answer) == (504, "Timeout", "1")
        details = answer.json()["details"]
        assert (details["holder_alive"], details["ahead"]) == (True, 0)
        assert 0 < details["held_for"] < 30
        await until(
            lambda: any("given up, message 'm1'" in text for text in caplog.messages),
            "the turn is given up",
        )


async def test_other_writers_are_too_slow_as_well(caplog: pytest.LogCaptureFixture) -> None:
    """A turn of the API is named by what it was to do."""
    async with client(lock_lifetime=0.2) as http:

        async def sleeps(turn: Turn) -> None:
            await asyncio.sleep(60)

        with pytest.raises(Exception, match="will not help by itself"):
            await http.app.handler.in_turn("a", sleeps, "PUT x")  # type: ignore[attr-defined]
    assert any("'PUT x'" in text for text in caplog.messages)


async def test_failures_count_as_attempts() -> None:
    """A bot that raises is tried again as often; another id, and another conversation, anew."""
    calls: list[int] = []

    async def bot(turn: Turn, message: Message) -> AsyncIterator[str]:
        calls.append(message.attempt)
        yield "x"
        raise RuntimeError

    async with client(bot, max_attempts=3) as http:
        statuses = [(await send(http, "x", message_id="m")).status_code for _ in range(5)]
        assert statuses == [500, 500, 500, 409, 409]
        assert (await send(http, "x", message_id="n")).status_code == 500
        assert (await send(http, "x", message_id="m", sender="b")).status_code == 500
        for _ in range(5):  # nobody can send these again
            assert (await send(http, "x")).status_code == 500
        assert calls == [1, 2, 3, 1, 1, *[1] * 5]


async def test_attempts_are_forgotten() -> None:
    """With the window of the message's id."""
    calls: list[str] = []

    async def bot(turn: Turn, message: Message) -> AsyncIterator[str]:
        calls.append(message.text)
        yield "x"
        raise RuntimeError

    async with client(bot, max_attempts=1, message_window=0.2) as http:
        assert (await send(http, "x", message_id="m")).status_code == 500
        assert (await send(http, "x", message_id="m")).status_code == 409
        await asyncio.sleep(0.25)
        assert (await send(http, "x", message_id="m")).status_code == 500
        assert len(calls) == 2


async def test_replicas_count_together(own_redis: EmbeddedRedis) -> None:
    """And what is counted leaves Redis by itself."""
    bot = Slow()
    limits: dict[str, Any] = {"lock_lifetime": 0.5, "max_attempts": 3, "message_window": 5}
    one, two = (ConcurrentRedisLockStore(url=own_redis.url) for _ in range(2))
    async with client(bot, (one, None), **limits) as http:
        async with client(bot, (two, None), **limits) as other:
            found = []
            for replica in (http, other, http, other, http):
                answer = await send(replica, "x", sender="ü}", message_id="a b")
                found.append(answer.json()["reason"])
            assert found == ["TurnTooSlow"] * 3 + ["TooManyAttempts"] * 2
            assert bot.attempts == [1, 2, 3]
    import redis

    with redis.Redis.from_url(own_redis.url) as plain:
        kept = [key for key in plain.scan_iter() if b":messages" in key]
        assert len(kept) == 1
        assert 0 < plain.pttl(kept[0]) <= 3_600_000
        assert not [key for key in plain.scan_iter() if b":submitted" in key]


async def test_a_poison_message_does_not_take_its_followers() -> None:
    """With `coalesce` it is given up, and what waited with it is handled."""
    entered, opened = asyncio.Event(), asyncio.Event()
    texts: list[str] = []

    async def bot(turn: Turn, message: Message) -> AsyncIterator[str]:
        texts.append(message.text)
        if message.text == "first":
            entered.set()
            await opened.wait()
        if "poison" in message.text:
            raise RuntimeError
        yield f"done: {message.text}"

    async with client(bot, double_texting="coalesce", max_attempts=2) as http:
        for _ in range(2):
            assert (await send(http, "poison", message_id="p")).status_code == 500
        jobs = http.app.handler.jobs  # type: ignore[attr-defined]
        first = asyncio.create_task(send(http, "first"))
        await entered.wait()
        rest = []
        for text in ("poison", "after"):
            message_id = {"message_id": "p"} if text == "poison" else {}
            rest.append(asyncio.create_task(send(http, text, **message_id)))
            await until(lambda: jobs.waiting == len(rest), "it waits")
        opened.set()
        answers = [await task for task in (first, *rest)]
        assert [answer.status_code for answer in answers] == [200, 409, 200]
        assert texts == ["poison", "poison", "first", "after"]


async def test_answers_tell_of_the_holder(lock_store: LockStore) -> None:
    """409, 429, 503 and 504: a reason, whether the holder lives, how long it has held, how many
    are ahead, and a hint."""
    gate = Gate()
    async with client(gate, (lock_store, None), max_waiting=2, request_timeout=1.0) as http:
        tasks = [asyncio.create_task(send(http, "holds", sender="x"))]
        await gate.entered.wait()
        jobs = http.app.handler.jobs  # type: ignore[attr-defined]
        for count in (1, 2):
            tasks.append(asyncio.create_task(send(http, f"waits {count}", sender="x")))
            await until(lambda: jobs.waiting == count, "it waits")  # noqa: B023
        busy = await send(http, "x", sender="x", double_texting="reject")
        full = await send(http, "x", sender="x")
        late = await asyncio.gather(*tasks)
        drained = asyncio.create_task(http.app.drain())  # type: ignore[attr-defined]
        await until(lambda: jobs.draining, "it drains")
        gone = await send(http, "x", sender="x")
        gate.open.set()
        await drained
    assert said(busy) == (409, "Busy", "1")
    assert said(full) == (429, "QueueFull", "1")
    assert [said(answer) for answer in late] == [(504, "Timeout", "1")] * 3
    assert said(gone) == (503, "Draining", "1")
    ahead = [answer.json()["details"]["ahead"] for answer in (full, *late)]
    assert ahead == [3, 0, 1, 2]
    assert busy.json()["details"]["ahead"] in (1, 2, 3)  # it may have had a ticket, or none
    for answer in (busy, full, *late, gone):
        body = answer.json()
        assert body["details"]["holder_alive"] is True
        assert 0 <= body["details"]["held_for"] < 30
        assert body["details"]["hint"] == body["help"]
        assert len(body["help"]) > 20


async def test_what_is_not_known_is_null() -> None:
    """A lock store that does not answer, or a refusal that is of no conversation."""
    store = ConcurrentRedisLockStore(url="redis://127.0.0.1:1", socket_timeout=0.2)
    async with client(None, (store, None)) as http:
        answer = await send(http, "x")
        assert said(answer) == (503, "LockStoreUnavailable", "2")
        nothing = {"holder_alive": None, "held_for": None, "ahead": None}
        assert nothing.items() <= answer.json()["details"].items()
        assert "127.0.0.1" not in answer.text
        answer = await http.post("/conversations/a/predict")
        assert said(answer) == (409, "Conflict", None)
        assert nothing.items() <= answer.json()["details"].items()
        assert answer.json()["help"]
        answer = await http.get("/conversations/a/tracker?until=x")
        assert answer.json()["details"] == {}
