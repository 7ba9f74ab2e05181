"""`Handler`: from a message to the bot's replies, in a turn of the conversation."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from ..conversations import Conversations
from ..errors import InvalidEvent, TicketLockError
from ..turn import Turn
from .bot import Bot, Message
from .errors import BotError
from .jobs import Job, Jobs, overdue
from .replies import handled_at, replies_after, reply_event, rest_objects
from .settings import Settings

log = logging.getLogger("ticketlock")

T = TypeVar("T")

#: A reply in the form of the REST channel.
RestObject = dict[str, Any]


class Handler:
    """Gives each message to the bot once, in its turn, whoever still waits for the reply.

    Attributes:
        jobs: what is being done.
    """

    def __init__(self, conversations: Conversations, bot: Bot, settings: Settings) -> None:
        self.conversations = conversations
        self.settings = settings
        self.jobs = Jobs()
        self._bot = bot

    async def handle(self, message: Message, policy: str | None = None) -> list[RestObject]:
        """The replies to a message, once they are stored.

        Args:
            policy: what it does while another message is being handled, see
                `Settings.double_texting`, which is the default.

        Raises TurnTimeout (the turn goes on), Draining, BotError, QueueFull, LockTimeout (of
        `reject`), and what a turn raises.
        """
        job = self._start(message, policy, lambda _: None)
        return await job.wait(self.settings.request_timeout)

    async def stream(
        self, message: Message, policy: str | None = None
    ) -> AsyncIterator[RestObject]:
        """The same replies, each as soon as the bot has yielded it; it ends when all are stored.

        Raises as `handle`, at any point: what has been given by then may not be stored.
        """
        replies: asyncio.Queue[RestObject | None] = asyncio.Queue()
        job = self._start(message, policy, replies.put_nowait)
        job.task.add_done_callback(lambda _: replies.put_nowait(None))
        seconds = self.settings.request_timeout
        timer = asyncio.get_running_loop().call_later(seconds, replies.put_nowait, None)
        try:
            while (reply := await replies.get()) is not None:
                yield reply
        finally:
            timer.cancel()
        if not job.task.done():
            raise overdue(seconds)
        job.result()

    async def in_turn(
        self, sender_id: str, body: Callable[[Turn], Awaitable[T]], label: str | None = None
    ) -> T:
        """What `body` returns in a turn of the conversation, once it is stored."""
        job = self.jobs.start(self._turn(sender_id, label, None), body)
        return await job.wait(self.settings.request_timeout)

    def _start(
        self, message: Message, policy: str | None, tell: Callable[[RestObject], object]
    ) -> Job[list[RestObject]]:
        policy = policy or self.settings.double_texting
        # With `reject` it takes no place in the queue: it is served at once, or not at all.
        wait_timeout = 0.0 if policy == "reject" else None
        turn = self._turn(message.sender_id, f"message {message.message_id}", wait_timeout)
        return self.jobs.start(turn, lambda turn: self._answer(turn, message, tell))

    def _turn(self, sender_id: str, label: str | None, wait_timeout: float | None) -> Turn:
        return self.conversations.turn(
            sender_id,
            self.settings.lock_lifetime,
            wait_timeout=wait_timeout,
            max_waiting=self.settings.max_waiting,
            label=label,
        )

    async def _answer(
        self, turn: Turn, message: Message, tell: Callable[[RestObject], object]
    ) -> list[RestObject]:
        """The replies to a message in its turn: those of the bot, or those there are already."""
        events, since = turn.tracker.events, time.time() - self.settings.message_window
        place = handled_at(events, message.message_id, since)
        if place is not None:
            replies = replies_after(events, place, message.sender_id)
            for reply in replies:
                tell(reply)
            return replies
        place = len(events)
        turn.add(message.event())
        await self._run_bot(turn, message, tell)
        return replies_after(turn.tracker.events, place, message.sender_id)

    async def _run_bot(
        self, turn: Turn, message: Message, tell: Callable[[RestObject], object]
    ) -> None:
        """Let the bot answer, and write its turn. Raises BotError for what is the bot's fault."""
        told = len(turn.tracker.events)
        try:
            async with aclosing(self._bot(turn, message)) as replies:  # type: ignore[type-var]  # a generator
                async for reply in replies:
                    turn.add(reply_event(reply))
                    told = self._tell(turn, told, tell)
            self._tell(turn, told, tell)
            await turn.commit()
        except InvalidEvent as error:  # the message itself was checked before
            raise BotError(f"the bot's turn cannot be stored: {error}") from error
        except TicketLockError:
            raise
        except Exception as error:
            log.exception("the bot failed in conversation %r", message.sender_id)
            # Its text may hold anything, and the sender may be anybody.
            raise BotError(f"the bot failed: {type(error).__name__}") from error

    @staticmethod
    def _tell(turn: Turn, told: int, tell: Callable[[RestObject], object]) -> int:
        """Give out what the bot has said since; how many events there are by now."""
        events = turn.tracker.events
        for event in events[told:]:
            for reply in rest_objects(event, turn.sender_id):
                tell(reply)
        return len(events)
