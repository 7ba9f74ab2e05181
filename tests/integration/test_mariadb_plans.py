"""On MariaDB a turn and a read take the rows of the session, and leave the rest of the index."""

from __future__ import annotations

import asyncio
from typing import Any

import aiomysql
import pytest
from contract.test_tracker_fence import session, slot
from contract_events import user
from servers.tracker_stores import Stores

#: Counters of the server: index entries that it went through, and those that it compared.
COUNTERS = ("Handler_read_next", "Handler_icp_attempts")


async def entries(section: dict[str, Any]) -> int:
    """How many index entries the server has read since it started."""
    login = {"user": section["username"], "password": section["password"]}
    connection = await aiomysql.connect(host=section["url"], port=section["port"], **login)
    async with connection.cursor() as cursor:
        await cursor.execute("SHOW GLOBAL STATUS LIKE 'Handler%'")
        found = dict(await cursor.fetchall())
    connection.close()
    return sum(int(found.get(name, 0)) for name in COUNTERS)


@pytest.mark.parametrize("pooled", [True, False], ids=["together", "alone"])
async def test_long_histories_are_not_gone_through(
    tracker_sections: Any, pooled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two conversations take turns: both indexes have about as many rows to offer then."""
    if not pooled:
        monkeypatch.setattr("ticketlock.stores.sql.mysql.skips_locked", lambda dialect: False)
    section = await asyncio.to_thread(tracker_sections, "mariadb")
    stores = Stores("mariadb", section)
    store = stores.open()
    for name, count in (("short", 10), ("long", 10_000)):
        claim = await store.claim(name, 1, "filler")
        for start in range(0, count, 500):
            await store.append(
                claim, [user("x" * 20, n) for n in range(start, start + 500)][:count]
            )
        await store.append(claim, session(1))
    before = await entries(section)
    for fence in range(2, 32):
        for name in ("long", "short"):
            claim = await store.claim(name, fence, "x")
            await store.append(claim, [*session(fence), user("h", fence), slot("a", 1)])
            tracker = await store.retrieve(name)
            assert tracker is not None
            assert len(tracker.events) == 5
    read = await entries(section) - before
    await stores.close()
    assert read / 60 < 100, f"{read} index entries in 60 turns"
