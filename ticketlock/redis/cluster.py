"""The link to a Redis Cluster: one multiplexed connection a node, commands routed by slot."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import hiredis
from redis.crc import key_slot

from ..errors import LockStoreConnectionError
from ..process import clock
from .attempts import SHORTEST, first
from .commands import Command, Heard, Sender
from .connect import connect, explain
from .link import FIRST_BACKOFF, LONGEST_BACKOFF
from .node import Node
from .rights import Rights
from .settings import RedisSettings
from .slots import Address, owners

#: Most nodes that are asked at once who has which slot.
TELLERS = 3


class ClusterLink(Sender):
    """Has the interface of `Link`; sends each command to the node that has its first key.

    The trouble of one node is its own. While a node is out of reach, or says nothing, other
    nodes are asked who has its slots now; its commands wait, and go to whom they name.
    """

    def __init__(
        self,
        settings: RedisSettings,
        *,
        batch: Callable[[Sequence[Any]], tuple[Any, ...]] | None = None,
        timeout: float = 10.0,
        rights: Rights | None = None,
        **options: Any,
    ) -> None:
        """`rights` looks at new connections; the options are those of `Link`."""
        super().__init__(timeout)
        self._settings = settings
        self._batch = batch
        self._rights = rights
        self._options = {"timeout": timeout, **options}
        self._seeds = list(settings.endpoints) or [(settings.host, settings.port)]
        self._nodes: dict[Address, Node] = {}
        #: The owner of each slot; empty until a node has told.
        self._owners: list[Address | None] = []
        #: Commands that no node can serve now, and their slots: what comes later waits behind.
        self._homeless: deque[Command] = deque()
        self._held_up: set[int] = set()
        #: Why they cannot.
        self._cause: Exception = ConnectionError("no node serves the slot of this conversation")
        self._mending: asyncio.Task[None] | None = None
        self._pause = 0.0
        self._mended_at = 0.0

    @property
    def connects(self) -> int:
        """How often a connection was made."""
        return sum(node.connects for node in self._nodes.values())

    @property
    def usable(self) -> bool:
        """Whether there is, was, or is about to be a connection."""
        mending = self._mending is not None and not self._mending.done()
        return mending or any(node.usable for node in self._nodes.values())

    # -- sending ---------------------------------------------------------------------------

    def join(
        self,
        subject: Any,
        future: asyncio.Future[Any],
        heard: Heard,
        timeout: float | None = None,
        lasting: bool = False,
    ) -> None:
        """As `Link.join`, in a call of its own: no call may have keys of two slots."""
        assert self._batch is not None  # who joins says how
        command = self.submit(self._batch([subject]), timeout, heard, subject, lasting)
        command.future = future

    def _dispatch(self, command: Command, words: tuple[Any, ...]) -> None:
        command.slot = key_slot(str(words[3]).encode())  # an EVALSHA's first key
        self.route(command)

    def route(self, command: Command) -> None:
        """Give a command to the node that owns its slot, or find out who does."""
        owner = self._owners[command.slot] if self._owners else None
        if owner is None or command.slot in self._held_up:
            self._hold_up(command)
        else:
            self.node(owner).send(command)

    def _hold_up(self, command: Command) -> None:
        self._homeless.append(command)
        self._held_up.add(command.slot)
        self.mend()

    def node(self, address: Address) -> Node:
        """The link to a node."""
        if address not in self._nodes:
            settings = self._settings_of(address)
            self._nodes[address] = Node(self, address, settings, self._rights, self._options)
        return self._nodes[address]

    def _settings_of(self, address: Address) -> RedisSettings:
        host, port = address
        return replace(self._settings, host=host, port=port, db=0, endpoints=())

    # -- what nodes answer -------------------------------------------------------------------

    def moved(self, command: Command, owner: Address) -> None:
        """A slot has a new owner: remember, and send the command there."""
        if self._owners:
            self._owners[command.slot] = owner
        self.route(command)

    def ask(self, command: Command, target: Address) -> None:
        """A slot is moving, and this command's keys are there already."""
        asking = Command(hiredis.pack_command(("ASKING",)), command.future, command.expires)
        asking.heard = lambda _, __: False
        asking.until = command.until
        node = self.node(target)
        node.send(asking)
        node.send(command)

    def defer(self, node: Node, command: Command, cause: Exception, whole_node: bool) -> None:
        """A slot's owner cannot serve now: once more in a moment, in the same order."""
        slot, self._cause = command.slot, cause
        later = node.take_back(lambda c: c.slot == slot or (whole_node and c.slot >= 0))
        for each in (command, *later):
            if each.owed:
                self._hold_up(each)

    # -- finding out who has which slot ---------------------------------------------------------

    def mend(self) -> None:
        """Something is wrong: ask around, until nothing is."""
        if self._mending is None or self._mending.done():
            if clock() - self._mended_at > LONGEST_BACKOFF:
                self._pause = 0.0
            self._mending = self._loop.create_task(self._mend())

    async def _mend(self) -> None:
        while self._homeless or any(node.ailing for node in self._nodes.values()):
            # With a pause that grows: what is wrong may last, and asking has its price.
            await asyncio.sleep(self._pause * random.uniform(0.75, 1.0))
            self._pause = min(max(2 * self._pause, FIRST_BACKOFF), LONGEST_BACKOFF)
            try:
                self._owners = await self._ask_owners()
            except Exception as error:  # noqa: BLE001  # told to all who wait, if it cannot be mended
                self._not_told(error)
            self._mended_at = clock()
            self._resettle()

    async def _ask_owners(self) -> list[Address | None]:
        """Ask nodes that are well over their links; if there are none, any by a new connection."""
        well = [node for node in self._nodes.values() if node.well]
        if well:
            tellers = random.sample(well, min(TELLERS, len(well)))
            return await first(node.tell_owners(SHORTEST / 2) for node in tellers)
        limit = SHORTEST if self.connects else self._timeout
        places = dict.fromkeys([*self._nodes, *self._seeds])
        return await asyncio.wait_for(first(map(self._ask_anew, places)), limit)

    async def _ask_anew(self, address: Address) -> list[Address | None]:
        connection = await connect(self._settings_of(address), replica=True)
        try:
            await connection.send_command("CLUSTER", "SLOTS")
            return owners(await connection.read_response(), address[0])
        finally:
            await connection.disconnect(nowait=True)

    def _not_told(self, error: Exception) -> None:
        explained, again = explain(self._settings, error)
        never_worked = not self.connects and not self._owners
        now = clock()
        for command in self._homeless:
            if never_worked or not again or command.until <= now:
                command.fail(explained)
            elif command.expires <= now:
                command.tell(explained)

    def _resettle(self) -> None:
        """Give every command to the node that has its slot now."""
        if not self._owners:
            return
        owning = set(self._owners)
        for address, node in list(self._nodes.items()):
            if not node.well:
                for command in node.take_back(self._has_left(address)):
                    self.route(command)
            if address not in owning and node.idle:
                del self._nodes[address]
                node.abandon()
        waiting, self._homeless = self._homeless, deque()
        self._held_up.clear()
        now = clock()
        for command in waiting:
            if command.due <= now:
                told = explain(self._settings, self._cause)[0]
                (command.fail if command.until <= now else command.tell)(told)
            if command.owed and not command.needless:
                self.route(command)  # comes back if nobody owns its slot

    def _has_left(self, address: Address) -> Callable[[Command], bool]:
        return lambda c: c.slot >= 0 and self._owners[c.slot] not in (None, address)

    # -- the end -------------------------------------------------------------------------------

    def has_slot(self, address: Address, slot: int) -> bool:
        """Whether a slot is a node's, as far as is known."""
        return bool(self._owners) and self._owners[slot] == address

    def owns(self, address: Address) -> bool:
        """Whether a node has any slot."""
        return address in self._owners

    async def close(self, patience: float = 1.0) -> None:
        """Close the links to all nodes."""
        self._closed = True
        if self._mending is not None:
            self._mending.cancel()
        for command in self._homeless:
            command.fail(LockStoreConnectionError("the lock store has been closed"))
        await asyncio.gather(*(node.close(patience) for node in self._nodes.values()))
