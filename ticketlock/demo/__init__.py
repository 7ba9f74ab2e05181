"""`ticketlock demo`: replicas of a bot, traffic to all of them, and a judge.

Replicas are processes, and messages go to any of them. Turns alone keep the messages of a
conversation in order, apart and whole. The judge checks that in the tracker store and in the
records of the bots, and does not rely on the replicas' answers.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack
from dataclasses import replace

from ..aio.signals import interruptible
from ..errors import ConfigurationError
from ..files.scratch import Scratch
from ..progress import Bar
from ..redis.embedded import EmbeddedRedis
from .backends import Backends, check_messages, redis_section
from .consumer import EventConsumer
from .course import Course, Options
from .report import Report

__all__ = ["Options", "run"]


def run(options: Options) -> Report:
    """Run a demo to its end, and leave no process and no file behind.

    Raises Interrupted; TicketLockError if a store or a replica cannot be used.
    """
    return asyncio.run(interruptible(_run(options)))


async def _run(options: Options) -> Report:
    number = secrets.token_hex(6)  # other programs may use the same stores
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
        await stores.lock_store.inspect(ids)  # before replicas are started that need it
        consumer = None
        if backends.event_broker is not None:
            broker, where = backends.event_broker, backends.where_broker
            consumer = EventConsumer(broker, where, stores.tracker_store, ids)
            await stack.enter_async_context(consumer)  # before anything is published
        screen = stack.enter_context(Bar())
        return await Course(options, backends, stores, scratch, screen, consumer).run()
