"""Group commit on connections that are dead, which a load balancer has forgotten."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from servers.tracker_stores import Stores
from ticketlock.stores.sql import batches, together

from ticketlock.stress.proxy import Proxy


@pytest.fixture(params=["postgres", "mariadb"])
def stores(request: pytest.FixtureRequest, tracker_sections: Any) -> Stores:
    return Stores(request.param, tracker_sections(request.param))


async def test_batches_without_an_answer_hold_up_no_others(stores: Stores) -> None:
    """All writers have a dead connection of the pool: further turns use new ones."""
    async with Proxy(int(stores.section["port"])) as proxy:
        store: Any = stores.open(port=proxy.port, timeout=20.0)
        await store.claim("first", 1, "x")
        claims = store._together.claims
        pool = [await store._engine.connect() for _ in range(together.WRITERS)]
        for connection in pool:
            await connection.close()
        proxy.swallow()
        stuck: list[asyncio.Future[Any]] = []
        for n in range(together.WRITERS):
            stuck.append(asyncio.ensure_future(store.claim(f"stuck {n}", 1, "x")))
            while claims._taken <= n + 1:  # that of "first" is one
                await asyncio.sleep(0.01)
        assert claims._busy == together.WRITERS
        for turn in range(2):
            names = [f"{turn} {n}" for n in range(batches.MAX_OPERATIONS + 1)]
            further = [asyncio.ensure_future(store.claim(name, 1, "x")) for name in names]
            await asyncio.wait(further, timeout=10)
            assert all(claim.done() for claim in further)
            assert {claim.result().fence for claim in further} == {1}
        assert not any(claim.done() for claim in stuck)
        for claim in stuck:
            claim.cancel()
        proxy.reset()
        await asyncio.wait(stuck)
        await stores.close()
        assert claims._busy == 0


class ResetWhileConnecting(Proxy):
    """Resets so many of the connections that come next, and then lets them through."""

    left = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.left -= 1
        if self.left < 0:
            await super()._serve(reader, writer)
        else:
            writer.transport.abort()


@pytest.mark.parametrize("broken", [True, False], ids=["after others broke", "a first one"])
async def test_a_reset_while_connecting_fails_no_turn(stores: Stores, broken: bool) -> None:
    """Nothing was done on such a connection, so it is made once more: for a batch, and alone."""
    async with ResetWhileConnecting(int(stores.section["port"])) as proxy:
        store: Any = stores.open(port=proxy.port)
        held = [await store.claim(f"{n}", 1, "x") for n in range(8)]
        if broken:
            proxy.reset()
        else:
            await store._engine.dispose()
        proxy.left = 2
        claims = await asyncio.gather(*(store.claim(claim.sender_id, 2, "x") for claim in held))
        assert [claim.fence for claim in claims] == [2] * 8
        assert proxy.left < 0
        await stores.close()
