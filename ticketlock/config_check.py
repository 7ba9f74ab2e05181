"""`ticketlock config check`: is this file right, and does what it names answer?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .endpoints import EndpointConfig, Endpoints, read_endpoints
from .errors import TicketLockError
from .redis_settings import RedisSettings
from .registry import (
    create_event_database,
    create_event_source,
    create_lock_store,
    create_tracker_store,
    prepare_event_broker,
)
from .settings import is_secret, located, mask_url


@dataclass(frozen=True)
class Component:
    """What a section leads to.

    Attributes:
        section: its name in the file; a section that is not there has its default.
        kind: the class that is used.
        where: server, file or "this process".
        problem: None when it works; else what is wrong and what to change.
    """

    section: str
    kind: str
    where: str
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.problem is None}


async def check(path: str | Path) -> list[Component]:
    """Make and connect every component of a file; a file that is not there is not made.

    The event service is among them if the file has its section: bots do without it.
    Raises ConfigurationError when the file itself cannot be read.
    """
    endpoints = read_endpoints(path)
    found = [
        await _lock_store(endpoints),
        await _tracker_store(endpoints),
        await _event_broker(endpoints),
    ]
    if endpoints.section("event_service") is not None:
        found.append(await _event_service(endpoints))
    return found


async def _lock_store(endpoints: Endpoints) -> Component:
    section, place = endpoints.section("lock_store"), endpoints.where("lock_store")
    kind, where = _kind(section), "-"
    try:
        store = create_lock_store(section, place)
        kind, where = type(store).__name__, _where(store)
        async with store:
            await store.inspect("ticketlock config check")
    except TicketLockError as error:
        return Component("lock_store", kind, where, located(place, error))
    return Component("lock_store", kind, where)


async def _tracker_store(endpoints: Endpoints) -> Component:
    section, place = endpoints.section("tracker_store"), endpoints.where("tracker_store")
    kind, where = _kind(section), "-"
    try:
        store = create_tracker_store(section, where=place)
        kind, where = type(store).__name__, _where(store)
        _spare_files(store)
        async with store:
            await store.check_ready()
    except TicketLockError as error:
        return Component("tracker_store", kind, where, located(place, error))
    return Component("tracker_store", kind, where)


async def _event_broker(endpoints: Endpoints) -> Component:
    section, place = endpoints.section("event_broker"), endpoints.where("event_broker")
    if section is None:
        return Component("event_broker", "none", "events are not published")
    kind, where = _kind(section, "pika"), "-"
    try:
        broker = await prepare_event_broker(section, place)
        inner = getattr(broker, "inner", broker)
        kind, where = type(inner).__name__, _where(broker, "-")
        _spare_files(inner)
        try:
            await broker.connect_once()
        finally:
            await broker.close()
    except Exception as error:  # noqa: BLE001  # a custom class raises what it likes
        text = located(place, error if isinstance(error, TicketLockError) else _named(error))
        return Component("event_broker", kind, where, _without_secrets(text, section))
    return Component("event_broker", kind, where)


async def _event_service(endpoints: Endpoints) -> Component:
    section, place = endpoints.section("event_service"), endpoints.where("event_service")
    kind, where = _kind(section, "sql"), "-"
    try:
        settings, database = create_event_database(section, place)
        kind, where = type(database).__name__, _where(database)
        create_event_source(endpoints.section("event_broker"), settings)
        _spare_files(database)
        try:
            await database.open()
        finally:
            await database.close()
    except TicketLockError as error:
        return Component("event_service", kind, where, located(place, error))
    return Component("event_service", kind, where)


def _spare_files(component: object) -> None:
    """A check leaves no file behind that was not there."""
    spare = getattr(component, "spare_files", None)
    if callable(spare):
        spare()


def _named(error: Exception) -> Exception:
    return Exception(f"{type(error).__name__}: {error}")


def _without_secrets(text: str, section: EndpointConfig) -> str:
    """The text without the values of secret keys, which a driver's or custom error may quote."""
    for key, value in section.kwargs.items():
        if is_secret(key) and isinstance(value, str) and len(value) > 3:
            text = text.replace(value, "***")
    return text


def _kind(section: Any, default: str = "in_memory") -> str:
    return str(section.type) if section is not None and section.type else default


def _where(component: Any, otherwise: str = "this process") -> str:
    """Where a store keeps its data, or a broker sends it, without secrets."""
    settings = getattr(component, "settings", None)
    if isinstance(settings, RedisSettings):
        return f"Redis at {settings.address}, db {settings.db}"
    address = getattr(settings, "address", None) or getattr(component, "address", None)
    return mask_url(str(address)) if address else otherwise
