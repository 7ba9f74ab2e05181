"""The course of a demo: traffic to the replicas, some of which are killed, then the judge."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..conversations import Conversations
from ..files.scratch import Scratch
from ..progress import Bar
from .accepted import AcceptedSender
from .backends import Backends, described
from .bot import EVENTS, SESSION, START
from .consumer import EventConsumer
from .judge.events import BrokerSnapshot
from .judge.judge import clean_up, judge
from .processes import ReplicaProcesses
from .report import Report
from .sender import MessageSender
from .traffic import Message

#: Seconds without progress after which a demo stops sending and is judged.
STALLED = 60.0
#: Seconds between two checks of the progress.
_LOOK = 0.1


@dataclass(frozen=True)
class Options:
    """The options of a demo.

    Attributes:
        redis: URL of the lock store; None: that of `endpoints`, or a server of the demo.
        endpoints: a file with some of the sections lock_store, tracker_store and event_broker;
            without a tracker_store an SQLite file of the demo is used.
        events: publish to a file of the demo.
        keep: keep the conversations in the tracker store.
        in_flight: most messages at a time.
        kills: how many replicas to kill, spread over the run.
        unlocked: run the bots without lock and fence.
        timeline: keep the times of the turns in the report.
        accepted: the sender waits for 202 only, and never sends a message again after it.
    """

    messages: Sequence[Message]
    replicas: int = 3
    redis: str | None = None
    endpoints: Path | None = None
    events: bool = False
    keep: bool = False
    in_flight: int = 64
    kills: int = 0
    seed: int = 1
    unlocked: bool = False
    timeline: bool = False
    accepted: bool = False


class Course:
    """One demo: starts the replicas, sends, kills replicas, and runs the judge."""

    def __init__(
        self,
        options: Options,
        backends: Backends,
        stores: Conversations,
        scratch: Scratch,
        screen: Bar,
        consumer: EventConsumer | None = None,
    ) -> None:
        self._options = options
        self._folder = scratch.path
        self._stores = stores
        self._own_tracker = backends.own_tracker
        self._screen = screen
        self._consumer = consumer
        self._chance = random.Random(options.seed)
        kind = AcceptedSender if options.accepted else MessageSender
        self._sender = kind(
            options.messages,
            options.in_flight,
            self._chance,
            lambda: self._replicas.up(),
            self._kill,
        )
        locks, tracker = backends.lock_store or {}, backends.tracker_store
        self._lock_kind = described(locks, stores.lock_store)
        self._tracker_kind = described(tracker, stores.tracker_store)
        endpoints, token = self._folder / "endpoints.yml", secrets.token_urlsafe()
        backends.write(endpoints, token, options.in_flight, options.unlocked)
        self._replicas = ReplicaProcesses(endpoints, token, scratch)
        total, parts = len(options.messages), options.kills + 1
        self._kill_at = [total * part // parts for part in range(1, parts)]

    async def run(self) -> Report:
        options = self._options
        self._screen.say(
            f"{len(options.messages)} messages to {options.replicas} replicas; "
            f"tracker store {self._tracker_kind}, "
            + ("no lock" if options.unlocked else f"lock store {self._lock_kind}")
            + (f", event broker {self._consumer.broker}" if self._consumer else "")
        )
        self._screen.phase("messages", len(options.messages))
        try:
            try:
                await self._replicas.start(options.replicas)
                started = time.monotonic()
                await self._send()
                seconds = time.monotonic() - started
                waiting = await self._drained()
            finally:
                await self._replicas.stop()
            return await self._report(seconds, await self._snapshot(waiting))
        finally:
            if not (options.keep or self._own_tracker):
                sent = (d.message.conversation for d in self._sender.deliveries if d.sends)
                store = self._stores.tracker_store
                await clean_up(store, list(dict.fromkeys(sent)), self._screen.say)
                if self._consumer is not None:
                    await self._consumer.drop_dead_letters()

    async def _send(self) -> None:
        """Send all messages; returns early if there is no progress."""
        sending = asyncio.create_task(self._sender.run())
        moved_at, moved = time.monotonic(), 0
        try:
            while not sending.done():
                await asyncio.wait([sending], timeout=_LOOK)
                self._replicas.check()
                self._screen.show(self._sender.done)
                if self._sender.done > moved:
                    moved_at, moved = time.monotonic(), self._sender.done
                elif time.monotonic() - moved_at > STALLED:
                    why = self._sender.last_failure or "no replica reported an error"
                    self._screen.say(f"no message was handled for {STALLED:g} s, giving up: {why}")
                    for replica in self._replicas.up():
                        self._screen.say(f"replica {replica.name}: {replica.log_tail()}")
                    return
            sending.result()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def _kill(self, done: int) -> None:
        """Kill a replica that has unanswered messages, if it is time to."""
        if not self._kill_at or done < self._kill_at[0]:
            return
        replicas = [r for r in self._replicas.up() if self._sender.holds_some(r)]
        if replicas:
            del self._kill_at[0]
            replica = self._chance.choice(replicas)
            self._replicas.kill(replica)
            self._screen.say(f"killed replica {replica.name} after {done} messages")

    async def _drained(self) -> frozenset[str]:
        """Wait for the relays; returns the conversations whose events were not published."""
        if self._consumer is None:
            return frozenset()
        self._screen.phase("conversations with events to publish")
        return await self._consumer.drained(self._replicas.check, self._screen.show)

    async def _snapshot(self, waiting: frozenset[str]) -> BrokerSnapshot | None:
        if self._consumer is None:
            return None
        names = Counter(one.message.conversation for one in self._sender.deliveries)
        started = sum(1 + count // SESSION for count in names.values())
        wanted = EVENTS * self._sender.done + START * started
        self._screen.phase("events received", wanted)
        return await self._consumer.snapshot(wanted, waiting, self._screen.show)

    async def _report(self, seconds: float, snapshot: BrokerSnapshot | None) -> Report:
        deliveries = self._sender.deliveries
        conversations = len({delivery.message.conversation for delivery in deliveries})
        report = Report(
            len(deliveries),
            conversations,
            self._options.replicas,
            seconds,
            len(self._replicas.deaths),
            self._tracker_kind,
            self._lock_kind,
            turns={} if self._options.timeline else None,
        )
        self._screen.phase("conversations read back", conversations)
        store, deaths = self._stores.tracker_store, self._replicas.deaths
        await judge(report, deliveries, store, self._folder, deaths, self._screen.show, snapshot)
        return report
