"""Bells of a Redis that a proxy loses."""

from __future__ import annotations

import pytest

from ticketlock.stress.proxy import without_bells

BELL = b">3\r\n$7\r\nmessage\r\n$4\r\nbell\r\n$13\r\ngrant 1\r\n$9\r\n\r\n"
BEFORE, BEHIND = b":1\r\n", b"$3\r\nabc\r\n>3\r\n$9\r\nsubscribe\r\n$4\r\nbell\r\n:1\r\n"


def test_all_but_bells_goes_through() -> None:
    assert without_bells(BEFORE + BELL + BELL + BEHIND) == (BEFORE + BEHIND, b"")
    assert without_bells(BEFORE + BEHIND) == (BEFORE + BEHIND, b"")


@pytest.mark.parametrize("cut", range(1, len(BEFORE + BELL + BEHIND)))
def test_a_bell_may_come_in_pieces(cut: int) -> None:
    data = BEFORE + BELL + BEHIND
    first, rest = without_bells(data[:cut])
    second, left = without_bells(rest + data[cut:])
    assert (first + second, left) == (BEFORE + BEHIND, b"")
