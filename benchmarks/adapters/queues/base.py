"""What the compared queues share: the handler, the tracker store, and the clock of each message."""

from __future__ import annotations

import asyncio
import json
import time

from ticketlock import Conversations

from ...stores import events

#: Seconds that the handler takes.
HANDLER = 0.005
#: Messages that a process handles at once.
ROOM = 100
#: More events than any conversation has.
_ANY = 1 << 50


class Queue:
    """A process that submits messages and handles them.

    A message is the moment at which it was submitted, by the machine's monotonic clock, and the run.

    Args:
        url: JSON: the URLs of `redis` and `tracker`, the DSN of `postgres`.

    Attributes:
        seconds: from submission to reply, of each message that was handled here.
        last: when the last of them was.
        cpu: seconds of processor that this process had taken before.
    """

    asynchronous = True

    def __init__(self, url: str) -> None:
        self.servers: dict[str, str] = json.loads(url)
        self.forget("")

    def forget(self, run: str) -> None:
        """Begin to count anew, and only what is submitted in this run."""
        self.run, self.cpu = run, time.process_time()
        self.seconds: list[float] = []
        self.last = 0.0

    async def open(self) -> None:
        """Connect, and begin to handle."""
        self.conversations = Conversations(
            {"type": "concurrent_redis", "url": self.servers["redis"]},
            {"type": "redis", "url": self.servers["tracker"]},
        )
        self.store = self.conversations.tracker_store
        await self.start()

    async def start(self) -> None:
        raise NotImplementedError

    async def stop(self) -> None:
        raise NotImplementedError

    async def submit(self, name: str, number: int) -> None:
        """Submit a message of a conversation; it may return once it is handled."""
        raise NotImplementedError

    async def close(self) -> None:
        await self.stop()
        await self.conversations.close()

    def replied(self, text: str) -> None:
        """A message has its reply, and will not be handled again."""
        submitted, run = text.split()
        if run == self.run:
            self.last = time.monotonic()
            self.seconds.append(self.last - float(submitted))

    def now(self) -> str:
        """The text of a message that is submitted now."""
        return f"{time.monotonic()} {self.run}"

    async def handle(self, name: str, text: str) -> None:
        """What the handler does where the queue gives no turn: wait, read, write two events.

        Messages of a conversation may overlap where there is no order, and the store would refuse
        what they write. So all write as one owner under one fence, after whatever is there.
        """
        await asyncio.sleep(HANDLER)
        claim = await self.store.claim(name, 1, "all")
        claim.sequence = _ANY
        await self.store.append(claim, events(text))
