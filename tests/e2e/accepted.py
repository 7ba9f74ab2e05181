"""The sending side of `--async`: a platform that wants its 202, and never sends again after it.

Each conversation sends one message after the other, each when the one before is accepted. So the
order of all conversations is the sender's.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from ticketlock.demo.traffic import Message

from .sender import Delivery

#: Seconds for which a platform waits for an answer, and before it sends again without one.
PATIENCE, AGAIN_AFTER = 5.0, 0.5
#: Seconds for which a message is sent again, and requests at a time.
GIVE_UP_AFTER, IN_FLIGHT = 600.0, 200


@dataclass
class Accepted(Delivery):
    """What became of a message.

    Attributes:
        replies: what was called back, if all of it was.
        seconds: from the first sending to the 202.
        sent_at, at: when it was sent first, and when it was accepted; 0: not yet.
        number: the ticket of the 202; 0: it was finished by then.
    """

    sent_at: float = 0.0
    at: float = 0.0
    number: int = 0


class AcceptedSender:
    """Sends messages through nginx to the callback webhook.

    Attributes:
        deliveries: of all messages, in the order in which they were given.
        narrow: all conversations: each sends one message after the other.
        rate: messages a second.
        limit: messages that may be sent by now: the others are kept for later trouble.
        begun: messages whose sending has begun. accepted: those that were answered 202.
        refusals: status, or kind of failure of a connection -> how often.
        durability: what the 202s said of Redis -> how often.
    """

    def __init__(self, url: str, messages: Sequence[Message], *, token: str, rate: float) -> None:
        self._headers = {"authorization": f"Bearer {token}"}
        self._url = f"{url}/webhooks/callback/webhook?async=true"
        self._lanes: dict[str, deque[Accepted]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._going = asyncio.Event()
        self._going.set()
        self._on_way = 0
        self.deliveries = [Accepted(message) for message in messages]
        self.narrow = {message.conversation for message in messages}
        self.rate = rate
        self.limit = len(messages)
        self.begun = self.accepted = 0
        self.refusals: Counter[str] = Counter()
        self.durability: Counter[str] = Counter()

    async def run(self) -> None:
        """Send everything, and return when all of it is accepted."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        made = httpx.AsyncClient(limits=limits, timeout=PATIENCE, headers=self._headers)
        async with made as self._client:
            for place, delivery in enumerate(self.deliveries):
                while place >= self.limit or not self._going.is_set():
                    await asyncio.sleep(0.02)
                    self._raise_failures()
                await asyncio.sleep(1 / self.rate)
                self._raise_failures()
                self._send(delivery)
            while self._tasks:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                self._raise_failures()

    def to(self, conversation: str) -> list[Accepted]:
        """Its messages, in the order of sending."""
        return [one for one in self.deliveries if one.message.conversation == conversation]

    async def rest(self) -> None:
        """Send nothing until `go_on`; returns when no request is on its way."""
        self._going.clear()
        while self._on_way:
            await asyncio.sleep(0.002)

    def go_on(self) -> None:
        self._going.set()

    def _raise_failures(self) -> None:
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            task.result()

    def _send(self, delivery: Accepted) -> None:
        self.begun += 1
        name = delivery.message.conversation
        lane = self._lanes.setdefault(name, deque())
        lane.append(delivery)
        if len(lane) == 1:
            self._tasks.add(asyncio.create_task(self._send_lane(lane)))

    async def _send_lane(self, lane: deque[Accepted]) -> None:
        while lane:
            await self._deliver(lane[0])
            lane.popleft()

    async def _deliver(self, delivery: Accepted) -> None:
        """Send a message, under the same id, until it is accepted, and never again."""
        while (problem := await self._post(delivery)) is not None:
            self.refusals[problem] += 1
            delivery.resent += 1
            late = time.monotonic() - delivery.sent_at
            assert late < GIVE_UP_AFTER, f"message {delivery.message.id} is refused: {problem}"
            await asyncio.sleep(AGAIN_AFTER)
        delivery.at = time.monotonic()
        delivery.seconds = delivery.at - delivery.sent_at
        self.accepted += 1

    async def _post(self, delivery: Accepted) -> str | None:
        """Send it once; what came instead of a 202."""
        message = delivery.message
        body = {"sender": message.conversation, "message": message.text}
        body["message_id"] = delivery.message_id
        async with self._slots:
            await self._going.wait()
            self._on_way += 1
            delivery.sent_at = delivery.sent_at or time.monotonic()
            try:
                answer = await self._client.post(self._url, json=body)
            except httpx.TransportError as error:
                return type(error).__name__
            finally:
                self._on_way -= 1
        if answer.status_code != 202:
            assert answer.status_code == 429 or answer.status_code >= 500, answer.text
            return str(answer.status_code)
        accepted = answer.json()
        delivery.number = accepted["ticket"]
        self.durability[accepted["durability"]] += 1
        return None
