"""What waits to be sent after turns: in Redis and in memory, and the sender over both."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from servers.deliveries import Deliveries, RedisBox

from ticketlock import Delivery
from ticketlock.deliveries.delivery import Dead, Done, Retry, Verdict
from ticketlock.deliveries.destination import Destination, OnReply, Part
from ticketlock.deliveries.sender import Sender
from ticketlock.deliveries.storage import DEAD_LETTERS, MemoryDeliveries, Removed, Taken
from ticketlock.redis.embedded import EmbeddedRedis

_prefixes = itertools.count(1)


class MemoryBox(Deliveries):
    """Deliveries in this process."""

    def __init__(self) -> None:
        self.store = MemoryDeliveries()

    async def append(self, conversation_id: str, text: str) -> None:
        self.store.append(conversation_id, text)

    async def dead(self, conversation_id: str) -> list[str]:
        return list(self.store.dead.get(conversation_id, ()))

    async def left(self, conversation_id: str) -> bool:
        return conversation_id in self.store._waiting


@pytest.fixture(params=["in_memory", "concurrent_redis"])
async def box(request: pytest.FixtureRequest) -> AsyncIterator[Deliveries]:
    if request.param == "in_memory":
        yield MemoryBox()
        return
    server: EmbeddedRedis = request.getfixturevalue("redis_server")
    async with RedisBox.on(server.url, f"deliveries{next(_prefixes)}") as made:
        yield made


# -- the store ------------------------------------------------------------------------------------


async def test_nothing_waits(box: Deliveries) -> None:
    assert await box.store.take("c", "one", 5) is None
    assert not await box.store.renew("c", "one", 5, 0, 0)
    assert not await box.store.pause("c", "one", 5, 0, 0)
    assert await box.store.done("c", "one", 5, "text") == Removed(-1, 0)
    assert not await box.left("c")


async def test_one_process_sends_in_order(box: Deliveries) -> None:
    """The lease is renewed with each delivery, and nothing is left of the last one."""
    texts = [f'"{n} ü"' for n in range(3)]
    for text in texts:
        await box.append("c", text)
    assert await box.store.take("c", "one", 5) == Taken(0, 0, tuple(texts))
    assert await box.store.take("c", "one", 5) == Taken(0, 0, tuple(texts))  # its answer was lost
    held = await box.store.take("c", "two", 5)
    assert isinstance(held, float)
    assert 4 < held <= 5
    assert await box.store.done("c", "two", 5, texts[0]) == Removed(-1, 0)
    assert not await box.store.renew("c", "two", 5, 0, 0)
    assert not await box.store.pause("c", "two", 5, 0, 0)
    assert await box.store.done("c", "one", 5, texts[1]) == Removed(-1, 0)  # it is not the first
    assert await box.store.done("c", "one", 9, texts[0]) == Removed(2, 0)
    held = await box.store.take("c", "two", 5)
    assert isinstance(held, float)
    assert held > 8
    assert await box.store.done("c", "one", 5, texts[1]) == Removed(1, 0)
    assert await box.store.done("c", "one", 5, texts[2]) == Removed(0, 0)
    assert not await box.left("c")


async def test_a_silent_process_is_followed(box: Deliveries) -> None:
    """With what it has noted; it cannot remove or renew any more."""
    await box.append("c", '"a"')
    assert await box.store.take("c", "one", 0.05) == Taken(0, 0, ('"a"',))
    assert await box.store.renew("c", "one", 0.05, 3, 1)
    await asyncio.sleep(0.06)
    for _ in range(2):  # the second time it has forgotten the first
        assert await box.store.take("c", "two", 5) == Taken(3, 1, ('"a"',))
    assert await box.store.done("c", "one", 5, '"a"') == Removed(-1, 0)
    assert not await box.store.renew("c", "one", 5, 0, 0)
    assert await box.store.done("c", "two", 5, '"a"') == Removed(0, 0)


async def test_a_pause_is_for_all(box: Deliveries) -> None:
    await box.append("c", '"a"')
    await box.store.take("c", "one", 5)
    assert await box.store.pause("c", "one", 0.05, 2, 1)
    for process in ("one", "two"):
        held = await box.store.take("c", process, 5)
        assert isinstance(held, float)
        assert held <= 0.05
    await asyncio.sleep(0.06)
    assert await box.store.take("c", "two", 5) == Taken(2, 1, ('"a"',))
    await box.append("c", '"b"')
    await box.store.done("c", "two", 5, '"a"')
    assert await box.store.take("c", "two", 5) == Taken(0, 0, ('"b"',))  # it is a new one


async def test_dead_letters_are_bounded(box: Deliveries) -> None:
    for n in range(DEAD_LETTERS + 2):
        await box.append("c", str(n))
    await box.store.take("c", "one", 5)
    dropped = [
        (await box.store.done("c", "one", 5, str(n), f"dead {n}")).dropped
        for n in range(DEAD_LETTERS + 2)
    ]
    assert dropped == [0] * DEAD_LETTERS + [1, 1]
    assert await box.dead("c") == [f"dead {n}" for n in range(2, DEAD_LETTERS + 2)]
    assert not await box.left("c")


# -- the sender -----------------------------------------------------------------------------------


def stored(number: int, to: str = "reply", replies: int = 1) -> str:
    texts = [{"recipient_id": "c", "text": f"{number}.{n}"} for n in range(replies)]
    return json.dumps(
        {
            "number": number,
            "message_id": f"m{number}",
            "to": to,
            "replies": texts,
            "at": 1,
            "fence": 7,
        }
    )


class Scripted(Destination):
    """Answers with the verdicts that it was given, then with Done; notes what came when."""

    timeout = 1.0

    def __init__(self, *verdicts: Verdict | Exception, max_tries: int = 3) -> None:
        self.verdicts = list(verdicts)
        self.max_tries = max_tries
        self.max_pause = 0.05
        self.seen: list[tuple[str, int, int, int]] = []
        self.running = self.most = 0

    def parts(self, delivery: Delivery) -> list[Part]:
        return [self._part(delivery, n) for n in range(len(delivery.replies))]

    def _part(self, delivery: Delivery, number: int) -> Part:
        async def send() -> Verdict:
            seen = (delivery.conversation_id, delivery.number, number, delivery.attempt)
            self.seen.append(seen)
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(0.001)
            self.running -= 1
            verdict = self.verdicts.pop(0) if self.verdicts else Done()
            if isinstance(verdict, Exception):
                raise verdict
            return verdict

        return send


async def settled(box: Deliveries, *conversations: str) -> None:
    async def wait() -> None:
        while any([await box.left(name) for name in conversations]):
            await asyncio.sleep(0.01)

    await asyncio.wait_for(wait(), 20)


async def test_in_order_and_once(box: Deliveries) -> None:
    """Twenty of them, of which some come while others are sent; at most `most` at once."""
    to = Scripted()
    sender = Sender(box.store, {"reply": to}, most=2)
    names = [f"c{n}" for n in range(5)]
    for number in range(1, 21):
        for name in names:
            await box.append(name, stored(number))
            sender.due(name)
    await settled(box, *names)
    for name in names:
        assert [s[1] for s in to.seen if s[0] == name] == list(range(1, 21))
    await sender.close()
    assert to.most <= 2
    assert sender.counts.delivered == 100


async def test_a_flooded_conversation_lets_others_through(box: Deliveries) -> None:
    to = Scripted()
    sender = Sender(box.store, {"reply": to}, most=1)
    for number in range(1, 101):
        await box.append("flood", stored(number))
    for number in range(5):
        await box.append(f"c{number}", stored(1))
    for name in ("flood", *(f"c{n}" for n in range(5))):
        sender.due(name)
    await settled(box, "flood", *(f"c{n}" for n in range(5)))
    places = [n for n, seen in enumerate(to.seen) if seen[0] != "flood"]
    assert len(places) == 5
    assert places[-1] < 20
    await sender.close()


async def test_a_failed_part_is_tried_again_before_what_follows(box: Deliveries) -> None:
    to = Scripted(Done(), Retry("busy"), RuntimeError("no"), max_tries=9)
    await box.append("c", stored(1, replies=3))
    await box.append("c", stored(2))
    sender = Sender(box.store, {"reply": to})
    sender.due("c")
    await settled(box, "c")
    await sender.close()
    assert [seen[1:] for seen in to.seen] == [
        (1, 0, 1), (1, 1, 1), (1, 1, 2), (1, 1, 3), (1, 2, 3), (2, 0, 1)
    ]  # fmt: skip
    assert sender.counts.retried == 2


@pytest.mark.parametrize("refusals", [[Dead("answered 410")], [Retry("busy")] * 3])
async def test_a_dead_letter_lets_the_next_through(
    box: Deliveries, refusals: list[Verdict], caplog: pytest.LogCaptureFixture
) -> None:
    to = Scripted(*refusals)
    await box.append("c", stored(1))
    await box.append("c", stored(2))
    sender = Sender(box.store, {"reply": to})
    sender.due("c")
    await settled(box, "c")
    await sender.close()
    letters = [json.loads(text) for text in await box.dead("c")]
    assert [letter["delivery"] for letter in letters] == [stored(1)]
    (letter,) = letters
    assert letter["tries"] == len(refusals)
    assert refusals[0].reason in letter["reason"]  # type: ignore[union-attr]
    assert to.seen[-1] == ("c", 2, 0, 1)
    assert sender.counts.dead == 1
    assert sender.counts.delivered == 1
    assert "message 1 of conversation 'c' became a dead letter" in caplog.text


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"number": 1}', stored(1).replace('[{"re', '[1, {"re')]
)
async def test_one_that_cannot_be_read_is_dead(box: Deliveries, text: str) -> None:
    to = Scripted()
    await box.append("c", text)
    await box.append("c", stored(2))
    sender = Sender(box.store, {"reply": to})
    sender.due("c")
    await settled(box, "c")
    await sender.close()
    (letter,) = map(json.loads, await box.dead("c"))
    assert "cannot be read" in letter["reason"]
    assert [seen[1] for seen in to.seen] == [2]


async def test_an_unknown_destination_waits_for_a_process_that_knows_it(box: Deliveries) -> None:
    await box.append("c", stored(1, to="slack"))
    old, new = Scripted(), Scripted()
    first = Sender(box.store, {"reply": old})
    first.due("c")
    while not first.counts.retried:
        await asyncio.sleep(0.01)
    await first.close()
    second = Sender(box.store, {"slack": new})
    second.due("c")
    await settled(box, "c")
    await second.close()
    assert new.seen == [("c", 1, 0, 2)]
    assert not old.seen


async def test_closing_ends_what_is_sent_and_releases_the_rest(box: Deliveries) -> None:
    """Another process goes on at once, not when the lease is over."""
    for number in range(1, 6):
        await box.append("c", stored(number))
    began, go = asyncio.Event(), asyncio.Event()
    calls: list[int] = []

    async def slow(delivery: Delivery) -> None:
        calls.append(delivery.number)
        began.set()
        await go.wait()

    sender = Sender(box.store, {"reply": OnReply(slow)})
    sender.due("c")
    await began.wait()
    closing = asyncio.create_task(sender.close())
    await asyncio.sleep(0)
    go.set()
    await closing
    sender.due("c")  # nothing happens any more
    assert calls == [1]
    taken = await box.store.take("c", "another", 5)
    assert isinstance(taken, Taken)
    assert taken.texts[0] == stored(2)


async def test_what_does_not_end_is_released_too(box: Deliveries) -> None:
    await box.append("c", stored(1))
    began = asyncio.Event()

    async def hangs(delivery: Delivery) -> None:
        began.set()
        await asyncio.Event().wait()

    sender = Sender(box.store, {"reply": OnReply(hangs)})
    sender.due("c")
    await began.wait()
    await sender.close(timeout=0.05)
    assert isinstance(await box.store.take("c", "another", 5), Taken)


async def test_a_function_that_hangs_or_raises_is_called_again(box: Deliveries) -> None:
    calls: list[Any] = []

    async def function(delivery: Delivery) -> None:
        calls.append((delivery.key, delivery.attempt))
        if len(calls) == 1:
            await asyncio.Event().wait()
        if len(calls) == 2:
            raise RuntimeError("not now")

    to = OnReply(function, timeout=0.05)
    to.max_pause = 0.05
    await box.append("c", stored(1))
    sender = Sender(box.store, {"reply": to})
    sender.due("c")
    await settled(box, "c")
    await sender.close()
    assert [attempt for _, attempt in calls] == [1, 2, 3]
    assert len({key for key, _ in calls}) == 1
    assert calls[0][0].endswith("-7-1")


async def test_one_that_was_stalled_does_not_send_what_another_has_taken(
    box: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is over before its first part begins: it asks, and learns that it is too late."""

    class Stalled(Scripted):
        def parts(self, delivery: Delivery) -> list[Part]:
            time.sleep(0.8)  # as a process that was stopped: its event loop stands still
            return super().parts(delivery)

    answers, renew = [], box.store.renew

    async def after_another(conversation_id: str, *args: Any) -> bool:
        assert isinstance(await box.store.take(conversation_id, "another", 5), Taken)
        answer = await renew(conversation_id, *args)
        answers.append(answer)
        return bool(answer)

    monkeypatch.setattr(box.store, "renew", after_another)
    to = Stalled()
    to.timeout = 0.1
    await box.append("c", stored(1))
    sender = Sender(box.store, {"reply": to}, lease=0.7)
    sender.due("c")
    while not answers and not to.seen:
        await asyncio.sleep(0.01)
    await sender.close()
    assert to.seen == []
    assert answers == [False]
    assert await box.store.done("c", "another", 5, stored(1)) == Removed(0, 0)


def test_a_timeout_is_below_the_lease() -> None:
    with pytest.raises(ValueError, match="'reply'"):
        Sender(MemoryDeliveries(), {"reply": Scripted()}, lease=1.0)
