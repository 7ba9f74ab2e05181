"""`BotServing`: the turns of messages with a bot, as jobs of the server."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from ..conversations import Conversations
from ..inbox.served import Served
from ..serving import Serving
from ..turn import Turn
from .bot import LATEST, Message
from .bot_runner import BotRunner
from .errors import describe
from .jobs import Job, Jobs
from .settings import Settings


class BotServing(Serving):
    """Handles each message by the bot.

    Attributes:
        listeners: finds who hears the replies to (conversation, message id) as they are made.
    """

    def __init__(
        self, conversations: Conversations, runner: BotRunner, jobs: Jobs, settings: Settings
    ) -> None:
        super().__init__(
            conversations.inbox,
            max_attempts=settings.max_attempts,
            retry_time=settings.retry_time,
        )
        self._conversations = conversations
        self._runner = runner
        self._jobs = jobs
        self._window = settings.message_window
        #: Channel -> seconds for which the ids and outcomes of its messages are kept.
        self.windows: dict[str, float] = {}

    def begin(self, served: Served) -> asyncio.Task[Any]:
        """Start the turn of a message."""
        turn = self._conversations.turn_of(served)
        turn.on_no_claim = partial(self.settle, turn, served)
        key = (served.conversation_id, served.message_id)

        async def serve(turn: Turn) -> None:
            await self.guarded(
                turn, served,
                lambda before: self._attempt(job, served, before),
                lambda _: self._recovered(turn, served),
            )  # fmt: skip

        job: Job[Any] = self._jobs.begin(turn, serve, key)
        return job.task

    async def _attempt(self, job: Job[Any], served: Served, before: int) -> None:
        job.attempts = before + 1
        message = self._message(served)
        hearing = partial(served.inbox.saying, served)
        answered = await self._runner.run(job, served, message, hearing)
        for one, replies in answered:  # of messages handled together one has the replies
            asked = one.message_id == message.message_id and message.input_channel != LATEST
            self.send_out(served, (message if asked else one).input_channel, replies)

    async def _recovered(self, turn: Turn, served: Served) -> None:
        """The replies are in the history."""
        message = self._message(served)
        self.send_out(served, message.input_channel, await self._runner.recover(turn, message))

    def _message(self, served: Served) -> Message:
        """The message; one that another replica took has the window of its channel too."""
        message = Message.from_text(served.text, served.conversation_id, served.message_id)
        served.window = served.window or self.windows.get(message.input_channel, self._window)
        return message

    def describe(self, error: Exception) -> dict[str, Any]:
        return describe(error)

    def slow(self, turn: Turn, served: Served) -> Exception | None:
        job = self._jobs.find(served.conversation_id, served.message_id)
        if job is None:
            return None
        slow = job.too_slow()
        if slow is not None:
            self._counted_by_job(job, slow)
        return slow

    def stopped(self, served: Served) -> Exception | None:
        job = self._jobs.find(served.conversation_id, served.message_id)
        return None if job is None else job.stopped_for

    async def _failed(self, turn: Turn, served: Served, error: Exception) -> None:
        job = self._jobs.find(served.conversation_id, served.message_id)
        if job is not None:
            self._counted_by_job(job, error)
        await super()._failed(turn, served, error)

    def _counted_by_job(self, job: Job[Any], error: Exception) -> None:
        """The end of the job counts the failure; who waits for it here must not."""
        vars(error).update(_attempts=job.attempts, _counted=True)
