"""The sending side of a demo: what a chat platform's webhook does.

Within a conversation the next message is sent once the one before has been accepted, so the
order of sending is the order of arrival; any number of accepted ones may wait for their turn.
What a replica took and did not finish before it died is sent again, to another one.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .fleet import Replica
from .traffic import Message

#: Seconds before a message that a replica reported as failed is sent again.
RETRY_AFTER = 0.2


@dataclass
class Delivery:
    """What became of a message. Moments are of `time.monotonic()`, None until they come.

    Attributes:
        sends: how often it was sent.
        sent_at: when it was sent first.
        accepted_at: when the last acceptance arrived.
    """

    message: Message
    sends: int = 0
    sent_at: float | None = None
    accepted_at: float | None = None
    accepted: bool = False
    done: bool = False


@dataclass
class Lane:
    """A conversation: the ids of its messages to be sent, and the one that awaits acceptance."""

    to_send: list[int] = field(default_factory=list)
    offered: int | None = None


class Sender:
    """Sends messages to replicas chosen by chance; a `Listener` of the fleet.

    Args:
        in_flight: most messages that are on their way at a time.
        up: tells the replicas that take messages now.
        on_done: called after each message that is done, with their number.
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
        #: How many messages are done.
        self.done = 0
        #: Why a replica last reported a message as failed.
        self.last_failure: str | None = None
        self._slots = asyncio.Semaphore(in_flight)
        self._chance = chance
        self._up = up
        self._on_done = on_done
        self._lanes: dict[str, Lane] = defaultdict(Lane)
        self._at: dict[str, set[int]] = defaultdict(set)
        self._all_done = asyncio.Event()

    async def run(self) -> None:
        """Send all messages, in their order; return when every one is done."""
        for delivery in self.deliveries:
            await self._slots.acquire()
            self._queue(delivery.message)
        await self._all_done.wait()

    def holds_some(self, replica: Replica) -> bool:
        """Whether a replica has accepted messages that it has not done."""
        return any(self.deliveries[id].accepted for id in self._at[replica.name])

    def _queue(self, message: Message) -> None:
        lane = self._lanes[message.conversation]
        heapq.heappush(lane.to_send, message.id)
        self._send_next(lane)

    def _send_next(self, lane: Lane) -> None:
        replicas = self._up()
        if lane.offered is not None or not lane.to_send or not replicas:
            return  # `answered` or `joined` comes here again
        replica = self._chance.choice(replicas)
        delivery = self.deliveries[heapq.heappop(lane.to_send)]
        lane.offered = delivery.message.id
        delivery.sends += 1
        if delivery.sent_at is None:
            delivery.sent_at = time.monotonic()
        self._at[replica.name].add(delivery.message.id)
        replica.send(asdict(delivery.message))

    # -- called by the fleet ------------------------------------------------------------------

    def joined(self, replica: Replica) -> None:
        for lane in self._lanes.values():
            self._send_next(lane)

    def answered(self, replica: Replica, answer: dict[str, Any]) -> None:
        delivery = self.deliveries[answer["message"]]
        kind = answer["answer"]
        if kind == "accepted":
            delivery.accepted, delivery.accepted_at = True, time.monotonic()
            self._free_lane(delivery.message)
        elif kind == "done":
            self._at[replica.name].discard(delivery.message.id)
            delivery.done = True
            self.done += 1
            self._slots.release()
            if self.done == len(self.deliveries):
                self._all_done.set()
            self._on_done(self.done)
        else:
            self.last_failure = answer["why"]
            self._at[replica.name].discard(delivery.message.id)
            loop = asyncio.get_running_loop()
            loop.call_later(RETRY_AFTER, self._again, delivery)

    def left(self, replica: Replica) -> None:
        for id in sorted(self._at.pop(replica.name, ())):
            self._again(self.deliveries[id])

    def _again(self, delivery: Delivery) -> None:
        """Send a message once more, before the later ones of its conversation."""
        delivery.accepted = False
        heapq.heappush(self._lanes[delivery.message.conversation].to_send, delivery.message.id)
        self._free_lane(delivery.message)

    def _free_lane(self, message: Message) -> None:
        lane = self._lanes[message.conversation]
        if lane.offered == message.id:
            lane.offered = None
        self._send_next(lane)
