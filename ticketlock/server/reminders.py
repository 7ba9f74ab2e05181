"""Reminders: what a turn schedules is put into *later* before it is stored, and the history decides.

The job in *later* is a wake-up only. It is put there before the turn's events are written, so a
process that dies in between cannot lose a reminder; a job whose event was not written finds
nothing in the history, and its turn ends without the bot.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..conversations import Conversations
from ..errors import InvalidEvent, LockStoreConnectionError, QueueFull
from ..events import ReminderScheduled, SessionStarted
from ..events.event import Event
from ..inbox.due import When
from ..inbox.submission import Submission
from ..tracker.reminders import due_at, entities_of, message_id, pending
from ..turn import Turn
from .bot import EXTERNAL, Message
from .settings import Settings

log = logging.getLogger("ticketlock.server")

#: Jobs that are removed at once because they are not wanted any more.
_REMOVED = 100


class Reminders:
    """Schedules the reminders of turns.

    Args:
        minutes: since the user's last message after which a session ends; 0: it does not.
    """

    def __init__(self, conversations: Conversations, settings: Settings, minutes: float) -> None:
        self._conversations = conversations
        self._settings = settings
        self._minutes = minutes
        self._warned: set[str] = set()

    def follow(self, turn: Turn, channel: str, own: str = "") -> None:
        """Schedule and cancel what the turn commits from now on.

        Args:
            channel: of the message in whose turn they are scheduled: their replies go there.
            own: the id of that message.

        A commit raises InvalidEvent for a reminder that cannot be kept, and stores nothing.
        """
        turn.around_commit = _Commits(self, turn, channel, own)

    async def put(self, turn: Turn, reminder: ReminderScheduled, channel: str) -> None:
        """Put the job of a reminder into *later*; one that is there stays as it is.

        Raises InvalidEvent, LockStoreConnectionError.
        """
        at = due_at(reminder)
        self._warn(turn, reminder, at)
        settings, locks = self._settings, self._conversations.lock_store
        try:
            if not isinstance(reminder.intent, str) or not reminder.intent:
                raise ValueError(f"intent is {reminder.intent!r:.80}, not the name of an intent")
            message = _message(turn.sender_id, reminder, channel)
            submission = Submission(
                turn.sender_id, message.message_id, message.as_text(),
                window=settings.message_window,
                lock_lifetime=settings.lock_lifetime or locks.lock_lifetime,
            )  # fmt: skip
            when = When(at=at, generation=message.message_id)
            await self._conversations.inbox.submit_later(submission, when)
        except QueueFull as error:
            raise InvalidEvent(
                f"reminder {reminder.name!r:.80}: {error.waiting} reminders and messages wait "
                "until they are due, and more are not kept: cancel some"
            ) from error
        except ValueError as error:
            raise InvalidEvent(f"reminder {reminder.name!r:.80}: {error}") from error

    async def remove(self, turn: Turn, names: Sequence[str]) -> None:
        """Remove jobs that would find nothing to do; what fails is left for them to find."""
        inbox = self._conversations.inbox
        for start in range(0, len(names), _REMOVED):
            some = names[start : start + _REMOVED]
            work = [inbox.cancel(turn.sender_id, name) for name in some]
            for found in await asyncio.gather(*work, return_exceptions=True):
                if isinstance(found, LockStoreConnectionError):
                    log.debug("reminders' jobs stay until they are due: %s", found)
                    return
                if isinstance(found, BaseException):
                    raise found

    def _warn(self, turn: Turn, reminder: ReminderScheduled, at: float) -> None:
        """Say once what would surprise: a reminder that ends with this process, or its session."""
        minutes = self._minutes
        if not self._conversations.inbox.durable and "process" not in self._warned:
            self._warned.add("process")
            log.warning(
                "reminders end with this process: its lock_store keeps none; use type "
                "concurrent_redis"
            )
        if 0 < 60 * minutes < at - time.time() and "session" not in self._warned:
            self._warned.add("session")
            log.warning(
                "reminder %r of conversation %r is due after session_expiration_time (%g minutes), "
                "and does not fire unless the user writes until then; 0 lets sessions last",
                reminder.name, turn.sender_id, minutes,
            )  # fmt: skip


@dataclass
class _Commits:
    """The commits of one turn; see `Turn.around_commit`."""

    reminders: Reminders
    turn: Turn
    channel: str
    own: str

    def __post_init__(self) -> None:
        self._known = set(pending(self.turn.tracker))

    async def before(self, events: Sequence[Mapping[str, Any]]) -> None:
        kinds = {wire.get("event") for wire in events}
        if ReminderScheduled.type_name not in kinds:
            return
        still = pending(self.turn.tracker)
        made = (Event.from_dict(wire, stamp=False) for wire in events)
        new = {message_id(event) for event in made if isinstance(event, ReminderScheduled)}
        if SessionStarted.type_name in kinds:
            new -= self._known  # carried over: their jobs are there, or were never wanted
        for name, reminder in still.items():
            if name in new:
                await self.reminders.put(self.turn, reminder, self.channel)
        self._known |= still.keys()

    async def after(self) -> None:
        if not self._known or self.turn.discarded:  # then what the tracker shows is not stored
            return
        still = set(pending(self.turn.tracker))
        gone = self._known - still - {self.own}
        self._known = still
        if gone:
            await self.reminders.remove(self.turn, sorted(gone))


def _message(sender_id: str, reminder: ReminderScheduled, channel: str) -> Message:
    """The message by which a reminder fires."""
    return Message(
        EXTERNAL + reminder.intent,
        sender_id,
        message_id(reminder),
        channel,
        {"is_external": True},
        {"intent": {"name": reminder.intent}, "entities": entities_of(reminder)},
        reminder=reminder.name if isinstance(reminder.name, str) else "",
    )
