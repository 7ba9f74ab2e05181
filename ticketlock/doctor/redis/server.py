"""One Redis server, as it answers the questions of the doctor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from redis.asyncio.connection import Connection
from redis.exceptions import NoPermissionError, ResponseError

from ...redis.connect import connect
from ...redis.settings import RedisSettings
from ...redis.text import decoded
from ...redis.transport import discard

#: The settings of a server that checks look at. `CONFIG GET *` would also give its passwords.
CONFIG = (
    "maxmemory", "maxmemory-policy", "save", "appendonly", "appendfsync", "timeout", "maxclients",
    "client-output-buffer-limit", "min-replicas-to-write", "min-replicas-max-lag", "stop-writes-on-bgsave-error",
    "cluster-require-full-coverage", "cluster-replica-no-failover",
)  # fmt: skip
#: Questions that measure the latency: TIME, which every user of ours may ask.
PINGS = 20
#: Seconds from the epoch, as this machine's clock says.
WALL: Callable[[], float] = time.time


def setting(*settings: str) -> str:
    """What to type to change settings, each on a line of its own, and to keep them through a restart."""
    lines = "\n".join(f"CONFIG SET {words}" for words in settings)
    return f"{lines}\nand the same in the server's configuration file (CONFIG REWRITE)"


@dataclass
class Server:
    """What one server said of itself.

    Attributes:
        place: host and port, or the path of its socket.
        connection: for more questions, until `close`.
        info: the fields of INFO; empty if it is refused.
        config: the settings that CONFIG GET gave; empty if it is refused.
        refused: the commands that it does not let this user run, each once.
        offset: seconds by which its clock is ahead of ours; None if TIME is refused.
        round_trips: seconds of each of some short commands; empty if they are refused.
    """

    place: str
    connection: Connection
    info: dict[str, str] = field(default_factory=dict)
    config: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    offset: float | None = None
    round_trips: list[float] = field(default_factory=list)

    @property
    def product(self) -> str:
        """`redis`, `valkey`, or another name of a server that speaks its protocol."""
        others = (name for name in ("valkey", "dragonfly") if f"{name}_version" in self.info)
        return next(others, "redis")  # they say that they are a Redis, too

    @property
    def version(self) -> tuple[int, ...]:
        """Its version as numbers; empty if it does not say."""
        text = self.info.get(f"{self.product}_version", "")
        parts = text.removeprefix("df-v").removeprefix("v").split(".")
        return tuple(int(part) for part in parts if part.isdigit())

    @property
    def replica(self) -> bool:
        """Whether it follows a master."""
        return self.info.get("role") == "slave"

    @property
    def program(self) -> str:
        """Product and version."""
        name = {"valkey": "Valkey", "redis": "Redis"}.get(self.product, self.product)
        return f"{name} {'.'.join(map(str, self.version)) or 'of an unknown version'}"

    @property
    def described(self) -> str:
        """Product, version and role, for the head of its findings."""
        return self.program + (", replica" if self.replica else "")

    @property
    def latency(self) -> tuple[float, float]:
        """Median and worst round trip, in seconds."""
        return median(self.round_trips), max(self.round_trips)

    def number(self, key: str) -> int:
        """A number of INFO or of the settings; 0 if it is not there."""
        text = self.info.get(key) or self.config.get(key) or "0"
        return int(text) if text.lstrip("-").isdigit() else 0

    async def ask(self, *args: Any) -> Any:
        """The answer to a command. Raises what redis-py raises."""
        await self.connection.send_command(*args)
        return await self.connection.read_response()

    async def tried(self, *args: Any) -> Any:
        """The answer to a command that may be forbidden or unknown; None if it is."""
        try:
            return await self.ask(*args)
        except (NoPermissionError, ResponseError) as error:
            words = 2 if args[0] in ("CONFIG", "CLUSTER") else 1
            name = " ".join(map(str, args[:words]))
            self.refused.setdefault(name, str(error))
            return None

    def close(self) -> None:
        """Close the connection."""
        discard(self.connection)


async def reach(settings: RedisSettings) -> Connection:
    """A connection to a server, master or replica. Raises what `connect` raises.

    It is to database 0 if the user lacks the right to SELECT another one: that is a finding of
    `rights`, and the rest of the server can be looked at all the same.
    """
    try:
        return await connect(settings, replica=True)
    except NoPermissionError:
        if not settings.db:
            raise
        return await connect(replace(settings, db=0), replica=True)


async def look(settings: RedisSettings, place: str) -> Server:
    """Connect to a server, master or replica, and ask it. Raises what `connect` raises."""
    server = Server(place, await reach(settings))
    try:
        await _ask(server)
    except BaseException:
        server.close()
        raise
    return server


async def _ask(server: Server) -> None:
    text = await server.tried("INFO")
    lines = decoded(text).splitlines()
    server.info = dict(line.split(":", 1) for line in lines if ":" in line and line[0] != "#")
    if not server.info:
        server.info = await _greeting(server)
    for name in CONFIG:
        answer = await server.tried("CONFIG", "GET", name)
        if answer is None:
            break  # it would refuse the others too
        pairs = (
            answer.items()
            if isinstance(answer, dict)
            else zip(answer[::2], answer[1::2], strict=True)
        )
        server.config |= {decoded(key): decoded(value) for key, value in pairs}
    began = WALL()
    moment = await server.tried("TIME")
    if moment is not None:
        between = (began + WALL()) / 2
        server.offset = int(moment[0]) + int(moment[1]) / 1e6 - between
    for _ in range(PINGS):
        started = asyncio.get_running_loop().time()
        if await server.tried("TIME") is None:
            return
        server.round_trips.append(asyncio.get_running_loop().time() - started)


async def _greeting(server: Server) -> dict[str, str]:
    """What every user may know, as fields of INFO: the version, and the role."""
    answer = await server.tried("HELLO")
    hello = {decoded(key): decoded(value) for key, value in dict(answer or {}).items()}
    role = {"master": "master", "replica": "slave"}.get(hello.get("role", ""), "")
    return {f"{hello.get('server', 'redis')}_version": hello.get("version", ""), "role": role}
