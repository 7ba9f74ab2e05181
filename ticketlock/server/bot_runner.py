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
from ..inbox.saying import Saying
from ..inbox.served import Served
from ..locks.grant import facts
from ..locks.incoming import Supersede
from ..locks.superseded import unless_superseded
from ..tracker.reminders import due_at, pending
from ..tracker.tracker import Tracker
from ..turn import Turn
from .bot import LATEST, Bot, Message
from .errors import BotError
from .jobs import Job
from .operator.meter import Counters
from .reminders import Reminders
from .replies import replies_in, rest_objects
from .sessions import Sessions, handled_before
from .settings import Settings

log = logging.getLogger("ticketlock.server")

#: A reply in the form of the REST channel.
RestObject = dict[str, Any]
#: Called with each reply as soon as the bot has said it.
OnReply = Callable[[RestObject], object]
#: What is called with the replies to a message, by its id; it is closed at the end of the bot.
Hearing = Callable[[str], Saying]


class BotRunner:
    """Calls the bot with the messages that were not handled before, and finds the other replies.

    Args:
        counters: counts messages that were handled, and duplicates.
        reminders: schedules those of the bot's turns.
    """

    def __init__(
        self,
        conversations: Conversations,
        bot: Bot,
        settings: Settings,
        sessions: Sessions,
        counters: Counters,
        reminders: Reminders,
    ) -> None:
        self._trackers = conversations.tracker_store
        self._observers = conversations.lock_store.observers
        self._bot = bot
        self._settings = settings
        self._sessions = sessions
        self._counters = counters
        self._reminders = reminders

    async def recover(self, turn: Turn, message: Message) -> list[RestObject]:
        """Set the stored replies to the message as its outcome, and return them."""
        self._counters.duplicates += 1
        replies = await self._replies(turn, handled_before(turn.tracker), message)
        turn.answer(json.dumps(replies), message.message_id)
        return replies

    async def run(
        self, job: Job[Any], served: Served, message: Message, hearing: Hearing
    ) -> list[tuple[Message, list[RestObject]]]:
        """Set the replies to a message in its turn: new ones of the bot, or those stored before.

        Returns the messages that were answered, with their replies.

        Of messages that are handled together the last one gets the replies, as in the history.
        """
        turn = job.turn
        before = handled_before(turn.tracker)
        since = time.time() - self._settings.message_window
        if message.reminder is not None:
            if not self._fires(turn, message):
                turn.answer("[]", message.message_id)
                return []
            since = 0.0  # it fires once, whenever its message comes again
        self._reminders.follow(turn, message.input_channel, message.message_id)
        message = _as_external(turn, message)
        # What has failed is tried alone: the failure may be another's, or its own.
        coalesce = served.mode == "coalesce" and not served.attempts
        messages = [message, *(await self._collected(turn) if coalesce else ())]
        # Without its mark an earlier attempt did not end. What it committed is there: with a reply,
        # as documented, that is the answer; without one the bot is called again. A message that
        # had the id before this one was handled a window earlier at least.
        tried_since = served.submitted_at / 1000 - served.window / 2
        again = bool(served.granted or served.attempts) and turn.mark is not None
        there = again and _is_handled(turn, before, message, tried_since)
        replied = there and bool(await self._replies(turn, before, message))
        fresh = [
            m for m in messages
            if not (replied if again and m is message else _is_handled(turn, before, m, since))
        ]  # fmt: skip
        self._counters.duplicates += len(messages) - len(fresh)
        for duplicate in [m for m in messages if m not in fresh]:
            self._observers.notify("on_duplicate", duplicate.sender_id, duplicate.message_id)
        if fresh:
            if job.attempts > 1:
                fresh = [replace(m, attempt=job.attempts) if m is message else m for m in fresh]
            mark = json.dumps({m.message_id: served.mark(m.message_id) for m in fresh})
            saying = hearing(fresh[-1].message_id)
            try:
                stopped = await self._call(turn, fresh, saying.say, mark, tried_since)
            finally:
                saying.close()
            if stopped == "rollback":
                turn.discard()
                for one in fresh:
                    turn.answer("null", one.message_id)
                return []
            self._counters.handled += len(fresh)
        replies = {m.message_id: await self._replies(turn, before, m) for m in messages}
        for message_id, objects in replies.items():
            turn.answer(json.dumps(objects), message_id)
        return [(m, replies[m.message_id]) for m in messages]

    def _fires(self, turn: Turn, message: Message) -> bool:
        """Whether the history has a reminder still, or it has fired already; as documented."""
        name = message.message_id
        if turn.tracker.find_message(name) is not None:
            return True
        reminder = pending(turn.tracker).get(name)
        # Of the session as it was when it was due: it may be late.
        return reminder is not None and not self._sessions.expired(turn, due_at(reminder))

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
        tracker: Tracker | None = turn.tracker
        found = turn.tracker.find_message(message.message_id)
        if found is None and message.message_id in before:
            tracker = await result(self._trackers.retrieve_full_tracker(message.sender_id))
            found = None if tracker is None else tracker.find_message(message.message_id)
        if tracker is None or found is None:
            return []
        return replies_in(tracker.since(found[0] + 1), message.sender_id)

    async def _call(
        self, turn: Turn, messages: Sequence[Message], on_reply: OnReply, mark: str, since: float
    ) -> Supersede | None:
        """Call the bot and commit its turn; returns how it was asked to stop, if it was.

        Args:
            since: when an earlier attempt was made at the earliest (epoch s).

        Raises BotError if the bot fails.
        """
        # An earlier attempt may have committed the message before it failed.
        there = [
            m for m in messages if m.attempt > 1 and _is_here(turn, m, since)
        ]  # fmt: skip
        new = [m for m in messages if m not in there]
        messages, stopped = [*there, *(self._sessions.add(turn, new) if new else ())], None
        try:
            if messages:
                work = self._say(turn, Message.joined(messages), on_reply)
                # A reminder answers no message of the user, so none takes its place.
                stops = messages[0].reminder is None
                stopped = await unless_superseded(turn.grant, work, stops=stops)
            if stopped != "rollback":
                await turn.commit(mark)
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
        tracker = turn.tracker
        passed = tracker.count

        def pass_on(_: object = None) -> None:
            nonlocal passed
            some = tracker.since(passed)
            passed = tracker.count  # also if the bot has dropped events of its tracker
            for event in some:
                for reply in rest_objects(event, turn.sender_id):
                    on_reply(reply)

        turn.on_say = pass_on
        async with aclosing(self._bot(turn, message)) as replies:  # type: ignore[type-var]  # a generator
            async for reply in replies:
                if isinstance(reply, Mapping) and reply.keys() == {"action"}:
                    await turn.run_action(reply["action"])
                else:
                    turn.say(reply)
        pass_on()


def _as_external(turn: Turn, message: Message) -> Message:
    """The message of an intent has the channel of the user's last one, as documented."""
    if not message.metadata.get("is_external"):
        return message
    latest = turn.tracker.latest_input_channel
    if not isinstance(latest, str):  # the user has not written yet
        latest = "rest" if message.input_channel == LATEST else message.input_channel
    return replace(message, input_channel=latest)


def _is_handled(turn: Turn, before: Mapping[str, float], message: Message, since: float) -> bool:
    """Whether a message has been handled since then, in this session or (`before`) earlier."""
    return _is_here(turn, message, since) or before.get(message.message_id, -1.0) >= since


def _is_here(turn: Turn, message: Message, since: float) -> bool:
    """Whether a message has been handled since then (epoch s) in this session."""
    found = turn.tracker.find_message(message.message_id)
    return found is not None and found[1] >= since
