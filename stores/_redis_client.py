"""The connection of a `RedisTrackerStore` and its outbox: commands, scripts, errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, NoScriptError, RedisError, ResponseError
from redis.retry import Retry

from ticketlock.errors import TrackerStoreConnectionError, TrackerStoreError
from ticketlock.redis_connect import explain
from ticketlock.redis_settings import RedisSettings
from ticketlock.scripts import load

#: Commands that an ACL user of this store needs.
NEEDED_COMMANDS = (
    "+eval +evalsha +script|load +hello +time +get +del +exists +hget +hmget +hset +hdel +hincrby"
    " +hkeys +pexpire +persist +scan +zadd +zrem +zscan +zrangebyscore"
)

#: What a server that cannot serve now, but may soon, begins its refusal with.
_UNAVAILABLE = ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "READONLY", "OOM", "MISCONF")


class Client:
    """One deployment; connects when it is first used.

    Attributes:
        cluster: keys of different hash tags cannot be in one script.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self.settings = settings
        self.cluster = settings.deployment_mode == "cluster"
        self._client: Any = None
        self._sentinel: Any = None

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
        sentinel, self._sentinel = self._sentinel, None
        for node in sentinel.sentinels if sentinel is not None else ():
            await node.aclose()

    async def script(self, name: str, keys: Sequence[str], *args: Any) -> Any:
        script = load(name)
        words = (len(keys), *keys, *args)
        try:
            return await self.command("EVALSHA", script.sha, *words)
        except NoScriptError:
            return await self.command("EVAL", script.source, *words)

    async def command(self, *words: Any) -> Any:
        with self.seam():
            return await self.live().execute_command(*words)

    async def of_each(self, keys: Sequence[str], *words: Any) -> list[Any]:
        """The answers to one command, put to each key; not in one step."""
        if not keys:
            return []
        with self.seam():
            if self.cluster:
                pipeline = self.live().pipeline()
            else:
                pipeline = self.live().pipeline(transaction=False)
            for key in keys:
                name = key.encode(errors="surrogateescape")
                pipeline.execute_command(words[0], name, *words[1:])
            answers: list[Any] = await pipeline.execute()
            return answers

    @contextmanager
    def seam(self) -> Iterator[None]:
        """Translate redis-py's errors. NoScriptError passes: it is no failure."""
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
        # What is repeated after a broken connection finds what it did the first time.
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
        timeouts = {key: kwargs[key] for key in ("socket_timeout", "socket_connect_timeout")}
        self._sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py
            list(settings.endpoints), sentinel_kwargs={**timeouts, "retry": kwargs["retry"]}
        )
        return self._sentinel.master_for(settings.sentinel_service, **kwargs)


def _explained(settings: RedisSettings, error: Exception) -> TrackerStoreError:
    text = str(error)
    where = f"Redis at {settings.address}"
    if isinstance(error, NoPermissionError) or "ACL failure" in text or "executing the" in text:
        return TrackerStoreConnectionError(
            f"{where}: the user lacks rights: allow {NEEDED_COMMANDS} "
            f"and the keys {settings.prefixed('tracker:')}* and "
            f"{settings.prefixed('tracker_outbox:')}* ({text})"
        )
    if isinstance(error, ResponseError) and not text.startswith(_UNAVAILABLE):
        advice = "the key is of another program; set key_prefix" if "WRONGTYPE" in text else ""
        return TrackerStoreError(f"{where}: {advice or 'it refused the command'} ({text})")
    return TrackerStoreConnectionError(str(explain(settings, error)[0]))
