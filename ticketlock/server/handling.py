"""`Handler`: from a message to the bot's replies, in a turn of the conversation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from ..conversations import Conversations
from ..errors import DuplicateMessage
from ..locks.incoming import Incoming
from ..tracker.tracker import Tracker
from ..turn import Turn
from . import double_texting
from .bot import Bot, Message
from .bot_runner import BotRunner, OnReply, Replies, RestObject, ignore
from .errors import RolledBack
from .jobs import Job, Jobs, overdue
from .operator.failures import Failures
from .operator.meter import Counters
from .outcomes import Outcomes
from .sessions import Sessions
from .settings import Settings

T = TypeVar("T")


class Handler:
    """Starts a turn for each message; it goes on if the client disconnects.

    Attributes:
        observers: those of the lock store.
        jobs: the turns that wait or run.
        counters: messages so far, by result.
        failures: errors so far.
        sessions: starts sessions of the conversations.
    """

    def __init__(self, conversations: Conversations, bot: Bot, settings: Settings) -> None:
        self.conversations = conversations
        self.settings = settings
        self.jobs = Jobs(settings.max_turns, settings.max_duplicates)
        self.counters = Counters()
        self.failures = Failures()
        self.observers = conversations.lock_store.observers
        self.sessions = Sessions(settings)
        self._runner = BotRunner(conversations, bot, settings, self.sessions, self.counters)
        self._outcomes = Outcomes(conversations.lock_store, self.failures, settings.max_attempts)

    async def handle(self, message: Message, policy: str | None = None) -> list[RestObject]:
        """The replies to a message, once they are stored; a duplicate gets the first replies.

        Args:
            policy: what it does while another message is being handled; default:
                `Settings.double_texting`.

        Raises TurnTimeout (the turn goes on), TurnTooSlow, TooManyAttempts, Draining, RolledBack,
        BotError, QueueFull, LockTimeout (with `reject`), and the errors of a turn.
        """
        return (await self.handle_and_show(message, policy))[0]

    async def handle_and_show(
        self, message: Message, policy: str | None = None
    ) -> tuple[list[RestObject], Tracker | None]:
        """As `handle`, with the tracker after the turn; None for a duplicate."""
        try:
            async with self._outcomes.reported(message.sender_id, message.message_id) as jobs:
                job = self._start(message, policy, ignore)
                jobs.append(job)
                return _kept(await job.wait(self.settings.request_timeout)), job.tracker
        except DuplicateMessage as duplicate:
            self.counters.duplicates += 1
            return _kept(json.loads(duplicate.reply)), None

    async def stream(
        self, message: Message, policy: str | None = None, *, ticket: bool = False
    ) -> AsyncIterator[RestObject]:
        """As `handle`, but yields each reply as soon as the bot has; it ends once all are stored.

        Args:
            ticket: yield `{"ticket": number}` first, as soon as the message has its ticket; the
                number is 0 for a duplicate, which needs none.

        Raises as `handle`, at any point: the replies until then may not be stored.
        """
        replies: asyncio.Queue[RestObject | None] = asyncio.Queue()

        def on_ticket(number: int) -> None:
            replies.put_nowait({"ticket": number})

        seconds = self.settings.request_timeout
        try:
            async with self._outcomes.reported(message.sender_id, message.message_id) as jobs:
                job = self._start(
                    message, policy, replies.put_nowait, on_ticket if ticket else None
                )
                jobs.append(job)
                job.task.add_done_callback(lambda _: replies.put_nowait(None))
                timer = asyncio.get_running_loop().call_later(seconds, replies.put_nowait, None)
                try:
                    while (reply := await replies.get()) is not None:
                        yield reply
                finally:
                    timer.cancel()
                if not job.task.done():
                    raise overdue(seconds)
                _kept(job.result())
        except DuplicateMessage as duplicate:
            self.counters.duplicates += 1
            for reply in _kept(json.loads(duplicate.reply)):
                yield reply

    async def in_turn(
        self, sender_id: str, body: Callable[[Turn], Awaitable[T]], label: str | None = None
    ) -> T:
        """Call `body` in a turn of the conversation; returns its result once the turn is stored."""
        async with self._outcomes.reported(sender_id, label) as jobs:
            job = self.jobs.start(self._turn(sender_id, label, None), body)
            jobs.append(job)
            return await job.wait(self.settings.request_timeout)

    def _start(
        self,
        message: Message,
        policy: str | None,
        on_reply: OnReply,
        on_ticket: Callable[[int], object] | None = None,
    ) -> Job[Replies]:
        policy = policy or self.settings.double_texting
        self.check_policy(policy)
        asked = double_texting.incoming(message, policy, self.settings.message_window)
        wait = double_texting.wait_timeout(policy)
        turn = self._turn(message.sender_id, None, wait, asked)
        coalesce = policy == "coalesce"
        job: Job[Replies] = self.jobs.start(
            turn,
            lambda _: self._runner.run(job, message, coalesce, on_reply),
            on_ticket,
            (message.sender_id, message.message_id),
        )
        return job

    def check_policy(self, policy: str) -> None:
        """Raise BadRequest if the lock store does not support a policy for double texting."""
        double_texting.check_policy(policy, self.conversations.lock_store)

    def _turn(
        self,
        sender_id: str,
        label: str | None,
        wait_timeout: float | None,
        incoming: Incoming | None = None,
    ) -> Turn:
        return self.conversations.turn(
            sender_id,
            self.settings.lock_lifetime,
            wait_timeout=wait_timeout,
            max_waiting=self.settings.max_waiting,
            label=label,
            incoming=incoming,
        )


def _kept(replies: Replies) -> list[RestObject]:
    """The replies. Raises RolledBack if the message was rolled back."""
    if replies is None:
        raise RolledBack("a later message took the place of this one")
    return replies
