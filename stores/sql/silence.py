"""Connections that a firewall or load balancer has forgotten: nothing that is sent on them arrives.

The system sends a packet now and then on those that are idle, so that they are not forgotten, and
gives one up where no packet arrives. Where that is not noticed, one operation ends at its time
limit, and after it none is sent on a connection that was open at that time.
"""

from __future__ import annotations

import socket
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from ticketlock.process import clock

from .settings import SQLSettings

#: Seconds without traffic until the first packet, between two of them, and how many may be lost.
#: Firewalls forget a connection after some minutes.
IDLE, PAUSE, LOST = 45, 10, 3
#: Seconds after which data that is not received breaks a connection.
UNRECEIVED = 20

#: Key of a connection's `info`: when it was made.
_MADE = "ticketlock_made"

#: Engine -> when an operation had no answer.
_doubted: WeakKeyDictionary[sa.Engine, float] = WeakKeyDictionary()


def of_psycopg(settings: SQLSettings) -> dict[str, Any]:
    """Arguments of the driver, where the settings have none."""
    from psycopg import pq

    wanted = {"keepalives_idle": IDLE, "keepalives_interval": PAUSE, "keepalives_count": LOST}
    if pq.version() >= 120_000:  # an older library refuses what it does not know
        wanted["tcp_user_timeout"] = 1000 * UNRECEIVED
    return {name: value for name, value in wanted.items() if name not in settings.url.query}


def doubt(engine: sa.Engine) -> None:
    """An operation had no answer in time: use no connection of the pool that is open now."""
    _doubted[engine] = clock()


def listen(engine: sa.Engine) -> None:
    """Set up each new connection, and look at those that the pool gives."""

    @sa.event.listens_for(engine, "connect")
    def connected(connection: Any, record: Any) -> None:
        record.info[_MADE] = clock()
        if (transport := _transport(connection.driver_connection)) is not None:
            _keep(transport.get_extra_info("socket"))

    @sa.event.listens_for(engine, "checkout")
    def given(connection: Any, record: Any, _: Any) -> None:
        if record.info[_MADE] < _doubted.get(engine, 0.0):
            raise sa.exc.DisconnectionError("it may be dead")  # the pool makes another


def _transport(connection: Any) -> Any:
    """That of asyncpg, aiomysql or asyncmy, which have no settings for it."""
    writer = getattr(connection, "_writer", None)
    return getattr(connection, "_transport", None) or getattr(writer, "transport", None)


def _keep(connection: Any) -> None:
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    wanted = {"TCP_KEEPIDLE": IDLE, "TCP_KEEPINTVL": PAUSE, "TCP_KEEPCNT": LOST}
    for name, value in {**wanted, "TCP_USER_TIMEOUT": 1000 * UNRECEIVED}.items():
        if hasattr(socket, name):  # not every system has all
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
