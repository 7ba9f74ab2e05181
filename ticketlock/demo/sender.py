"""The sending side of a demo: what a chat platform's webhook does.

Within a conversation the next message is sent once the one before has its ticket, so the order
of sending is the order of arrival; any number may wait for their turn. What gets no reply is sent
again under the same message id, to any replica.
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

#: The webhook, whose answer begins with the ticket.
PATH = "/webhooks/rest/webhook?ticket=true"
#: Seconds before a message is sent again, and between two looks for a replica.
RETRY_AFTER, LOOK = 0.2, 0.02


@dataclass
class Delivery:
    """What became of a message. Moments are of `time.monotonic()`, None until they come.

    Attributes:
        sends: how often it was sent.
        sent_at: when it was sent first.
        accepted_at: when it had a ticket, that of the last sending.
    """

    message: Message
    sends: int = 0
    sent_at: float | None = None
    accepted_at: float | None = None


class Sender:
    """Sends messages to replicas chosen by chance.

    Args:
        in_flight: most messages that are on their way at a time.
        up: tells the replicas that take messages now.
        on_done: called after each message that is done, with their number.

    Attributes:
        done: how many messages have their reply.
        last_failure: why a replica last did not handle a message, in its words.
    """

    def __init__(
        self,
        messages: Sequence[Message],
        in_flight: int,
        chance: random.Random,
        up: Callable[[], list[Replica]],
        on_done: Callable[[int], None],
    ) -> None:
        self.deliveries = [Delivery(message) for message in messages]
        self.done = 0
        self.last_failure: str | None = None
        self._slots = asyncio.Semaphore(in_flight)
        self._chance = chance
        self._up = up
        self._on_done = on_done
        #: Held by the message that is sent and has no ticket yet. Such a lock is fair.
        self._lanes: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._at: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send all messages, in their order; return when every one is done.

        Raises ReplicaFailed when a replica finds fault with a message.
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
        """Whether a replica has messages with a ticket that it has not answered."""
        return self._at[replica.name] > 0

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            while (problem := await self._send(delivery)) is not None:
                self.last_failure = problem
                await asyncio.sleep(RETRY_AFTER)
        finally:
            self._slots.release()
        self.done += 1
        self._on_done(self.done)

    async def _send(self, delivery: Delivery) -> str | None:
        """Send a message once, and take the replies; why there are none, if it is to come again."""
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
        # What fails later than the ticket has its error in the last line.
        failed = [reply for reply in replies if reply.get("status") == "failure"]
        return failed[0]["message"] if failed else None

    async def _any_replica(self) -> Replica:
        while not (replicas := self._up()):  # noqa: ASYNC110  # any of them will do
            await asyncio.sleep(LOOK)
        return self._chance.choice(replicas)
