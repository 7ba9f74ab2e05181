"""The messages of a lock store in memory: they are forgotten when their windows are over."""

from __future__ import annotations

import pytest

from ticketlock.locks import memory_messages as module
from ticketlock.locks.incoming import Incoming
from ticketlock.locks.memory_messages import MemoryMessages
from ticketlock.locks.waiter import Waiter, checked


def ticket(number: int, window: float) -> Waiter:
    message = Incoming(f"m{number}", window)
    return checked("a", 60.0, None, None, None, incoming=message)


def handle(messages: MemoryMessages, number: int, window: float) -> None:
    waiter = ticket(number, window)
    assert messages.admit(waiter)
    list(messages.answer(waiter, {f"m{number}": "[]"}, window))
    messages.disown(waiter)


def test_what_is_kept_for_long_keeps_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some are being handled, some are kept for a day, and thousands of others come and go behind them."""
    now = 0.0
    monkeypatch.setattr(module, "clock", lambda: now)
    messages = MemoryMessages(lambda waiter: None)
    running = [ticket(number, 10.0) for number in range(20)]
    assert all(map(messages.admit, running))
    for number in range(20, 40):
        handle(messages, number, 86_400.0)
    for number in range(40, 2040):
        now += 1.0
        handle(messages, number, 10.0)
    assert len(messages._records) < 40 + 50
    assert {("a", f"m{number}") for number in range(40)} <= messages._records.keys()
