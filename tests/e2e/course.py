"""One run from start to verdict."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from servers.processes import temporary_folder

from ticketlock.aio.running import together
from ticketlock.demo.traffic import Message
from ticketlock.progress import Bar

from .sender import Sender
from .topology import CHANNEL_TOKEN, topology
from .trouble import Trouble
from .verdict import judge


def run(
    messages: Sequence[Message],
    broker: str,
    *,
    kills: int,
    rolls: int,
    seed: int,
    before: Path | None = None,
) -> dict[str, Any]:
    """Run everything with one broker. Returns what was measured; `broken` says how it went.

    Args:
        before: the version that the replicas have at first, and after every second roll.
    """
    dice = random.Random(seed)
    with temporary_folder() as folder:
        with Bar() as bar:
            bar.phase(f"starting, with {broker}")
            with topology(Path(folder), broker, before) as made:
                sender = Sender(made.url, messages, dice, token=CHANNEL_TOKEN)
                trouble = Trouble(made, sender, dice, kills, rolls)
                started = time.monotonic()
                asyncio.run(_send(bar, sender, trouble))
                seconds = time.monotonic() - started
                bar.phase("events stored")
                verdict, stored = judge(made, sender, bar.show)
                rejects = made.stop_consumer()["rejected"]
    if rejects:
        verdict.broken("rejected", f"{rejects} messages were rejected by the event service")
    return {
        "broker": broker,
        "seed": seed,
        "messages": len(messages),
        "conversations": len({message.conversation for message in messages}),
        "duplicates": sender.duplicates,
        "resent": sum(delivery.resent for delivery in sender.deliveries),
        "refusals": sender.refusals,
        "kills": kills,
        "rolls": rolls,
        "replicas_of_before": dict(sorted(trouble.fleets.items())),
        "drained_s": round(max(trouble.drained, default=0.0), 2),
        "seconds": round(seconds, 1),
        "messages_per_s": round(len(messages) / seconds, 1),
        "reply_ms": percentiles(delivery.seconds for delivery in sender.deliveries),
        "events": sum(map(len, stored.values())),
        **verdict.counts,
        "examples": verdict.examples,
        "broken": sum(verdict.counts.values()),
    }


def percentiles(seconds: Iterable[float]) -> dict[str, int]:
    """In milliseconds."""
    times = sorted(seconds)
    return {
        name: round(1000 * times[min(len(times) - 1, int(part * len(times)))])
        for name, part in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }


async def _send(bar: Bar, sender: Sender, trouble: Trouble) -> None:
    sending = sender.run(progress(bar, len(sender.deliveries)))
    await together(sending, trouble.run())


def progress(bar: Bar, total: int) -> Callable[[int], None]:
    """Begins the phase of the messages; to be called with how many are done."""
    bar.phase("messages", total)
    started = time.monotonic()

    def show(done: int) -> None:
        bar.show(done)
        if not sys.stderr.isatty() and done * 10 // total > (done - 1) * 10 // total:
            bar.say(f"{done} of {total} messages in {time.monotonic() - started:.0f} s")

    return show
