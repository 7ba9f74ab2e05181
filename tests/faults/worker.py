"""A replica for the fault tests: `python worker.py REDIS_URL RECORDS_URL SECONDS SEED TASKS CONVERSATION...`

Each task takes turns until the time is over, now and then cancelled by another one. What
it does it records on a second Redis that nobody attacks, through a fenced write, as a
tracker store would do it: a write under an older fence than the highest one is refused.
Conversations named `long ...` are for the first tasks alone, and their turns take seconds.
WORKER_STORE has more keys of the lock store, as JSON. SIGUSR1 writes the stacks of all threads
to its standard error, SIGUSR2 those of its tasks.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import random
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import redis

from ticketlock import ConcurrentRedisLockStore, LockLost, LockStoreConnectionError

if TYPE_CHECKING:  # older versions have it elsewhere
    from ticketlock.locks.grant import Grant


def clock() -> float:
    """The library's clock, whichever version of it runs here."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


#: Claims at the begin of a turn, refuses what comes under an older fence; the order of the
#: list is the order of what really happened.
FENCED = """
local highest = tonumber(redis.call('GET', KEYS[2]) or 0)
local entry = cjson.decode(ARGV[2])
entry.refused = tonumber(ARGV[1]) < highest
if not entry.refused then redis.call('SET', KEYS[2], ARGV[1]) end
redis.call('RPUSH', KEYS[1], cjson.encode(entry))
return entry.refused and 1 or 0
"""
#: Seconds that turns of a conversation `long ...` take: servers get into trouble meanwhile.
LONG = (1.0, 8.0)
#: Tasks of a worker that take such turns.
LONG_TASKS = 5
#: A thread that wakes so much later than it wanted, seconds, was not let run by the machine.
STARVED = 0.5


class Recorder:
    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url)
        self._fenced = self._redis.register_script(FENCED)

    def write(self, grant: Grant, event: str, **more: object) -> bool:
        """Record an event; False if it was refused. Blocks: it is microseconds."""
        entry = {
            "e": event, "n": grant.number, "f": str(grant.fence), "p": os.getpid(), "t": clock(),
            **more,
        }  # fmt: skip
        keys = [f"log:{grant.conversation_id}", f"fence:{grant.conversation_id}"]
        return not self._fenced(keys=keys, args=[grant.fence, json.dumps(entry)])

    def count(self, what: str) -> int:
        """How often this was asked before, by all."""
        return int(self._redis.incr(what)) - 1

    def note(self, what: str, **details: object) -> None:
        entry = {"what": what, "p": os.getpid(), "t": clock(), **details}
        self._redis.rpush("notes", json.dumps(entry))


async def turn(
    store: ConcurrentRedisLockStore, recorder: Recorder, name: str, hold: float, end: float
) -> None:
    since, grant = clock(), None
    try:
        async with store.lock(name, label="worker") as grant:
            if not recorder.write(grant, "begin", since=since):
                return recorder.note("begin refused", c=name, f=str(grant.fence))
            await asyncio.sleep(min(hold, max(0.0, end - clock())))
            grant.ensure_held()
            checked = clock()
            if not recorder.write(grant, "end") and clock() - checked < 0.25:
                # It believed itself valid, was not frozen since, and yet had a successor.
                recorder.note("overlap", c=name, f=str(grant.fence))
    except LockLost as error:
        fence = str(grant.fence) if grant is not None else ""
        recorder.note("lost", c=name, reason=error.reason, f=fence)
    except LockStoreConnectionError as error:
        recorder.note("connection", c=name, error=str(error))
        await asyncio.sleep(0.05)
    return None


async def task(
    store: ConcurrentRedisLockStore, recorder: Recorder, names: list[str], seed: int, end: float
) -> None:
    rng = random.Random(seed)
    while clock() < end:
        name = rng.choice(names)
        hold = rng.choice([0, 0.001, 0.003, 0.01])
        if name.startswith("long "):
            hold = rng.uniform(*LONG)
        if rng.random() < 0.1:
            cut = asyncio.create_task(turn(store, recorder, name, hold, end))
            await asyncio.sleep(rng.random() * 0.05)
            cut.cancel()
            await asyncio.wait([cut])
        else:
            await turn(store, recorder, name, hold, end)


def watch(recorder: Recorder) -> None:
    """Tell when the machine, or a signal, did not let this process run."""
    while True:
        before = clock()
        time.sleep(0.05)
        if clock() - before > STARVED:
            recorder.note("starved", since=before)


def show_tasks() -> None:
    """Where each task waits, and of a turn for which conversation."""
    for each in asyncio.all_tasks():
        awaited: Any = each.get_coro()
        frames = []
        while frame := getattr(awaited, "cr_frame", None):
            name = frame.f_locals.get("name", "")
            frames.append(f"{awaited.__qualname__}:{frame.f_lineno} {name}".rstrip())
            awaited = awaited.cr_await
        print(" > ".join(frames), "awaits", awaited, flush=True)


async def main() -> None:
    url, records, seconds, seed, tasks, *names = sys.argv[1:]
    recorder = Recorder(records)
    options = json.loads(os.environ.get("WORKER_STORE", "{}"))
    if url:
        options["url"] = url
    threading.Thread(target=watch, args=[Recorder(records)], daemon=True).start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, show_tasks)
    async with ConcurrentRedisLockStore(**options) as store:
        end = clock() + float(seconds)
        long = [name for name in names if name.startswith("long ")]
        short = [name for name in names if name not in long]
        print("ready", flush=True)
        await asyncio.gather(
            *(
                task(
                    store,
                    recorder,
                    long if long and i < LONG_TASKS else short,
                    1000 * int(seed) + i,
                    end,
                )
                for i in range(int(tasks))
            )
        )
    recorder.note("finished")


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    asyncio.run(main())
