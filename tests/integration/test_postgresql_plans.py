"""On PostgreSQL a turn and a read take the rows of the session, whatever the server knows of the table."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from contract.test_tracker_fence import session, slot
from contract_events import user
from servers.tracker_stores import Stores

from ticketlock.tracker.store import TrackerStore

#: Index entries and rows of `events` that the server has read. A process tells them when it ends.
_READ = """
SELECT (SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes WHERE relname = 'events')
     + (SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_user_tables WHERE relname = 'events')
"""


def connect(section: dict[str, Any]) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=section["url"], port=section["port"], dbname=section["db"],
        user=section["username"], password=section["password"], autocommit=True,
    )  # fmt: skip


async def turns(store: TrackerStore, fences: range) -> None:
    for fence in fences:
        for name in ("long", "short"):
            claim = await store.claim(name, fence, "x")
            await store.append(claim, [*session(fence), user("h", fence), slot("a", 1)])
            tracker = await store.retrieve(name)
            assert tracker is not None
            assert len(tracker.events) == 5


#: Another program writes a long history, and a few short ones.
_FILL = """
INSERT INTO events (sender_id, type_name, timestamp, data)
SELECT CASE WHEN n > 100 THEN 'long' ELSE 'other' || n % 20 END, 'user', n,
  json_build_object('event', 'user', 'text', 'hi', 'timestamp', n)
FROM generate_series(1, 50100) AS n
"""


@pytest.mark.parametrize("known", [True, False], ids=["analyzed", "as when it was empty"])
async def test_long_histories_are_not_gone_through(tracker_sections: Any, known: bool) -> None:
    """By default the server may keep a plan of when the table was small, until it is analyzed."""
    section = await asyncio.to_thread(tracker_sections, "postgres")
    stores = Stores("postgres", section)
    store = stores.open()
    await store.connect()
    with connect(section) as connection:
        # Before any turn: it makes the server forget its plans.
        connection.execute("ALTER TABLE events SET (autovacuum_enabled = false)")
        await turns(store, range(1, 20))
        connection.execute(_FILL)
        if known:
            connection.execute("ANALYZE")
        await store.append(await store.claim("long", 1000, "x"), session(1000))
        await turns(store, range(1001, 1041))
        await stores.close()
        await asyncio.sleep(0.5)
        (read,) = connection.execute(_READ).fetchone() or (0,)
    assert 50_000 < read < 250_000, f"{read} entries and rows: the first turn needs 50,000"


async def test_no_plan_is_kept(tracker_sections: Any) -> None:
    """One of a small table would go through all of a large one, until that is analyzed."""
    stores = Stores("postgres", await asyncio.to_thread(tracker_sections, "postgres"))
    store: Any = stores.open()
    await store.connect()
    async with store._engine.connect() as connection:
        (mode,) = (await connection.exec_driver_sql("SHOW plan_cache_mode")).one()
    assert mode == "force_custom_plan"
    await stores.close()
