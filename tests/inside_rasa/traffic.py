"""Senders that never stop: numbered messages in many conversations, sent until each has its reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from .fleet import text

#: Conversations with one sender, which sends a message when the last one has its reply, and with
#: two, so that turns of the replicas meet.
ALONE, SHARED = 4, 2

#: Seconds between a reply and the next message: the processors are not to be the limit.
PACE = 0.2

#: Seconds between a refused message and the next attempt, as a client or a load balancer pauses.
PAUSE = 0.2


@dataclass
class Sent:
    """A message.

    Attributes:
        step: the step in which it was sent first.
        failures: what came instead of its reply, one for each attempt.
        seconds: from the first attempt to the reply.
    """

    text: str
    step: str
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Traffic:
    """The senders, from `start` to `stop`.

    Attributes:
        step: what the messages from now on belong to.
        sent: sender -> its messages, in order; a sender is (conversation, name).
    """

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.step = ""
        self.sent: dict[tuple[str, str], list[Sent]] = {}
        self._url, self._client = url, client
        self._over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start all senders."""
        names = [(f"alone{number}", "a") for number in range(ALONE)]
        names += [(f"shared{number}", name) for number in range(SHARED) for name in "ab"]
        self.sent = {name: [] for name in names}
        self._tasks = [asyncio.create_task(self._send(*name)) for name in names]

    async def stop(self, seconds: float) -> None:
        """Send no more; each message still gets its reply. Raises TimeoutError."""
        self._over.set()
        await asyncio.wait_for(asyncio.gather(*self._tasks), seconds)

    async def until(self, count: int, seconds: float) -> None:
        """Wait until each sender has so many more replies. Raises TimeoutError."""
        aims = {name: len(sent) + count for name, sent in self.sent.items()}
        await self._reached(
            lambda: all(len(self.sent[name]) > aims[name] for name in aims), seconds
        )

    async def _reached(self, done: Callable[[], bool], seconds: float) -> None:
        async def wait() -> None:
            while not done():
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.05)

        await asyncio.wait_for(wait(), seconds)

    async def _send(self, conversation: str, name: str) -> None:
        loop, sent = asyncio.get_running_loop(), self.sent[conversation, name]
        while not self._over.is_set():
            message = Sent(text(f"{name}{len(sent)}"), self.step)
            sent.append(message)
            began = loop.time()
            while failure := await self._attempt(conversation, message.text):
                message.failures.append(failure)
                await asyncio.sleep(PAUSE)
            message.seconds = loop.time() - began
            await asyncio.sleep(PACE)

    async def _attempt(self, conversation: str, message: str) -> str:
        """What came instead of the reply."""
        body = {"sender": conversation, "message": message}
        try:
            answer = await self._client.post(self._url + "/webhooks/rest/webhook", json=body)
        except httpx.HTTPError as error:
            return type(error).__name__
        if answer.status_code != 200:
            return str(answer.status_code)
        texts = [reply["text"] for reply in answer.json()]
        return "" if texts == [f"done: {message}"] else f"200 {texts}"


@dataclass
class Found:
    """What became of messages, by the histories. `times` has the seconds to each reply."""

    messages: int = 0
    repeated: int = 0
    lost: int = 0
    twice: int = 0
    disordered: int = 0
    times: list[float] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.twice or self.disordered)

    def __str__(self) -> str:
        text = f"{self.messages} messages, {self.repeated} sent again, {self.lost} lost, "
        text += f"{self.twice} twice, {self.disordered} out of order"
        return text + f", slowest {max(self.times, default=0):.1f} s"


#: Step -> "alone" or "shared" -> what became of its messages.
Verdict = dict[str, dict[str, Found]]


def compare(traffic: Traffic, histories: dict[str, list[str]]) -> Verdict:
    """What became of all messages, by the users' texts of each conversation."""
    found: Verdict = {}
    for (conversation, _), sent in traffic.sent.items():
        texts, last = histories[conversation], -1
        for message in sent:
            kinds = found.setdefault(message.step, {})
            one = kinds.setdefault(conversation.rstrip("0123456789"), Found())
            count = texts.count(message.text)
            one.messages += 1
            one.repeated += bool(message.failures)
            one.lost += not count
            one.twice += max(0, count - 1)
            one.times.append(message.seconds)
            if count:
                place = texts.index(message.text)
                one.disordered += place < last
                last = place
    return found
