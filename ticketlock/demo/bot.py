"""The demo's bot: it echoes, once a message, and leaves two witnesses of what it did.

The first witness is the conversation itself: both events of a turn say under which fence and
ticket they were written, by whom, and how many events the turn had read. The second one is
the record of when turns began and ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Protocol

from ..event_base import Event
from ..events import BotUttered, UserUttered
from ..tracker import Tracker
from ..tracker_store import TrackerStore
from .records import BEGIN, END, LOST, Records
from .traffic import Message

#: Events that a handled message adds to its conversation.
EVENTS = 2
#: Seconds the bot takes to think about a message.
WORK = 0.001


class BotTurn(Protocol):
    """What the bot needs of a `ticketlock.turn.Turn`."""

    @property
    def tracker(self) -> Tracker: ...

    @property
    def fence(self) -> int: ...

    def add(self, *events: Event | Mapping[str, Any]) -> None: ...

    def ensure_held(self) -> None: ...

    async def commit(self) -> None: ...


class EchoBot:
    """Handles a message in a turn of its conversation, and records when it did."""

    def __init__(self, records: Records, name: str) -> None:
        self._records = records
        self._name = name

    async def handle(self, message: Message, turn: BotTurn, number: int) -> None:
        """Do the work once; a message that was handled before is left alone.

        Args:
            number: the turn's ticket number.
        """
        if handled(message, turn.tracker):
            return
        facts = {"fence": turn.fence, "number": number, "replica": self._name}
        facts["seen"] = len(turn.tracker.events)

        def record(event: str) -> None:
            self._records.write(
                message.conversation, message.id, event, number, turn.fence, self._name
            )

        record(BEGIN)
        try:
            user, bot = reply(message, facts)
            turn.add(user)
            await asyncio.sleep(WORK)
            turn.add(bot)
            # Leaving the block would write, too, but the lock is let go in the same step:
            # the next turn's begin could then be recorded before this one's end.
            await turn.commit()
            turn.ensure_held()  # else our end comes late, and tells nothing of the order
        except BaseException:
            record(LOST)
            raise
        record(END)


def reply(message: Message, facts: Mapping[str, Any]) -> tuple[UserUttered, BotUttered]:
    """The two events of a turn; both carry the facts and the message's id."""
    metadata = {**facts, "message": message.id}
    return (
        UserUttered(message.text, message_id=str(message.id), metadata=dict(metadata)),
        BotUttered(message.text, metadata=metadata),
    )


def handled(message: Message, tracker: Tracker) -> bool:
    """Whether the message is in the tracker; a repeated one most likely is near the end."""
    wanted = str(message.id)
    return any(
        isinstance(event, UserUttered) and event.message_id == wanted
        for event in reversed(tracker.events)
    )


class UnlockedTurn:
    """Stands in for a Turn, with neither lock nor fence: reads, adds, saves."""

    def __init__(self, store: TrackerStore, sender_id: str) -> None:
        self._store = store
        self._sender_id = sender_id
        self.tracker = store.init_tracker(sender_id)
        self.fence = 0

    async def queue(self) -> int:
        return time.monotonic_ns()

    def add(self, *events: Event | Mapping[str, Any]) -> None:
        self.tracker.update_with_events(events)

    def ensure_held(self) -> None:
        pass

    async def commit(self) -> None:
        await self._store.save(self.tracker)

    async def __aenter__(self) -> UnlockedTurn:
        self.fence = time.monotonic_ns()
        self.tracker = await self._store.retrieve(self._sender_id) or self.tracker
        return self

    async def __aexit__(self, *_: object) -> None:
        pass
