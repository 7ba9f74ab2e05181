"""What is done to a fleet, and what must be true afterwards."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from .fleet import Fleet, text

#: Messages of a burst, and seconds after which it counts as not done.
BURST, PATIENCE = 16, 45.0


@dataclass
class Burst:
    """What became of one burst.

    Attributes:
        seconds: until the last reply; `PATIENCE` where one did not come.
        unanswered: messages without their reply.
        lost, twice: messages that the history lacks, or has more than once.
        overlaps: turns that began while another one ran.
    """

    seconds: float
    unanswered: int
    lost: int
    twice: int
    overlaps: int

    @property
    def clean(self) -> bool:
        return not (self.unanswered or self.lost or self.twice or self.overlaps)


def said(events: list[dict[str, Any]]) -> list[str]:
    """The user's texts of a history, in order."""
    return [str(event["text"]) for event in events if event["event"] == "user"]


async def burst(fleet: Fleet, conversation: str) -> Burst:
    """Messages of one conversation, all at once, half of them at each replica."""
    began, before = time.monotonic(), fleet.actions.overlaps
    texts = [text(number) for number in range(BURST)]
    sending = {
        asyncio.create_task(fleet.say(number % 2, conversation, message)): message
        for number, message in enumerate(texts)
    }
    done, late = await asyncio.wait(sending, timeout=PATIENCE)
    seconds = time.monotonic() - began
    answered = sum(
        task.exception() is None and task.result() == [f"done: {sending[task]}"] for task in done
    )
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    found = said(await fleet.history(0, conversation))
    return Burst(
        seconds,
        BURST - answered,
        sum(message not in found for message in texts),
        len(found) - len(set(found)),
        fleet.actions.overlaps - before,
    )


async def queue(fleet: Fleet, conversation: str) -> None:
    """Messages that came one after the other, to alternating replicas, are served in that order."""
    gate = fleet.actions.hold(conversation)
    texts = [text(number) for number in range(12)]
    tasks = []
    for number, message in enumerate(texts):
        tasks.append(asyncio.create_task(fleet.say(number % 2, conversation, message)))
        if number:
            await fleet.queued(conversation, number)
        else:
            await fleet.actions.called(conversation, 1, 30)
    gate.set()
    replies = await asyncio.gather(*tasks)
    assert replies == [[f"done: {message}"] for message in texts], replies
    found = said(await fleet.history(1, conversation))
    assert found == texts, found


async def sessions(fleet: Fleet, conversation: str) -> None:
    """Two session starts within one save: a later save appends what is new, once."""
    start = [
        {"event": "action", "name": "action_session_start"},
        {"event": "session_started"},
        {"event": "action", "name": "action_listen"},
    ]
    user = {"event": "user", "text": "between", "parse_data": {"intent": {"name": "say"}}}
    url = f"/conversations/{conversation}/tracker/events"
    answer = await fleet.client.post(fleet.address(0) + url, json=[*start, user, *start])
    answer.raise_for_status()
    for number in range(4):
        assert await fleet.say(number % 2, conversation, text(number)), "no reply"
    events = await fleet.history(0, conversation)
    assert said(events) == ["between", *map(text, range(4))], said(events)
    # One more that Rasa adds itself, before the first of ours.
    starts = sum(event["event"] == "session_started" for event in events)
    assert starts in (2, 3), starts
    assert events == await fleet.history(1, conversation), "the replicas read different histories"


async def replaced(fleet: Fleet, conversation: str) -> None:
    """PUT .../tracker/events replaces a history, and the next turn goes on from it."""
    await fleet.say(0, conversation, text(0))
    kept = (await fleet.history(0, conversation))[:3]
    url = f"/conversations/{conversation}/tracker/events"
    answer = await fleet.client.put(fleet.address(1) + url, json=kept)
    answer.raise_for_status()
    assert await fleet.history(0, conversation) == kept, "it was not replaced"
    await fleet.say(0, conversation, text(1))
    found = said(await fleet.history(1, conversation))
    assert found == [text(1)], found


