"""The heartbeat of a client: the real one, whose thread is the search."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from ticketlock import grant
from ticketlock.heartbeat import Heartbeat

from .wire import Words


class Need(BaseException):
    """A heartbeat's call whose answer the client has not been given."""

    def __init__(self, words: tuple[Any, ...]) -> None:
        self.words: Words = tuple(str(word) for word in words)


class ModelHeartbeat(Heartbeat):
    """The real one, without its thread: a beat is an event, its answers come with it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._thread = object()  # type: ignore[assignment]  # it is started already
        self.answers: deque[Any] = deque()

    @property
    def due(self) -> float:
        """When the thread would beat; it sleeps where nothing is expected."""
        return float("inf") if self._idle or self._stopping else self._due

    def beat(self, answers: Sequence[Any]) -> None:
        """What `_run` does in one round."""
        self.answers.extend(answers)
        self._due = grant.clock() + self._interval
        turns, waiting = self._engine.turns(), self._engine.attended()
        if turns or waiting:
            self._beat(turns, waiting)
        else:
            self._idle = True

    def _call(self, words: tuple[Any, ...]) -> Any:
        if not self.answers:
            raise Need(words)
        return _as_bytes(self.answers.popleft())

    async def stop(self) -> None:
        self.abandon()


def _as_bytes(answer: Any) -> Any:
    if isinstance(answer, tuple):
        return [_as_bytes(item) for item in answer]
    return answer.encode("latin1") if isinstance(answer, str) else answer
