"""A process that sends what waits, until it is ended: a replica without a bot.

It looks at each conversation every 50 ms, as the index of what waits lets a replica do.
"""

from __future__ import annotations

import asyncio
import sys

from servers.deliveries import RedisBox

from ticketlock.deliveries.callback import Callback
from ticketlock.deliveries.sender import Sender
from ticketlock.deliveries.settings import CallbackSettings

#: Seconds: short ones, so that take-overs are quick.
LEASE, TIMEOUT = 2.0, 1.0


async def main(redis: str, prefix: str, url: str, *conversations: str) -> None:
    settings = CallbackSettings(
        url=url, allow_private=True, timeout=TIMEOUT, max_pause=1.0, max_tries=1000
    )
    async with RedisBox.on(redis, prefix) as box:
        sender = Sender(box.store, {"callback": Callback(settings)}, lease=LEASE)
        print("ready", flush=True)
        while True:
            for name in conversations:
                sender.due(name)
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
