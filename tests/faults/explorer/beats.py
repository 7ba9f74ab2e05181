"""The heartbeat of a client: the real one, whose thread is the search."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from ticketlock import process
from ticketlock.locks.concurrent.heartbeat import Heartbeat

from .wire import Words


class Need(BaseException):
    """A heartbeat's call whose answer the client has not been given."""

    def __init__(self, words: tuple[Any, ...]) -> None:
        self.words: Words = tuple(str(word) for word in words)


class Thread:
    """Stands for the heartbeat's thread, its link and its loop: a call is answered at once."""

    def __init__(self) -> None:
        self.answers: deque[Any] = deque()
        self._later: list[Callable[[], object]] = []

    def ask(self, words: tuple[Any, ...]) -> Any:
        """The answer that the search has for a call; raises Need where it has none yet."""
        if not self.answers:
            raise Need(words)
        return _as_bytes(self.answers.popleft())

    def submit(
        self, words: tuple[Any, ...], timeout: float | None, heard: Any, subject: Any
    ) -> SimpleNamespace:
        command = SimpleNamespace(subject=subject, sent_at=process.clock())
        heard(command, self.ask(words))
        return command

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        self._later.append(lambda: callback(*args))

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any) -> None:
        callback(*args)

    def settle(self) -> None:
        """What was to be done soon is done."""
        while self._later:
            self._later.pop(0)()


class ModelHeartbeat(Heartbeat):
    """The real one, without its thread: a beat is an event, its answers come with it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._thread = self._link = self._loop = Thread()  # type: ignore[assignment]
        self._started = True

    @property
    def due(self) -> float:
        """When the thread would beat; it sleeps where nothing is expected."""
        return float("inf") if self._idle or self._stopping else self._due

    def beat(self, answers: Sequence[Any]) -> None:
        """What the thread does in one round."""
        thread: Any = self._thread
        thread.answers.extend(answers)
        self._due = process.clock() + self._interval
        turns, waiting = self._engine.turns(), self._engine.attended()
        if turns or waiting:
            self._beat(turns, waiting)
            thread.settle()
        else:
            self._idle = True

    def _call(self, words: tuple[Any, ...]) -> Any:
        thread: Any = self._thread
        return thread.ask(words)

    async def stop(self) -> None:
        self.abandon()


def _as_bytes(answer: Any) -> Any:
    if isinstance(answer, tuple):
        return [_as_bytes(item) for item in answer]
    return answer.encode("latin1") if isinstance(answer, str) else answer
