"""Tickets and the queue of one conversation: data and rules, no I/O, no clock but the caller's.

Names and the stored shape are those of the documented ticket lock. Where the documented
behaviour was a trap it differs, and says so.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

#: `last_issued` and `now_serving` without a ticket.
NO_TICKET_ISSUED = -1


class Ticket:
    """A place in the queue: a number, and the time (epoch seconds) up to which it is valid.

    Attributes:
        owner: the name that a replica of 0.4.0 has given it, stored again as it was.
    """

    __slots__ = ("expires", "number", "owner")

    def __init__(self, number: int, expires: float, owner: str | None = None) -> None:
        self.number = number
        self.expires = expires
        self.owner = owner

    def has_expired(self, now: float | None = None) -> bool:
        """True once `expires` has passed; at that very moment the ticket is still valid."""
        return (time.time() if now is None else now) > self.expires

    def as_dict(self) -> dict[str, Any]:
        """The stored shape; `owner` is added only when there is one."""
        data: dict[str, Any] = {"number": self.number, "expires": self.expires}
        return data if self.owner is None else {**data, "owner": self.owner}

    def dumps(self) -> str:
        """The ticket as JSON text."""
        return json.dumps(self.as_dict())

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Ticket:
        """Raises KeyError when `number` or `expires` is missing."""
        return cls(data["number"], data["expires"], data.get("owner"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ticket) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash((self.number, self.expires))

    def __repr__(self) -> str:
        return f"Ticket(number={self.number}, expires={self.expires})"


class TicketLock:
    """The tickets of one conversation, first in, first out.

    Unlike the documented class it never issues a number twice, an empty lock serves no ticket
    (it used to serve ticket 0), and expired tickets count for nothing.
    """

    def __init__(
        self,
        conversation_id: str,
        tickets: Iterable[Ticket] | None = None,
        last_issued: int = NO_TICKET_ISSUED,
        fence: int = 0,
    ) -> None:
        self.conversation_id = conversation_id
        self.tickets: deque[Ticket] = (
            tickets if isinstance(tickets, deque) else deque(tickets or ())
        )
        self._last_issued = last_issued
        #: The highest fence ever minted here.
        self.fence = fence

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TicketLock:
        """Read the stored shape; `tickets` may be absent, each is a JSON text of its own."""
        tickets = deque(Ticket.from_dict(json.loads(text)) for text in data.get("tickets", []))
        last_issued, fence = data.get("last_issued", NO_TICKET_ISSUED), data.get("fence", 0)
        return cls(data["conversation_id"], tickets, last_issued, fence)

    def as_dict(self) -> dict[str, Any]:
        """The stored shape. `last_issued` is added only when the tickets do not tell it,
        `fence` only when one was minted."""
        data: dict[str, Any] = {
            "conversation_id": self.conversation_id,
            "tickets": [ticket.dumps() for ticket in self.tickets],
        }
        in_tickets = max((ticket.number for ticket in self.tickets), default=NO_TICKET_ISSUED)
        if self.last_issued > in_tickets:
            data["last_issued"] = self.last_issued
        if self.fence:
            data["fence"] = self.fence
        return data

    def dumps(self) -> str:
        """The lock as JSON text, as it is stored."""
        return json.dumps(self.as_dict())

    def issue_ticket(
        self, lifetime: float, now: float | None = None, owner: str | None = None
    ) -> int:
        """Append a ticket valid for `lifetime` seconds and return its number."""
        now = time.time() if now is None else now
        self.remove_expired_tickets(now)
        number = self.last_issued + 1
        self.tickets.append(Ticket(number, now + lifetime, owner))
        self._last_issued = number
        return number

    def remove_expired_tickets(self, now: float | None = None) -> None:
        """Drop every expired ticket; the others keep their order."""
        now = time.time() if now is None else now
        self._last_issued = self.last_issued
        # In place, and only when needed: readers may hold the deque.
        if any(ticket.has_expired(now) for ticket in self.tickets):
            valid = [ticket for ticket in self.tickets if not ticket.has_expired(now)]
            self.tickets.clear()
            self.tickets.extend(valid)

    @property
    def last_issued(self) -> int:
        """The highest number ever issued here, NO_TICKET_ISSUED if none."""
        return max(self._last_issued, max((t.number for t in self.tickets), default=-1))

    @property
    def now_serving(self) -> int:
        """The number of the first valid ticket, NO_TICKET_ISSUED if there is none."""
        return next((t.number for t in self.tickets if not t.has_expired()), NO_TICKET_ISSUED)

    def is_locked(self, ticket_number: int) -> bool:
        """True unless it is this ticket's turn."""
        return self.now_serving != ticket_number

    def is_someone_waiting(self) -> bool:
        """Whether a valid ticket waits behind the one being served."""
        return sum(not ticket.has_expired() for ticket in self.tickets) > 1

    def is_empty(self) -> bool:
        """True when no valid ticket is left."""
        return self.now_serving == NO_TICKET_ISSUED

    def ticket_for(self, ticket_number: int) -> Ticket | None:
        """The ticket of that number, if it is there and valid."""
        return next(
            (t for t in self.tickets if t.number == ticket_number and not t.has_expired()), None
        )

    def remove_ticket_for(self, ticket_number: int) -> None:
        """Remove the ticket of that number; no error when it is not there."""
        self._last_issued = self.last_issued
        found = next((t for t in self.tickets if t.number == ticket_number), None)
        if found is not None:
            self.tickets.remove(found)

    def __repr__(self) -> str:
        return f"TicketLock({self.conversation_id!r}, {list(self.tickets)!r})"
