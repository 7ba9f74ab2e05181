"""One run of `--async` from start to verdict: accepted is answered."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from servers.processes import temporary_folder

from ticketlock import ConcurrentRedisLockStore
from ticketlock.aio.running import together
from ticketlock.demo.traffic import Message
from ticketlock.endpoints.file import read_endpoints
from ticketlock.endpoints.registry import create_lock_store
from ticketlock.inbox.redis import RedisInbox
from ticketlock.progress import Bar

from .accepted import AcceptedSender
from .acting import deeds, unsent
from .callbacks import CALLBACK_KINDS, SECRET, Callbacks, callback_violations
from .course import percentiles, progress
from .outages import Outages, Plan
from .topology import CHANNEL_TOKEN, Topology, topology
from .verdict import Verdict, judge

#: Redis loses nothing that it has answered.
FSYNC = ("--appendonly", "yes", "--appendfsync", "always")
#: Seconds without a callback after which no more are waited for.
PATIENCE = 60.0


#: What the replicas' `endpoints.yml` has besides. Turns are cut off when replicas are stopped.
_MORE = """\
  message_window: {window}
  drain_timeout: 1
callback:
  url: {url}
  secrets: {secret}
  allow_private: true
"""


def run_accepted(
    messages: Sequence[Message],
    broker: str,
    plan: Plan,
    *,
    rate: float,
    seed: int,
    acting: bool = False,
) -> dict[str, Any]:
    """Run everything with one broker. Returns what was measured; `broken` says how it went.

    Args:
        rate: messages a second.
        acting: with a worker, and bots that call an action server and schedule reminders.
    """
    dice = random.Random(seed)
    callbacks = Callbacks(dice, len(messages))
    more = _MORE.format(window=plan.window, url=callbacks.url, secret=SECRET)
    with temporary_folder() as folder, Bar() as bar:
        bar.phase(f"starting, with {broker}")
        with topology(Path(folder), broker, redis_options=FSYNC, more=more, acting=acting) as made:
            sender = AcceptedSender(made.url, messages, token=CHANNEL_TOKEN, rate=rate)
            outages = Outages(made, sender, callbacks, dice, plan)
            started = time.monotonic()
            asyncio.run(_send(bar, sender, outages, callbacks, made if acting else None))
            seconds = time.monotonic() - started
            found = [
                violation
                for name in sender.narrow
                for violation in callback_violations(name, sender.to(name), callbacks.posts[name])
            ]
            bar.phase("events stored")
            verdict, stored = judge(made, sender, bar.show)
            verdict.counts |= dict.fromkeys((*CALLBACK_KINDS, "dead_lettered", "left_over"), 0)
            verdict.add(found)
            acted: Counter[str] = Counter()
            if acting:
                for name, history in stored.items():
                    verdict.add(unsent(name, history, callbacks.images(name)))
                    acted += deeds(history)
            for text in callbacks.unsigned:
                verdict.broken("callbacks_unsigned", text)
            asyncio.run(_look_for_rest(made, verdict))
            rejects = made.stop_consumer()["rejected"]
    if rejects:
        verdict.broken("rejected", f"{rejects} messages were rejected by the event service")
    return {
        "broker": broker,
        "seed": seed,
        "messages": len(messages),
        "conversations": len(sender.narrow),
        "accepted": sender.accepted,
        "durability": dict(sender.durability),
        "sent_again_without_202": sum(delivery.resent for delivery in sender.deliveries),
        "refusals": dict(sender.refusals),
        "kills": plan.kills,
        "stops": plan.stops,
        "redis_kills": plan.redis_kills,
        "absences": plan.absences,
        "waiting_when_all_died": outages.waiting,
        "rolls_within_one_turn": outages.rolled,
        "accepted_during": dict(outages.during),
        **acted,
        "callbacks": sum(map(len, callbacks.posts.values())),
        "callbacks_repeated": callbacks.repeats,
        "seconds": round(seconds, 1),
        "messages_per_s": round(len(messages) / seconds, 1),
        "accept_ms": percentiles(delivery.seconds for delivery in sender.deliveries),
        "callback_ms": percentiles(callbacks.waits(sender.deliveries)),
        "events": sum(map(len, stored.values())),
        **verdict.counts,
        "examples": verdict.examples,
        "broken": sum(verdict.counts.values()),
    }


async def _send(
    bar: Bar,
    sender: AcceptedSender,
    outages: Outages,
    callbacks: Callbacks,
    reminding: Topology | None,
) -> None:
    show = progress(bar, len(sender.deliveries))

    async def answered() -> None:
        """Until all replies have arrived, or no more come."""
        done, since = 0, time.monotonic()
        while done < len(sender.deliveries):
            await asyncio.sleep(0.05)
            now = time.monotonic()
            while done < callbacks.done:
                done, since = done + 1, now
                show(done)
            if not (sending.done() and troubling.done()):
                since = now
            if now > since + PATIENCE:
                bar.say(f"no reply arrived for {PATIENCE:g} s: {done} messages have theirs")
                break
        if reminding is not None:
            bar.phase("reminders")
            await _until_none_is_due(reminding, sorted(sender.narrow))

    async with callbacks.serving():
        sending, troubling = asyncio.create_task(sender.run()), asyncio.create_task(outages.run())
        await together(sending, troubling, asyncio.create_task(answered()))


async def _look_for_rest(made: Topology, verdict: Verdict) -> None:
    """What is still in the inbox: nothing, if all is answered."""
    async with _inbox(made) as inbox:
        for letter in (await inbox.all_letters()).rows:
            verdict.broken("dead_lettered", letter)
        for pending in await inbox.conversations():
            verdict.broken("left_over", pending)


async def _until_none_is_due(made: Topology, conversations: Sequence[str]) -> None:
    """Wait until all reminders have fired and are answered, or nothing changes for long."""
    async with _inbox(made) as inbox:
        before, since = -1, time.monotonic()
        while time.monotonic() < since + PATIENCE:
            pending = [one.messages + one.deliveries for one in await inbox.conversations()]
            count = sum(pending)
            for name in conversations:
                count += len(await inbox.due(name))
            if not count:
                return
            if count != before:
                before, since = count, time.monotonic()
            await asyncio.sleep(0.5)


@asynccontextmanager
async def _inbox(made: Topology) -> AsyncIterator[RedisInbox]:
    section = read_endpoints(made.endpoints).section("lock_store")
    store = create_lock_store(section)
    assert isinstance(store, ConcurrentRedisLockStore)
    async with store:
        yield RedisInbox(store)
