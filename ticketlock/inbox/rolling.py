"""The inbox while replicas of a version before 0.5.0 run: those would skip submitted messages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ..errors import OldReplicas
from ..locks.concurrent.shared import SharedState
from ..process import clock
from .due import Cancelled, Due, When
from .inbox import Inbox, Start, Withdrawn
from .listener import Listener
from .local import LocalInbox
from .redis import RedisInbox
from .submission import (
    Deleted,
    Letter,
    LetterKind,
    Letters,
    MessageOutcome,
    Pending,
    Receipt,
    Submission,
    SubmittedMessage,
)

log = logging.getLogger("ticketlock.inbox")

#: Seconds for which the answer to the question for old replicas counts, and after which one that
#: has not reported is not alive.
_ASKED, _SILENT = 2.0, 13.0


class RollingInbox(Inbox):
    """Messages on Redis; while an old replica is alive, those that are awaited have tickets of this
    process, as in that version, and others are refused.

    Args:
        redis: the inbox on Redis, which goes on to serve what it has.
        local: for the roll.
        shared: where the replicas report.
    """

    durable = True

    def __init__(self, redis: RedisInbox, local: LocalInbox, shared: SharedState) -> None:
        self.redis = redis
        self.local = local
        self._shared = shared
        self._old = False
        self._asked = 0.0

    def tell_of_deliveries(self, due: Callable[[str], object]) -> None:
        self.redis.tell_of_deliveries(due)

    async def _ask_for_old_replicas(self) -> None:
        """Ask whether a replica of a version without the inbox is alive."""
        self._asked = clock() + _ASKED
        key = self._shared.keys.replicas
        old = bool(await self._shared.run("old_replicas", key, round(1000 * _SILENT)))
        if old != self._old:
            log.warning(
                "replicas of a version before 0.5.0 %s: messages are %s",
                *(("run", "kept by this process") if old else ("are gone", "durable")),
            )
        self._old = old

    async def submit(self, message: Submission, listener: Listener | None = None) -> Receipt:
        """As `Inbox.submit`. Raises OldReplicas, if the message is not awaited during a roll."""
        if clock() >= self._asked:
            await self._ask_for_old_replicas()
        if self._old:
            if listener is None:
                raise OldReplicas(
                    "replicas of a version before 0.5.0 run, which do not know the inbox: "
                    "send it again when the roll is over"
                )
            return await self.local.submit(message, listener)
        return await self.redis.submit(message, listener)

    # -- what comes due later: an older replica does not see it -----------------------------------

    async def submit_later(self, message: Submission, when: When) -> Receipt:
        return await self.redis.submit_later(message, when)

    async def cancel(self, conversation_id: str, name: str) -> Cancelled:
        return await self.redis.cancel(conversation_id, name)

    async def cancel_all(self, conversation_id: str) -> int:
        return await self.redis.cancel_all(conversation_id)

    async def due(self, conversation_id: str, most: int = 100) -> Sequence[Due]:
        return await self.redis.due(conversation_id, most)

    async def durability(self) -> str:
        return await self.redis.durability()

    async def outcome(self, conversation_id: str, message_id: str) -> MessageOutcome:
        found = await self.redis.outcome(conversation_id, message_id)
        if found.state == "unknown":
            found = await self.local.outcome(conversation_id, message_id)
        return found

    @contextmanager
    def listening(
        self, conversation_id: str, message_id: str, listener: Listener
    ) -> Iterator[None]:
        with (
            self.local.listening(conversation_id, message_id, listener),
            self.redis.listening(conversation_id, message_id, listener),
        ):
            yield

    async def wait(self, conversation_id: str, message_id: str, seconds: float) -> MessageOutcome:
        found = await self.redis.wait(conversation_id, message_id, seconds)
        if found.state == "unknown":
            found = await self.local.wait(conversation_id, message_id, seconds)
        return found

    async def withdraw(self, conversation_id: str, message_id: str) -> Withdrawn:
        found = await self.redis.withdraw(conversation_id, message_id)
        return (
            found if found != "unknown" else await self.local.withdraw(conversation_id, message_id)
        )

    async def waiting(self, conversation_id: str, most: int = 100) -> Sequence[SubmittedMessage]:
        found = [*await self.redis.waiting(conversation_id, most)]
        return [*found, *await self.local.waiting(conversation_id, most)][:most]

    # -- operators: during a roll they see what is on Redis -------------------------------------

    @property
    def unfinished(self) -> int:
        return self.redis.unfinished + self.local.unfinished

    async def conversations(self, most: int = 100) -> Sequence[Pending]:
        return await self.redis.conversations(most)

    async def letters(self, conversation_id: str, most: int = 100) -> Sequence[Letter]:
        return await self.redis.letters(conversation_id, most)

    async def all_letters(self, most: int = 100) -> Letters:
        return await self.redis.all_letters(most)

    async def resend(
        self, conversation_id: str, message_id: str, kind: LetterKind = "message"
    ) -> bool:
        return await self.redis.resend(conversation_id, message_id, kind)

    async def drop(
        self, conversation_id: str, message_id: str, kind: LetterKind = "message"
    ) -> bool:
        return await self.redis.drop(conversation_id, message_id, kind)

    async def delete(self, conversation_id: str) -> Deleted:
        await self.local.delete(conversation_id)
        return await self.redis.delete(conversation_id)

    # -- serving -----------------------------------------------------------------------------------

    def serve(self, start: Start, room: int, lock_lifetime: float) -> None:
        self.redis.serve(start, room, lock_lifetime)
        self.local.serve(start, room, lock_lifetime)

    async def drain(self) -> None:
        await self.local.drain()
        await self.redis.drain()

    async def close(self) -> None:
        await self.local.close()
        await self.redis.close()
