"""Suspects: events that a broker refuses again and again while it accepts others."""

from __future__ import annotations

import pytest

from ticketlock.publishing import reached
from ticketlock.publishing.message import DELIVERED, Outcome
from ticketlock.publishing.reached import REFUSALS, Suspects
from ticketlock.tracker.outbox import Batch

REFUSED = Outcome("retry", "it raises", suspect=True)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where refusals are counted, they need not last."""
    monkeypatch.setattr(reached, "REFUSED_SECONDS", 0.0)


def batch(name: str = "a", history: int = 1) -> Batch:
    return Batch(name, history, 1, 2, [{"event": "user"}])


def refused(suspects: Suspects, history: int = 1) -> bool:
    """Whether the event of `a` becomes a dead letter when it is refused and another one passes."""
    result, _ = suspects.all_reached([batch("a", history), batch("b")], [REFUSED, DELIVERED])
    return bool(result.letters)


def test_refusals_count_while_others_pass() -> None:
    suspects = Suspects()
    for _ in range(20):
        (result,) = suspects.all_reached([batch()], [REFUSED])
        assert not result.letters
    assert [refused(suspects) for _ in range(REFUSALS)] == [False] * (REFUSALS - 1) + [True]


def test_refusals_last_for_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a broker that is away for half a minute sets nothing apart, however often it is asked."""
    now = [1000.0]
    monkeypatch.setattr(reached, "REFUSED_SECONDS", 60.0)
    monkeypatch.setattr(reached, "clock", lambda: now[0])
    suspects = Suspects()
    for _ in range(59):
        assert not refused(suspects)
        now[0] += 1
    assert not refused(suspects)
    now[0] += 1
    assert refused(suspects)


def test_an_event_of_another_history_is_another_event() -> None:
    suspects = Suspects()
    for _ in range(REFUSALS - 1):
        assert not refused(suspects)
    assert [refused(suspects, 2) for _ in range(REFUSALS)] == [False] * (REFUSALS - 1) + [True]


def test_suspects_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that another relay publishes, or that were deleted, are never delivered here."""
    monkeypatch.setattr(reached, "SUSPECTS", 10)
    suspects = Suspects()
    for number in range(100):
        suspects.all_reached([batch(str(number))], [REFUSED])
        suspects.all_reached([Batch(str(number), 1, 2, 2, [])], [])
    assert len(suspects._of) == 10


def test_what_is_accepted_at_once_is_reached_to_its_end() -> None:
    """It is judged together; the suspects before it are forgotten, and no others."""
    suspects = Suspects()
    suspects.all_reached([batch("a"), batch("b")], [REFUSED, REFUSED])
    none = Batch("none", 1, 7, 9, [])
    results = suspects.all_reached([batch("a"), none], [DELIVERED])
    assert [(result.name, result.to) for result in results] == [("a", 2), ("none", 9)]
    assert list(suspects._of) == ["b"]
    # What was accepted counts for those that are refused after it.
    for _ in range(REFUSALS):
        (letters,) = suspects.all_reached([batch("b")], [REFUSED])
        suspects.all_reached([batch("a")], [DELIVERED])
    assert letters.letters


@pytest.mark.parametrize("outcomes", [[DELIVERED] * 3, [DELIVERED] * 5])
def test_a_broker_that_answers_for_other_events_is_not_believed(outcomes: list[Outcome]) -> None:
    batches = [Batch(name, 1, 1, 3, [{"event": "user"}] * 2) for name in "ab"]
    with pytest.raises(ValueError, match="outcomes for 4 messages"):
        Suspects().all_reached(batches, outcomes)
