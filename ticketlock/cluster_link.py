"""The link to a Redis Cluster: one multiplexed connection a node, commands routed by slot."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import hiredis
from redis.crc import key_slot

from .commands import Command, Heard, Sender
from .errors import LockStoreConnectionError
from .grant import clock
from .link import FIRST_BACKOFF, LONGEST_BACKOFF, Link
from .redis_connect import connect, explain
from .redis_settings import RedisSettings

Address = tuple[str, int]


class ClusterLink(Sender):
    """Has the interface of `Link`; sends each command to the node that owns its first key.

    Follows MOVED and ASK. When a node cannot be reached its commands wait for the cluster
    to say who owns their slots now, until their deadline.
    """

    def __init__(
        self,
        settings: RedisSettings,
        *,
        prologue: Sequence[tuple[Any, ...]],
        on_push: Callable[[list[Any]], None],
        on_connect: Callable[[], None],
        wanted: Callable[[], bool],
        batch: Callable[[Sequence[Any]], tuple[Any, ...]],
        timeout: float,
    ) -> None:
        super().__init__(timeout)
        self._settings = settings
        self._batch = batch
        self._options: dict[str, Any] = {
            "prologue": prologue,
            "on_push": on_push,
            "on_connect": on_connect,
            "wanted": wanted,
            "timeout": timeout,
        }
        self._seeds = list(settings.endpoints) or [(settings.host, settings.port)]
        self._nodes: dict[Address, _Node] = {}
        self._owners: list[tuple[int, int, Address]] = []
        self._moved: dict[int, Address] = {}
        self._homeless: deque[Command] = deque()
        self._asking: asyncio.Task[None] | None = None

    @property
    def connects(self) -> int:
        return sum(node.connects for node in self._nodes.values())

    @property
    def usable(self) -> bool:
        asking = self._asking is not None and not self._asking.done()
        return asking or any(node.usable for node in self._nodes.values())

    def join(
        self,
        subject: Any,
        future: asyncio.Future[Any],
        heard: Heard,
        timeout: float | None = None,
    ) -> None:
        """As `Link.join`, in a call of its own: no call may have keys of two slots."""
        command = self.submit(self._batch([subject]), timeout, heard, subject)
        command.future = future

    def _dispatch(self, command: Command, words: tuple[Any, ...]) -> None:
        command.slot = key_slot(str(words[3]).encode())  # an EVALSHA's first key
        self.route(command)

    def route(self, command: Command) -> None:
        """Give a command to the node that owns its slot, or ask the cluster who does."""
        owner = self._moved.get(command.slot)
        if owner is None:
            owner = next((a for low, up, a in self._owners if low <= command.slot <= up), None)
        if owner is not None:
            return self.node(owner).send(command)
        self._homeless.append(command)
        if self._asking is None or self._asking.done():
            self._asking = self._loop.create_task(self._ask_owners())
        return None

    def node(self, address: Address) -> _Node:
        if address not in self._nodes:
            host, port = address
            settings = replace(self._settings, host=host, port=port, db=0)
            self._nodes[address] = _Node(self, settings, self._options)
        return self._nodes[address]

    def moved(self, command: Command, owner: Address) -> None:
        """A slot has a new owner: remember, and send the command there."""
        self._moved[command.slot] = owner
        self.route(command)

    def forget(self, commands: deque[Command]) -> None:
        """A node is out of reach: ask the cluster anew, for these commands and all others."""
        self._owners, self._moved = [], {}
        for command in commands:
            self.route(command)

    async def _ask_owners(self) -> None:
        """Learn who owns the slots from any node that answers; route what waits for it."""
        backoff = FIRST_BACKOFF
        while self._homeless:
            error: Exception = ConnectionError("no node")
            for host, port in dict.fromkeys([*self._nodes, *self._seeds]):
                settings = replace(self._settings, host=host, port=port, db=0)
                try:
                    self._owners = await _slots(settings)
                except Exception as failure:  # noqa: BLE001  # the next node may answer
                    error = failure
                    continue
                waiting, self._homeless = self._homeless, deque()
                for command in waiting:
                    self.route(command)  # comes back if nobody owns its slot
                if not self._homeless:
                    return
                error = ConnectionError("no node serves the slot of this conversation")
                break
            explained, again = explain(self._settings, error)
            overdue = [c for c in self._homeless if not again or c.expires <= clock()]
            if not self.connects and not self._owners:  # it never worked: say so at once
                overdue = list(self._homeless)
            for command in overdue:
                self._homeless.remove(command)
                command.fail(explained)
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, LONGEST_BACKOFF)

    async def close(self) -> None:
        """Close the links to all nodes."""
        self._closed = True
        if self._asking is not None:
            self._asking.cancel()
        for command in self._homeless:
            command.fail(LockStoreConnectionError("the lock store has been closed"))
        await asyncio.gather(*(node.close() for node in self._nodes.values()))


class _Node(Link):
    """The link to one node of the cluster."""

    def __init__(
        self, cluster: ClusterLink, settings: RedisSettings, options: dict[str, Any]
    ) -> None:
        super().__init__(
            lambda: connect(settings, replica=True),
            lambda error: explain(settings, error),
            **options,
        )
        self._cluster = cluster

    def _answer_error(self, command: Command, error: Exception) -> Exception | None:
        kind, _, rest = str(error).partition(" ")
        if kind not in ("MOVED", "ASK"):
            return super()._answer_error(command, error)
        host, _, port = rest.split()[1].rpartition(":")
        address = (host or self._cluster._settings.host, int(port))
        if kind == "MOVED":
            self._cluster.moved(command, address)
            return None
        node = self._cluster.node(address)
        asking = hiredis.pack_command(("ASKING",))
        node.send(Command(asking, self._loop.create_future(), command.expires))
        node.send(command)
        return None

    def _unreachable(self) -> bool:
        waiting, self._unsent = self._unsent, deque()
        self._loop.call_soon(self._cluster.forget, deque(c for c in waiting if not c.prologue))
        return True


async def _slots(settings: RedisSettings) -> list[tuple[int, int, Address]]:
    """(first slot, last slot, owner) of all ranges, as one node knows them."""
    connection = await connect(settings, replica=True)
    try:
        await connection.send_command("CLUSTER", "SLOTS")
        ranges: Any = await connection.read_response()
    finally:
        await connection.disconnect(nowait=True)
    return [
        (int(low), int(up), (owner[0].decode() or settings.host, int(owner[1])))
        for low, up, owner, *_ in ranges
    ]
