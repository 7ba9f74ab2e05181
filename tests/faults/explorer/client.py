"""One process of the model: a real store, its engine and link, and turns that somebody steers.

Whatever happens to a client is an event, and all its state follows from its events: that is how
the search goes back to a state (`Client.replayed`), as live coroutines cannot be copied.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from typing import Any, NamedTuple

import pytest

from ticketlock import ConcurrentRedisLockStore, process
from ticketlock.aio import portal
from ticketlock.locks.concurrent import engine
from ticketlock.locks.concurrent.heartbeat import Heartbeat
from ticketlock.locks.concurrent.scripts import Scripts
from ticketlock.redis import connect as redis_connect

from .beats import ModelHeartbeat, Need
from .fingerprint import fingerprint
from .loop import ModelLoop
from .turn import Turn
from .wire import Connection, Transport, Words

#: The client whose event is being handled: the library asks for the time, and for names.
_current: Client


class Inside(NamedTuple):
    """A body that runs: when it began, up to when it may believe that the turn is its; in ms."""

    fence: int
    until: float
    since: float


class View(NamedTuple):
    """What the world sees of a client: what can happen to it next, and what must hold.

    Attributes:
        turns: the state of each turn; see `Turn`.
        inside: the bodies that believe to have their turn.
        channels: whose bells it hears.
        heard: the heartbeat has told the loop something.
        timer, beat: when the next one is due, in seconds.
        left: tickets and turns that the engine knows of.
        forgotten: turns that wait or run, and that the engine does not know of.
        errors: what callbacks have raised.
    """

    turns: tuple[str, ...]
    inside: tuple[Inside, ...]
    channels: tuple[str, ...]
    heard: bool
    timer: float
    beat: float
    left: int
    forgotten: tuple[int, ...]
    errors: tuple[str, ...]


class Effects(NamedTuple):
    """What an event has made a client do.

    Attributes:
        written: commands, on the connection it has now.
        lost: whether it has given up the connection it had before.
        need: the call of a heartbeat whose answer is wanted; then nothing else has happened.
    """

    written: tuple[Words, ...]
    lost: bool
    need: Words | None = None


class Requests:
    """The numbers of requests: each process counts its own."""

    def __next__(self) -> int:
        return next(_current.requests)


class Client:
    """A process on the model.

    Args:
        name: its name; each engine it makes has one of its own.
        queue_first: its turns take their ticket before they are entered.
        slow: its bodies do not end at once when they are cancelled.
        message: its turns are for a message, the same one as those of all others.
        options: of its store.
    """

    def __init__(
        self,
        name: str,
        queue_first: bool = False,
        slow: bool = False,
        message: bool = False,
        **options: float,
    ) -> None:
        self.name = name
        self.loop = ModelLoop()
        self.transports: list[Transport] = []
        self.turns: list[Turn] = []
        self._numbers = count(1)
        self.requests = count(1)
        self._how = queue_first, slow, message
        self.store = ConcurrentRedisLockStore(host="model", socket_timeout=3.0, **options)

    def token(self, *_: int) -> str:
        """A name that is nobody else's."""
        return f"{self.name}e{next(self._numbers)}"

    async def connect(self, *_: Any, **__: Any) -> Connection:
        self.transports.append(Transport(self.loop.call_soon))
        return Connection(self.transports[-1])

    # -- events -----------------------------------------------------------------------------------

    def happen(self, now: int, event: tuple[Any, ...]) -> Effects:
        """Let something happen at a moment (milliseconds)."""
        global _current
        _current, self.loop.now = self, now / 1000
        before = self.transports[-1] if self.transports else None
        was_up = before is not None and not before.aborted
        asyncio._set_running_loop(self.loop)
        self.loop.moves = True
        try:
            getattr(self, event[0])(*event[1:])
            self.loop.settle()
        except Need as need:
            return Effects((), False, need.words)
        finally:
            self.loop.moves = False
            asyncio._set_running_loop(None)
        written: list[Words] = []
        for transport in self.transports[-1:]:
            if not transport.aborted:
                written, transport.written = transport.written, []
        return Effects(tuple(written), was_up and before is not None and before.aborted)

    def start(self) -> None:
        self.turns.append(Turn(self.store, self.loop, *self._how))

    def leave(self, turn: int) -> None:
        self.turns[turn].leave.set_result(None)

    def linger(self, turn: int) -> None:
        self.turns[turn].linger.set_result(None)

    def cancel(self, turn: int) -> None:
        self.turns[turn].task.cancel()

    def close(self) -> None:
        self.loop.create_task(self.store.close())

    def hear(self, data: bytes) -> None:
        self.transports[-1].receive(data)

    def drop(self) -> None:
        self.transports[-1].break_off()

    def timers(self) -> None:
        self.loop.run_timers()

    def told(self) -> None:
        self.loop.hear_thread()

    def beat(self, answers: Sequence[Any]) -> None:
        self._heartbeat().beat(answers)

    def _heartbeat(self) -> Any:
        return self.store.engine().heartbeat

    # -- what it is -------------------------------------------------------------------------------

    def view(self) -> View:
        running = [turn.grant for turn in self.turns if turn.state == "inside"]
        inside = [
            Inside(grant.fence, 1000 * grant.deadline, 1000 * grant.granted_at)
            for grant in running
            if grant is not None and grant.reason is None
        ]
        transports = [each for each in self.transports[-1:] if not each.aborted]
        live = self.store.running
        known: list[Any] = []
        if live is not None:
            known = [*live._waiting.values(), *live._held.values(), *live.duplicates.waiters()]
        return View(
            tuple(turn.state for turn in self.turns),
            tuple(inside),
            tuple(sorted(channel for each in transports for channel in each.channels)),
            bool(self.loop.heard),
            self.loop.next_timer(),
            float("inf") if live is None else live.heartbeat.due,  # type: ignore[attr-defined]
            len(known),
            tuple(i for i, turn in enumerate(self.turns) if turn.belongs_in_none_of(known)),
            tuple(self.loop.errors),
        )

    def fingerprint(self) -> int:
        """Equal for clients that will do the same."""
        tasks = [task for task in self.loop.tasks if not task.done()]
        return fingerprint(self.store, self.turns, tasks, self.loop.timers, self.loop.heard)


