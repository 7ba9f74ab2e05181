"""Which servers an `endpoints.yml` names, and a visit to each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ..endpoints.file import Endpoints
from ..endpoints.registry import (
    create_event_database,
    create_lock_store,
    create_tracker_store,
    prepare_event_broker,
    type_of,
)
from ..errors import TicketLockError
from ..redis.durability import Durability
from ..redis.settings import RedisSettings
from ..settings.section import Section, endpoint_values
from ..settings.store_keys import DynamoKeys
from . import dynamo, kafka, mongo, rabbitmq, sql
from .redis.deployment import Deployment, Use
from .redis.examination import Examination
from .visit import Visit

#: Makes a visit.
Plan = Callable[[], Awaitable[Visit]]


class Doctor:
    """Visits every server that a file names.

    Args:
        endpoints: the sections of the file.
        timeout: seconds for each question to a server.
        replicas: how many processes use the file.
    """

    def __init__(self, endpoints: Endpoints, *, timeout: float = 10.0, replicas: int = 2) -> None:
        self._endpoints = endpoints
        self._timeout = timeout
        self._replicas = replicas

    async def visits(self) -> list[Visit]:
        """What was seen of each server, in the order of the sections.

        Of a server that gives no answer `seen` is empty. A Redis has a finding then; of others the check of
        their section (`ticketlock config check`) says why.
        """
        # Alone: importing a driver holds up the event loop, and would look like a slow Redis.
        redis = await asyncio.gather(*(plan() for plan in self._redis()))
        plans = [*await self._sql(), *self._others(), *await self._brokers()]
        return [*redis, *await asyncio.gather(*(plan() for plan in plans))]

    # -- what there is -----------------------------------------------------------------------

    def _made(self, name: str) -> Any:
        """The component of a section, not connected; None if it cannot be made, or is not there."""
        section, where = self._endpoints.section(name), self._endpoints.where(name)
        if section is None:
            return None
        try:
            if name == "lock_store":
                return create_lock_store(section, where)
            if name == "tracker_store":
                return create_tracker_store(section, where=where)
            return create_event_database(section, where)[1]
        except TicketLockError:
            return None  # the section's own check says why

    async def _broker(self) -> Any:
        section = self._endpoints.section("event_broker")
        try:
            known = type_of("event_broker", section) in ("pika", "kafka", "sql", "file")
            if section is None or not known:
                return None  # a custom one may connect when it is made
            return await prepare_event_broker(section, self._endpoints.where("event_broker"))
        except TicketLockError:
            return None

    def _redis(self) -> list[Plan]:
        """The deployments of Redis; one that two sections name is visited once."""
        found: dict[tuple[str, str], list[Use]] = {}
        for name in ("lock_store", "tracker_store"):
            component = self._made(name)
            settings = getattr(component, "settings", None)
            if isinstance(settings, RedisSettings):
                lease = _lease(component) if name == "lock_store" else None
                uses = found.setdefault((settings.deployment_mode, settings.address), [])
                asked = getattr(component, "durability", Durability())
                uses.append(Use(name, settings, lease, asked))
        return [Examination(Deployment(uses, self._timeout)).visit for uses in found.values()]

    async def _sql(self) -> list[Plan]:
        """The SQL databases; those at one address share its connections."""
        found: dict[str, list[sql.Pool]] = {}
        components = {name: self._made(name) for name in ("tracker_store", "event_service")}
        components["event_broker"] = await self._broker()
        for name, component in components.items():
            settings: Any = getattr(component, "settings", None)
            if hasattr(settings, "dialect"):
                place = settings.address.rpartition(" at ")
                server = settings.address if settings.dialect == "sqlite" else place[2]
                found.setdefault(server, []).append(sql.Pool(name, settings))
        return [_later(sql.visit, pools, self._timeout, self._replicas) for pools in found.values()]

    def _others(self) -> list[Plan]:
        """MongoDB and DynamoDB."""
        section, where = (
            self._endpoints.section("tracker_store"),
            self._endpoints.where("tracker_store"),
        )
        if section is None or self._made("tracker_store") is None:
            return []
        kind, values = type_of("tracker_store", section), endpoint_values(section)
        if kind == "mongod":
            return [_later(mongo.visit, "tracker_store", values, where, self._timeout)]
        if kind == "dynamo":
            keys = Section(values, where).read(DynamoKeys)
            return [_later(dynamo.visit, "tracker_store", keys, self._timeout)]
        return []

    async def _brokers(self) -> list[Plan]:
        """Kafka and RabbitMQ."""
        broker = await self._broker()
        kind = type_of("event_broker", self._endpoints.section("event_broker"))
        visits = {"kafka": kafka.visit, "pika": rabbitmq.visit}
        if broker is None or kind not in visits:
            return []
        return [_later(visits[kind], "event_broker", broker.settings, self._timeout)]


def _later(visit: Callable[..., Awaitable[Visit]], *args: Any) -> Plan:
    return lambda: visit(*args)


def _lease(store: Any) -> float:
    """Seconds of a lease: of `concurrent_redis` from its timing, of `redis` its own."""
    timing = getattr(store, "timing", None)
    return float(store.lease if timing is None else timing.lease / 1000)
