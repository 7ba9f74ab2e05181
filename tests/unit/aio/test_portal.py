"""The portal: the thread with the event loop behind the stores' twins for threads."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ticketlock import InMemoryLockStore
from ticketlock.aio import native, portal


def test_a_caller_who_sees_the_loop_before_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for a result already: what wakes those that wait for the start is none."""
    start, wake = native.start_thread, portal._LoopThread._wake

    def start_first(*args: Any) -> None:
        start(*args)
        time.sleep(0.05)

    def wake_late(self: Any, *those: Any) -> None:
        time.sleep(0.1)
        wake(self, *those)

    monkeypatch.setattr(native, "start_thread", start_first)
    monkeypatch.setattr(portal._LoopThread, "_wake", wake_late)
    with InMemoryLockStore().sync() as store, store.lock("c") as grant:
        assert grant.conversation_id == "c"
