"""Tickets and their queue, against a naive model."""

from __future__ import annotations

import json
import time
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ticketlock import NO_TICKET_ISSUED, Ticket, TicketLock

FUTURE = 4e9  # after any test run


def test_a_ticket_is_valid_up_to_its_very_moment() -> None:
    """Equal is valid, later is expired."""
    ticket = Ticket(3, 100.0)
    assert not ticket.has_expired(now=100.0)
    assert ticket.has_expired(now=100.001)


def test_shapes_are_the_documented_ones() -> None:
    """Each ticket is a JSON text inside the JSON document."""
    lock = TicketLock("some id", deque([Ticket(0, FUTURE), Ticket(1, FUTURE)]))
    data = json.loads(lock.dumps())
    assert data == {
        "conversation_id": "some id",
        "tickets": ['{"number": 0, "expires": 4000000000.0}', '{"number": 1, "expires": 4000000000.0}'],
    }  # fmt: skip
    again = TicketLock.from_dict(data)
    assert again.dumps() == lock.dumps()
    assert TicketLock.from_dict({"conversation_id": "x"}).dumps() == (
        '{"conversation_id": "x", "tickets": []}'
    )


@pytest.mark.parametrize("missing", ["number", "expires"])
def test_a_ticket_needs_both_fields(missing: str) -> None:
    """from_dict raises KeyError for an incomplete ticket."""
    data = {"number": 1, "expires": 2.0}
    del data[missing]
    with pytest.raises(KeyError):
        Ticket.from_dict(data)


def test_an_empty_lock_serves_nobody() -> None:
    """Ticket 0 is not served by an empty lock."""
    lock = TicketLock("x")
    assert lock.now_serving == lock.last_issued == NO_TICKET_ISSUED
    assert lock.is_locked(0)
    assert not lock.is_someone_waiting()


def test_the_deque_given_is_the_deque_kept() -> None:
    """Also when it is empty."""
    tickets: deque[Ticket] = deque()
    assert TicketLock("x", tickets).tickets is tickets


def test_expired_and_served_tickets_do_not_count_as_waiting() -> None:
    """Only a valid ticket behind the one being served waits."""
    lock = TicketLock("x")
    lock.tickets.append(Ticket(0, time.time() - 1))
    assert not lock.is_someone_waiting()
    lock.issue_ticket(60)
    assert not lock.is_someone_waiting()
    lock.issue_ticket(60)
    assert lock.is_someone_waiting()


def test_numbers_survive_storage_when_the_queue_is_empty() -> None:
    """A number is not issued again after all tickets left, even through JSON."""
    lock = TicketLock("x")
    for _ in range(3):
        lock.remove_ticket_for(lock.issue_ticket(60))
    again = TicketLock.from_dict(json.loads(lock.dumps()))
    assert again.issue_ticket(60) == 3


class TicketMachine(RuleBasedStateMachine):
    """TicketLock against a list of (number, expires) and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = TicketLock("model")
        self.model: list[tuple[int, float]] = []
        self.issued = -1
        self.now = FUTURE  # ahead of the real clock, so that only `tick` expires tickets

    def purge(self) -> None:
        self.model = [entry for entry in self.model if entry[1] >= self.now]

    @rule(lifetime=st.integers(0, 5))
    def issue(self, lifetime: int) -> None:
        self.purge()
        self.issued += 1
        self.model.append((self.issued, self.now + lifetime))
        assert self.lock.issue_ticket(lifetime, now=self.now) == self.issued

    @rule(seconds=st.integers(1, 3))
    def tick(self, seconds: int) -> None:
        self.now += seconds
        self.lock.remove_expired_tickets(self.now)
        self.purge()

    @rule(number=st.integers(0, 20))
    def remove(self, number: int) -> None:
        self.lock.remove_ticket_for(number)
        self.model = [entry for entry in self.model if entry[0] != number]

    @rule()
    def store(self) -> None:
        self.lock = TicketLock.from_dict(json.loads(self.lock.dumps()))

    @invariant()
    def agrees(self) -> None:
        assert [(t.number, t.expires) for t in self.lock.tickets] == self.model
        assert self.lock.last_issued == self.issued
        serving = self.model[0][0] if self.model else NO_TICKET_ISSUED
        assert self.lock.now_serving == serving
        assert self.lock.is_someone_waiting() == (len(self.model) > 1)
        for number, _ in self.model:
            assert self.lock.is_locked(number) == (number != serving)


TestTickets = TicketMachine.TestCase
# Histories of 20 steps have all that rules can do to each other; more of them say no more.
TestTickets.settings = settings(max_examples=50, stateful_step_count=20)
