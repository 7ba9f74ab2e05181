"""Where the server stood still, silence is held against no waiter: the scripts, at set times."""

from __future__ import annotations

from typing import Any

from faults.explorer.redis_model import Frozen, ModelRedis

from ticketlock.locks.concurrent.scripts import Scripts, Timing
from ticketlock.redis.settings import RedisSettings
from ticketlock.settings.section import Section

#: Milliseconds; longer than a waiter's life and its grace.
LEASE, LONG = 60_000, 3000


class Server:
    """The scripts over the explorer's Redis, called by two processes."""

    def __init__(self) -> None:
        settings = RedisSettings.read(Section({}, "here"))
        timing = Timing(lease=LEASE)
        self._server = ModelRedis()
        self._data: Frozen = ()
        self.now = 1_700_000_000_000
        self.one, self.two = (Scripts(settings, timing, name, "h:1") for name in ("one", "two"))
        self._queue = self.one.keys.of("c")[2]

    def call(self, words: tuple[Any, ...]) -> Any:
        done = self._server.execute(self.now, self._data, tuple(map(str, words)))
        self._data = done.state
        return done.answer

    def waiting(self) -> list[str]:
        found = {key: value for key, value, _ in self._data}
        return [member for member, _ in found.get(self._queue, ())]


def test_who_is_heard_first_passes_over_nobody() -> None:
    """No heartbeat had come before the server stood still: the first one after it skips none."""
    server = Server()
    server.call(server.one.acquire("c", "one.1-s", LEASE, lease=LONG))
    server.call(server.two.acquire("c", "two.1-s", LEASE))
    server.now += LONG  # all leases are over
    server.call(server.one.attend([("c", "one.1-s")]))
    assert server.waiting() == ["two.1-s"]


def test_a_silence_soon_after_another_is_one_of_its_own() -> None:
    """A waiter that was heard once between two of them keeps its place."""
    server = Server()
    _, _, fence, _ = server.call(server.one.acquire("c", "one.1-s", LEASE))
    server.call(server.two.acquire("c", "two.1-s", LEASE))
    server.now += LONG
    server.call(server.two.attend([("c", "two.1-s")]))
    server.now += LONG
    assert server.call(server.one.release("c", "one.1-s", fence)) == 1
    assert server.waiting() == ["two.1-s"]
