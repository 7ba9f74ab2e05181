"""What comes due later, as a part of the inbox on Redis."""

from __future__ import annotations

from collections.abc import Sequence

from .desk import RedisDesk
from .due import Cancelled, Due, When
from .inbox import Withdrawn
from .later import Later
from .mover import Mover
from .submission import MessageOutcome, Receipt, Submission


class LaterInbox(RedisDesk):
    """Messages wait for their time in `later`, and the mover submits them."""

    later: Later
    mover: Mover

    async def submit_later(self, message: Submission, when: When) -> Receipt:
        self.engine()
        if (durable := self.engine().durable) is not None:
            durable.check(message.conversation_id)
        receipt = await self.later.put(message, when)
        if durable is not None:
            kept = self.later.kept(message.conversation_id, when)
            await durable.keep_until_due(message.conversation_id, message.field, *kept)
        if receipt.due is not None and receipt.due - self.look.server_time() / 1000 < 1:
            self.mover.now(message.conversation_id)
        return receipt

    async def cancel(self, conversation_id: str, name: str) -> Cancelled:
        self.engine()
        found = await self.later.cancel(conversation_id, name)
        if found == "unknown":
            known = await self.call(self.connected().known(conversation_id, name))
            state = (await super().outcome(conversation_id, name)).state
            return "submitted" if known or state != "unknown" else found
        return found

    async def cancel_all(self, conversation_id: str) -> int:
        self.engine()
        return await self.later.cancel_all(conversation_id)

    async def due(self, conversation_id: str, most: int = 100) -> Sequence[Due]:
        self.engine()
        return await self.later.due(conversation_id, most)

    async def outcome(
        self, conversation_id: str, message_id: str, listener: str = ""
    ) -> MessageOutcome:
        found = await super().outcome(conversation_id, message_id, listener)
        if found.state != "unknown":
            return found
        due = await self.later.find(conversation_id, message_id)
        if due is not None:
            return MessageOutcome("due", due=due.at)
        # It came due in between, if it is there.
        return await super().outcome(conversation_id, message_id, listener)

    async def withdraw(
        self, conversation_id: str, message_id: str, window: float = 600.0
    ) -> Withdrawn:
        found = await super().withdraw(conversation_id, message_id, window)
        if found == "unknown" and (due := await self.later.find(conversation_id, message_id)):
            cancelled = await self.later.cancel(conversation_id, due.name, message_id)
            if cancelled == "cancelled":
                return "withdrawn"
            found = await super().withdraw(conversation_id, message_id, window)
            return "begun" if found == "unknown" else found  # it comes due just now
        return found
