"""The sender of a demo, which acts as a chat platform that calls webhooks.

In a conversation, a message is sent once the previous one has its ticket, so that messages arrive
in the order of sending; any number may wait for their turns. A message without a reply is sent
again with the same message id, to any replica.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from .client import Refused
from .processes import Replica, ReplicaFailed
from .traffic import Message

#: The webhook; its answer begins with the ticket.
PATH = "/webhooks/rest/webhook?ticket=true"
#: Seconds before a message is sent again, and between two checks for a ready replica.
RETRY_AFTER, LOOK = 0.2, 0.02


@dataclass
class SentMessage:
    """A message and its state. Moments are of `time.monotonic()`, None until then.

    Attributes:
        sends: how often it was sent.
        sent_at: when it was first sent.
        accepted_at: when it got a ticket for the last time.
    """

    message: Message
    sends: int = 0
    sent_at: float | None = None
    accepted_at: float | None = None


class MessageSender:
    """Sends messages to replicas chosen at random.

    Args:
        in_flight: most messages at a time.
        up: returns the replicas that are ready.
        on_done: called after each answered message, with their number.

    Attributes:
        done: the number of answered messages.
        last_failure: the last error of a replica that did not handle a message.
    """

    def __init__(
        self,
        messages: Sequence[Message],
        in_flight: int,
        chance: random.Random,
        up: Callable[[], list[Replica]],
        on_done: Callable[[int], None],
    ) -> None:
        self.deliveries = [SentMessage(message) for message in messages]
        self.done = 0
        self.last_failure: str | None = None
        self._slots = asyncio.Semaphore(in_flight)
        self._chance = chance
        self._up = up
        self._on_done = on_done
        #: Held while a message is sent and has no ticket yet. These locks are fair.
        self._lanes: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._at: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send all messages in order, and wait until each is answered.

        Raises ReplicaFailed if a replica rejects a message.
        """
        try:
            for delivery in self.deliveries:
                await self._slots.acquire()
                self._raise_failures()
                self._tasks.add(asyncio.create_task(self._deliver(delivery)))
            while self._tasks:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                self._raise_failures()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _raise_failures(self) -> None:
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            task.result()

    def holds_some(self, replica: Replica) -> bool:
        """Whether a replica has unanswered messages with a ticket."""
        return self._at[replica.name] > 0

    async def _deliver(self, delivery: SentMessage) -> None:
        try:
            while (problem := await self._send(delivery)) is not None:
                self.last_failure = problem
                await asyncio.sleep(RETRY_AFTER)
        finally:
            self._slots.release()
        self.done += 1
        self._on_done(self.done)

    async def _send(self, delivery: SentMessage) -> str | None:
        """Send a message once and read the replies; returns an error if it must be sent again."""
        message = delivery.message
        body = {"sender": message.conversation, "message": message.text}
        body["message_id"] = str(message.id)
        try:
            async with AsyncExitStack() as stack:
                async with self._lanes[message.conversation]:
                    replica = await self._any_replica()
                    delivery.sends += 1
                    delivery.sent_at = delivery.sent_at or time.monotonic()
                    answer = await stack.enter_async_context(replica.client.post(PATH, body))
                    await anext(answer)  # the ticket
                    delivery.accepted_at = time.monotonic()
                self._at[replica.name] += 1
                stack.callback(self._at.subtract, [replica.name])
                replies = [reply async for reply in answer]
        except (OSError, EOFError) as error:
            return f"the connection failed: {error}"
        except Refused as error:
            if error.status < 500:
                raise ReplicaFailed(f"replica {replica.name} refused a message: {error}") from error
            return str(error)
        # An error after the ticket is in the last line.
        failed = [reply for reply in replies if reply.get("status") == "failure"]
        return failed[0]["message"] if failed else None

    async def _any_replica(self) -> Replica:
        while not (replicas := self._up()):  # noqa: ASYNC110  # any replica will do
            await asyncio.sleep(LOOK)
        return self._chance.choice(replicas)