class NoFinalizer:
    """Stands for a finalizer that does nothing."""

    def detach(self) -> None:
        pass


@contextmanager
def modelled() -> Iterator[None]:
    """The library on the model: its clock, connections, heartbeats and names are the model's."""

    async def connect(*_: Any, **__: Any) -> Connection:
        return await _current.connect()

    import_module("ticketlock.locks.concurrent.queue")  # a store imports it late: patched too
    ours = {
        "clock": (process.clock, lambda: _current.loop.now),
        "connect": (redis_connect.connect, connect),
        "Heartbeat": (Heartbeat, ModelHeartbeat),
        # Python keeps what a finalizer needs: each store with all that it has, to the very end.
        "finalizer": (portal.finalizer, lambda *_: NoFinalizer()),
    }
    with pytest.MonkeyPatch.context() as patch:
        for module in [m for name, m in sys.modules.items() if name.startswith("ticketlock")]:
            for name, (theirs, model) in ours.items():
                if getattr(module, name, None) is theirs:  # wherever it was imported to
                    patch.setattr(module, name, model)
        patch.setattr(engine, "_requests", Requests())
        # The model knows the scripts: nothing is gained by reading them again and again.
        prologue = Scripts.prologue
        patch.setattr(
            Scripts, "prologue", lambda self: [c for c in prologue(self) if c[0] != "SCRIPT"]
        )
        patch.setattr(secrets, "token_hex", lambda *_: _current.token())
        for part in ("lock", "turn", "relay"):
            patch.setattr(logging.getLogger(f"ticketlock.{part}"), "disabled", True)
        yield
