"""A replica for the roll test: `python roll_worker.py REDIS RECORDS_URL VERSION SEED NAME...`

REDIS is a URL, or the nodes of a cluster as `host:port,host:port`. NEW_STORE has more keys for the
lock store of the new version, as JSON.

It takes turns of each kind until SIGTERM, then ends what it has begun, and records what it does.
It must run on the version before too: it uses public names only, and those of `recorder.py`.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import random
import signal
import sys
from typing import TYPE_CHECKING

from recorder import Recorder, clock

import ticketlock
from ticketlock import ConcurrentRedisLockStore, DuplicateMessage, Incoming, LockLost

if TYPE_CHECKING:  # older versions have them elsewhere
    from ticketlock.locks.grant import Grant
    from ticketlock.locks.lock import Lock

TASKS = 8
#: Most callers of one message at about the same time, at any of the workers.
CALLERS = 3
#: Seconds that a message may take.
PATIENCE = 30


class Worker:
    def __init__(self, store: ConcurrentRedisLockStore, recorder: Recorder, names: list[str]):
        self.store, self.recorder, self.names = store, recorder, names
        self.stopping = False

    async def task(self, dice: random.Random) -> None:
        deeds = [self.plain] * 4 + [self.queued] * 3 + [self.message] * 6
        deeds += [self.free, self.cut, self.break_turn, self.bare]
        while not self.stopping:
            await dice.choice(deeds)(dice, dice.choice(self.names))
            await asyncio.sleep(dice.random() * 0.02)

    async def plain(self, dice: random.Random, name: str) -> None:
        await self.turn(dice, self.store.lock(name, label="plain"))

    async def queued(self, dice: random.Random, name: str) -> None:
        lock = self.store.lock(name)
        await lock.queue()
        await asyncio.sleep(dice.random() * 0.02)
        await self.turn(dice, lock)

    async def free(self, dice: random.Random, name: str) -> None:
        await self.turn(dice, self.store.try_lock(name))

    async def cut(self, dice: random.Random, name: str) -> None:
        """Cancelled while it waits, or while it works."""
        task = asyncio.create_task(self.plain(dice, name))
        await asyncio.sleep(dice.random() * 0.05)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def break_turn(self, dice: random.Random, name: str) -> None:
        holder = (await self.store.inspect(name)).holder
        if holder is not None:
            self.recorder.note("breaks", c=name, f=str(holder.fence))
            if await self.store.break_lock(name, holder.fence):
                self.recorder.note("broke", c=name, f=str(holder.fence), n=holder.number)

    async def bare(self, dice: random.Random, name: str) -> None:
        """A ticket that no process keeps alive, ended by its number."""
        number = await self.store.issue_ticket(name, 2)
        await asyncio.sleep(dice.random() * 0.05)
        await self.store.finish_serving(name, number)

    async def message(self, dice: random.Random, name: str) -> None:
        """A message with an id, which others ask for too; asked for until there is a reply."""
        number = self.recorder.count(f"message:{name}") // CALLERS
        kind = number % 4
        incoming = Incoming(
            f"{number}",
            text=f"text {number}" if kind == 1 else None,
            supersede={2: "interrupt", 3: "rollback"}.get(kind),
        )
        end = clock() + PATIENCE
        while True:
            assert clock() < end, f"no reply to message {number} of {name!r}"
            lock = self.store.lock(name, incoming=incoming)
            try:
                if incoming.supersede:
                    # One that is killed before it has noted its ticket may have asked too.
                    self.recorder.note("means to", c=name, mode=incoming.supersede)
                ticket = await lock.queue()
                if incoming.supersede:
                    self.recorder.note("has meant to", c=name, mode=incoming.supersede, n=ticket)
                if incoming.supersede and ticket:
                    self.recorder.note("supersedes", c=name, n=ticket, mode=incoming.supersede)
                reply = await self.turn(dice, lock, str(number))
            except DuplicateMessage as duplicate:
                reply = duplicate.reply
            if reply is not None:
                return self.recorder.note("reply", c=name, m=str(number), reply=reply)

    async def turn(self, dice: random.Random, lock: Lock, message: str = "") -> str | None:
        """One turn; what it answered, None if it was lost."""
        since, grant = clock(), None
        try:
            async with lock as grant:
                if grant is not None:
                    return await self.body(dice, grant, message, since)
        except LockLost as error:
            assert grant is not None
            details = {"c": grant.conversation_id, "f": str(grant.fence)}
            self.recorder.note("lost", reason=error.reason, **details)
        return None

    async def body(self, dice: random.Random, grant: Grant, message: str, since: float) -> str:
        self.recorder.write(grant, "begin", v=VERSION, since=since)
        asked = asyncio.create_task(grant.until_superseded())
        try:
            await asyncio.wait([asked], timeout=dice.choice([0, 0.001, 0.003, 0.03]))
        finally:
            asked.cancel()
        messages = [message] if message else []
        if dice.random() < 0.3:
            messages += [name for name, _ in await self.store.collect(grant)]
        grant.ensure_held()
        more = {"m": messages, "v": VERSION, "stop": grant.superseded}
        self.recorder.write(grant, "end", **more)
        reply = f"by {VERSION} under {grant.fence}"
        if messages:
            self.store.answer(grant, dict.fromkeys(messages, reply))
        return reply


def store_on(redis: str) -> ConcurrentRedisLockStore:
    if "://" in redis:
        keys = json.loads(os.environ.get("NEW_STORE", "{}")) if VERSION == "new" else {}
        return ConcurrentRedisLockStore(url=redis, **keys)
    return ConcurrentRedisLockStore(deployment_mode="cluster", endpoints=redis.split(","))


async def main() -> None:
    redis, records, _, seed, *names = sys.argv[1:]
    recorder = Recorder(records)
    recorder.note("runs", v=VERSION, where=ticketlock.__file__)
    async with store_on(redis) as store:
        worker = Worker(store, recorder, names)

        def stop() -> None:
            worker.stopping = True

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        print("ready", flush=True)
        await asyncio.gather(*(worker.task(random.Random(f"{seed} {i}")) for i in range(TASKS)))


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)
    VERSION = sys.argv[3]
    asyncio.run(main())
