"""One storm from start to verdict."""

from __future__ import annotations

import asyncio
import random
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis
from servers.processes import temporary_folder

from ticketlock import ConcurrentRedisLockStore, TicketLockError
from ticketlock.process import clock
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.stress.targets import TARGETS

from .events import Events
from .fleet import Fleet, Load
from .trouble import Trouble, check_keys, watched
from .verdict import judge

#: Seconds at the end without new trouble.
CALM = 7.0
#: Seconds in which a conversation must be free once all workers have ended.
FREE_WITHIN = 20.0


def run(
    on: str, seconds: float, seed: int, load: Load | None = None, *, mild: bool = False
) -> dict[str, Any]:
    """Storm on a target for that long. Returns what was measured; `broken` says how it went.

    Args:
        on: `server`, `cluster` or `sentinel`.
        mild: workers are killed and stopped, servers are not.
    """
    rng = random.Random(seed)
    load = load or Load(4, 25, default_names())
    events = Events()
    with ExitStack() as stack:
        records = stack.enter_context(EmbeddedRedis())
        folder = Path(stack.enter_context(temporary_folder()))
        target = stack.enter_context(TARGETS[on]())
        troubles = [random.Random(rng.random()) for _ in range(2)]
        fleet = Fleet(target.store, records.url, folder, load, seconds, events, troubles[0])
        stack.callback(fleet.stop)
        trouble = Trouble(target, events, troubles[1], mild=mild)
        with watched(target, events):
            failures = _rage(fleet.end - min(CALM, seconds / 2), [fleet.one, trouble.one], rng)
            fleet.finish()
        with redis.Redis.from_url(records.url, decode_responses=True) as asking:
            verdict = judge(asking, load.names, target, events)
        for what in fleet.stuck:
            verdict.broken("stuck", what)
        for what in fleet.failed:
            verdict.broken("worker failed", what)
        for what in failures:
            verdict.broken("servers do not recover", what)
        if not failures:
            for name in asyncio.run(_not_free(target.store, set(load.names))):
                verdict.broken("conversation stuck", name)
            for key in check_keys(target):
                verdict.broken("key that stays", key)
    return {
        "on": on,
        "seed": seed,
        "seconds": seconds,
        "workers": len(fleet.processes),
        "turns": verdict.figures.pop("turns", 0),
        "trouble": events.count(),
        "lost": dict(verdict.lost),
        **verdict.figures,
        "longest_wait_s": round(verdict.longest[0], 1),
        "longest_wait": verdict.longest[1],
        "problems": dict(verdict.problems),
        "examples": verdict.examples,
        "broken": sum(verdict.problems.values()),
    }


def default_names() -> list[str]:
    """One where many wait, many where few do, and some with turns of seconds."""
    names = ["hot {}*"] * 30 + [f"conversation {i} %" for i in range(120)]
    return names + [f"long {i}" for i in range(12)]


def _rage(calm: float, deeds: list[Callable[[], None]], rng: random.Random) -> list[str]:
    """Do these until a moment of `clock()`, beside each other; what failed, which ends all."""
    failures: list[str] = []

    def repeat(deed: Callable[[], None]) -> None:
        try:
            while clock() < calm and not failures:
                time.sleep(rng.uniform(0.1, 0.8))
                deed()
        except Exception:  # noqa: BLE001  # part of the verdict
            failures.append(traceback.format_exc())

    threads = [threading.Thread(target=repeat, args=[deed]) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


async def _not_free(store: dict[str, Any], names: set[str]) -> list[str]:
    """The conversations that another process cannot have, though all who used them are gone."""
    async with ConcurrentRedisLockStore(**store) as locks:

        async def take(name: str) -> str | None:
            try:
                async with locks.lock(name, wait_timeout=FREE_WITHIN):
                    return None
            except TicketLockError as error:
                return f"{name!r}: {error}"

        found = await asyncio.gather(*map(take, names))
    return [what for what in found if what]
