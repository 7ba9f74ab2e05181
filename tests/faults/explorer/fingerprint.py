"""Telling whether two live clients are in the same state, coroutines and futures included."""

from __future__ import annotations

import asyncio
import threading
import types
from collections import deque
from itertools import count
from typing import Any

import hiredis

from ticketlock.locks.concurrent.requests import Requests
from ticketlock.locks.concurrent.scripts import Scripts
from ticketlock.redis.settings import RedisSettings

from .loop import ModelLoop

_PLAIN = (int, str, bytes, bool, type(None))
#: What never differs between two states of one client, or has no state that matters.
_CONSTANT = (
    ModelLoop, Scripts, Requests, RedisSettings, hiredis.Reader, threading.Event, types.ModuleType,
    type, types.BuiltinFunctionType,
)  # fmt: skip


def fingerprint(*roots: object) -> int:
    """A hash of all that can be reached from some objects; times to a microsecond."""
    return hash(_Walk().of(roots))


class _Walk:
    def __init__(self) -> None:
        # Objects by the order in which they were met: who shares what is part of the state.
        self._met: dict[int, int] = {}

    def of(self, value: Any) -> Any:
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, float):
            return round(value, 6)
        if isinstance(value, _CONSTANT):
            return type(value).__name__
        if isinstance(value, (tuple, list, deque)):
            return tuple([self.of(item) for item in value])
        if id(value) in self._met:
            return ("met", self._met[id(value)])
        self._met[id(value)] = len(self._met)
        return (type(value).__name__, *self._inside(value))

    def _inside(self, value: Any) -> Any:
        if isinstance(value, dict):
            return [(self.of(key), self.of(item)) for key, item in value.items()]
        if isinstance(value, (set, frozenset)):
            return sorted(map(repr, value))
        if isinstance(value, (count, BaseException)):
            return [repr(value)]
        if isinstance(value, asyncio.Task) and not value.done():
            waits_for = value._fut_waiter  # type: ignore[attr-defined]  # asyncio's own
            cancelling = value.cancelling() if hasattr(value, "cancelling") else 0
            return [self.of(value.get_coro()), self.of(waits_for), cancelling]
        if isinstance(value, asyncio.Future):
            if not value.done():
                return ["pending"]
            if value.cancelled():
                return ["cancelled"]
            return [repr(value._exception), self.of(value._result)]  # type: ignore[attr-defined]
        if isinstance(value, asyncio.Handle):
            when = value.when() if isinstance(value, asyncio.TimerHandle) else 0.0
            return [round(when, 6), self.of(value._callback), self.of(value._args)]
        if isinstance(value, types.CoroutineType):
            return self._coroutine(value)
        if isinstance(value, types.MethodType):
            return [value.__func__.__qualname__, self.of(value.__self__)]
        if isinstance(value, types.FunctionType):
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            return [value.__qualname__, *map(self.of, cells)]
        return self._object(value)

    def _coroutine(self, coroutine: types.CoroutineType[Any, Any, Any]) -> list[Any]:
        frame, awaited = coroutine.cr_frame, coroutine.cr_await
        if frame is None:
            return ["over"]
        local = [(name, self.of(item)) for name, item in frame.f_locals.items()]
        deeper = self.of(awaited) if isinstance(awaited, types.CoroutineType) else None
        return [frame.f_code.co_name, frame.f_lasti, tuple(local), deeper]

    def _object(self, value: Any) -> list[Any]:
        names = [*getattr(value, "__dict__", ())]
        for owner in type(value).__mro__:
            names += getattr(owner, "__slots__", ())
        return [(name, self.of(getattr(value, name))) for name in names if hasattr(value, name)]
