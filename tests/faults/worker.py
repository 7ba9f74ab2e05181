"""A replica for the fault tests: `python worker.py REDIS_URL RECORDS_URL SECONDS SEED TASKS CONVERSATION...`

Each task takes turns until the time is over, now and then cancelled by another one. What
it does it records on a second Redis that nobody attacks, through a fenced write, as a
tracker store would do it: a write under an older fence than the highest one is refused.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import random
import signal
import sys

import redis

from ticketlock import ConcurrentRedisLockStore, LockLost, LockStoreConnectionError
from ticketlock.grant import Grant, clock

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
        self._redis.rpush("notes", json.dumps({"what": what, "p": os.getpid(), **details}))


async def turn(store: ConcurrentRedisLockStore, recorder: Recorder, name: str, hold: float) -> None:
    try:
        async with store.lock(name, label="worker") as grant:
            if not recorder.write(grant, "begin"):
                return recorder.note("begin refused", c=name, f=str(grant.fence))
            await asyncio.sleep(hold)
            grant.ensure_held()
            checked = clock()
            if not recorder.write(grant, "end") and clock() - checked < 0.25:
                # It believed itself valid, was not frozen since, and yet had a successor.
                recorder.note("overlap", c=name, f=str(grant.fence))
    except LockLost as error:
        recorder.note("lost", c=name, reason=error.reason)
    except LockStoreConnectionError as error:
        recorder.note("connection", c=name, error=str(error))
    return None


async def task(
    store: ConcurrentRedisLockStore, recorder: Recorder, names: list[str], seed: int, end: float
) -> None:
    rng = random.Random(seed)
    while clock() < end:
        name = rng.choice(names)
        hold = rng.choice([0, 0.001, 0.003, 0.01])
        if rng.random() < 0.1:
            cut = asyncio.create_task(turn(store, recorder, name, hold))
            await asyncio.sleep(rng.random() * 0.05)
            cut.cancel()
            await asyncio.wait([cut])
        else:
            await turn(store, recorder, name, hold)


def explain_when_asked() -> None:
    """SIGUSR1 prints the stacks of all threads, SIGUSR2 those of all tasks, to stderr.

    The former works while the loop hangs; the latter says what each turn waits for.
    """
    faulthandler.register(signal.SIGUSR1, all_threads=True)

    def tasks() -> None:
        for each in asyncio.all_tasks():
            each.print_stack(file=sys.stderr)
        sys.stderr.flush()

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, tasks)


async def main() -> None:
    explain_when_asked()
    url, records, seconds, seed, tasks, *names = sys.argv[1:]
    recorder = Recorder(records)
    options = json.loads(os.environ.get("WORKER_STORE", "{}"))
    async with ConcurrentRedisLockStore(url=url, **options) as store:
        end = clock() + float(seconds)
        print("ready", flush=True)
        await asyncio.gather(
            *(task(store, recorder, names, 1000 * int(seed) + i, end) for i in range(int(tasks)))
        )
    recorder.note("finished")


if __name__ == "__main__":
    asyncio.run(main())
