"""The course of a stress run: workers take turns, nemeses trouble them, the checker judges."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from ..aio.signals import interruptible
from ..checker import History, check
from ..endpoints.registry import create_lock_store
from ..errors import ConfigurationError
from ..files.scratch import Scratch
from ..locks.concurrent.scripts import Keys
from ..locks.store import LockStore
from ..process import clock
from ..progress import Bar
from ..redis.embedded import EmbeddedRedis
from ..redis.settings import RedisSettings
from .plan import Options, Plan
from .register import Registers
from .report import Report
from .workers import Workers

#: Seconds between two looks at the progress.
_LOOK = 0.1


def run(options: Options) -> Report:
    """Stress a lock store, and judge the history; no process, file or key is left behind.

    Raises Interrupted; TicketLockError if the store or a worker cannot be used.
    """
    return asyncio.run(interruptible(_run(options)))


def stressed(section: Mapping[str, Any], where: str, prefix: str | None = None) -> dict[str, Any]:
    """A lock store's section with keys of its own, apart from those that others use.

    Args:
        prefix: of the keys; default: by chance, after the one in the section.

    Raises ConfigurationError if it cannot be stressed.
    """
    opened(section, where)
    prefix = prefix or f"{section.get('key_prefix') or ''}stress{secrets.token_hex(6)}"
    return {**section, "key_prefix": prefix}


def opened(section: Mapping[str, Any], where: str) -> tuple[LockStore, RedisSettings]:
    """A lock store and the Redis that it is on. No I/O; raises ConfigurationError."""
    store = create_lock_store(dict(section), where)
    settings = getattr(store, "settings", None)
    if not isinstance(settings, RedisSettings):
        raise ConfigurationError(
            f"{where}: stress needs a lock store on Redis, which processes share; "
            f"{type(store).__name__} is none"
        )
    return store, settings


async def _run(options: Options) -> Report:
    async with AsyncExitStack() as stack:
        scratch = stack.enter_context(Scratch("stress"))
        section = options.lock_store
        if section is None:
            server = stack.enter_context(EmbeddedRedis())
            section = {"type": "concurrent_redis", "url": server.url}
        store, settings = opened(section, options.where)
        await stack.enter_async_context(store)
        await store.inspect(options.names[0])  # before workers are started that need it
        registers = await stack.enter_async_context(Registers(settings))
        stack.push_async_callback(_clean_up, options, settings, registers)
        plan = Plan(
            dict(section), options.where, None, options.names, options.tasks, options.pause,
            options.hold, options.seed,
        )  # fmt: skip
        workers = await stack.enter_async_context(Workers(plan, scratch))
        bar = stack.enter_context(Bar())
        bar.phase("workers that are started")
        await workers.start(options.processes)
        begun = clock()
        end = begun + options.seconds
        workers.go(end)
        bar.phase("seconds of turns", round(options.seconds))
        while clock() < end:
            await asyncio.sleep(min(_LOOK, max(0.0, end - clock())))
            bar.show(round(clock() - begun))
        bar.phase("workers that end")
        hang = await workers.finish()
        bar.phase("history that is judged")
        history = History.read(*workers.histories)
        verdict = check(history, lease=_lease(store), wait_bound=options.wait_bound)
        return Report(options, f"Redis at {settings.address}", history, verdict, hang)


def _lease(store: LockStore) -> float:
    """Seconds for which the store believes a turn without a renewal."""
    timing = getattr(store, "timing", None)
    return float(store.lease if timing is None else timing.lease / 1000)


async def _clean_up(options: Options, settings: RedisSettings, registers: Registers) -> None:
    """Remove the keys of the run; workers that would write more are gone."""
    keys = Keys(settings)
    for name in options.names:
        await registers.remove(
            registers.key(name), *keys.all(name), settings.prefixed(f"lock:{name}")
        )
