"""The connection of a `RedisTrackerStore` and its outbox: commands, scripts, errors.

All of them are sent over a link, as those of the locks are: the claims and writes of one tick of
the event loop make one packet. A link repeats what a broken connection left without an answer:
each command has the same effect again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import hiredis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from ticketlock import process
from ticketlock.errors import (
    LockStoreConnectionError,
    TrackerStoreConnectionError,
    TrackerStoreError,
)
from ticketlock.redis.cluster import ClusterLink
from ticketlock.redis.connect import explain
from ticketlock.redis.link import Link
from ticketlock.redis.links import open_link
from ticketlock.redis.scripts import load
from ticketlock.redis.settings import RedisSettings

#: Commands that an ACL user of this store needs.
NEEDED_COMMANDS = (
    "+evalsha +script|load +hello +time +get +del +exists +hget +hmget +hset +hdel +hincrby"
    " +hkeys +pexpire +persist +scan +zadd +zrem +zscan +zrangebyscore"
)

#: Scripts that a link loads when it connects, and again if the server has lost them.
_SCRIPTS = (
    "tracker_read", "tracker_write", "tracker_adopt", "tracker_drop", "tracker_delete",
    "outbox_take", "outbox_advance", "outbox_release", "outbox_list", "outbox_unlist",
)  # fmt: skip

#: First words of a server's errors that may pass.
_UNAVAILABLE = ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "READONLY", "OOM", "MISCONF")


class RedisClient:
    """The link to one deployment; it connects at its first use.

    Attributes:
        cluster: whether it is a cluster: then one script cannot use keys of several hash tags.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self.settings = settings
        self.cluster = settings.deployment_mode == "cluster"
        self._translated = _Translated(settings)
        self._link: Link | ClusterLink | None = None
        self._where: Any = None

    async def close(self) -> None:
        link, self._link = self._link, None
        if link is not None and self._where == _here():
            await link.close()

    async def script(self, name: str, keys: Sequence[str], *args: Any) -> Any:
        # As texts, which hiredis packs ten times as fast as numbers.
        words = [arg if isinstance(arg, (str, bytes)) else str(arg) for arg in args]
        return await self.command("EVALSHA", load(name).sha, str(len(keys)), *keys, *words)

    async def command(self, *args: Any) -> Any:
        with self._translated:
            return await self._live().call(args)

    async def of_each(self, keys: Sequence[str], command: str, *args: Any) -> list[Any]:
        """The results of a command for each key; not atomic."""
        names = (key.encode(errors="surrogateescape") for key in keys)
        return await asyncio.gather(*(self.command(command, name, *args) for name in names))

    async def scan(self, pattern: str, kind: str) -> AsyncIterator[list[bytes]]:
        """The keys of a type whose names match, in pages; some twice."""
        link = self._live()
        with self._translated:
            nodes = await link.masters() if isinstance(link, ClusterLink) else [link]
        for node in nodes:
            cursor = b"0"
            while True:
                args = ("SCAN", cursor, "MATCH", pattern, "COUNT", 1000, "TYPE", kind)
                with self._translated:
                    cursor, keys = await node.call(args)
                yield keys
                if cursor == b"0":
                    break

    def _live(self) -> Link | ClusterLink:
        if self._link is None or self._where != _here():
            self._link, self._where = self._make_link(), _here()
        return self._link

    def _make_link(self) -> Link | ClusterLink:
        prologue = [("SCRIPT", "LOAD", load(name).source) for name in _SCRIPTS]
        return open_link(self.settings, prologue=prologue, timeout=self.settings.socket_timeout)


class _Translated:
    """Translates the errors of Redis in its block."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (LockStoreConnectionError, RedisError, OSError)):
            raise _explained(self._settings, error.__cause__ or error) from error


def _here() -> Any:
    """The process and event loop: a link cannot be used in another one."""
    return process.pid, asyncio.get_running_loop()


def _explained(settings: RedisSettings, error: BaseException) -> TrackerStoreError:
    text = str(error)
    where = f"Redis at {settings.address}"
    refused = isinstance(error, NoPermissionError) or text.startswith("NOPERM")
    if refused or "ACL failure" in text or "executing the" in text:
        more = " +cluster|slots +asking" if settings.deployment_mode == "cluster" else ""
        return TrackerStoreError(
            f"{where}: the user lacks rights: allow {NEEDED_COMMANDS}{more} "
            f"and the keys {settings.prefixed('tracker:')}* and "
            f"{settings.prefixed('tracker_outbox:')}* ({text})"
        )
    if isinstance(error, (ResponseError, hiredis.ReplyError)) and not text.startswith(_UNAVAILABLE):
        advice = "the key belongs to another program: set key_prefix" if "WRONGTYPE" in text else ""
        return TrackerStoreError(f"{where}: {advice or 'it refused the command'} ({text})")
    return TrackerStoreConnectionError(str(explain(settings, error)[0]))
