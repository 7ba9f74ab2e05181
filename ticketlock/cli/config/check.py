"""`ticketlock config check`: checks a file, and connects to everything that it names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...aio.loop_time import within_loop_time
from ...conversations import Conversations
from ...deliveries.settings import CallbackSettings
from ...domain.reading import read_domain
from ...endpoints.file import EndpointConfig, Endpoints, domain_path, read_endpoints
from ...endpoints.registry import (
    TYPES,
    create_action_server,
    create_event_database,
    create_event_source,
    create_lock_store,
    create_tracker_store,
    missing_extras,
    prepare_event_broker,
    require_extras,
)
from ...errors import ConfigurationError, TicketLockError
from ...imports import missing, needs, pip_line
from ...inbox.inbox import NOT_KEPT
from ...locks.concurrent.store import ConcurrentRedisLockStore
from ...locks.memory import InMemoryLockStore
from ...locks.store import LockStore
from ...redis.settings import RedisSettings
from ...server.settings import Settings
from ...settings.section import endpoint_values, is_secret, mask_url
from .mistakes import mistakes

_ALONE_LOCKS = (
    "in_memory works for one process only: replicas need locks on Redis, type concurrent_redis"
)
_ALONE_TRACKERS = (
    "in_memory works for one process only, and its histories are lost with it: replicas need a "
    "store that they share, type redis, sql, mongod or dynamo"
)

#: Classes that have a table `events` with columns of their own.
_EVENT_TABLES = ("SQLEventBroker", "SQLEventDatabase")
_SHARED = (
    "it is the database of the tracker store, which has a table events with other columns; name another "
    "database"
)
_UNSIGNED = "without secrets nothing is signed: a receiver cannot know who has posted it"


@dataclass(frozen=True)
class Component:
    """The component of a section.

    Attributes:
        section: its name in the file; a missing section has its default.
        kind: the class that is used.
        where: server, file or "this process".
        problem: None if it works; otherwise the errors with what to change, a line for each key.
        warning: a warning about one that works.
        mistaken: whether the problem is one of its settings, and not one of its server.
    """

    section: str
    kind: str
    where: str
    problem: str | None = None
    warning: str | None = None
    mistaken: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The component as JSON."""
        shown = ("section", "kind", "where", "problem", "warning")
        return {**{name: getattr(self, name) for name in shown}, "ok": self.problem is None}


@dataclass(frozen=True)
class Report:
    """The result of a check.

    Attributes:
        components: of each section.
        unused: sections and channels of a Rasa file that are not used -> why.
        install: the pip command for all missing packages; None if none is missing.
    """

    components: list[Component]
    unused: dict[str, str]
    install: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every component works."""
        return all(component.problem is None for component in self.components)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        components = [component.as_dict() for component in self.components]
        return {
            "ok": self.ok,
            "components": components,
            "unused": self.unused,
            "install": self.install,
        }


async def check(path: str | Path, timeout: float | None = None) -> Report:
    """Make and connect every component of a file; a file that is not there is not made.

    Args:
        timeout: seconds for each component; None: what its own settings say.

    The event service, the server, the action server, the callback and the channels are among them if
    the file has their sections. Of a Rasa credentials file it is said that nothing is used.
    Raises ConfigurationError when the file itself cannot be read.
    """
    endpoints = read_endpoints(path, credentials=True)
    if endpoints.credentials:
        return Report([], endpoints.unused)
    checks = {
        "lock_store": _lock_store,
        "tracker_store": _tracker_store,
        "event_broker": _event_broker,
        "event_service": _event_service,
    }
    found = _apart(
        [
            await _bounded(name, one(endpoints), timeout)
            for name, one in checks.items()
            if name != "event_service" or endpoints.section(name) is not None
        ],
        endpoints,
    )
    if endpoints.section("server") is not None:
        found.append(_server(endpoints))
    if endpoints.section("action_endpoint") is not None:
        found.append(await _bounded("action_endpoint", _action_endpoint(endpoints), timeout))
    unused = dict(endpoints.unused)
    if (domain := _domain(endpoints, unused)) is not None:
        found.append(domain)
    if endpoints.section("callback") is not None:
        found.append(_callback(endpoints))
    found += _channels(endpoints)
    lacking = missing_extras(endpoints, *TYPES)
    return Report(found, unused, pip_line(lacking) if lacking else None)


async def _bounded(
    section: str, checking: Awaitable[Component], timeout: float | None
) -> Component:
    if timeout is None:
        return await checking
    try:
        return await within_loop_time(timeout, checking)
    except asyncio.TimeoutError:
        return Component(section, "-", "-", f"{section}: no answer within {timeout:g} s")


async def _lock_store(endpoints: Endpoints) -> Component:
    section, place = endpoints.section("lock_store"), endpoints.where("lock_store")
    kind, where = _kind(section), "-"
    try:
        store = create_lock_store(section, place)
        kind, where = type(store).__name__, _where(store)
        async with store:
            await store.inspect("ticketlock config check")
            warning = await _lock_warning(store)
    except TicketLockError as error:
        return _failed("lock_store", kind, where, endpoints, error)
    return Component("lock_store", kind, where, warning=warning)


async def _lock_warning(store: LockStore) -> str | None:
    if isinstance(store, InMemoryLockStore):
        return _ALONE_LOCKS
    if isinstance(store, ConcurrentRedisLockStore):
        from ...inbox.redis import RedisInbox  # redis-py

        kept = await RedisInbox(store).durability() != "memory"
        return None if kept else f"this Redis {NOT_KEPT}"
    return None


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
        return _failed("tracker_store", kind, where, endpoints, error)
    alone = kind == "InMemoryTrackerStore"  # core imports no backend
    return Component("tracker_store", kind, where, warning=_ALONE_TRACKERS if alone else None)


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
    except Exception as error:  # noqa: BLE001  # of a custom class it may be any
        named = error if isinstance(error, TicketLockError) else _named(error)
        failed = _failed("event_broker", kind, where, endpoints, named)
        return replace(failed, problem=_without_secrets(failed.problem or "", section))
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
        return _failed("event_service", kind, where, endpoints, error)
    return Component("event_service", kind, where)


def _apart(found: list[Component], endpoints: Endpoints) -> list[Component]:
    """The components, where one that would share the tracker store's table `events` does not work."""
    histories = {each.where for each in found if each.kind == "SQLTrackerStore"}
    if os.environ.get("POSTGRESQL_SCHEMA"):
        return found  # the tables of the tracker store are in that schema

    def judged(each: Component) -> Component:
        if each.problem or each.kind not in _EVENT_TABLES or each.where not in histories:
            return each
        text = f"{endpoints.where(each.section)}: db: {_SHARED}"
        return replace(each, problem=text, mistaken=True)

    return [judged(each) for each in found]


