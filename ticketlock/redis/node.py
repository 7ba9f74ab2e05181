"""The link to one node of a Redis Cluster."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import hiredis
from redis.asyncio.connection import Connection

from ..errors import LockStoreConnectionError
from ..process import clock
from .commands import TRANSIENT, Command
from .connect import connect, explain
from .link import Link
from .rights import Rights
from .settings import RedisSettings
from .slots import Address, owners, redirect, slot_of

#: Seconds between two attempts to listen to a sharded channel.
_LISTEN_AGAIN = 1.0


def _kind(error: Exception) -> str:
    """The first word of a server's error."""
    text = str(error)
    # A script came upon a key that is not there, of a slot that is moving: it cannot make one.
    return "TRYAGAIN" if "access a non local key" in text else text.partition(" ")[0]


class Cluster(Protocol):
    """What a node uses of the cluster's link."""

    channel: Callable[[str], str] | None

    def has_slot(self, address: Address, slot: int) -> bool: ...
    def owns(self, address: Address) -> bool: ...
    def moved(self, command: Command, address: Address) -> None: ...
    def ask(self, command: Command, address: Address) -> None: ...
    def route(self, command: Command) -> None: ...
    def defer(
        self, node: Node, commands: Sequence[Command], cause: Exception, whole_node: bool
    ) -> None: ...
    def mend(self) -> None: ...


