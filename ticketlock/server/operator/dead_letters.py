"""Dead letters for the operator's page: events that the broker has rejected for good."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from ...conversations import Conversations
from ...publishing.broker import resend
from ...tracker.outbox import DeadLetter, letter_order, now_ms
from ..errors import Conflict

#: Dead letters that the page lists, and that are searched for those of one request.
SHOWN, SEARCHED = 100, 1000
#: Most characters of a reason.
_TEXT = 300
#: Seconds for the store to list them, and for the broker to confirm one.
_PATIENCE, _DELIVERY = 3.0, 10.0

#: The key of a dead letter: conversation, history, sequence number.
LetterKey = tuple[str, int, int]


class DeadLetters:
    """Lists, publishes and drops the dead letters of the tracker store."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations

    async def listed(self, conversation: str | None = None) -> dict[str, Any]:
        """The first `rows`, and whether there may be `more`. Raises the errors of the store.

        Args:
            conversation: list only its letters, among the first `SEARCHED`; None: all.
        """
        limit = SHOWN + 1 if conversation is None else SEARCHED
        found = await self._read(limit)
        kept = found if conversation is None else [f for f in found if f.sender_id == conversation]
        more = len(found) == limit or len(kept) > SHOWN
        return {"rows": [_row(letter) for letter in kept[:SHOWN]], "more": more}

    async def _read(self, limit: int) -> list[DeadLetter]:
        if self._conversations.relay is None:
            return []
        outbox = self._conversations.tracker_store.outbox
        return await asyncio.wait_for(outbox.dead_letters(limit), _PATIENCE)

    async def drop(self, keys: Iterable[LetterKey]) -> dict[str, Any]:
        """Delete letters; `done` is the number that existed."""
        outbox, done = self._conversations.tracker_store.outbox, 0
        wanted, found = set(keys), await self._read(SEARCHED)
        for letter in found:
            if letter_order(letter) in wanted:
                done += await outbox.remove_dead_letter(letter)
        return {"done": done, "left": 0, "problem": ""}

    async def resend(self, keys: Iterable[LetterKey]) -> dict[str, Any]:
        """Publish letters again.

        Returns:
            `done`: the number that the broker has confirmed, which are removed; `left`: the
            number that it has not, with the last `problem`.

        Raises Conflict if there is no broker, or it is not connected yet.
        """
        relay = self._conversations.relay
        if relay is None or relay.broker is None:
            raise Conflict("the event broker is not connected; the page shows its last error")
        outbox, done, left, problem = self._conversations.tracker_store.outbox, 0, 0, ""
        wanted = set(keys)
        for letter in await self._read(SEARCHED):
            if letter_order(letter) not in wanted:
                continue
            outcome = await resend(relay.broker, letter, _DELIVERY)
            if outcome.status == "delivered":
                done += await outbox.remove_dead_letter(letter)
                continue
            left, problem = left + 1, outcome.reason[:_TEXT]
            if outcome.status == "retry" and not outcome.suspect:
                break  # the broker is unreachable, for the others too
        return {"done": done, "left": len(wanted) - done if left else 0, "problem": problem}


def _row(letter: DeadLetter) -> dict[str, Any]:
    kind = letter.event.get("event")
    return {
        "conversation": letter.sender_id, "history": letter.history, "sequence": letter.sequence,
        "event": kind if isinstance(kind, str) else "", "reason": letter.reason[:_TEXT],
        "ago": max(0.0, (now_ms() - letter.at) / 1000),
    }  # fmt: skip