def _server(endpoints: Endpoints) -> Component:
    """Check the settings of the server, with the lock store; it does not listen."""
    section, place = endpoints.section("server"), endpoints.where("server")
    kind = _kind(section, "http")
    try:
        settings = Settings.from_section(section, place)
        require_extras(endpoints, "server")
        from ...server.app import create_app

        create_app(Conversations(_lock_store_or_default(endpoints)), settings=settings)
    except TicketLockError as error:
        return _failed("server", kind, "-", endpoints, error)
    return Component("server", kind, f"double texting: {settings.double_texting}")


async def _action_endpoint(endpoints: Endpoints) -> Component:
    """Connect to the action server; no action is called."""
    section, place = endpoints.section("action_endpoint"), endpoints.where("action_endpoint")
    kind, where = _kind(section, "http"), "-"
    try:
        server = create_action_server(section, place)
        assert server is not None  # the section is there
        where = server.address
        await server.check_ready()
    except TicketLockError as error:
        return _failed("action_endpoint", kind, where, endpoints, error)
    return Component("action_endpoint", kind, where)


def _domain(endpoints: Endpoints, unused: dict[str, str]) -> Component | None:
    """Read the domain that the section `server` names, and add what of it is not used."""
    try:
        path = domain_path(endpoints)
        if path is None:
            return None
        domain = read_domain(path)
    except TicketLockError as error:
        return Component("domain", "Domain", "-", str(error), mistaken=True)
    unused.update({f"domain: {key}": why for key, why in domain.unused.items()})
    return Component("domain", "Domain", str(path))


def _callback(endpoints: Endpoints) -> Component:
    """Check the settings of the channel callback; nothing is posted."""
    section, place = endpoints.section("callback"), endpoints.where("callback")
    kind = _kind(section, "http")
    try:
        settings = CallbackSettings.from_section(section, place)
    except TicketLockError as error:
        return _failed("callback", kind, "-", endpoints, error)
    warning = None if settings.secrets else _UNSIGNED
    return Component("callback", kind, settings.address, warning=warning)


def _channels(endpoints: Endpoints) -> list[Component]:
    """Check the keys of each channel; no vendor is called."""
    section, place = endpoints.section("channels"), endpoints.where("channels")
    if section is None:
        return []
    if lacking := missing("server"):
        text = f"{place}: {needs({'server': lacking})}"
        return [Component("channels", "-", "-", text, mistaken=True)]
    from ...server.channels import create_channel

    found = []
    for name, keys in endpoint_values(section).items():
        try:
            channel = create_channel(name, keys, place)
        except TicketLockError as error:
            found.append(Component("channels", name, "-", str(error), mistaken=True))
        else:
            found.append(Component("channels", name, channel.path))
    return found


def _lock_store_or_default(endpoints: Endpoints) -> LockStore:
    """The lock store, not connected; one in memory if it is invalid, which its own row reports."""
    try:
        return create_lock_store(endpoints.section("lock_store"))
    except TicketLockError:
        return create_lock_store()


def _failed(name: str, kind: str, where: str, endpoints: Endpoints, error: Exception) -> Component:
    """The component of a section that does not work."""
    text = "\n".join(mistakes(name, endpoints, error))
    return Component(name, kind, where, text, mistaken=isinstance(error, ConfigurationError))


def _spare_files(component: object) -> None:
    """Do not create files during a check."""
    spare = getattr(component, "spare_files", None)
    if callable(spare):
        spare()


def _named(error: Exception) -> Exception:
    return Exception(f"{type(error).__name__}: {error}")


def _without_secrets(text: str, section: EndpointConfig) -> str:
    """The text without the values of secret keys, which errors of drivers may quote."""
    for key, value in section.kwargs.items():
        if is_secret(key) and isinstance(value, str) and len(value) > 3:
            text = text.replace(value, "***")
    return text


def _kind(section: Any, default: str = "in_memory") -> str:
    return str(section.type) if section is not None and section.type else default


def _where(component: Any, otherwise: str = "this process") -> str:
    """The address of a store or broker, without secrets."""
    settings = getattr(component, "settings", None)
    if isinstance(settings, RedisSettings):
        return f"Redis at {settings.address}, db {settings.db}"
    address = getattr(settings, "address", None) or getattr(component, "address", None)
    if not address and getattr(component, "shared", False):
        address = component.histories_at
    return mask_url(str(address)) if address else otherwise
