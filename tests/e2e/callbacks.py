"""The receiver of the replies, and the judgement of what it got.

It is as receivers are: it refuses some POSTs, and sometimes hangs up without an answer.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from servers.deliveries import Received, Receiver
from servers.processes import free_port

from ticketlock import InvalidSignature, verify_webhook
from ticketlock.demo.judge.turns import Violation
from ticketlock.server.replies import paragraphs

from .accepted import Accepted

SECRET = "whsec_" + "e2e+" * 8
#: Every kind of violation, in the order of the report.
CALLBACK_KINDS = {
    "callbacks_missing": "a reply did not arrive, or not all of it",
    "callbacks_out_of_order": "a reply arrived before the one before it",
    "callbacks_twice": "a reply arrived under two webhook-ids: its receiver cannot drop the second",
    "callbacks_differing": "a reply has another ticket, message or text than its message",
    "callbacks_unsigned": "a POST was not signed by the secret",
}
#: Of 100 POSTs so many are refused with 503, and as many get no answer.
_REFUSED = 2


@dataclass(frozen=True)
class Post:
    """A POST that was received.

    Attributes:
        number: the ticket of its message. part, parts: which of the replies of its turn.
        at: when, as `time.monotonic`.
    """

    number: int
    part: int
    parts: int
    webhook_id: str
    body: dict[str, Any]
    at: float


class Callbacks(Receiver):
    """Receives replies.

    Attributes:
        posts: conversation -> what it got, in the order of arrival.
        done: messages whose replies have all arrived.
        unsigned: POSTs whose signature was wrong, in words.
    """

    def __init__(self, dice: random.Random, messages: int) -> None:
        super().__init__()
        self.port = free_port()  # before it listens, for the configuration
        kinds = [200, 503, _hang_up]
        weights = [100 - 2 * _REFUSED, _REFUSED, _REFUSED]
        self.replies = dice.choices(kinds, weights, k=3 * messages)  # type: ignore[arg-type]
        self.posts: dict[str, list[Post]] = defaultdict(list)
        self.done = 0
        self.unsigned: list[str] = []
        self._parts: dict[tuple[str, int], set[int]] = defaultdict(set)
        self.on_received = self._note

    def _note(self, received: Received) -> None:
        headers = received.headers
        try:
            verify_webhook(received.body, headers, SECRET)
        except InvalidSignature as error:
            self.unsigned.append(str(error))
            return
        name = unquote(headers["ticketlock-conversation"])
        part, _, parts = headers["ticketlock-part"].partition("/")
        post = Post(
            int(headers["ticketlock-number"]), int(part), int(parts), headers["webhook-id"],
            json.loads(received.body), time.monotonic(),
        )  # fmt: skip
        self.posts[name].append(post)
        if str(post.body.get("image", "")).startswith("reminder "):
            return  # not the reply to a message
        there = self._parts[name, post.number]
        before = len(there)
        there.add(post.part)
        self.done += before < len(there) == post.parts

    def images(self, conversation: str) -> list[str]:
        """The images that a conversation got, each webhook-id once."""
        each = {post.webhook_id: post.body for post in self.posts[conversation]}
        return [body["image"] for body in each.values() if "image" in body]

    def waits(self, sent: Sequence[Accepted]) -> Iterator[float]:
        """Seconds from the 202 of each message to its last reply, where the two are known."""
        ends = {
            (name, post.number): post.at for name, posts in self.posts.items() for post in posts
        }
        for delivery in sent:
            end = ends.get((delivery.message.conversation, delivery.number))
            if end is not None:
                yield max(0.0, end - delivery.at)

    @property
    def repeats(self) -> int:
        """POSTs that came again under the same webhook-id."""
        every = [post.webhook_id for posts in self.posts.values() for post in posts]
        return len(every) - len(set(every))


async def _hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def callback_violations(
    name: str, sent: Sequence[Accepted], posts: Sequence[Post]
) -> Iterator[Violation]:
    """What is wrong with the replies of one conversation; puts those of each message into it."""
    first: dict[tuple[int, int], Post] = {}
    for post in posts:
        place = (post.number, post.part)
        text = f"part {post.part} of ticket {post.number}"
        if place in first:
            if first[place].webhook_id != post.webhook_id:
                yield Violation("callbacks_twice", name, None, text)
            continue
        if place < (last := max(first, default=place)):
            after = f"after part {last[1]} of ticket {last[0]}"
            yield Violation("callbacks_out_of_order", name, None, f"{text} {after}")
        first[place] = post
    turns: dict[int, list[Post]] = defaultdict(list)
    for place in sorted(first):
        turns[place[0]].append(first[place])
    left = {delivery.message_id: delivery for delivery in sent}
    for number, parts in turns.items():
        bodies = [post.body for post in parts]
        about = [body["custom"]["message_id"] for body in bodies if "custom" in body]
        if len(parts) < parts[0].parts or not about:
            continue  # its message is among those that are left
        if (delivery := left.pop(about[0], None)) is None:
            text = f"ticket {number}: message {about[0]} has its replies, or was never sent"
            yield Violation("callbacks_twice", name, None, text)
            continue
        message, delivery.replies = delivery.message, [bodies]
        if delivery.number not in (0, number):
            text = f"ticket {number}; the 202 said {delivery.number}"
            yield Violation("callbacks_differing", name, message.id, text)
        texts = [body["text"] for body in bodies if "text" in body]
        if message.text and texts != list(paragraphs(message.text)):
            yield Violation("callbacks_differing", name, message.id, f"{texts} is not its text")
    for delivery in left.values():
        text = "nothing, or not all, was posted"
        yield Violation("callbacks_missing", name, delivery.message.id, text)
