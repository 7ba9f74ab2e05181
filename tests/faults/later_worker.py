"""A process that serves an inbox, and says what it handles, until it is ended.

With `stop` it stands still between submitting a due message and removing it.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from servers.inboxes import Desk

from ticketlock.inbox import mover
from ticketlock.inbox.redis import RedisInbox


async def main(redis: str, prefix: str, how: str) -> None:
    mover.LEASE = 2000
    async with Desk.on(redis, prefix) as desk:
        assert isinstance(desk.inbox, RedisInbox)
        desk.on_handled = lambda text: print("handled", text, flush=True)
        desk.inbox.engine()
        if how == "stop":
            desk.inbox.later.done = _stand_still  # type: ignore[method-assign]
        desk.serve()
        print("ready", flush=True)
        await asyncio.Event().wait()


async def _stand_still(*_: Any) -> None:
    print("submitted", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
