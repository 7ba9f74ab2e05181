"""`ticketlock config check`: is this file right, and does what it names answer?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .endpoints import Endpoints, read_endpoints
from .errors import TicketLockError
from .redis_settings import RedisSettings
from .registry import create_lock_store, create_tracker_store
from .settings import mask_url


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
    """Make and connect every component of a file.

    Raises ConfigurationError when the file itself cannot be read.
    """
    endpoints = read_endpoints(path)
    return [await _lock_store(endpoints), await _tracker_store(endpoints)]


async def _lock_store(endpoints: Endpoints) -> Component:
    section = endpoints.section("lock_store")
    kind, where = _kind(section), "-"
    try:
        store = create_lock_store(section, endpoints.where("lock_store"))
        kind, where = type(store).__name__, _where(store)
        async with store:
            await store.inspect("ticketlock config check")
    except TicketLockError as error:
        return Component("lock_store", kind, where, str(error))
    return Component("lock_store", kind, where)


async def _tracker_store(endpoints: Endpoints) -> Component:
    section = endpoints.section("tracker_store")
    kind, where = _kind(section), "-"
    try:
        store = create_tracker_store(section, where=endpoints.where("tracker_store"))
        kind, where = type(store).__name__, _where(store)
        async with store:
            await store.exists("ticketlock config check")
    except TicketLockError as error:
        return Component("tracker_store", kind, where, str(error))
    return Component("tracker_store", kind, where)


def _kind(section: Any) -> str:
    return str(section.type) if section is not None and section.type else "in_memory"


def _where(store: Any) -> str:
    """Where a store keeps its data, without secrets."""
    settings = getattr(store, "settings", None)
    if isinstance(settings, RedisSettings):
        return f"Redis at {settings.address}, db {settings.db}"
    address = getattr(settings, "address", None) or getattr(store, "address", None)
    return mask_url(str(address)) if address else "this process"
