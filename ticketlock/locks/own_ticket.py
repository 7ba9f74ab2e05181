"""`OwnTicket`: how a waiter knows its ticket in a document that other programs rewrite."""

from __future__ import annotations

from .tickets import Ticket, TicketLock


class OwnTicket:
    """A ticket of ours, by the two fields of the documented shape.

    Other programs drop all fields but the number and the time, and may store again what they had
    read before. So the ticket has its number and one of the times that we gave it. Both together
    come up once: times are microseconds, of the clock that all share.

    Attributes:
        number: -1 until it is issued.
    """

    __slots__ = ("_times", "number")

    def __init__(self) -> None:
        self.number = -1
        self._times: set[float] = set()

    def issue(self, lock: TicketLock, lifetime: float, now: float) -> None:
        """Append it, valid for `lifetime` seconds."""
        self.number = lock.issue_ticket(lifetime, now)
        self._times.add(now + lifetime)

    def find(self, lock: TicketLock) -> Ticket | None:
        """The stored ticket; None if it is gone."""
        return next(
            (t for t in lock.tickets if t.number == self.number and t.expires in self._times), None
        )

    def extend(self, ticket: Ticket, lifetime: float, now: float) -> None:
        """Make the ticket valid for `lifetime` seconds from now on."""
        ticket.expires = now + lifetime
        self._times = {time for time in self._times if time >= now} | {ticket.expires}

    def put_back(self, lock: TicketLock, lifetime: float, now: float) -> Ticket:
        """Store it again where it was; at the end, with a new number, where that cannot be.

        It cannot be before the first ticket, whose turn may run, and two tickets of one number
        would both be served.
        """
        numbers = [ticket.number for ticket in lock.tickets]
        if numbers and (self.number in numbers or self.number < numbers[0]):
            self.issue(lock, lifetime, now)
            return lock.tickets[-1]
        ticket = Ticket(self.number, now)
        self.extend(ticket, lifetime, now)
        lock.tickets.insert(sum(number < self.number for number in numbers), ticket)
        return ticket
