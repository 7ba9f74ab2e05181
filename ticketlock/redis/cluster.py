"""The link to a Redis Cluster: one multiplexed connection per node, commands routed by slot."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import hiredis

from ..aio.backoff import Backoff
from ..errors import CLOSED, LockStoreConnectionError
from ..process import clock
from .attempts import SHORTEST, first
from .commands import LASTING, BaseLink, Callback, Command
from .connect import connect, explain
from .link import FIRST_BACKOFF, LONGEST_BACKOFF
from .node import Node
from .rights import Rights
from .settings import RedisSettings
from .slots import Address, owners, slot_of

#: Most nodes that are asked for the slots at once.
MAX_ASKED = 3

#: Most times that a command follows MOVED at once: where it goes on, two nodes name each other.
MAX_MOVES = 4


class ClusterLink(BaseLink):
    """Has the interface of `Link`; sends each command to the node that has its first key.

    A failing node does not affect the others. While it is unreachable, or silent for `link.PATIENCE`, other nodes
    are asked who owns its slots now; its commands wait and go to the new owner.
    """

    def __init__(
        self,
        settings: RedisSettings,
        *,
        timeout: float = 10.0,
        rights: Rights | None = None,
        channel: Callable[[str], str] | None = None,
        key: Callable[[str], str] | None = None,
        **options: Any,
    ) -> None:
        """A link that connects to a node when that is first needed.

        Args:
            rights: checks new connections.
            channel: names a sharded channel by its hash tag: we listen to one on each node.
            key: of a conversation: what has its slot.
            options: those of `Link`.
        """
        super().__init__(timeout)
        self._settings = settings
        #: A conversation's, which is asked for several times in each turn.
        self._slot = lru_cache(4096)(lambda name: slot_of(key(name)) if key is not None else -1)
        self._rights = rights
        self.channel = channel
        self.sharded = channel is not None
        self._options = {"timeout": timeout, **options}
        self._seeds = list(settings.endpoints) or [(settings.host, settings.port)]
        self._nodes: dict[Address, Node] = {}
        #: The owner of each slot; empty until a node has answered.
        self._owners: list[Address | None] = []
        #: Commands that no node can serve now, and their slots: later commands wait behind them.
        self._unrouted: deque[Command] = deque()
        self._blocked: set[int] = set()
        #: Why no node can.
        self._cause: Exception = ConnectionError("no node serves the slot of this conversation")
        self._mending: asyncio.Task[None] | None = None
        self._backoff = Backoff(FIRST_BACKOFF, LONGEST_BACKOFF, jitter=0.25)
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
        callback: Callback,
        timeout: float | None = None,
        lasting: bool = False,
    ) -> None:
        """As `Link.join`: a call has those of one slot that follow each other."""
        expires = self._expires(timeout)
        until = expires + LASTING if lasting else expires
        command = Command(None, future, expires, callback, subject, until, timeout)
        command.slot = self._slot(subject.conversation_id)
        self.route(command)

    def reaches(self, key: str) -> bool:
        """Whether the node that has a key answers, as far as is known."""
        slot = slot_of(key)
        node = self._nodes.get(self._owners[slot] or ("", 0)) if self._owners else None
        return slot not in self._blocked and (node is None or not node.failing)

    def tag_near(self, conversation_id: str) -> str:
        owner = self._owners[self._slot(conversation_id)] if self._owners else None
        return "" if owner is None else self.node(owner).channel_tag()

    def listen(self, channel: str) -> None:
        if (owner := self.owner(channel)) is not None:
            self.node(owner).listen(channel)

    def owner(self, key: str) -> Address | None:
        """The node that has a key, as far as is known."""
        return self._owners[slot_of(key)] if self._owners else None

    def _dispatch(self, command: Command, args: tuple[Any, ...]) -> None:
        key = args[3] if args[0] == "EVALSHA" else args[1]
        command.slot = slot_of(key)
        self.route(command)

    def route(self, command: Command) -> None:
        """Send a command to the owner of its slot, or find the owner."""
        owner = self._owners[command.slot] if self._owners else None
        if owner is None or command.slot in self._blocked:
            self._hold_back(command)
        else:
            (self._nodes.get(owner) or self.node(owner)).send(command)

    def _hold_back(self, command: Command) -> None:
        self._unrouted.append(command)
        self._blocked.add(command.slot)
        self.mend()

    def node(self, address: Address) -> Node:
        """The link to a node."""
        if address not in self._nodes:
            settings = self.settings_of(address)
            self._nodes[address] = Node(self, address, settings, self._rights, self._options)
        return self._nodes[address]

    def settings_of(self, address: Address) -> RedisSettings:
        """The settings of one node."""
        host, port = address
        return replace(self._settings, host=host, port=port, db=0, endpoints=())

    # -- redirects of nodes -------------------------------------------------------------------

    def moved(self, command: Command, owner: Address) -> None:
        """Remember the new owner of a slot, and send the command there."""
        command.moves += 1
        if command.moves > MAX_MOVES:
            self._cause = ConnectionError(
                "CLUSTERDOWN two nodes name each other as owner of a slot"
            )
            self._hold_back(command)
            return
        if self._owners:
            self._owners[command.slot] = owner
        self.route(command)

    def ask(self, command: Command, target: Address) -> None:
        """Send a command to the node to which its slot is moving: its keys are there already."""
        asking = Command(hiredis.pack_command(("ASKING",)), command.future, command.expires)
        asking.callback = lambda _, __: False
        asking.until = command.until
        node = self.node(target)
        node.send(asking)
        node.send(command)

    def defer(
        self, node: Node, commands: Sequence[Command], cause: Exception, whole_node: bool
    ) -> None:
        """Retry commands of one slot whose owner cannot serve them now, in the same order."""
        slot, self._cause = commands[0].slot, cause
        later = node.take_back(
            lambda c: c.slot == slot or (whole_node and c.slot >= 0), heed=not whole_node
        )
        for each in (*commands, *later):
            if each.owed:
                self._hold_back(each)

    # -- finding the owners of slots ---------------------------------------------------------

    def mend(self) -> None:
        """Ask for the owners of slots until every command has one and no node is failing."""
        if self._mending is None or self._mending.done():
            if clock() - self._mended_at > LONGEST_BACKOFF:
                self._pause = 0.0
                self._backoff.reset()
            self._mending = self._loop.create_task(self._mend())

    async def _mend(self) -> None:
        while self._unrouted or any(node.failing for node in self._nodes.values()):
            # The first time without a pause: most often one answer is enough.
            await asyncio.sleep(self._pause)
            self._pause = self._backoff.next()
            try:
                self._owners = await self._ask_owners()
            except Exception as error:  # noqa: BLE001  # reported to the callers
                self._asking_failed(error)
            self._mended_at = clock()
            self._reroute()

    async def _ask_owners(self) -> list[Address | None]:
        """Ask healthy nodes over their links; without any, all nodes over new connections."""
        healthy = [node for node in self._nodes.values() if node.healthy]
        if healthy:
            some = random.sample(healthy, min(MAX_ASKED, len(healthy)))
            return await first(node.fetch_owners(SHORTEST / 2) for node in some)
        limit = SHORTEST if self.connects else self._timeout
        places = dict.fromkeys([*self._nodes, *self._seeds])
        return await asyncio.wait_for(first(map(self._ask_anew, places)), limit)

    async def _ask_anew(self, address: Address) -> list[Address | None]:
        connection = await connect(self.settings_of(address), replica=True)
        try:
            await connection.send_command("CLUSTER", "SLOTS")
            return owners(await connection.read_response(), address[0])
        finally:
            await connection.disconnect(nowait=True)

    def _asking_failed(self, error: Exception) -> None:
        explained, again = explain(self._settings, error)
        never_worked = not self.connects and not self._owners
        now = clock()
        for command in self._unrouted:
            if never_worked or not again or command.until <= now:
                command.fail(explained)
            elif command.expires <= now:
                command.report(explained)

    def _reroute(self) -> None:
        """Route every waiting command by the current owners."""
        if not self._owners:
            return
        owning = set(self._owners)
        for address, node in list(self._nodes.items()):
            if not node.healthy:
                for command in node.take_back(self._has_left(address)):
                    self.route(command)
            if address not in owning and node.idle:
                del self._nodes[address]
                node.abandon()
        waiting, self._unrouted = self._unrouted, deque()
        self._blocked.clear()
        now = clock()
        for command in waiting:
            if command.due <= now:
                explained = explain(self._settings, self._cause)[0]
                (command.fail if command.until <= now else command.report)(explained)
            if command.owed and not command.unneeded:
                self.route(command)  # comes back if its slot has no owner

    def _has_left(self, address: Address) -> Callable[[Command], bool]:
        return lambda c: c.slot >= 0 and self._owners[c.slot] not in (None, address)

    async def masters(self) -> list[Node]:
        """The nodes that own slots, as the cluster says now. Raises what connecting raises."""
        self._owners = await self._ask_owners()
        return [self.node(address) for address in {*self._owners} if address is not None]

    # -- the end -------------------------------------------------------------------------------

    def has_slot(self, address: Address, slot: int) -> bool:
        """Whether a node owns a slot, as far as is known."""
        return bool(self._owners) and self._owners[slot] == address

    def owns(self, address: Address) -> bool:
        """Whether a node owns any slot."""
        return address in self._owners

    async def close(self, patience: float = 1.0) -> None:
        """Close the links to all nodes."""
        self._closed = True
        if self._mending is not None:
            self._mending.cancel()
        for command in self._unrouted:
            command.fail(LockStoreConnectionError(CLOSED))
        # An answer that is waited for may name a node that was not used before.
        while nodes := [node for node in self._nodes.values() if not node.closed]:
            await asyncio.gather(*(node.close(patience) for node in nodes))
