"""The course of a stress run: workers take turns, nemeses trouble them, the checker judges."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from ..aio.running import together
from ..aio.signals import interruptible
from ..checker import Fault, History, Operation, check
from ..conversations import Conversations
from ..endpoints.registry import create_lock_store
from ..errors import ConfigurationError
from ..files.scratch import Scratch
from ..inbox.scripts import CLUSTER_SHARDS, Index
from ..locks.concurrent.scripts import Keys
from ..locks.store import LockStore
from ..process import clock
from ..progress import Bar
from ..redis.settings import RedisSettings
from .left import keys_that_stay, not_free
from .messages import drained, finished, tracker_section
from .nemesis import Nemesis
from .own_servers import OwnServers
from .plan import Options, Plan
from .register import Registers
from .report import Report
from .workers import END_WITHIN, Workers

#: Seconds at the end without new faults.
CALM = 3.0
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
    _, settings = opened(section, where)
    if prefix is not None and not prefix.isalnum():
        raise ConfigurationError(
            f"--key-prefix: {prefix!r} has other characters than letters and digits"
        )
    if prefix is not None and prefix == settings.key_prefix:
        raise ConfigurationError(
            f"--key-prefix: {prefix!r} is the key_prefix of {where}: its replicas would handle the messages of "
            "the run, and the run would delete their keys; choose another one"
        )
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
        own = None
        if options.lock_store is None:
            own = await stack.enter_async_context(OwnServers(options))
        section = dict(own.lock_store if own else options.lock_store or {})
        register = {"url": own.registers.url} if own else None
        store, settings = opened(section, options.where)
        async with store:
            await store.inspect(options.names[0])  # before workers are started that need it
        tracker = None
        if options.messages:
            place = {"url": own.registers.url} if own else section
            tracker = tracker_section(place)
            async with Conversations(section, tracker) as trial:
                await trial.delete(options.names[0])  # as above; there is nothing
        if own is None:
            stack.push_async_callback(_clean_up, options, section, settings, tracker)
        plan = Plan(
            section, options.where, register, tracker, options.names, options.tasks, options.pause,
            options.hold, options.seed,
        )  # fmt: skip
        workers = await stack.enter_async_context(Workers(plan, scratch))
        bar = stack.enter_context(Bar())
        bar.phase("workers that are started")
        await workers.start(options.processes)
        end = clock() + options.seconds
        workers.go(end)
        faults: list[Fault] = []
        lease = _lease(store)
        if own is None:
            await _show(options, bar, end)
        else:
            nemesis = Nemesis(workers, own, options, lease, scratch.path)
            faults = nemesis.faults.found
            calm = end - min(CALM, options.seconds / 3)
            await together(
                _show(options, bar, end), *(nemesis.run(name, calm) for name in options.nemeses)
            )
        stored, empty = list[Operation](), True
        if tracker is not None:
            bar.phase("messages that are handled")
            async with Conversations(section, tracker) as reading:
                empty = await drained(reading.lock_store, options.names, END_WITHIN)
                stored = await finished(reading.tracker_store, options.names, clock())
            (scratch.path / "drained").touch()
        bar.phase("workers that end")
        hang = await workers.finish()
        hang += [] if empty else ["inbox"]
        if tracker is None:  # else all messages were handled, and outcomes are kept
            bar.phase("conversations that are free")
            hang += await not_free(section, options.where, options.names)
            if own is not None:
                hang += await asyncio.to_thread(keys_that_stay, own.target, settings)
        bar.phase("history that is judged")
        history = History.read(*workers.histories)
        history.faults += faults
        for operation in stored:
            history.add(operation)
        verdict = check(history, lease=lease, wait_bound=options.wait_bound)
        server = f"Redis at {settings.address}"
        if own is not None:
            server = f"{own.target.title}, {own.program}"
        return Report(options, server, history, verdict, hang)


async def _show(options: Options, bar: Bar, end: float) -> None:
    """Show the seconds as they pass, to their end."""
    bar.phase("seconds of turns", round(options.seconds))
    while (left := end - clock()) > 0:
        bar.show(round(options.seconds - left))
        await asyncio.sleep(min(_LOOK, left))


def _lease(store: LockStore) -> float:
    """Seconds for which the store believes a turn without a renewal."""
    timing = getattr(store, "timing", None)
    return float(store.lease if timing is None else timing.lease / 1000)


async def _clean_up(
    options: Options, section: dict[str, Any], settings: RedisSettings,
    tracker: dict[str, Any] | None,
) -> None:  # fmt: skip
    """Remove the keys of the run; workers that would write more are gone."""
    keys = Keys(settings)
    try:
        if tracker is not None:
            async with Conversations(section, tracker) as conversations:
                for name in options.names:
                    await conversations.delete(name)
    finally:  # keys of the locks go, also where those of the histories cannot be reached
        await _remove_locks(options, settings, keys, tracker is not None)


async def _remove_locks(
    options: Options, settings: RedisSettings, keys: Keys, submitted: bool
) -> None:
    shards = CLUSTER_SHARDS if settings.deployment_mode == "cluster" else 1
    index = Index(keys.prefix, shards)
    async with Registers(settings) as registers:
        for shard in range(shards if submitted else 0):
            await registers.remove(index.key(shard), index.counts(shard))
        for name in options.names:
            await registers.remove(
                registers.key(name), *keys.all(name), settings.prefixed(f"lock:{name}")
            )
