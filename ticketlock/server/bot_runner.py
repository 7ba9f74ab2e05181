"""What is done in the turn of a message: its duplicates, its attempts, the bot and the replies."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from ..aio.running import result
from ..conversations import Conversations
from ..errors import InvalidEvent, TicketLockError
from ..locks.grant import facts
from ..locks.incoming import Supersede
from ..turn import Turn, report_retry
from .attempts import Attempts
from .bot import Bot, Message
from .double_texting import unless_superseded
from .errors import BotError, TooManyAttempts
from .jobs import Job
from .operator.meter import Counters
from .replies import handled_at, replies_after, reply_event, rest_objects
from .sessions import Sessions, handled_before
from .settings import Settings

log = logging.getLogger("ticketlock.server")

#: A reply in the form of the REST channel.
RestObject = dict[str, Any]
#: Called with each reply as soon as the bot has yielded it.
OnReply = Callable[[RestObject], object]
#: All replies to a message; None if it was rolled back.
Replies = list[RestObject] | None


class BotRunner:
    """Calls the bot with the messages that were not handled before, and finds the other replies.

    Args:
        counters: counts messages that were handled, and duplicates.
    """

    def __init__(
        self,
        conversations: Conversations,
        bot: Bot,
        settings: Settings,
        sessions: Sessions,
        counters: Counters,
    ) -> None:
        self._trackers = conversations.tracker_store
        self._observers = conversations.lock_store.observers
        self._bot = bot
        self._settings = settings
        self._sessions = sessions
        self._counters = counters
        self._attempts = Attempts(conversations.lock_store, settings.message_window)

    async def run(
        self, job: Job[Replies], message: Message, coalesce: bool, on_reply: OnReply
    ) -> Replies:
        """The replies to a message in its turn: new ones of the bot, or those stored before.

        Of messages that are handled together the last one gets the replies, as in the history.

        Args:
            coalesce: handle the messages that wait behind the turn in it too.
        """
        turn = job.turn
        before = handled_before(turn.tracker)
        messages = [message, *(await self._collected(turn) if coalesce else ())]
        since = time.time() - self._settings.message_window
        fresh = [m for m in messages if not _is_handled(turn, before, m, since)]
        self._counters.duplicates += len(messages) - len(fresh)
        for duplicate in [m for m in messages if m not in fresh]:
            self._observers.notify("on_duplicate", duplicate.sender_id, duplicate.message_id)
        if fresh:
            fresh, given_up = await self._counted(job, fresh)
            messages = [m for m in messages if m.message_id not in given_up]
        if fresh:
            is_last = fresh[-1].message_id == message.message_id
            if await self._call(turn, fresh, on_reply if is_last else ignore) == "rollback":
                turn.discard()
                for one in fresh:
                    turn.answer("null", one.message_id)
                return None
            self._counters.handled += len(fresh)
        replies = {m.message_id: await self._replies(turn, before, m) for m in messages}
        for message_id, objects in replies.items():
            turn.answer(json.dumps(objects), message_id)
        if message.message_id not in {m.message_id for m in fresh}:
            for reply in replies[message.message_id]:
                on_reply(reply)
        return replies[message.message_id]

    async def _counted(
        self, job: Job[Replies], messages: Sequence[Message]
    ) -> tuple[list[Message], set[str]]:
        """The messages for the bot, with their attempts, and the ids of those that are given up.

        Raises TooManyAttempts if the turn's own message is given up: the collected ones are then
        handled in turns of their own.
        """
        kept, given_up = [], set()
        for message in messages:
            attempt = 1
            if message.may_repeat:
                attempt = await self._attempts.count(message.sender_id, message.message_id)
                job.attempts = max(job.attempts, attempt)
            grant, message_id = job.turn.grant, message.message_id
            if attempt <= self._settings.max_attempts:
                if attempt > 1:
                    why = "the earlier attempts ended without a result"
                    report_retry(grant, message_id, attempt, why)
                kept.append(replace(message, attempt=attempt))
                continue
            given_up.add(message_id)
            log.warning(
                "message %r of conversation %r, ticket %d, is given up: the bot was called with it "
                "%d times, and no turn ended",
                message_id, message.sender_id, grant.number, self._settings.max_attempts,
                extra=facts(grant, why="TooManyAttempts") | {"message_id": message_id},
            )  # fmt: skip
            if message.message_id == job.waiter.label:  # the turn's own: its label is its id
                raise TooManyAttempts(
                    f"the bot was called with this message {self._settings.max_attempts} times, "
                    "and no turn of it ended"
                )
        return kept, given_up

    async def _collected(self, turn: Turn) -> list[Message]:
        """The messages that wait behind the turn, to be handled in it."""
        found = await turn.collect(self._settings.max_waiting)
        return [Message.from_text(text, turn.sender_id, name) for name, text in found]

    async def _replies(
        self, turn: Turn, before: Mapping[str, float], message: Message
    ) -> list[RestObject]:
        """The stored replies to a message.

        Args:
            before: the messages of earlier sessions; their replies are read from the whole history.
        """
        events = turn.tracker.events
        place = handled_at(events, message.message_id)
        if place is None and message.message_id in before:
            full = await result(self._trackers.retrieve_full_tracker(message.sender_id))
            events = full.events if full is not None else []
            place = handled_at(events, message.message_id)
        return [] if place is None else replies_after(events, place, message.sender_id)

    async def _call(
        self, turn: Turn, messages: Sequence[Message], on_reply: OnReply
    ) -> Supersede | None:
        """Call the bot and commit its turn; returns how it was asked to stop, if it was.

        Raises BotError if the bot fails.
        """
        messages, stopped = self._sessions.add(turn, messages), None
        try:
            if messages:
                work = self._say(turn, Message.joined(messages), on_reply)
                stopped = await unless_superseded(turn.grant, work)
            if stopped != "rollback":
                await turn.commit()
            return stopped
        except InvalidEvent as error:  # of the bot: the messages were checked before
            raise BotError(f"the bot's turn cannot be stored: {error}") from error
        except TicketLockError:
            raise
        except Exception as error:
            log.exception(
                "the bot failed in conversation %r, ticket %d", turn.sender_id, turn.grant.number,
                extra=facts(turn.grant, why=type(error).__name__),
            )  # fmt: skip
            # The client gets only the type: the text may contain anything.
            raise BotError(f"the bot failed: {type(error).__name__}") from error

    async def _say(self, turn: Turn, message: Message, on_reply: OnReply) -> None:
        """Add the replies of the bot to the turn, and pass them on."""
        sent = len(turn.tracker.events)
        async with aclosing(self._bot(turn, message)) as replies:  # type: ignore[type-var]  # a generator
            async for reply in replies:
                turn.add(reply_event(reply))
                sent = _pass_on(turn, sent, on_reply)
        _pass_on(turn, sent, on_reply)


def ignore(reply: RestObject) -> None:
    """The callback of a caller that waits for all replies."""


def _pass_on(turn: Turn, sent: int, on_reply: OnReply) -> int:
    """Pass on the replies in the events from `sent` on; returns the number of events now."""
    events = turn.tracker.events
    for event in events[sent:]:
        for reply in rest_objects(event, turn.sender_id):
            on_reply(reply)
    return len(events)


def _is_handled(turn: Turn, before: Mapping[str, float], message: Message, since: float) -> bool:
    """Whether a message has been handled since then, in this session or (`before`) earlier."""
    there = handled_at(turn.tracker.events, message.message_id, since) is not None
    return there or before.get(message.message_id, -1.0) >= since
