"""`ticketlock demo`: replicas of a bot, traffic for all of them, and a judge.

Replicas are processes, messages go to any of them, the lock alone keeps each conversation's
turns apart and in order. Whether it did is read from the records the bots left, not from
what the replicas say.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ..concurrent_lock_store import ConcurrentRedisLockStore
from ..embedded import EmbeddedRedis
from .fleet import Fleet
from .records import Records
from .replica import Settings
from .report import Report
from .screen import Screen
from .sender import Sender
from .traffic import Message

#: Seconds without any message done after which a demo gives up and judges what there is.
STALLED = 60.0
#: Seconds between two looks at the progress.
_LOOK = 0.1


class Interrupted(Exception):
    """SIGINT or SIGTERM; everything has been stopped and cleaned up. `number`: which one."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@dataclass(frozen=True)
class Options:
    """What to demonstrate.

    Attributes:
        redis: URL; None: a server of our own.
        in_flight: most messages on their way at a time.
        kills: how many replicas to kill, spread over the run.
        unlocked: let the bots take no lock.
    """

    messages: Sequence[Message]
    replicas: int = 3
    redis: str | None = None
    in_flight: int = 64
    kills: int = 0
    seed: int = 1
    unlocked: bool = False


def run(options: Options) -> Report:
    """Run a demo to its end, and leave no process and no file behind.

    Raises Interrupted, and TicketLockError when Redis or a replica cannot be used.
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
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ticketlock-demo-"))
        url = options.redis
        if url is None:
            url = stack.enter_context(EmbeddedRedis()).url
        # A prefix of its own: the Redis may be one that others use.
        settings = Settings("", url, f"demo{secrets.token_hex(6)}", folder, options.unlocked)
        async with ConcurrentRedisLockStore(url=url, where="--redis") as store:
            await store.inspect("is it there?")  # before anything is started that needs it
        screen = stack.enter_context(Screen(len(options.messages)))
        return await _Run(options, settings, screen).run()


class _Run:
    """One demo: the fleet, the sender, and the hand that kills."""

    def __init__(self, options: Options, settings: Settings, screen: Screen) -> None:
        self._options = options
        self._settings = settings
        self._screen = screen
        self._chance = random.Random(options.seed)
        self._sender = Sender(
            options.messages, options.in_flight, self._chance, lambda: self._fleet.up(), self._kill
        )
        self._fleet = Fleet(settings, self._sender)
        total, parts = len(options.messages), options.kills + 1
        self._kill_at = [total * part // parts for part in range(1, parts)]

    async def run(self) -> Report:
        options = self._options
        self._screen.say(f"{len(options.messages)} messages to {options.replicas} replicas")
        try:
            await self._fleet.start(options.replicas)
            started = time.monotonic()
            await self._send()
            seconds = time.monotonic() - started
        finally:
            await self._fleet.stop()
        return self._report(seconds)

    async def _send(self) -> None:
        """Return when all messages are done, or when nothing moves any more."""
        sending = asyncio.create_task(self._sender.run())
        moved_at, moved = time.monotonic(), 0
        try:
            while not sending.done():
                await asyncio.wait([sending], timeout=_LOOK)
                self._fleet.check()
                self._screen.show(self._sender.done)
                if self._sender.done > moved:
                    moved_at, moved = time.monotonic(), self._sender.done
                elif time.monotonic() - moved_at > STALLED:
                    why = self._sender.last_failure or "no replica says why"
                    self._screen.say(f"nothing was done for {STALLED:g} s, giving up: {why}")
                    return
            sending.result()
        finally:
            sending.cancel()

    def _kill(self, done: int) -> None:
        """Kill a replica if it is time, and one is up that holds or waits."""
        if not self._kill_at or done < self._kill_at[0]:
            return
        replicas = [r for r in self._fleet.up() if self._sender.holds_some(r)]
        if replicas:
            del self._kill_at[0]
            replica = self._chance.choice(replicas)
            self._fleet.kill(replica)
            self._screen.say(f"killed replica {replica.name} after {done} messages")

    def _report(self, seconds: float) -> Report:
        deliveries = sorted(
            self._sender.deliveries, key=lambda d: (d.message.conversation, d.message.id)
        )
        groups = [
            (conversation, list(group))
            for conversation, group in groupby(deliveries, lambda d: d.message.conversation)
        ]
        report = Report(
            len(deliveries),
            len(groups),
            self._options.replicas,
            seconds,
            len(self._fleet.deaths),
        )
        records = Records(Path(self._settings.folder))
        for conversation, group in groups:
            report.add(conversation, group, records.read(conversation), self._fleet.deaths)
        return report
