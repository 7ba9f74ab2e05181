"""A ledger knows what is new and what is missing, without looking at the events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ticketlock.event_service.ledger import Ledger


def test_in_order() -> None:
    """Nothing is missing, and repeats are told from what is new."""
    ledger = Ledger()
    assert [ledger.take(number) for number in (0, 1, 1, 2, 0)] == [True, True, False, True, False]
    assert (ledger.next, ledger.missing, ledger.count_missing) == (3, [], 0)


def test_a_gap_appears_and_is_filled() -> None:
    """From both ends and from the middle."""
    ledger = Ledger()
    assert ledger.take(6)
    assert ledger.missing == [(0, 5)]
    for number, left in ((3, [(0, 2), (4, 5)]), (0, [(1, 2), (4, 5)]), (5, [(1, 2), (4, 4)]),
                         (4, [(1, 2)]), (2, [(1, 1)]), (1, [])):  # fmt: skip
        assert ledger.take(number)
        assert ledger.missing == left
        assert not ledger.take(number)


@given(st.lists(st.integers(0, 40)))
def test_against_a_set(numbers: list[int]) -> None:
    """Whatever the order, it agrees with one that remembers all; also after it was stored."""
    ledger, seen = Ledger(), set[int]()
    for number in numbers:
        ledger = Ledger.read(ledger.next, ledger.write())
        assert ledger.take(number) == (number not in seen)
        seen.add(number)
    assert ledger.next == max(seen, default=-1) + 1
    missing = {n for first, last in ledger.missing for n in range(first, last + 1)}
    assert missing == set(range(ledger.next)) - seen
    assert ledger.count_missing == len(missing)
    assert ledger.missing == sorted(ledger.missing)