class Node(Link):
    """Sends the commands of the cluster's link, and returns those for another node.

    Attributes:
        address: host and port, as the cluster names them.
    """

    def __init__(
        self,
        cluster: Cluster,
        address: Address,
        settings: RedisSettings,
        rights: Rights | None,
        options: dict[str, Any],
    ) -> None:
        wanted: Callable[[], bool] = options.get("wanted", bool)
        self._has = has = partial(cluster.has_slot, address)
        super().__init__(
            lambda: connect(settings, replica=True, rights=rights, has=has),
            lambda error: explain(settings, error),
            **{**options, "wanted": lambda: cluster.owns(address) and wanted()},
        )
        self.address = address
        self._cluster = cluster
        self._failed = False
        #: The hash tag of our own sharded channel that we listen to, "" if to none.
        self._tag = ""
        #: The command that is to listen to one, and when to try again.
        self._listening: Command | None = None
        self._listen_at = 0.0
        #: Those of all processes that we listen to, or have asked to.
        self._shared: set[str] = set()
        #: Until when none is asked for, because the server has refused one.
        self._refused_until = 0.0

    @property
    def healthy(self) -> bool:
        """Whether it answers, as far as is known."""
        return self._transport is not None and not self._preparing and not self.stuck

    @property
    def failing(self) -> bool:
        """Whether it is unreachable, or leaves commands without an answer."""
        return self._failed or (self._transport is not None and self.stuck)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @property
    def idle(self) -> bool:
        """Whether no command waits for it."""
        return not any(command.owed for command in (*self._sent, *self._again, *self._unsent))

    async def fetch_owners(self, timeout: float) -> list[Address | None]:
        """Ask this node for the owner of each slot."""
        expires = self._expires(timeout)
        args: tuple[Any, ...] = ("CLUSTER", "SLOTS")
        command = Command(hiredis.pack_command(args), self._loop.create_future(), expires)
        self.send(command)
        return owners(await command.future, self.address[0])

    def take_back(self, wanted: Callable[[Command], bool], heed: bool = False) -> list[Command]:
        """Take out commands to send again, in order; `heed`: see `InTransit.recall`."""
        taken = self._sent.recall(wanted, heed)
        for queue in (self._again, self._unsent):
            taken += [command for command in queue if wanted(command)]
            kept = [command for command in queue if not wanted(command)]
            queue.clear()
            queue.extend(kept)
        return taken

    # -- sharded channels ---------------------------------------------------------------------

    def channel_tag(self) -> str:
        """The hash tag of the sharded channel that we listen to; "" if to none, or not yet."""
        if not self._tag and self.healthy and clock() >= self._listen_at:
            self._listen()
        return self._tag

    def _listen(self) -> None:
        """Listen to the channel of our tag, if its slot is here still, or to one in another slot."""
        channel = self._cluster.channel
        if channel is None:
            return
        # In any of its slots: when all of them leave, one after the other, it seldom changes.
        start = random.randrange(10**6)
        tags = filter(None, (self._tag, *map(str, range(start, start + 1000))))
        tag = next((tag for tag in tags if self._has(slot_of(channel(tag)))), "")
        self._listen_at = clock() + _LISTEN_AGAIN
        if tag != self._tag:
            self._tag = ""  # until there is an answer
        if not tag:
            return
        self._listening = self._subscribe(channel(tag), tag)

    def _subscribe(self, channel: str, tag: str = "") -> Command:
        """Ask for a channel; `tag`: it is our own."""
        args: tuple[Any, ...] = ("SSUBSCRIBE", channel)
        packed, done = hiredis.pack_command(args), self._loop.create_future()
        command = Command(packed, done, self._expires(None), lambda _, __: False, (channel, tag))
        command.prologue = True  # not repeated on the next connection
        # Before all that waits to be sent: a bell may come as soon as that is answered.
        self._unsent.appendleft(command)
        if not self._preparing:
            self._flush()
        return command

    def listen(self, channel: str) -> None:
        """Listen to a channel of all processes, whose slot is here, unless we do."""
        if channel not in self._shared and self.healthy and clock() >= self._refused_until:
            self._shared.add(channel)
            self._subscribe(channel)

    def _push_received(self, push: list[Any]) -> None:
        if push[0] == b"ssubscribe":
            command = self._sent.take()
            command.over = True
            if command is self._listening:
                self._tag = command.subject[1]
        elif push[0] == b"sunsubscribe":  # its slot has left this node
            channel = push[1].decode()
            if channel in self._shared:
                self._shared.remove(channel)
            else:
                self._tag = ""
        else:
            super()._push_received(push)

    def _answer_errors(self, failed: list[tuple[Command, Exception]]) -> Exception | None:
        later = [
            (command, error)
            for command, error in failed
            if command.slot >= 0 and command.narrow is None and _kind(error) in TRANSIENT
        ]
        if not later:
            return super()._answer_errors(failed)
        commands, cause = [command for command, _ in later], later[0][1]
        moving = _kind(cause) == "TRYAGAIN"
        if moving:  # the keys of some conversations of the slot may have moved
            for command in commands:
                self._sent.separate(command)
        self._cluster.defer(self, commands, cause, whole_node=not moving)
        return super()._answer_errors([each for each in failed if each not in later])

    def _answer_error(self, command: Command, error: Exception) -> Exception | None:
        kind, rest = _kind(error), str(error).partition(" ")[2]
        if command.prologue and command.subject is not None:  # SSUBSCRIBE
            self._shared.discard(command.subject[0])
            if command is self._listening:
                self._tag = ""
            if kind not in ("MOVED", *TRANSIENT):  # before Redis 7, or a right is missing
                self._listen_at = self._refused_until = clock() + 3600
            return None
        if command.slot < 0:
            return super()._answer_error(command, error)
        if kind == "MOVED":
            self._cluster.moved(command, redirect(rest, self.address[0]))
        elif kind in ("ASK", "TRYAGAIN") and command.narrow is not None:
            # Its keys are on both nodes: with one key only, the node that has the key serves it.
            command.packed, command.narrow = command.narrow(command), None
            self._cluster.route(command)
        elif kind == "ASK":
            self._cluster.ask(command, redirect(rest, self.address[0]))
        elif kind in TRANSIENT:
            self._cluster.defer(self, [command], error, whole_node=True)
        else:
            return super()._answer_error(command, error)
        return None

    async def _reconnect(self) -> None:
        slow = self._loop.call_later(self._patience, self._unreachable)
        try:
            await super()._reconnect()
        finally:
            slow.cancel()
            self._failed = False

    def _unreachable(self) -> None:
        """No attempt to connect has succeeded in time: find the new owners of its slots."""
        self._failed = True
        self._cluster.mend()

    def _give_up(self, explained: LockStoreConnectionError, again: bool) -> bool:
        if not again:
            self._fail_all(explained)
            return True
        for command in self.take_back(lambda command: command.slot < 0):
            command.fail(explained)  # other nodes are asked
        self._unreachable()
        return False

    def _take_over(self, connection: Connection) -> None:
        super()._take_over(connection)
        self._failed = False
        self._listen()  # to the same channel as before: it is in the names of tickets that wait
        for channel in self._shared:
            self._subscribe(channel)

    def _suspect(self) -> None:
        super()._suspect()
        self._cluster.mend()
