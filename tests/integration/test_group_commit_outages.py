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
