"""The confirmers of a deployment: one for its server, or for each master of a cluster."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from redis.crc import key_slot

from ..aio.backoff import Backoff
from ..process import clock
from .attempts import first
from .cluster import ClusterLink
from .confirming import Confirmer, Opened, Pending, Proof, Verdict, Wire
from .connect import connect, explain
from .durability import Durability
from .link import Link
from .sentinel_link import SentinelLink
from .sentinels import ask_sentinel
from .settings import RedisSettings
from .slots import Address
from .text import decoded

log = logging.getLogger("ticketlock.lock")

#: Seconds after which the owner of a slot is looked up again, where none is known.
_AGAIN = 0.05
#: Keys of the barrier that are tried, to find one in a slot of a node.
_TAGS = 1000


class Confirmers:
    """Has each write confirmed by the server that has it.

    Args:
        prefix: of the keys of barriers.
        link: over which writes are sent: it knows the master, or the owners of slots.
        changed: called with a server and why what is written there is not durable in time; "" when
            it is again.
    """

    def __init__(
        self,
        settings: RedisSettings,
        asked: Durability,
        prefix: str,
        link: Link | ClusterLink,
        changed: Callable[[str, str], None],
    ) -> None:
        self.settings = settings
        self.asked = asked
        self.prefix = prefix
        self.cluster = link if isinstance(link, ClusterLink) else None
        self.sentinel = link if isinstance(link, SentinelLink) else None
        self.changed = changed
        self._loop = asyncio.get_running_loop()
        self._closed = False
        #: By address in a cluster; None: the one server.
        self._servers: dict[Address | None, tuple[_Server, Confirmer]] = {}
        self._nowhere = _Nowhere(self)

    def confirm(self, proof: Proof) -> asyncio.Future[Verdict]:
        """What has become of a write, once that is known: after the timeout it is late."""
        pending = Pending(proof, self._loop.create_future(), self.asked.timeout)
        self.route(pending, None)
        return pending.verdict

    def route(self, pending: Pending, address: Address | None) -> None:
        """Have a write confirmed by a server; None: by the one that has its key."""
        if self._closed:
            pending.settle(Verdict.CLOSED)
            return
        if address is None and self.cluster is not None:
            key = pending.proof.questions[0][1]
            address = self.cluster.owner(key)
            if address is None and (self._nowhere.why or clock() > pending.ends):
                self._nowhere.late(key, pending.began)
                pending.settle(Verdict.LATE)
                return
            if address is None:
                self._loop.call_later(_AGAIN, self.route, pending, None)
                return
        if address not in self._servers:
            server = _Server(self, address)
            self._servers[address] = server, Confirmer(self.asked, server)
        server, confirmer = self._servers[address]
        server.near = pending.proof.questions[0][1]
        confirmer.confirm(pending)

    def why(self, key: str) -> str:
        """Why what is written to a key is not durable in time; empty: it is."""
        address = None if self.cluster is None else self.cluster.owner(key)
        if self.cluster is not None and address is None:
            return self._nowhere.why
        found = self._servers.get(address)
        return "" if found is None else found[1].why

    @property
    def problems(self) -> dict[str, str]:
        """Server -> why what is written there is not durable in time."""
        found = {server.place: one.why for server, one in self._servers.values() if one.why}
        return {**found, self._nowhere.place: self._nowhere.why} if self._nowhere.why else found

    def tell(self, place: str, shown: str, why: str, since: float) -> None:
        """Log that writes to a server are not durable in time, or "" are again, and say it on.

        Args:
            shown: the server, for the log.
            since: the moment of `clock()` since which the first late write was waited for.
        """
        if why:
            log.warning(
                "not durable (durability: %s): %s; until that is better, %s", self.asked.kind, why,
                "nothing is granted or accepted" if self.asked.refuse
                else "turns are granted and messages accepted without it",
            )  # fmt: skip
        else:
            log.warning(
                "durable again (durability: %s), after %.1f s: %s",
                self.asked.kind, clock() - since, shown,
            )  # fmt: skip
        self.changed(place, why)

    def reconnect(self) -> None:
        """Connect anew, because the link has: the master may be another server."""
        for _, confirmer in self._servers.values():
            confirmer.reconnect()

    def close(self) -> None:
        """End it, and all that is under way."""
        self._closed = True
        self._nowhere.close()
        for _, confirmer in self._servers.values():
            confirmer.close()


class _Server:
    """The one server, or a node of the cluster, as its confirmer uses it."""

    def __init__(self, all_: Confirmers, address: Address | None) -> None:
        self._all = all_
        self._address = address
        self._settings = all_.settings
        if all_.cluster is not None and address is not None:
            self._settings = all_.cluster.settings_of(address)
        self.place = self._settings.address
        #: A key that it has, or is about to have.
        self.near = ""
        self._since = 0.0

    async def open(self) -> Opened:
        cluster, address = self._all.cluster, self._address
        majority = self._all.asked.kind == "majority"
        # To the same server as the link: another sentinel may name another master yet.
        master = self._all.sentinel.master if self._all.sentinel is not None else None
        connection = await connect(self._settings, replica=cluster is not None, master=master)
        place = self.place
        if not self._settings.unix_socket_path:
            place = f"{connection.host}:{connection.port}"  # that of the master, with sentinels
        if cluster is None or address is None:
            known = self._known_by_sentinels if majority else None
            return Opened(connection, place, (self._barrier("durable 0"),), known=known)
        # Another one each time: slots move, and not each move is known here.
        start = random.randrange(10**6)
        found = (self._barrier(f"durable {start + i}") for i in range(_TAGS))
        own = next((one for one in found if cluster.has_slot(address, key_slot(one.encode()))), "")
        # A node with few slots, or none yet, has that of what is to be confirmed.
        near = self._barrier(self.near.partition("{")[2].partition("}")[0])
        barriers = tuple(filter(None, (own, near)))
        return Opened(connection, place, barriers, True, _known_in_cluster if majority else None)

    def _barrier(self, tag: str) -> str:
        return f"{self._all.prefix}{{{tag}}}durable"

    async def _known_by_sentinels(self, _: Wire) -> int:
        settings = self._settings
        state = await first(ask_sentinel(settings, *place) for place in settings.endpoints)
        return int(state["num-slaves"])

    def owned(self) -> bool:
        cluster, address = self._all.cluster, self._address
        return cluster is None or address is None or cluster.owns(address)

    def route(self, pending: Pending, address: Address | None) -> None:
        self._all.route(pending, address)

    def explain(self, error: BaseException) -> str:
        return str(explain(self._settings, error)[0])

    def changed(self, why: str, since: float) -> None:
        if why:
            self._since = since
        self._all.tell(self.place, f"Redis at {self.place}", why, self._since)


class _Nowhere:
    """The slots of a cluster that no node is known to have: what is written there is late.

    Attributes:
        why: why writes are not durable in time; empty: there are none.
    """

    #: In place of a server.
    place = "slots without a node"

    def __init__(self, all_: Confirmers) -> None:
        self._all = all_
        self._keys: set[str] = set()
        self._since = 0.0
        self._task: asyncio.Task[None] | None = None
        self.why = ""

    def late(self, key: str, since: float) -> None:
        """Note, and tell, that a write to a key was not confirmed in time."""
        self._keys.add(key)
        if not self.why:
            slot, seconds = key_slot(key.encode()), self._all.asked.timeout
            self.why = f"no node of the cluster is known to have slot {slot}, within {seconds:g} s"
            self._since = since
            self._all.tell(self.place, self.place, self.why, since)
            self._task = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        """Ask for the owners until each of the slots has one: no command of the link may do it."""
        cluster, backoff = self._all.cluster, Backoff(_AGAIN, 0.5, jitter=0.5)
        assert cluster is not None  # else there are no slots
        while self._keys:
            await asyncio.sleep(backoff.next())
            try:
                await cluster.masters()
            except Exception as error:  # noqa: BLE001  # that it lasts was told
                log.debug("the owners of slots are not known: %s", error)
            self._keys = {key for key in self._keys if cluster.owner(key) is None}
        self.why = ""
        self._all.tell(self.place, self.place, "", self._since)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()


async def _known_in_cluster(wire: Wire) -> int:
    """The replicas of a node, those included that it cannot reach."""
    rows = [line.split() for line in decoded(await wire.ask("CLUSTER", "NODES")).splitlines()]
    own = next(row[0] for row in rows if "myself" in row[2])
    return sum(row[3] == own for row in rows)
