"""The sending side: a channel that repeats what it has no answer to, and some of the rest too.

Half of the conversations send one message after the other, each when the one before has its
reply: their order is the sender's. The others have several on their way at once: their order is
that of the turns, which the replies tell.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from ticketlock.demo.traffic import Message

#: Messages of one conversation that are on their way at once, where there may be several.
WIDE = 3
#: Part of the messages that is sent twice, and the longest time until the second sending.
TWICE, LATER = 0.05, 2.0
#: Seconds between two attempts, and for which a message is tried.
AGAIN_AFTER, GIVE_UP_AFTER = 0.1, 180.0


@dataclass
class Delivery:
    """What became of a message.

    Attributes:
        replies: the answers, one of each sending that got one; they should be equal.
        seconds: from the first sending to the first answer.
        resent: how often it was sent again because nothing, or an error, came back.
    """

    message: Message
    replies: list[Any] = field(default_factory=list)
    seconds: float = 0.0
    resent: int = 0

    @property
    def message_id(self) -> str:
        return str(self.message.id)


class Sender:
    """Sends messages through nginx.

    Attributes:
        deliveries: of all messages, in the order in which they were given.
        done: messages that have their reply.
        limit: messages that may be sent by now: those of later trouble are kept for it.
        refusals: status, or kind of failure of a connection -> how often.
    """

    def __init__(
        self,
        url: str,
        messages: Sequence[Message],
        dice: random.Random,
        in_flight: int = 32,
        *,
        token: str,
    ) -> None:
        self._headers = {"authorization": f"Bearer {token}"}
        self._url = f"{url}/webhooks/rest/webhook"
        self._dice = dice
        self._slots = asyncio.Semaphore(in_flight)
        self._lanes: dict[str, deque[Delivery]] = {}
        self._on_way: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.deliveries = [Delivery(message) for message in messages]
        self.duplicates = 0
        self.done = 0
        self.limit = len(messages)
        self.refusals: dict[str, int] = {}
        names = dict.fromkeys(message.conversation for message in messages)
        #: Conversations that send one message after the other.
        self.narrow = set(list(names)[::2])

    async def run(self, on_done: Callable[[int], None] = lambda done: None) -> None:
        """Send everything, and return when all answers are there."""
        self._on_done = on_done
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        made = httpx.AsyncClient(limits=limits, timeout=100, headers=self._headers)
        async with made as self._client:
            for place, delivery in enumerate(self.deliveries):
                while place >= self.limit:
                    await asyncio.sleep(0.02)
                    self._raise_failures()
                await self._slots.acquire()
                self._raise_failures()
                name = delivery.message.conversation
                self._lanes.setdefault(name, deque()).append(delivery)
                self._send_next(name)
            while self._tasks:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                self._raise_failures()

    def _raise_failures(self) -> None:
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            task.result()

    def _send_next(self, name: str) -> None:
        width = 1 if name in self.narrow else WIDE
        while self._lanes[name] and self._on_way.get(name, 0) < width:
            delivery = self._lanes[name].popleft()
            self._on_way[name] = self._on_way.get(name, 0) + 1
            self._begin(self._first(delivery, name))
            if self._dice.random() < TWICE:
                self.duplicates += 1
                self._begin(self._second(delivery, self._dice.choice([0.0, LATER])))

    def _begin(self, body: Any) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(body))

    async def _first(self, delivery: Delivery, name: str) -> None:
        started = time.monotonic()
        await self._deliver(delivery)
        delivery.seconds = time.monotonic() - started
        self.done += 1
        self._on_way[name] -= 1
        self._slots.release()
        self._on_done(self.done)
        self._send_next(name)

    async def _second(self, delivery: Delivery, latest: float) -> None:
        await asyncio.sleep(self._dice.uniform(0, latest))
        await self._deliver(delivery)

    async def _deliver(self, delivery: Delivery) -> None:
        """Send a message, under the same id, until it has its reply."""
        message = delivery.message
        body = {"sender": message.conversation, "message": message.text}
        body["message_id"] = delivery.message_id
        end = time.monotonic() + GIVE_UP_AFTER
        while True:
            try:
                answer = await self._client.post(self._url, json=body)
            except httpx.TransportError as error:
                what = type(error).__name__
            else:
                if answer.status_code == 200:
                    delivery.replies.append(answer.json())
                    return
                what = str(answer.status_code)
                assert answer.status_code >= 500, answer.text
            self.refusals[what] = self.refusals.get(what, 0) + 1
            delivery.resent += 1
            assert time.monotonic() < end, f"message {message.id} got no reply, last: {what}"
            await asyncio.sleep(AGAIN_AFTER)
