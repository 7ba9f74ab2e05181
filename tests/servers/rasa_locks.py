"""What Rasa 3.6 does to the documents of `type: redis`: a stand-in for its lock store.

It reads a document, changes it and stores the whole, in two commands. Of a ticket it keeps the
number and the time, of a document the conversation and the tickets: all else is dropped.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import redis

Tickets = list[dict[str, Any]]


class RasaLocks:
    """The locks of one Rasa server.

    Args:
        poll: seconds between two looks of a waiter; Rasa's are 1.
    """

    def __init__(self, url: str, poll: float = 1.0) -> None:
        self._client = redis.Redis.from_url(url)
        self._poll = poll

    def read(self, conversation: str) -> Tickets | None:
        """The tickets of a document; None without one."""
        text = self._client.get(f"lock:{conversation}")
        if not text:
            return None
        tickets = [json.loads(ticket) for ticket in json.loads(text)["tickets"]]
        return [{"number": each["number"], "expires": each["expires"]} for each in tickets]

    def write(self, conversation: str, tickets: Tickets) -> None:
        """Store the whole document, whatever it is by now."""
        texts = [json.dumps(ticket) for ticket in tickets]
        document = {"conversation_id": conversation, "tickets": texts}
        self._client.set(f"lock:{conversation}", json.dumps(document))

    def issue(self, conversation: str, lifetime: float = 60.0) -> int:
        """Append a ticket, numbered after the last one there is."""
        tickets = _valid(self.read(conversation) or [])
        number = tickets[-1]["number"] + 1 if tickets else 0
        ticket = {"number": number, "expires": time.time() + lifetime}
        self.write(conversation, [*tickets, ticket])
        return int(number)

    def poll(self, conversation: str) -> None:
        """What a waiter does between two looks: it drops expired tickets and stores the rest."""
        tickets = self.read(conversation)
        if tickets is not None:
            self.write(conversation, _valid(tickets))

    def finish(self, conversation: str, number: int) -> None:
        """End a turn; the document goes when no ticket is left."""
        tickets = self.read(conversation)
        if tickets is not None:
            left = [ticket for ticket in _valid(tickets) if ticket["number"] != number]
            self.write(conversation, left)
        if not self.read(conversation):
            self._client.delete(f"lock:{conversation}")

    @asynccontextmanager
    async def turn(self, conversation: str) -> AsyncIterator[int]:
        """Take a ticket, wait until it is the first, and hold it."""
        number = self.issue(conversation)
        try:
            while True:
                tickets = self.read(conversation)
                if tickets is None:
                    raise RuntimeError(f"Rasa: the lock of {conversation} is gone")
                valid = _valid(tickets)
                if (valid[0]["number"] if valid else 0) == number:
                    break
                await asyncio.sleep(self._poll)
                self.poll(conversation)
            yield number
        finally:
            self.finish(conversation, number)

    def close(self) -> None:
        self._client.close()


def _valid(tickets: Tickets) -> Tickets:
    return [ticket for ticket in tickets if ticket["expires"] >= time.time()]
