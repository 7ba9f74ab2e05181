"""The connection of a `RedisTrackerStore` and its outbox: commands, scripts, errors.

Except in a cluster, scripts are sent over a `Link`, as those of the locks are: the claims and writes
of one tick of the event loop make one packet, at half the cost of redis-py. redis-py sends the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hiredis
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, NoScriptError, RedisError, ResponseError
from redis.retry import Retry

from ticketlock import process
from ticketlock.errors import (
    LockStoreConnectionError,
    TrackerStoreConnectionError,
    TrackerStoreError,
)
from ticketlock.redis.connect import connect, explain
from ticketlock.redis.link import Link
from ticketlock.redis.scripts import load
from ticketlock.redis.settings import RedisSettings

#: Commands that an ACL user of this store needs.
NEEDED_COMMANDS = (
    "+eval +evalsha +script|load +hello +time +get +del +exists +hget +hmget +hset +hdel +hincrby"
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
    """The client of one deployment; it connects at its first use.

    Attributes:
        cluster: whether it is a cluster: then one script cannot use keys of several hash tags.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self.settings = settings
        self.cluster = settings.deployment_mode == "cluster"
        self._client: Any = None
        self._sentinel: Any = None
        self._link: Link | None = None
        self._where: Any = None

    async def close(self) -> None:
        link, self._link = self._link, None
        if link is not None and self._where == _here():
            await link.close()
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
        sentinel, self._sentinel = self._sentinel, None
        for node in sentinel.sentinels if sentinel is not None else ():
            await node.aclose()

    async def script(self, name: str, keys: Sequence[str], *args: Any) -> Any:
        script = load(name)
        rest = (len(keys), *keys, *args)
        if not self.cluster:
            return await self._call("EVALSHA", script.sha, *rest)
        try:
            return await self.command("EVALSHA", script.sha, *rest)
        except NoScriptError:
            return await self.command("EVAL", script.source, *rest)

    async def reach(self, key: str) -> None:
        """Connect and run a command."""
        await (self.command("EXISTS", key) if self.cluster else self._call("EXISTS", key))

    async def _call(self, *args: Any) -> Any:
        if self._link is None or self._where != _here():
            self._link, self._where = self._make_link(), _here()
        try:
            return await self._link.call(args)
        except LockStoreConnectionError as error:
            raise _explained(self.settings, error.__cause__ or error) from error

    def _make_link(self) -> Link:
        settings = self.settings
        return Link(
            lambda: connect(settings),
            lambda error: explain(settings, error),
            prologue=[("SCRIPT", "LOAD", load(name).source) for name in _SCRIPTS],
            timeout=settings.socket_timeout,
        )

    async def command(self, *args: Any) -> Any:
        with self.translated_errors():
            return await self.live().execute_command(*args)

    async def of_each(self, keys: Sequence[str], command: str, *args: Any) -> list[Any]:
        """The results of a command for each key; not atomic."""
        if not keys:
            return []
        with self.translated_errors():
            if self.cluster:
                pipeline = self.live().pipeline()
            else:
                pipeline = self.live().pipeline(transaction=False)
            for key in keys:
                name = key.encode(errors="surrogateescape")
                pipeline.execute_command(command, name, *args)
            answers: list[Any] = await pipeline.execute()
            return answers

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Translate redis-py's errors, except NoScriptError, which the caller handles."""
        try:
            yield
        except NoScriptError:
            raise
        except (RedisError, OSError) as error:
            raise _explained(self.settings, error) from error

    def live(self) -> Any:
        if self._client is None:
            self._client = self._connect()
        return self._client

    def _connect(self) -> Any:
        settings = self.settings
        kwargs = settings.connection_kwargs()
        # Commands may be repeated after a broken connection: they have the same effect again.
        kwargs["retry"] = Retry(
            ExponentialWithJitterBackoff(cap=0.5, base=0.02), 3, (RedisConnectionError,)
        )
        if settings.use_ssl:
            kwargs["ssl"] = True
        if "path" in kwargs:
            kwargs["unix_socket_path"] = kwargs.pop("path")
        if settings.deployment_mode == "standard":
            return Redis(**kwargs)
        host, port = kwargs.pop("host"), kwargs.pop("port")
        if self.cluster:
            del kwargs["db"]
            nodes = [ClusterNode(*node) for node in settings.endpoints or ((host, port),)]
            return RedisCluster(startup_nodes=nodes, **kwargs)
        asking = {**settings.sentinel_kwargs(), "retry": kwargs["retry"]}
        if settings.use_ssl:
            asking["ssl"] = True
        self._sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py
            list(settings.endpoints), sentinel_kwargs=asking
        )
        return self._sentinel.master_for(settings.sentinel_service, **kwargs)


def _here() -> Any:
    """The process and event loop: a link cannot be used in another one."""
    return process.pid, asyncio.get_running_loop()


def _explained(settings: RedisSettings, error: BaseException) -> TrackerStoreError:
    text = str(error)
    where = f"Redis at {settings.address}"
    refused = isinstance(error, NoPermissionError) or text.startswith("NOPERM")
    if refused or "ACL failure" in text or "executing the" in text:
        return TrackerStoreError(
            f"{where}: the user lacks rights: allow {NEEDED_COMMANDS} "
            f"and the keys {settings.prefixed('tracker:')}* and "
            f"{settings.prefixed('tracker_outbox:')}* ({text})"
        )
    if isinstance(error, (ResponseError, hiredis.ReplyError)) and not text.startswith(_UNAVAILABLE):
        advice = "the key belongs to another program: set key_prefix" if "WRONGTYPE" in text else ""
        return TrackerStoreError(f"{where}: {advice or 'it refused the command'} ({text})")
    return TrackerStoreConnectionError(str(explain(settings, error)[0]))
