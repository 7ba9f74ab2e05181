"""Dead letters, for the operator's page: events that could not be published, and were set apart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from ...conversations import Conversations
from ...publishing.broker import resend
from ...tracker.outbox import DeadLetter, letter_order, now_ms
from ..errors import Conflict

#: Dead letters that the page lists, and among which one is looked for.
SHOWN, MOST = 100, 1000
#: Characters of a reason.
_TEXT = 300
#: Seconds that the store has to list them, and the broker for one of them.
_PATIENCE, _DELIVERY = 3.0, 10.0

#: Conversation, history, number: what a dead letter is known by.
Name = tuple[str, int, int]


class Letters:
    """Lists, publishes and drops the dead letters of the tracker store."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations

    async def listed(self, conversation: str | None = None) -> dict[str, Any]:
        """The first of them, and whether there may be `more`. Raises the store's errors.

        Args:
            conversation: only its own, of the first `MOST` of all; None: of all.
        """
        most = SHOWN + 1 if conversation is None else MOST
        found = await self._read(most)
        kept = found if conversation is None else [f for f in found if f.sender_id == conversation]
        more = len(found) == most or len(kept) > SHOWN
        return {"rows": [_row(letter) for letter in kept[:SHOWN]], "more": more}

    async def _read(self, most: int) -> list[DeadLetter]:
        if self._conversations.relay is None:
            return []
        outbox = self._conversations.tracker_store.outbox
        return await asyncio.wait_for(outbox.dead_letters(most), _PATIENCE)

    async def drop(self, names: Iterable[Name]) -> dict[str, Any]:
        """Remove them for good; `done`: how many were there."""
        outbox, done = self._conversations.tracker_store.outbox, 0
        wanted, found = set(names), await self._read(MOST)
        for letter in found:
            if letter_order(letter) in wanted:
                done += await outbox.remove_dead_letter(letter)
        return {"done": done, "left": 0, "problem": ""}

    async def resend(self, names: Iterable[Name]) -> dict[str, Any]:
        """Publish them once more.

        Returns:
            `done`: how many the broker has confirmed, which are dead letters no more; `left`: how
            many it has not, and the last `problem` with one.

        Raises Conflict where there is no broker, or it is not connected yet.
        """
        relay = self._conversations.relay
        if relay is None or relay.broker is None:
            raise Conflict("the event broker is not connected; the page shows its last error")
        outbox, done, left, problem = self._conversations.tracker_store.outbox, 0, 0, ""
        wanted = set(names)
        for letter in await self._read(MOST):
            if letter_order(letter) not in wanted:
                continue
            outcome = await resend(relay.broker, letter, _DELIVERY)
            if outcome.status == "delivered":
                done += await outbox.remove_dead_letter(letter)
                continue
            left, problem = left + 1, outcome.reason[:_TEXT]
            if outcome.status == "retry" and not outcome.suspect:
                break  # the broker is away: the others would wait for it in vain
        return {"done": done, "left": len(wanted) - done if left else 0, "problem": problem}


def _row(letter: DeadLetter) -> dict[str, Any]:
    kind = letter.event.get("event")
    return {
        "conversation": letter.sender_id, "history": letter.history, "sequence": letter.sequence,
        "event": kind if isinstance(kind, str) else "", "reason": letter.reason[:_TEXT],
        "ago": max(0.0, (now_ms() - letter.at) / 1000),
    }  # fmt: skip
