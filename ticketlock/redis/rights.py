"""The rights that an ACL user needs: the command that grants them, and a check of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis.asyncio.connection import Connection
from redis.crc import key_slot
from redis.exceptions import BusyLoadingError, NoPermissionError, ResponseError

from ..errors import LockStoreConnectionError
from .durability import Durability
from .settings import RedisSettings
from .text import decoded

#: Commands that an ACL user of the lock stores needs on one server with database 0.
NEEDED_COMMANDS = (
    "+eval +evalsha +script|load +hello +time +subscribe +publish +get +set +incr +pexpire +del"
    " +hget +hmget +hgetall +hset +hdel +zadd +zscore +zcard +zcount +zrange +zrangebyscore"
    " +zpopmin +zrem +exists +pttl +hrandfield +zremrangebyscore +persist +hlen +hkeys +hexists"
    " +hincrby +rpush +llen +lindex +lrange +ltrim +lrem +lpop"
)

#: Commands by which bells stay on their node of a cluster, from Redis 7 on. Before, these words
#: would be unknown; without them bells are published.
SHARDED_COMMANDS = "+ssubscribe +spublish"

#: Commands that a user of the sentinels needs.
SENTINEL_COMMANDS = "+hello +sentinel|master"


def grant_line(settings: RedisSettings) -> str:
    """The command that grants the user its rights; in a cluster, to be run on each node."""
    prefix = settings.prefixed("")
    args = [
        "ACL SETUSER", settings.username or "default", f"~{prefix}*lock:*",
        f"&{prefix}*concurrent_lock:bell:*", NEEDED_COMMANDS,
    ]  # fmt: skip
    if settings.deployment_mode == "cluster":
        args.append("+cluster|slots +asking")
    elif settings.db:
        args.append("+select")
    return " ".join(args)


def advice(settings: RedisSettings) -> str:
    """Advice for a user who lacks rights."""
    where = ""
    if settings.deployment_mode == "cluster":
        where = f" on each node, from Redis 7 on {SHARDED_COMMANDS} too,"
    return f"the user lacks rights: grant them{where} with {grant_line(settings)}"


class Rights:
    """Checks on new connections that the user has the rights, until one has succeeded.

    Args:
        script: makes the args of the check; its number varies the slot of its key.
        durability: what the server must be able to wait for.
    """

    def __init__(
        self,
        settings: RedisSettings,
        script: Callable[[int], tuple[Any, ...]],
        durability: Durability | None = None,
    ) -> None:
        self._settings = settings
        self._script = script
        self._durability = durability
        self._granted: set[str] = set()

    async def check(
        self, connection: Connection, place: str, has: Callable[[int], bool] | None = None
    ) -> None:
        """Raise LockStoreConnectionError if the user of a connection lacks a right.

        Args:
            place: the server, as host:port.
            has: in a cluster, whether the server owns a slot.
        """
        if place in self._granted:
            return
        tag = next((i for i in range(1000) if has is None or has(self._slot(i))), None)
        if tag is None:
            return  # it owns no slots
        try:
            if has is not None:
                await connection.send_command("ASKING")
                await connection.read_response()
            await connection.send_command(*self._script(tag))
            refused = await connection.read_response()
        except NoPermissionError:
            raise
        except (ResponseError, BusyLoadingError):
            return  # it cannot check now; a missing right will show when it is needed
        if refused:
            texts = "; ".join(decoded(one) for one in refused)
            raise LockStoreConnectionError(
                f"Redis at {self._settings.address}: {advice(self._settings)} ({texts})"
            )
        if self._durability is not None:
            await self._try_to_wait(connection, self._durability)
        self._granted.add(place)

    async def _try_to_wait(self, connection: Connection, durability: Durability) -> None:
        cluster = self._settings.deployment_mode == "cluster"
        for trial in durability.trials(cluster=cluster):
            await connection.send_command(*trial)
            try:
                await connection.read_response()
            except ResponseError as error:
                refused = durability.refused(trial, error, self._settings.username)
                if refused is not None:
                    what, do = refused
                    where = f"Redis at {self._settings.address}"
                    raise LockStoreConnectionError(f"{where}: {what}: {do} ({error})") from error

    def _slot(self, tag: int) -> int:
        return key_slot(self._script(tag)[3].encode())
