"""Asking the sentinels for the master: all at once, because one may hang."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from ..errors import LockStoreConnectionError
from .attempts import first
from .rights import SENTINEL_COMMANDS
from .settings import RedisSettings
from .text import decoded


class Master(NamedTuple):
    """The master that a sentinel names.

    Attributes:
        epoch: of the failover that made it the master; a later one has a higher epoch.
    """

    host: str
    port: int
    epoch: int


async def find_master(settings: RedisSettings, known: Master | None = None) -> Master:
    """The master that the first sentinel to answer reports as alive.

    Args:
        known: the one that was used last. One of a later failover is taken though the sentinel has
            no connection to it yet, which takes it a part of a second.

    Raises LockStoreConnectionError, RedisError, OSError.
    """
    return await first(_ask(settings, *place, known) for place in settings.endpoints)


async def newest_master(settings: RedisSettings, seconds: float) -> Master | None:
    """The master of the last failover that any sentinel knows of; None: none has answered in time."""
    asked = [asyncio.ensure_future(_ask(settings, *place)) for place in settings.endpoints]
    try:
        await asyncio.wait(asked, timeout=seconds)
        answered = [one for one in asked if one.done() and not one.exception()]
        masters = [one.result() for one in answered]
        return max(masters, key=lambda master: master.epoch, default=None)
    finally:
        for one in asked:
            one.cancel()


async def _ask(
    settings: RedisSettings, host: str, port: int, known: Master | None = None
) -> Master:
    where = f"the sentinel at {host}:{port}"
    state = await ask_sentinel(settings, host, port)
    master = Master(state["ip"], int(state["port"]), int(state.get("config-epoch", 0)))
    down = {"s_down", "o_down"}
    if known is None or master.epoch <= known.epoch:
        down.add("disconnected")
    flags = set(state["flags"].split(","))
    if flags & down or "master" not in flags:
        raise ConnectionError(f"{where}: the master is down ({state['flags']})")
    return master


async def ask_sentinel(settings: RedisSettings, host: str, port: int) -> dict[str, str]:
    """What one sentinel knows of the master: the fields of SENTINEL MASTER.

    Raises LockStoreConnectionError, RedisError, OSError.
    """
    kwargs = {**settings.sentinel_kwargs(), "host": host, "port": port}
    connection: Any = (SSLConnection if settings.use_ssl else Connection)(**kwargs)
    where = f"the sentinel at {host}:{port}"
    try:
        await connection.connect()
        await connection.send_command("SENTINEL", "MASTER", settings.sentinel_service)
        answer = await connection.read_response()
    except NoPermissionError as error:
        user = settings.sentinel_username or "default"
        raise LockStoreConnectionError(
            f"{where}: the user lacks rights: grant them on each sentinel with "
            f"ACL SETUSER {user} {SENTINEL_COMMANDS} ({error})"
        ) from error
    except (AuthenticationError, ResponseError) as error:
        if "No such master" in str(error):
            raise ConnectionError(f"{where}: No master found: {error}") from error
        if isinstance(error, AuthenticationError) or "HELLO must be called" in str(error):
            raise LockStoreConnectionError(
                f"{where}: it refused the login: check sentinel_username and "
                f"sentinel_password ({error})"
            ) from error
        raise
    except (RedisError, OSError) as error:
        raise ConnectionError(f"{where}: {error}") from error
    finally:
        await connection.disconnect(nowait=True)
    # A map with RESP3, a list with RESP2.
    pairs = (
        answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
    )
    return {decoded(key): decoded(value) for key, value in pairs.items()}
