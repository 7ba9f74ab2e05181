"""A process with an inbox in a cluster, for the roll: `python inbox_roll_worker.py ROLE PREFIX NODES`

`serve` prints "ready", and serves until it is ended; for each message it prints the seconds since
that was submitted. `accept` submits messages without end, each to a conversation of its own, and
awaits none. It must run on the version before too.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from servers.inboxes import Desk

from ticketlock import ConcurrentRedisLockStore
from ticketlock.inbox.redis import RedisInbox
from ticketlock.inbox.submission import Submission

#: Most seconds between two messages; two looks are 0.6 to 0.9 apart.
PAUSE = 0.3


async def main(role: str, prefix: str, nodes: str) -> None:
    async with ConcurrentRedisLockStore(
        deployment_mode="cluster", endpoints=nodes.split(","), key_prefix=prefix
    ) as store:
        desk = Desk(RedisInbox(store))
        for i in range(50):  # connected to each node
            async with store.lock(f"c{i}"):
                pass
        if role == "serve":
            desk.on_handled = lambda text: print(time.monotonic() - float(text), flush=True)
            desk.serve()
            await asyncio.sleep(1.5)  # it has looked twice
            print("ready", flush=True)
        for i in itertools.count() if role == "accept" else ():
            await asyncio.sleep(random.random() * PAUSE)
            await desk.inbox.submit(Submission(f"m{i}", "1", str(time.monotonic())))
        await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
