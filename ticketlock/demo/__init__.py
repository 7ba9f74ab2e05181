"""`ticketlock demo`: replicas of a bot, traffic for all of them, and a judge.

Replicas are processes, messages go to any of them; turns alone keep a conversation's messages
apart and in order, and what they write whole. Whether they did is read from the tracker store
and from the records the bots left, not from what the replicas say.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
from contextlib import AsyncExitStack
from dataclasses import replace

from ..errors import ConfigurationError
from ..files.scratch import Scratch
from ..progress import Bar
from ..redis.embedded import EmbeddedRedis
from .backends import Backends, check_messages, redis_section
from .consumer import Listening
from .course import Course, Options
from .report import Report

__all__ = ["Interrupted", "Options", "run"]


class Interrupted(Exception):
    """SIGINT or SIGTERM; everything has been stopped and cleaned up. `number`: which one."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def run(options: Options) -> Report:
    """Run a demo to its end, and leave no process and no file behind.

    Raises Interrupted, and TicketLockError when a store or a replica cannot be used.
    """
    return asyncio.run(_interruptible(options))


async def _interruptible(options: Options) -> Report:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    received: list[int] = []

    def interrupt(number: int) -> None:
        if not received and task is not None:  # a second one must not stop the cleaning up
            received.append(number)
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt, number)
    try:
        return await _run(options)
    except asyncio.CancelledError:
        if received:
            raise Interrupted(received[0]) from None
        raise


async def _run(options: Options) -> Report:
    number = secrets.token_hex(6)  # the stores may be those that others use
    keys, ids = f"demo{number}", f"demo-{number}"
    messages = [replace(m, conversation=f"{ids}:{m.conversation}") for m in options.messages]
    options = replace(options, messages=messages)
    async with AsyncExitStack() as stack:
        scratch = stack.enter_context(Scratch("demo"))
        found = options.redis, options.endpoints, str(scratch.path), keys, options.events
        backends = Backends.choose(*found)
        if options.keep and backends.own_tracker:
            raise ConfigurationError(
                "--keep needs a tracker store of yours: name it with --endpoints"
            )
        check_messages(messages, backends.conversations().tracker_store)
        await backends.check_tracker(ids)
        if backends.lock_store is None:
            server = stack.enter_context(EmbeddedRedis())
            backends = replace(backends, lock_store=redis_section(server.url, keys))
        stores = await stack.enter_async_context(backends.conversations())
        await stores.lock_store.inspect(ids)  # before anything is started that needs it
        listening = None
        if backends.event_broker is not None:
            broker, where = backends.event_broker, backends.where_broker
            listening = Listening(broker, where, stores.tracker_store, ids)
            await stack.enter_async_context(listening)  # before anything is published
        screen = stack.enter_context(Bar())
        return await Course(options, backends, stores, scratch, screen, listening).run()
