"""The examination of a Redis deployment: which servers it has, and every check on each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from redis.exceptions import RedisError

from ...aio.loop_time import within_loop_time
from ...errors import LockStoreConnectionError
from ...redis.connect import explain
from ...redis.settings import RedisSettings
from .. import tls
from ..finding import NOT_LOOKED_AT, UNREACHABLE, Finding
from ..visit import Visit
from . import (
    bells,
    clients,
    durability,
    leaks,
    memory,
    persistence,
    replication,
    rights,
    timing,
    versions,
)
from .cluster import Cluster, full_coverage
from .deployment import Address, Deployment, shown
from .sentinels import Answers, ask_all, down_after, sentinels
from .server import Server, look, reach

#: What asking a server may raise.
ERRORS = (LockStoreConnectionError, RedisError, OSError, asyncio.TimeoutError)


class Examination:
    """Visits the servers of a deployment, each bounded in time."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._servers: list[Server] = []
        #: Place -> findings; "" for those of all servers together.
        self._found: list[tuple[str, Finding]] = []

    async def visit(self) -> Visit:
        """Look at everything."""
        deployment = self._deployment
        sections = tuple(use.section for use in deployment.uses)
        visit = Visit(f"Redis at {deployment.settings.address}", sections)
        for use in deployment.uses:
            self._add("", tls.of_redis(use.section, use.settings))
        try:
            if deployment.mode == "cluster":
                await self._cluster()
            elif deployment.mode == "sentinel":
                await self._sentinel()
            else:
                await self._standard()
            self._add("", timing.clocks(self._servers))
        finally:
            for server in self._servers:
                server.close()
        visit.seen = ", ".join(dict.fromkeys(server.described for server in self._servers))
        if visit.seen and deployment.mode != "standard":
            visit.seen += f"; {deployment.mode}"
        visit.findings = list(merged(self._found, len(self._servers) > 1))
        return visit

    # -- which servers there are -------------------------------------------------------------

    async def _standard(self) -> None:
        settings = self._deployment.settings
        if await self._look(settings, settings.address):
            await self._examine(self._servers[0])

    async def _sentinel(self) -> None:
        deployment, name = self._deployment, self._deployment.settings.sentinel_service
        answers = await ask_all(deployment)
        self._add("", sentinels(answers, name))
        master = _master(answers)
        if master is None:
            errors = [answer for answer in answers.values() if isinstance(answer, Exception)]
            self._unreachable("", deployment.settings, errors[0])
        elif await self._look(deployment.at(master), shown(master)):
            first = self._servers[0]
            await asyncio.gather(*map(self._look_beside, _followers(first)))
            for server in list(self._servers):
                self._add(server.place, replication.cut_off(server, down_after(answers), name))
                self._add(server.place, replication.link(server))
            self._add("", replication.never_masters(self._servers))
            self._add(first.place, replication.replicas(first))
            await self._examine(first, master)

    async def _cluster(self) -> None:
        deployment = self._deployment
        settings = deployment.settings
        for seed in settings.endpoints or ((settings.host, settings.port),):
            if not await self._look(deployment.at(seed), shown(seed)):
                continue
            first = self._servers[0]
            try:
                cluster = await within_loop_time(
                    deployment.timeout, Cluster.seen_by(first, seed[0])
                )
            except ERRORS as error:
                self._unreachable(first.place, settings, error)
                return
            # Another seed has answered: those that have not are among the failed nodes.
            self._found = [one for one in self._found if one[1].name != UNREACHABLE.name]
            self._add("", cluster.findings())
            await self._nodes(cluster, seed)
            return

    async def _nodes(self, cluster: Cluster, seed: Address) -> None:
        """Look at every node that is up, and at the rights on each master."""
        own = next((node.address for node in cluster.nodes if "myself" in node.flags), seed)
        self._servers[0].place = shown(own)  # the seed, which a file may name otherwise
        others = [node.address for node in cluster.nodes if not node.down and node.address != own]
        await asyncio.gather(*map(self._look_beside, others))
        masters = {address for address in cluster.owners if address is not None}
        places = {shown(address): address for address in masters}
        self._add("", replication.never_masters(self._servers, cluster=True))
        for server in list(self._servers):
            self._add(server.place, full_coverage(server))
            self._add(server.place, replication.replicas(server))
            self._add(server.place, replication.link(server))
            address = places.get(server.place)
            if address is None:
                self._add(server.place, self._of_server(server))
                continue
            owns = partial(_owns, cluster.owners, address)
            await self._examine(server, address, owns)

    # -- looking at one ----------------------------------------------------------------------

    async def _look(self, settings: RedisSettings, place: str) -> bool:
        """Connect to a server and ask it; False: it gave no usable answer, which is a finding."""
        try:
            server = await within_loop_time(2 * self._deployment.timeout, look(settings, place))
        except ERRORS as error:
            self._unreachable(place, settings, error)
            return False
        self._servers.append(server)
        return True

    async def _look_beside(self, address: Address) -> None:
        """Look at a replica, or at another node: from here it may be out of reach."""
        settings = self._deployment.at(address)
        try:
            server = await within_loop_time(
                2 * self._deployment.timeout, look(settings, shown(address))
            )
        except ERRORS as error:
            self._found.append(("", NOT_LOOKED_AT.found(
                str(explain(settings, error)[0]), "run the doctor where the replicas run"
            )))  # fmt: skip
            return
        self._servers.append(server)

    async def _examine(
        self,
        server: Server,
        address: Address | None = None,
        owns: Callable[[int], bool] | None = None,
    ) -> None:
        """Every check on a master.

        Args:
            address: where it is; None: where the section says.
            owns: in a cluster, whether the master has a slot.
        """
        self._add(server.place, self._of_server(server))
        await self._gather(server, rights.lua(server))
        for use in self._deployment.uses:
            self._add(server.place, durability.durable(server, use.durability))
            if self._deployment.mode == "sentinel":
                self._add(server.place, durability.not_all(server, use.durability))
            settings = self._deployment.login(use, address)
            try:
                own = Server(server.place, await reach(settings))
            except ERRORS as error:
                self._unreachable(server.place, settings, error)
                continue
            try:
                await self._gather(own, rights.rights(own, use, owns))
                if use.keeps_locks:
                    if own.connection.db == settings.db:
                        await self._gather(own, leaks.leaks(own, use))
                    if owns is not None:
                        await self._gather(own, bells.repeated(own, use, owns))
                    cluster = self._deployment.mode == "cluster"
                    if not await self._gather(own, durability.ability(own, use, cluster=cluster)):
                        self._add(server.place, durability.slow_log(server, use.durability))
            finally:
                own.close()

    def _of_server(self, server: Server) -> Iterator[Finding]:
        """The checks that need nothing but what the server has said."""
        deployment = self._deployment
        yield from versions.version(server, deployment.settings.use_ssl)
        yield from memory.eviction(server)
        yield from memory.head_room(server)
        yield from persistence.persistence(server, deployment.keeps_histories)
        yield from persistence.synced(server)
        yield from persistence.saved(server)
        yield from clients.idle(server)
        yield from clients.clients(server)
        yield from clients.buffer(server)
        if deployment.lease is not None:
            yield from timing.latency(server, deployment.lease)
        # A right that replicas need as well is a finding of `rights`.
        refused = [name for name in server.refused if name != "TIME" or deployment.lease is None]
        if refused:
            user = deployment.settings.username or "default"
            yield NOT_LOOKED_AT.found(
                f"user {user} may not run {', '.join(refused)}: eviction, memory, persistence and "
                "limits are not known, or not all of them",
                f"ACL SETUSER {user} {_rights('+', refused)}\nrun the doctor again, and take it back with "
                f"ACL SETUSER {user} {_rights('-', refused)}; where a provider forbids it, see its console",
            )

    async def _gather(self, server: Server, found: AsyncIterator[Finding]) -> bool:
        """Keep the findings of a check that asks, and return whether there are any.

        A check that takes too long is not finished, which is a finding too.
        """
        before = len(self._found)

        async def collect() -> None:
            async for finding in found:
                self._found.append((server.place, finding))

        try:
            await within_loop_time(self._deployment.timeout, collect())
        except ERRORS as error:
            text = str(explain(self._deployment.settings, error)[0])
            again = NOT_LOOKED_AT.found(text, "run the doctor again, with a longer --timeout")
            self._found.append((server.place, again))
        return len(self._found) > before

    # -- what was found ----------------------------------------------------------------------

    def _add(self, place: str, found: Iterable[Finding]) -> None:
        self._found += [(place, finding) for finding in found]

    def _unreachable(self, place: str, settings: RedisSettings, error: BaseException) -> None:
        text = str(explain(settings, error)[0])
        self._found.append(
            (place, UNREACHABLE.found(text, "correct that, and run the doctor again"))
        )


