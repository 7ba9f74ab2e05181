"""Databases behind a network that forgets idle connections: what is sent on them is never answered."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest
from contract_events import user
from ticketlock.brokers.sql import SQLEventBroker
from ticketlock.stores.event_service.database import SQLEventDatabase
from ticketlock.stores.sql import SQLTrackerStore

from ticketlock.errors import TrackerStoreConnectionError
from ticketlock.event_service.database import EventDatabaseError
from ticketlock.publishing.message import BrokerMessage
from ticketlock.settings.section import Section
from ticketlock.stress.proxy import Proxy

pytestmark = pytest.mark.parametrize("backend", ["postgres", "mariadb"])


async def section_of(tracker_sections: Any, backend: str) -> dict[str, Any]:
    section = dict(await asyncio.to_thread(tracker_sections, backend))
    section.pop("type")
    return section


async def turns(store: SQLTrackerStore, number: int, fence: int) -> None:
    """All at once, so that they use several connections."""

    async def turn(name: str) -> None:
        claim = await store.claim(name, fence, "me")
        await store.append(claim, [user("hello", fence)])

    await asyncio.gather(*(turn(f"c{number}") for number in range(number)))


async def test_a_pool_that_is_forgotten(tracker_sections: Any, backend: str) -> None:
    """One turn fails at its time limit; those after it use connections that were made then."""
    section = await section_of(tracker_sections, backend)
    async with Proxy(section["port"]) as proxy:
        store = SQLTrackerStore(**{**section, "port": proxy.port, "timeout": 1})
        await store.connect()
        await asyncio.gather(*(store.retrieve(f"c{number}") for number in range(8)))
        await turns(store, 8, 1)
        before = proxy.accepted
        assert before > 2
        proxy.swallow()
        with pytest.raises(TrackerStoreConnectionError, match="no answer within 1 s"):
            await turns(store, 1, 2)
        for fence in range(3, 6):
            await turns(store, 8, fence)
        await asyncio.gather(*(store.retrieve(f"c{number}") for number in range(8)))
        made = proxy.accepted - before
        await turns(store, 8, 6)
        assert 0 < proxy.accepted - before <= made + 1  # those are kept again
        await store.close()


async def test_tables_of_events_that_are_forgotten(tracker_sections: Any, backend: str) -> None:
    """The same of a broker, and of the event service's database."""
    section = await section_of(tracker_sections, backend)
    other = await section_of(tracker_sections, backend)
    async with Proxy(section["port"]) as proxy:
        broker = SQLEventBroker(**{**section, "port": proxy.port})
        database = SQLEventDatabase(Section({**other, "port": proxy.port, "timeout": 1}, "here"))
        message = BrokerMessage.of_event({**user("hello", 1), "sender_id": "a"})
        await broker.deliver([message])
        await database.open()
        await asyncio.gather(*(database.gaps() for _ in range(5)))
        proxy.swallow()
        (outcome,) = await broker.deliver([message], 1)
        assert outcome.status == "retry"
        with pytest.raises(EventDatabaseError, match="no answer within 1 s"):
            await database.gaps()
        for _ in range(3):
            (outcome,) = await broker.deliver([message], 20)
            assert outcome.status == "delivered"
            await asyncio.gather(*(database.gaps() for _ in range(5)))
        await broker.close()
        await database.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has all of them")
async def test_idle_connections_are_kept(tracker_sections: Any, backend: str) -> None:
    """The system says something on them before a firewall forgets them."""
    section = await section_of(tracker_sections, backend)
    async with Proxy(section["port"]) as proxy, SQLTrackerStore(**{**section, "port": proxy.port}):
        found = set()
        for name in os.listdir("/proc/self/fd"):
            if (sent := _to(int(name), proxy.port)) is not None:
                found.add(sent)
    assert found == {(1, 45, 10, 3, 20_000)}


def _to(number: int, port: int) -> tuple[int, ...] | None:
    """The settings of a file that is a connection to the port."""
    try:
        one = socket.socket(fileno=os.dup(number))
    except OSError:  # it is no socket, or no longer open
        return None
    with one:
        try:
            if one.getpeername()[1] != port:
                return None
        except (OSError, IndexError):
            return None
        names = "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"
        on = one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        tcp = [one.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
        return on, *tcp
