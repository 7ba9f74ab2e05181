"""Which conversations of a lock store are held or waited for, without knowing their ids.

There is no index of them: it would cost each turn a write, and could not be kept in one step with
the locks of a cluster. So the keys are looked through, in small steps that keep no server for
long; what was found is looked at again each time, the oldest first.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio.connection import Connection
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from ...checks import check_conversation_id
from ...errors import InvalidConversationId, LockStoreConnectionError
from ...redis.connect import connect, explain
from ...redis.slots import owners
from ..inspection import Inspection
from .scripts import Keys
from .store import ConcurrentRedisLockStore

#: Keys that the server goes through in one step: less than a millisecond of its time.
STEP = 1000
#: Conversations that are looked at each time.
LOOK_UPS = 1000


@dataclass(frozen=True)
class Row:
    """A conversation that is held or waited for.

    Attributes:
        age: seconds of its turn, or of its longest wait if that is longer.
        state: with the first of its waiting tickets.
    """

    age: float
    state: Inspection


@dataclass(frozen=True)
class Look:
    """What was found.

    Attributes:
        rows: the oldest, in order.
        conversations: how many were found to be held or waited for; `rows` may be cut.
        looked_at: how many of them, the oldest, were looked at this time.
        held, waiting: turns and tickets of these.
        keys: how many keys were gone through so far.
        complete: all keys have been gone through once.
    """

    rows: tuple[Row, ...]
    conversations: int
    looked_at: int
    held: int
    waiting: int
    keys: int
    complete: bool


class Survey:
    """Looks through the locks of one deployment, for as long as it is asked to.

    Args:
        store: it must be open; `close` leaves it so.
    """

    def __init__(self, store: ConcurrentRedisLockStore) -> None:
        self._store = store
        self._settings = store.settings
        self._names = Keys(store.settings)
        #: Connections to the nodes, and those of them that this pass still has to go through.
        self._connections: list[Connection] = []
        self._left: list[Connection] = []
        self._cursor = 0
        self._keys = 0
        self._passes = 0
        #: conversation -> a moment of `time.monotonic()` since when it is held.
        self._known: dict[str, float] = {}

    async def look(self, limit: int, seconds: float = 0.25) -> Look:
        """Go on through the keys for some seconds, once at most, and look at what is known.

        Raises LockStoreConnectionError; the next look connects again.
        """
        check_until = time.monotonic() + seconds
        try:
            if not self._left:
                await self._begin()
            while self._left and time.monotonic() < check_until:
                await self._step()
        except (RedisError, OSError, asyncio.TimeoutError) as error:
            await self.close()
            raise explain(self._settings, error)[0] from error
        except BaseException:
            await self.close()
            raise
        return await self._look(limit)

    async def close(self) -> None:
        """Close the connections."""
        closing, self._connections, self._left = self._connections, [], []
        for connection in closing:
            await connection.disconnect(nowait=True)

    @property
    def untried(self) -> bool:
        """Whether no server has answered yet."""
        return not self._keys

    # -- finding ---------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Begin a pass; a cluster may have other nodes by now."""
        if self._settings.deployment_mode == "cluster":
            await self.close()
            for host, port in await self._masters():
                settings = replace(self._settings, host=host, port=port, db=0, endpoints=())
                self._connections.append(await connect(settings))
        elif not self._connections:
            self._connections.append(await connect(self._settings))
        self._left, self._cursor = list(self._connections), 0

    async def _masters(self) -> list[tuple[str, int]]:
        settings = self._settings
        seeds = settings.endpoints or ((settings.host, settings.port),)
        for last, (host, port) in enumerate(seeds, 1):
            seed = replace(settings, host=host, port=port, db=0, endpoints=())
            try:
                connection = await connect(seed, replica=True)
            except (RedisError, OSError, LockStoreConnectionError, asyncio.TimeoutError):
                if last == len(seeds):
                    raise
                continue
            try:
                (ranges,) = await _ask(connection, [("CLUSTER", "SLOTS")])
                return sorted({owner for owner in owners(ranges, host) if owner is not None})
            finally:
                await connection.disconnect(nowait=True)
        return []

    async def _step(self) -> None:
        node = self._left[-1]
        args = ("SCAN", self._cursor, "MATCH", self._names.holders, "COUNT", STEP)
        try:
            moment = time.monotonic()
            (seconds, micros), (cursor, keys) = await _ask(node, [("TIME",), args])
        except NoPermissionError as error:
            user = self._settings.username or "default"
            raise LockStoreConnectionError(
                f"Redis at {self._settings.address}: the user lacks a right that only top needs: "
                f"grant it with ACL SETUSER {user} +scan ({error})"
            ) from error
        now = int(seconds) + int(micros) / 1e6
        self._cursor, self._keys = int(cursor), self._keys + STEP
        holders = await _ask(node, [("GET", key) for key in keys], lenient=True)
        for key, held in zip(keys, holders, strict=True):
            fields = held.split() if isinstance(held, bytes) else []
            if len(fields) == 7:  # else the last turn is over, or the slot has moved
                self._note(key, moment - (now - int(fields[5]) / 1000))
        if not self._cursor:
            self._left.pop()
            self._passes += not self._left

    def _note(self, key: bytes, since: float) -> None:
        try:
            conversation = check_conversation_id(self._names.conversation(key))
        except InvalidConversationId:
            return  # the key is not one of ours
        self._known.setdefault(conversation, since)

    # -- looking ---------------------------------------------------------------------------------

    async def _look(self, limit: int) -> Look:
        some = heapq.nsmallest(LOOK_UPS, self._known, key=self._known.__getitem__)
        states = await asyncio.gather(*(self._store.inspect(name, 1) for name in some))
        rows, now = [], time.monotonic()
        for state in states:
            holder = state.holder
            if holder is None and not state.waiting_count:
                del self._known[state.conversation_id]
                continue
            held = holder.held_for if holder else 0.0
            self._known[state.conversation_id] = now - held
            rows.append(Row(max(held, *(one.waiting_for for one in state.waiting), 0.0), state))
        return Look(
            tuple(heapq.nlargest(limit, rows, key=lambda row: row.age)),
            len(self._known),
            len(rows),
            sum(row.state.holder is not None for row in rows),
            sum(row.state.waiting_count for row in rows),
            self._keys,
            self._passes > 0,
        )


async def _ask(
    connection: Connection, commands: list[tuple[Any, ...]], *, lenient: bool = False
) -> list[Any]:
    """The answers to commands; `lenient`: an error is one, too."""
    if not commands:
        return []
    await connection.send_packed_command(connection.pack_commands(commands))
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response())
        except ResponseError as error:
            if not lenient:
                raise
            answers.append(error)
    return answers
