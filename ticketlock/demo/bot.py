"""The demo's bot: it echoes, and leaves two witnesses of what it did.

The first witness is the conversation itself: the answer in it says under which fence and ticket
it was written, by whom, and how many events the turn had read. The second one is the record of
when turns began and ended. That a message is handled once is the server's business.

`UnfencedTrackerStore` is what its replicas write to when they are to share no lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..endpoints.registry import create_tracker_store
from ..events import BotUttered, UserUttered
from ..tracker.store import TrackerStore
from ..tracker.tracker import Claim, Tracker
from ..turn import Turn
from .judge.records import BEGIN, END, LOST, Records
from .traffic import Message

if TYPE_CHECKING:  # else the judge, too, would need what a server needs
    from ..server import bot as server

#: Variables of a replica's environment: where the records are, and what tells this process from
#: every other one, its own restarts included.
FOLDER, NAME = "TICKETLOCK_DEMO_FOLDER", "TICKETLOCK_DEMO_REPLICA"
#: Events that a handled message adds to its conversation.
EVENTS = 2
#: Events that start a session, and messages after which the server starts another one, at most.
START, SESSION = 3, 500
#: Seconds the bot takes to think about a message.
WORK = 0.001


class EchoBot:
    """Answers a message in its turn, and records when it did; a bot for `ticketlock run`."""

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
            # The server would write, too, but the lock is let go in the same step: the next
            # turn's begin could then be recorded before this one's end.
            await turn.commit()
            turn.ensure_held()  # else our end comes late, and tells nothing of the order
        except BaseException:
            record(LOST)
            raise
        record(END)


def reply(message: Message, facts: Mapping[str, Any]) -> tuple[UserUttered, BotUttered]:
    """The two events of a turn, as far as the judge looks at them."""
    return (
        UserUttered(message.text, message_id=str(message.id)),
        BotUttered(message.text, metadata={**facts, "message": message.id}),
    )


class UnfencedTrackerStore(TrackerStore):
    """Lets every replica write at any time into the store of another section.

    Replicas that are to share no lock use it: a judge that finds nothing wrong with them would
    be worth nothing.

    Args:
        store: that section.
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

    async def append(self, claim: Claim, events: Sequence[Mapping[str, Any]]) -> None:
        await self.save(claim.tracker)  # which has the events already

    async def close(self) -> None:
        await self._store.close()