async def frozen(fleet: Fleet, conversation: str) -> dict[str, Any]:
    """A replica stands still within a turn, and comes back when the next turn is over.

    Its late write must not be there; its sender, who has no reply, sends again.
    """
    gate = fleet.actions.hold(conversation)
    first = asyncio.create_task(_attempt(fleet, 0, conversation, text(0)))
    await fleet.actions.called(conversation, 1, 30)
    second = asyncio.create_task(fleet.say(1, conversation, text(1)))
    await fleet.queued(conversation, 1)
    fleet.signal(0, signal.SIGSTOP)
    began = time.monotonic()
    await second
    seconds = time.monotonic() - began
    gate.set()
    fleet.signal(0, signal.SIGCONT)
    late = await asyncio.wait_for(first, 60)
    if not late.get("replies"):
        await fleet.say(1, conversation, text(0))
    found = said(await fleet.history(1, conversation))
    return {"seconds": round(seconds, 1), "late": late, "found": found}


async def _attempt(fleet: Fleet, number: int, conversation: str, message: str) -> dict[str, Any]:
    try:
        return {"replies": await fleet.say(number, conversation, message)}
    except httpx.HTTPError as error:
        return {"error": type(error).__name__}


async def killed(fleet: Fleet, conversation: str, seconds: float) -> str:
    """kill -9 within a turn: the other replica goes on.

    The sender of the broken turn gets an error, and sends its message again.
    """
    fleet.actions.hold(conversation)
    first = asyncio.create_task(_attempt(fleet, 0, conversation, text(0)))
    await fleet.actions.called(conversation, 1, 30)
    others = [text(number) for number in range(1, 4)]
    tasks = []
    for number, message in enumerate(others, 1):
        tasks.append(asyncio.create_task(fleet.say(1, conversation, message)))
        await fleet.queued(conversation, number)
    fleet.signal(0, signal.SIGKILL)
    began = time.monotonic()
    try:
        assert "error" in await first, "the killed replica has answered"
        await fleet.actions.called(conversation, 2, seconds)
        waited = time.monotonic() - began
        tasks.append(asyncio.create_task(fleet.say(1, conversation, text(0))))
        replies = await asyncio.wait_for(asyncio.gather(*tasks), seconds)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert all(replies), replies
    found = said(await fleet.history(1, conversation))
    assert found == [*others, text(0)], found
    return f"the next turn began after {waited:.1f} s"


async def storm(fleet: Fleet, kills: int) -> dict[str, Any]:
    """Senders that go on until each message has its reply, while the replicas are killed in turn.

    Rasa's channels know no message ids: a message whose reply was lost comes twice, and no other.
    """
    over = asyncio.Event()
    sent: dict[str, list[str]] = {}
    repeated: set[tuple[str, str]] = set()

    async def sender(conversation: str) -> None:
        texts = sent[conversation] = []
        number = 0
        while not over.is_set():
            message = text(number)
            texts.append(message)
            attempt = number
            while not (await _attempt(fleet, attempt % 2, conversation, message)).get("replies"):
                repeated.add((conversation, message))
                attempt += 1  # at the other replica
                await asyncio.sleep(0.1)
            number += 1

    tasks = [asyncio.create_task(sender(f"storm{number}")) for number in range(6)]
    for kill in range(kills):
        await asyncio.sleep(2)  # with both replicas at work
        await fleet.restart(kill % 2)
    over.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 120)
    again = 0
    for conversation, texts in sent.items():
        found = said(await fleet.history(0, conversation))
        assert list(dict.fromkeys(found)) == texts, f"{conversation}: lost, or out of order"
        twice = {message for message in texts if found.count(message) > 1}
        assert all((conversation, message) in repeated for message in twice), twice
        assert sorted(found, key=texts.index) == found, f"{conversation}: out of order"
        again += len(found) - len(texts)
    messages = sum(map(len, sent.values()))
    return {"kills": kills, "messages": messages, "sent again": len(repeated), "twice": again}


def summary(bursts: list[Burst]) -> Mapping[str, Any]:
    """The row of a table."""
    times = sorted(one.seconds for one in bursts)
    return {
        "runs": len(bursts),
        "not done": sum(one.unanswered > 0 for one in bursts),
        "messages lost": sum(one.lost for one in bursts),
        "twice": sum(one.twice for one in bursts),
        "turns that overlapped": sum(one.overlaps for one in bursts),
        "median s": round(times[len(times) // 2], 1),
        "longest s": round(times[-1], 1),
    }
