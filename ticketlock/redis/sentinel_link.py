"""`SentinelLink`: the link to the master that the sentinels name, for as long as they name it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from redis.asyncio.connection import Connection

from .connect import connect, explain
from .link import Link
from .rights import Rights
from .sentinels import Master, find_master, newest_master
from .settings import RedisSettings

log = logging.getLogger("ticketlock.lock")

#: Seconds between two questions to the sentinels.
ASK = 1.0


class SentinelLink(Link):
    """Leaves a master that was replaced.

    The sentinels make the old master a replica some ten seconds after a failover. Until then it
    accepts writes, unless it has `min-replicas-to-write`, and they are lost. So a link that is
    connected asks them once a second, and connects anew when a later failover than that of its
    master is known.
    """

    #: A failover takes seconds: what comes on top is mostly the pause before the last question.
    longest_backoff = 0.2

    def __init__(
        self, settings: RedisSettings, *, rights: Rights | None = None, **options: Any
    ) -> None:
        self._settings = settings
        self._rights = rights
        self._master: Master | None = None
        self._asking: asyncio.Task[None] | None = None
        super().__init__(self._to_master, lambda error: explain(settings, error), **options)

    @property
    def master(self) -> Master | None:
        """The master that it connected to last, or is about to; None before that."""
        return self._master

    async def _to_master(self) -> Connection:
        master = await find_master(self._settings, self._master)
        connection = await connect(self._settings, rights=self._rights, master=master)
        self._master = master
        if self._asking is None:
            self._asking = self._loop.create_task(self._ask())
        return connection

    async def _ask(self) -> None:
        """Ask the sentinels while there is a connection."""
        while True:
            await asyncio.sleep(ASK)
            master = self._master
            if self._transport is None or master is None:
                continue
            newest = await newest_master(self._settings, ASK)
            if newest is None or master is not self._master or newest.epoch <= master.epoch:
                continue
            if newest[:2] != master[:2]:
                log.warning("the sentinels have replaced %s:%d by %s:%d", *master[:2], *newest[:2])
                self._drop(ConnectionError("the sentinels have replaced this master"))

    def abandon(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        super().abandon()
