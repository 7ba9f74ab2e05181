"""What an ACL user needs: the line that grants it, and a look whether it is granted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis.asyncio.connection import Connection
from redis.crc import key_slot
from redis.exceptions import BusyLoadingError, NoPermissionError, ResponseError

from ..errors import LockStoreConnectionError
from .settings import RedisSettings

#: Commands that an ACL user of the lock stores needs on one server with database 0.
NEEDED_COMMANDS = (
    "+eval +evalsha +script|load +hello +time +subscribe +publish +get +set +incr +pexpire +del"
    " +hget +hmget +hgetall +hset +hdel +zadd +zscore +zcard +zcount +zrange +zrangebyscore"
    " +zpopmin +zrem +exists +pttl +hrandfield +zremrangebyscore"
)

#: Commands that a user of the sentinels needs.
SENTINEL_COMMANDS = "+hello +sentinel|master"


def grant_line(settings: RedisSettings) -> str:
    """The command that grants the settings' user what it needs; in a cluster, on each node."""
    prefix = settings.prefixed("")
    words = [
        "ACL SETUSER", settings.username or "default", f"~{prefix}*lock:*",
        f"&{prefix}*concurrent_lock:bell:*", NEEDED_COMMANDS,
    ]  # fmt: skip
    if settings.deployment_mode == "cluster":
        words.append("+cluster|slots +asking")
    elif settings.db:
        words.append("+select")
    return " ".join(words)


def advice(settings: RedisSettings) -> str:
    """What to do about a user who lacks rights."""
    where = " on each node" if settings.deployment_mode == "cluster" else ""
    return f"the user lacks rights: grant them{where} with {grant_line(settings)}"


class Rights:
    """Looks on new connections whether the user may do all that turns need, until it may.

    Args:
        script: the words that try it; its argument makes a key in some slot of a cluster.
    """

    def __init__(self, settings: RedisSettings, script: Callable[[int], tuple[Any, ...]]) -> None:
        self._settings = settings
        self._script = script
        self._granted: set[str] = set()

    async def check(
        self, connection: Connection, place: str, has: Callable[[int], bool] | None = None
    ) -> None:
        """Raise LockStoreConnectionError if the user of a connection lacks a right.

        Args:
            place: names the server.
            has: whether a slot is the server's, in a cluster.
        """
        if place in self._granted:
            return
        tag = next((i for i in range(1000) if has is None or has(self._slot(i))), None)
        if tag is None:
            return  # it has no slots
        try:
            if has is not None:
                await connection.send_command("ASKING")
                await connection.read_response()
            await connection.send_command(*self._script(tag))
            refused = await connection.read_response()
        except NoPermissionError:
            raise
        except (ResponseError, BusyLoadingError):
            return  # it cannot tell now; what it cannot do will be seen when it is needed
        if refused:
            texts = "; ".join(_text(one) for one in refused)
            raise LockStoreConnectionError(
                f"Redis at {self._settings.address}: {advice(self._settings)} ({texts})"
            )
        self._granted.add(place)

    def _slot(self, tag: int) -> int:
        return key_slot(self._script(tag)[3].encode())


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
