"""A run waits for its messages as long as some are handled, and no longer."""

from __future__ import annotations

import asyncio

from ticketlock import InMemoryLockStore
from ticketlock.stress.messages import drained

#: Seconds without an end of a turn after which it gives up.
PATIENCE = 1.5


async def test_a_long_queue_is_waited_for() -> None:
    """It takes twice as long as what is waited for one turn."""
    async with InMemoryLockStore() as store:

        async def turn() -> None:
            async with store.lock("anna"):
                await asyncio.sleep(PATIENCE / 5)

        turns = [asyncio.create_task(turn()) for _ in range(10)]
        await asyncio.sleep(0)
        before = asyncio.get_running_loop().time()
        assert await drained(store, ["anna", "ben"], PATIENCE)
        assert asyncio.get_running_loop().time() - before > PATIENCE
        await asyncio.gather(*turns)


async def test_a_queue_that_does_not_move_is_given_up() -> None:
    async with InMemoryLockStore() as store, store.lock("anna"):
        assert not await drained(store, ["anna", "ben"], 0.5)


async def test_nothing_is_waited_for_where_nothing_is() -> None:
    async with InMemoryLockStore() as store:
        assert await drained(store, ["anna"], 0.5)
