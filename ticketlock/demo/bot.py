"""The demo's bot: it echoes, and leaves two kinds of evidence for the judge.

The first is the conversation: the metadata of each answer has the fence, the ticket, the replica,
and how many events the turn had read. The second is the record of when turns began and ended.
The server makes sure that a message is handled once.

Replicas without the lock write to an `UnfencedTrackerStore`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..endpoints.registry import create_tracker_store
from ..errors import LockLost
from ..events import BotUttered, UserUttered
from ..locks.grant import Grant
from ..tracker.commits import AroundCommit
from ..tracker.store import TrackerStore
from ..tracker.tracker import Claim, Tracker
from ..turn import Turn
from .judge.records import BEGIN, END, LOST, Records
from .traffic import Message

if TYPE_CHECKING:  # so that the judge does not need the extra `server`
    from ..server import bot as server

#: Environment variables of a replica: the folder of the records, and the unique name of this
#: process.
FOLDER, NAME = "TICKETLOCK_DEMO_FOLDER", "TICKETLOCK_DEMO_REPLICA"
#: Events that a handled message adds to its conversation.
EVENTS = 2
#: Events that start a session, and the most messages of a session.
START, SESSION = 3, 500
#: Seconds that the bot works on a message.
WORK = 0.001


class EchoBot:
    """Echoes a message in its turn, and records its begin and end; a bot for `ticketlock run`."""

    def __init__(self, records: Records, name: str) -> None:
        self._records = records
        self._name = name

    async def __call__(self, turn: Turn, message: server.Message) -> AsyncIterator[server.Reply]:
        id, number = int(message.message_id), turn.grant.number
        facts = {"fence": turn.fence, "number": number, "replica": self._name, "message": id}
        facts["seen"] = turn.sequence

        def record(event: str) -> None:
            self._records.write(turn.sender_id, id, event, number, turn.fence, self._name)

        record(BEGIN)
        try:
            await asyncio.sleep(WORK)
            yield {"text": message.text, "metadata": facts}
        except BaseException:
            record(LOST)
            raise
        # The server commits, with its mark, and releases the lock soon after that.
        turn.around_commit = _Recorded(turn.around_commit, turn.grant, record)


@dataclass
class _Recorded:
    """Records the end of a turn once its events are written and while its lock is held."""

    inner: AroundCommit | None
    grant: Grant
    record: Callable[[str], None]

    async def before(self, events: Sequence[Mapping[str, Any]]) -> None:
        if self.inner is not None:
            await self.inner.before(events)

    async def after(self) -> None:
        try:
            self.grant.ensure_held()  # an end after the loss of the lock would not show the order
        except LockLost:
            self.record(LOST)
            raise
        self.record(END)
        if self.inner is not None:
            await self.inner.after()


def reply(message: Message, facts: Mapping[str, Any]) -> tuple[UserUttered, BotUttered]:
    """The two events of a turn, with the parts that the judge reads."""
    return (
        UserUttered(message.text, message_id=str(message.id)),
        BotUttered(message.text, metadata={**facts, "message": message.id}),
    )


class UnfencedTrackerStore(TrackerStore):
    """Writes to another store at any time, without fences.

    Replicas without the lock use it, to show that the judge does find their errors.

    Args:
        store: the section of that store.
    """

    def __init__(
        self, host: Any = None, domain: Any = None, event_broker: Any = None, *, store: Any
    ) -> None:
        super().__init__(domain, event_broker)
        self._store = create_tracker_store(store)

    async def save(self, tracker: Tracker) -> None:
        await self._store.save(tracker)

    async def retrieve(self, sender_id: str) -> Tracker | None:
        return await self._store.retrieve(sender_id)

    async def keys(self) -> list[str]:
        return await self._store.keys()

    async def claim(self, sender_id: str, fence: int, owner: str) -> Claim:
        tracker = await self.retrieve(sender_id) or self.init_tracker(sender_id)
        return Claim(sender_id, fence, owner, tracker, len(tracker.events))

    async def append(
        self, claim: Claim, events: Sequence[Mapping[str, Any]], mark: str | None = None
    ) -> None:
        await self.save(claim.tracker)  # which has the events already

    async def close(self) -> None:
        await self._store.close()
