"""Round trips that a turn costs an SQL server, counted where they pass."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

import pytest
from contract_events import user
from integration.test_group_commit_servers import opened
from servers import pgbouncer
from servers.tracker_stores import Stores

from ticketlock.stress.proxy import Proxy

#: (for the claim, for the write): round trips of a new conversation's first turn, and of each later
#: one. docs/operations/capacity.md has them.
TRIPS = {
    "postgres": [(1, 1), (1, 1)],
    "pgbouncer": [(4, 4), (4, 4)],  # BEGIN, the settings, the statement, COMMIT
    "mariadb": [(8, 5), (4, 5)],
}


@pytest.mark.parametrize("server", TRIPS)
async def test_round_trips_of_a_turn(server: str, tracker_sections: Any) -> None:
    """As many for one conversation alone as for twenty that are there at once."""
    backend = "postgres" if server == "pgbouncer" else server
    section = await asyncio.to_thread(tracker_sections, backend)
    with ExitStack() as stack:
        if server == "pgbouncer":
            section = stack.enter_context(pgbouncer.in_front_of(section))
        async with Proxy(int(section["port"])) as proxy:
            stores = Stores(server, {**section, "port": proxy.port})
            watched = await opened(stores)
            for turn in range(1, 12):  # psycopg prepares what it repeats
                await watched.store.append(
                    await watched.store.claim("warm", turn, "x"), [user("one", 1)]
                )

            async def turn(names: list[str], fence: int) -> tuple[int, int]:
                start = proxy.trips
                claims = await watched.claims(*names, fence=fence)
                claimed = proxy.trips
                await watched.appends(*((claim, [user("one", 1)]) for claim in claims))
                return claimed - start, proxy.trips - claimed

            for names in (["alone"], [f"{n:02}" for n in range(20)]):
                assert [await turn(names, fence) for fence in (1, 2)] == TRIPS[server]
            assert watched.alone == 0
            await stores.close()