def merged(found: Sequence[tuple[str, Finding]], several: bool) -> Iterator[Finding]:
    """One finding for servers with the same fault.

    Args:
        several: whether there is more than one server, so that a finding has to name its own.
    """
    places: dict[Finding, list[str]] = {}
    for place, finding in found:
        places.setdefault(finding, []).append(place)
    for finding, where in places.items():
        named = ", ".join(place for place in dict.fromkeys(where) if place)
        apart = several and named and named not in finding.what
        yield replace(finding, what=f"{named}: {finding.what}") if apart else finding


def _owns(owners: Sequence[Address | None], address: Address, slot: int) -> bool:
    return owners[slot] == address


def _master(answers: Answers) -> Address | None:
    """The master that the sentinels name: that of the latest failover."""
    states = [answer for answer in answers.values() if isinstance(answer, dict)]
    newest = max(states, key=lambda state: int(state.get("config-epoch", 0)), default=None)
    return None if newest is None else (newest["ip"], int(newest["port"]))


def _followers(master: Server) -> list[Address]:
    """The replicas that a master knows, as INFO has them: slave0:ip=...,port=...,state=online."""
    found = []
    for key, text in master.info.items():
        if key.startswith("slave") and key[5:].isdigit():
            fields = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
            found.append((fields["ip"], int(fields["port"])))
    return found


def _rights(sign: str, commands: Iterable[str]) -> str:
    return " ".join(sign + command.lower().replace(" ", "|") for command in commands)
