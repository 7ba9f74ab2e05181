"""Connecting to Redis with redis-py, and turning its errors into advice."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import AuthenticationError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..errors import LockStoreConnectionError
from .commands import Unanswered
from .rights import Rights, advice
from .sentinels import Master, find_master
from .settings import RedisSettings
from .text import decoded

#: Oldest server with all that is used: HELLO, RESP3 pushes, effects replication.
OLDEST_SERVER = (6, 2)

#: Replaced by the ACL command that grants the rights.
_RIGHTS = "the user lacks rights"

#: (part of the server's or system's error text, advice, whether a retry can help)
_EXPLANATIONS: tuple[tuple[str, str, bool], ...] = (
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted: check ssl_ca_certs", False),
    (
        "certificate required",
        "it requires a client certificate: set ssl_certfile and ssl_keyfile",
        False,
    ),
    ("unknown ca", "it does not trust our certificate: check ssl_certfile", False),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS there: check use_ssl and port", False),
    ("record layer failure", "it does not speak TLS there: check use_ssl and port", False),
    ("WRONGPASS", "it refused the login: check username and password", False),
    ("invalid username-password", "it refused the login: check username and password", False),
    ("invalid password", "it refused the login: check password", False),
    ("NOAUTH", "it requires a login: set password (and username)", False),
    ("HELLO must be called", "it requires a login: set password (and username)", False),
    ("DB index is out of range", "it has no database of that number: check db", False),
    ("Invalid Database", "it has no database of that number: check db", False),
    ("NOPERM", _RIGHTS, False),
    ("has no permissions to", _RIGHTS, False),
    ("can't run this command", _RIGHTS, False),
    ("ACL failure in script", _RIGHTS, False),
    ("The user executing the script", _RIGHTS, False),
    ("No permissions to access", _RIGHTS, False),
    ("unknown command", "it is too old or restricted: Redis 6.2 or newer is needed", False),
    ("Name or service not known", "the host is not known: check host", True),
    ("nodename nor servname", "the host is not known: check host", True),
    ("No address associated", "the host is not known: check host", True),
    ("name resolution", "the host name cannot be resolved: check host", True),
    ("No such file", "a file is missing: check unix_socket_path and the ssl_ files", False),
    ("READONLY ", "it is a read-only replica: point host at the master", True),
    (
        "OOM command not allowed",
        "it is out of memory: raise maxmemory, and use no allkeys- eviction",
        True,
    ),
    (
        "NOREPLICAS",
        "it has fewer replicas than min-replicas-to-write: check them, and the sentinels",
        True,
    ),
    ("MISCONF ", "it refuses writes because it cannot save to disk", True),
    ("refused", "nothing listens there: check host and port, and that the server runs", True),
    ("Connect call failed", "nothing listens there: check host and port", True),
    (
        "No master found",
        "the sentinels do not know a master of that name: check sentinel_service",
        True,
    ),
    ("master is down", "the sentinels wait for another master", True),
    ("TRYAGAIN", "the slot of this conversation is moving between two nodes", True),
    ("CLUSTERDOWN", "the cluster does not serve all slots: see CLUSTER INFO", True),
    ("LOADING ", "it is loading its data, and will answer when it is done", True),
    ("as reply type byte", "it does not speak the protocol of Redis: check host and port", False),
    ("closed", "it closed the connection", True),
    ("reset", "it closed the connection", True),
    ("connection lost", "it closed the connection", True),  # while something was written
    ("broken pipe", "it closed the connection", True),
)


async def connect(
    settings: RedisSettings,
    *,
    replica: bool = False,
    rights: Rights | None = None,
    has: Callable[[int], bool] | None = None,
    master: Master | None = None,
) -> Connection:
    """A connected redis-py connection to a server that can serve us.

    Args:
        replica: accept a replica; in a cluster it redirects to the master of a slot.
        master: that the sentinels name; None: they are asked.
        rights, has: see `Rights.check`.

    Raises what redis-py raises, and LockStoreConnectionError; `explain` takes both.
    """
    kwargs = settings.connection_kwargs()
    if settings.deployment_mode == "sentinel":
        kwargs["host"], kwargs["port"], _ = master or await find_master(settings)
    connection: Any
    if settings.unix_socket_path:
        connection = UnixDomainSocketConnection(**kwargs)
    else:
        connection = (SSLConnection if settings.use_ssl else Connection)(**kwargs)
    try:
        await asyncio.wait_for(_greet(connection, settings, replica), settings.socket_timeout)
        if rights is not None:
            place = f"{kwargs.get('host')}:{kwargs.get('port')}"
            await asyncio.wait_for(rights.check(connection, place, has), settings.socket_timeout)
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection  # type: ignore[no-any-return]  # one of three classes of redis-py


async def _greet(connection: Connection, settings: RedisSettings, replica: bool) -> None:
    await connection.connect()  # type: ignore[no-untyped-call]  # redis-py
    await connection.send_command("HELLO", "3")
    hello = {decoded(k): decoded(v) for k, v in dict(await connection.read_response()).items()}
    version = tuple(int(part) for part in hello.get("version", "0").split(".")[:2])
    if hello.get("server") == "redis" and version < OLDEST_SERVER:
        raise LockStoreConnectionError(
            f"Redis at {settings.address} is version {hello['version']}: 6.2 or newer is needed"
        )
    if not replica and hello.get("role") in ("replica", "slave"):
        raise ReadOnlyError("READONLY the server says it is a replica")


def explain(settings: RedisSettings, error: BaseException) -> tuple[LockStoreConnectionError, bool]:
    """An error that names the server and what to change, and whether a retry can help."""
    if isinstance(error, LockStoreConnectionError):
        return error, False
    text = _chain(error)
    where = f"Redis at {settings.address}"
    explained: LockStoreConnectionError | None = None
    again = True
    if isinstance(error, AuthenticationError):
        explained = LockStoreConnectionError(
            f"{where}: it refused the login: check username and password ({error})"
        )
        again = False
    else:
        for part, advised, retry in _EXPLANATIONS:
            # Error codes of the server are in capitals; other texts vary in case.
            if part in text if part.isupper() else part.lower() in text.lower():
                if advised is _RIGHTS:
                    advised = advice(settings)
                elif "closed" in advised:
                    advised += (
                        "; if it requires a client certificate, set ssl_certfile and ssl_keyfile"
                        if settings.use_ssl
                        else "; if it expects TLS, set use_ssl"
                    )
                explained, again = LockStoreConnectionError(f"{where}: {advised} ({error})"), retry
                break
    if explained is None and isinstance(
        error, (TimeoutError, asyncio.TimeoutError, socket.timeout, RedisTimeoutError)
    ):
        silence = error if isinstance(error, Unanswered) else Unanswered(settings.socket_timeout)
        explained = LockStoreConnectionError(
            f"{where}: {silence}: check host, port and the network between (socket_timeout)"
            + ("; if it does not speak TLS there, leave out use_ssl" if settings.use_ssl else "")
        )
    if explained is None:
        again = isinstance(error, (RedisError, OSError, ConnectionError))
        explained = LockStoreConnectionError(f"{where}: {text}")
    explained.__cause__ = error
    return explained, again


def _chain(error: BaseException | None) -> str:
    """The texts of an error and its causes: redis-py wraps the errors of the system."""
    texts: list[str] = []
    while error is not None and len(texts) < 5:
        texts.append(str(error) or type(error).__name__)
        error = error.__cause__ or error.__context__
    return "; ".join(dict.fromkeys(texts))
