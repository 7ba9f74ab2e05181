"""Whether this process reaches its stores, and how long they take to answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

from ...conversations import Conversations
from ...errors import TicketLockError
from ...tracker.store import PROBE

#: Seconds that a store has for its answer.
_PATIENCE = 2.0
#: Characters of what is wrong.
TEXT = 300


class Vitals:
    """Asks the stores, one look at a time, and remembers what they said.

    Attributes:
        found: store -> {"ms": milliseconds of the last answer, or None; "problem": what is wrong,
            or an empty text}; empty before the first look.
    """

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations
        self._task: asyncio.Task[None] | None = None
        self.found: dict[str, dict[str, Any]] = {}

    def look(self) -> None:
        """Begin a look, unless one is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self.ask())

    async def ask(self) -> None:
        """Look, and wait for the answers."""
        found = await ask_stores(self._conversations)
        self.found = {name: _shown(answer) for name, answer in found.items()}

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


async def ask_stores(conversations: Conversations) -> dict[str, float | BaseException]:
    """Store -> the seconds it took to answer, or why it did not within `_PATIENCE`."""
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


def problem(error: BaseException) -> str:
    """What is wrong, for operators: of an error that is not ours its type alone."""
    if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        return f"does not answer within {_PATIENCE:g} s"
    text = str(error) if isinstance(error, TicketLockError) else type(error).__name__
    return text[:TEXT]
