"""Probes of the stores: whether they answer, and how fast."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

from ...conversations import Conversations
from ...errors import TicketLockError
from ...locks.concurrent.store import ConcurrentRedisLockStore
from ...locks.store import LockStore
from ...tracker.store import PROBE

#: Seconds in which a store must answer.
_PATIENCE = 2.0
#: Most characters of a problem.
TEXT = 300


class StoreProbes:
    """Probes the stores, one probe at a time, and keeps the results.

    Attributes:
        results: store -> {"ms": milliseconds of the answer or None, "problem": a text, empty if
            it answered}; empty before the first probe.
    """

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations
        self._task: asyncio.Task[None] | None = None
        self.results: dict[str, dict[str, Any]] = {}

    def start(self) -> None:
        """Start a probe in a task, unless one is running."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self.run())

    async def run(self) -> None:
        """Probe the stores and wait for the answers."""
        found = await probe_stores(self._conversations)
        self.results = {name: _shown(answer) for name, answer in found.items()}

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


async def probe_stores(conversations: Conversations) -> dict[str, float | BaseException]:
    """Store -> the seconds until its answer, or the error."""
    questions = {
        "lock_store": conversations.lock_store.inspect(PROBE, 1),
        "tracker_store": conversations.tracker_store.check_ready(),
    }
    answers = await asyncio.gather(*map(_timed, questions.values()), return_exceptions=True)
    return dict(zip(questions, answers, strict=True))


async def _timed(question: Awaitable[Any]) -> float:
    began = time.monotonic()
    await asyncio.wait_for(question, _PATIENCE)
    return time.monotonic() - began


def _shown(answer: float | BaseException) -> dict[str, Any]:
    if isinstance(answer, BaseException):
        return {"ms": None, "problem": problem(answer)}
    return {"ms": round(1000 * answer, 1), "problem": ""}


def not_durable(store: LockStore) -> dict[str, dict[str, Any]]:
    """`durability` -> what is not durable in time, in the form of a probe's result; empty: all is."""
    found = store.not_durable if isinstance(store, ConcurrentRedisLockStore) else {}
    text = "; ".join(found.values())[:TEXT]
    return {"durability": {"ms": None, "problem": text}} if text else {}


def problem(error: BaseException) -> str:
    """An error as a text for operators; only the type if it is not a TicketLockError."""
    if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        return f"does not answer within {_PATIENCE:g} s"
    text = str(error) if isinstance(error, TicketLockError) else type(error).__name__
    return text[:TEXT]
