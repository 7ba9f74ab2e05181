"""Creates components by the `type` of their section; only this file names backends.

(Those that only the demo needs are in `demo/listeners`.)
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..actions.settings import ActionSettings
from ..errors import ConfigurationError
from ..event_service.database import EventDatabase
from ..event_service.settings import ServiceSettings
from ..event_service.source import Source
from ..imports import extra_of, missing, needs, raised_at
from ..locks.store import LockStore
from ..publishing.broker import EventBroker
from ..publishing.custom import CustomEventBroker
from ..settings.section import Section, endpoint_values, hint
from ..tracker.custom import CustomTrackerStore
from ..tracker.store import TrackerStore
from .file import EndpointConfig, Endpoints

if TYPE_CHECKING:
    from ..actions.server import ActionServer  # it needs an extra

log = logging.getLogger("ticketlock")

#: `type` of a `lock_store` section -> its class.
LOCK_STORES = {
    "in_memory": "ticketlock.locks.memory:InMemoryLockStore",
    "redis": "ticketlock.locks.redis:RedisLockStore",
    "concurrent_redis": "ticketlock.locks.concurrent.store:ConcurrentRedisLockStore",
}

#: `type` of a `tracker_store` section -> its class.
TRACKER_STORES = {
    "in_memory": "ticketlock.stores.memory:InMemoryTrackerStore",
    "sql": "ticketlock.stores.sql:SQLTrackerStore",
    "redis": "ticketlock.stores.redis:RedisTrackerStore",
    "mongod": "ticketlock.stores.mongo:MongoTrackerStore",
    "dynamo": "ticketlock.stores.dynamo:DynamoTrackerStore",
}

#: `type` of an `event_broker` section -> its class.
EVENT_BROKERS = {
    "pika": "ticketlock.brokers.pika:PikaEventBroker",
    "kafka": "ticketlock.brokers.kafka:KafkaEventBroker",
    "sql": "ticketlock.brokers.sql:SQLEventBroker",
    "file": "ticketlock.brokers.file:FileEventBroker",
}

#: `type` of an `event_broker` section -> the reader of the event service.
EVENT_SOURCES = {
    "pika": "ticketlock.brokers.pika.reader:PikaReader",
    "kafka": "ticketlock.brokers.kafka.reader:KafkaReader",
}

#: `type` of an `event_service` section -> its class.
EVENT_DATABASES = {"sql": "ticketlock.stores.event_service:SQLEventDatabase"}

#: Section -> its types, and its documented default type.
TYPES: dict[str, tuple[dict[str, str], str]] = {
    "lock_store": (LOCK_STORES, "in_memory"),
    "tracker_store": (TRACKER_STORES, "in_memory"),
    "event_broker": (EVENT_BROKERS, "pika"),
    "event_service": (EVENT_DATABASES, "sql"),
    "server": ({"http": "ticketlock.server.app:BotServer"}, "http"),
    "action_endpoint": ({"http": "ticketlock.actions.server:ActionServer"}, "http"),
    "callback": ({"http": "ticketlock.deliveries.callback:Callback"}, "http"),
}

#: Modules with classes of the same names, whose sections have the same keys: those of the documented
#: system, and those of ours that an `endpoints.yml` inside Rasa names.
_DOCUMENTED_MODULES = (
    "rasa.core.lock_store", "rasa.core.concurrent_lock_store",
    "rasa_plus.components.concurrent_lock_store", "rasa.core.tracker_store",
    "rasa.core.brokers.pika", "rasa.core.brokers.kafka", "rasa.core.brokers.sql",
    "rasa.core.brokers.file", "ticketlock", "ticketlock.brokers", "ticketlock.rasa",
)  # fmt: skip


def type_of(name: str, section: Any) -> str:
    """The type of a section: one of `TYPES`, or the path of a custom class."""
    types, default = TYPES[name]
    kind = getattr(section, "type", None) or default
    module, _, class_name = kind.rpartition(".")
    if module in _DOCUMENTED_MODULES:
        for ours, path in types.items():
            if path.endswith(f":{class_name}"):
                return ours
    return kind.lower() if kind.lower() in types else str(kind)


def missing_extras(endpoints: Endpoints, *sections: str) -> dict[str, list[str]]:
    """Extra -> its missing modules, for the extras that these sections of a file need.

    A section that is not in the file needs none.
    """
    found = {}
    for name in sections:
        section = endpoints.section(name)
        if section is not None:
            kind, keys = type_of(name, section), {"url": section.url, **section.kwargs}
            extra = "actions" if name == "action_endpoint" else extra_of(kind, keys)
            if extra is not None and (modules := missing(extra)):
                found[extra] = modules
    return found


def require_extras(endpoints: Endpoints, *sections: str) -> None:
    """Raise a ConfigurationError for all missing extras, with one pip command."""
    if found := missing_extras(endpoints, *sections):
        raise ConfigurationError(f"{endpoints.path}: {needs(found)}")


def import_class(path: str, where: str, known: Iterable[str] = ()) -> type[Any]:
    """The class at `package.module.Class` or `package.module:Class`.

    Args:
        known: known types, for the suggestion in an error.

    Raises ConfigurationError, which names the wrong part of the path; an error of the import
    itself is its cause.
    """
    module_name, _, class_name = path.replace(":", ".").rpartition(".")
    if not module_name:
        raise ConfigurationError(
            f"{where}: type: {path!r} is neither a known type nor the path of a class; "
            + hint(path, known)
        )
    try:
        module = import_module(module_name)
    except ImportError as error:
        todo = raised_at(error)
        if isinstance(error, ModuleNotFoundError) and module_name.split(".")[0] == error.name:
            todo = ": commands look for it in the folder in which they run too"
        raise ConfigurationError(f"{where}: type: {module_name}: {error}{todo}") from error
    except Exception as error:
        said = f"{type(error).__name__}: {error}{raised_at(error)}"
        raise ConfigurationError(f"{where}: type: {module_name} cannot be run: {said}") from error
    found = getattr(module, class_name, None)
    if not inspect.isclass(found):
        raise ConfigurationError(f"{where}: type: {module_name} has no class {class_name}")
    return found


def import_backend(path: str, kind: str, where: str, keys: Mapping[str, Any]) -> type[Any]:
    """The class of a backend of the type `kind`.

    Args:
        keys: the keys of the section, which decide the driver.

    Raises ConfigurationError; for a missing driver with the pip command.
    """
    extra = extra_of(kind, keys)
    if extra is not None and (modules := missing(extra)):
        raise ConfigurationError(f"{where}: type {kind} {needs({extra: modules})}")
    return import_class(path, where)


def create_lock_store(obj: Any = None, where: str = "lock_store") -> LockStore:
    """The lock store of a section: an EndpointConfig, a mapping, a store, or None."""
    if isinstance(obj, LockStore):
        return obj
    if isinstance(obj, dict):
        obj = EndpointConfig(**obj)
    kind = type_of("lock_store", obj)
    path = LOCK_STORES.get(kind)
    store = import_class(path or kind, where, LOCK_STORES)
    if kind == "in_memory":
        Section({} if obj is None else endpoint_values(obj), where).finish()
        return store()  # type: ignore[no-any-return]  # the class is ours
    if path:
        return store(endpoint_config=obj, where=where)  # type: ignore[no-any-return]  # as above
    if not issubclass(store, LockStore):
        raise ConfigurationError(f"{where}: type: {kind} is not a subclass of ticketlock.LockStore")
    created = store(endpoint_config=obj)
    if not hasattr(created, "lock_lifetime"):  # its __init__ did not call that of LockStore
        LockStore.__init__(created, obj)
    return created


def create_tracker_store(
    section: Any = None,
    domain: Any = None,
    event_broker: Any = None,
    where: str = "tracker_store",
) -> TrackerStore:
    """The tracker store of a section: an EndpointConfig, a mapping, a store, or None.

    Another type is the path of a custom class, which is called as documented:
    `Class(host=url, domain=, event_broker=, **keys)`.

    Raises ConfigurationError; for a missing extra with the pip command.
    """
    if isinstance(section, TrackerStore):
        return section
    if isinstance(section, Mapping):
        section = EndpointConfig(**section)
    kind = type_of("tracker_store", section)
    values = {} if section is None else endpoint_values(section)
    if kind in TRACKER_STORES:
        store = import_backend(TRACKER_STORES[kind], kind, where, values)
        created = store(domain=domain, event_broker=event_broker, where=where, **values)
        return created  # type: ignore[no-any-return]  # the class is ours
    host = values.pop("url", None)
    custom = import_class(kind, where, TRACKER_STORES)
    try:
        inner = custom(host=host, domain=domain, event_broker=event_broker, **values)
    except TypeError as error:
        raise ConfigurationError(
            f"{where}: type: {kind} cannot be called with host=, domain=, event_broker= "
            f"and the other keys: {error}"
        ) from error
    return CustomTrackerStore.around(inner, where)


async def create_event_broker(
    section: Any = None, where: str = "event_broker"
) -> EventBroker | None:
    """The broker of a section: an EndpointConfig, a mapping, a broker, or None for none.

    A section without `type` means RabbitMQ, as documented. Another type is the path of a custom
    class with the documented `from_endpoint_config`.

    Raises ConfigurationError (for a missing extra with the pip command);
    EventBrokerConnectionError if a custom broker connects at once and fails.
    """
    if section is None or isinstance(section, EventBroker):
        return section
    if isinstance(section, Mapping):
        section = EndpointConfig(**section)
    own, custom = _broker_class(section, where)
    if own is not None:
        created = await own.from_endpoint_config(section, where=where)
        return created  # type: ignore[no-any-return]  # the class is ours
    return await CustomEventBroker.make(custom, section, where)


async def prepare_event_broker(section: Any, where: str = "event_broker") -> EventBroker:
    """The broker of an EndpointConfig; only custom ones may be connected already.

    For commands, which then call `connect_once` to get its error at once. Raises
    ConfigurationError.
    """
    own, custom = _broker_class(section, where)
    if own is not None:
        return own(where=where, **endpoint_values(section))  # type: ignore[no-any-return]  # ours
    return await CustomEventBroker.make(custom, section, where)


def _broker_class(section: Any, where: str) -> tuple[type[Any] | None, Any]:
    """The class of a section: (backend, None), or (None, custom class)."""
    kind = type_of("event_broker", section)
    if kind in EVENT_BROKERS:
        values = endpoint_values(section)
        return import_backend(EVENT_BROKERS[kind], kind, where, values), None
    return None, import_class(kind, where, EVENT_BROKERS)


def event_broker_maker(
    section: Any = None, where: str = "event_broker"
) -> Callable[[], Awaitable[EventBroker]] | None:
    """A function that creates the broker of a section; None without a section.

    Backends of ticketlock are created now, without connecting, so that a wrong setting is an
    error now, and an unreachable server is not. Raises ConfigurationError.
    """
    if section is None:
        return None
    if isinstance(section, Mapping):
        section = EndpointConfig(**section)
    made = section
    if not isinstance(section, EventBroker):
        own, _ = _broker_class(section, where)
        if own is not None:
            made = own(where=where, **endpoint_values(section))

    async def make() -> EventBroker:
        broker = await create_event_broker(made, where)
        assert broker is not None  # the section is not None
        return broker

    return make


def create_event_source(
    section: Any, service: ServiceSettings | None = None, where: str = "event_broker"
) -> Source:
    """The reader of the events that the broker of a section publishes.

    Raises ConfigurationError, also for a broker whose events cannot be consumed.
    """
    if section is None:
        raise ConfigurationError(
            f"{where}: is missing: it names the Kafka or RabbitMQ to read from"
        )
    if isinstance(section, Mapping):
        section = EndpointConfig(**section)
    kind = type_of("event_broker", section)
    if kind not in EVENT_SOURCES:
        known = ", ".join(EVENT_SOURCES)
        raise ConfigurationError(
            f"{where}: type: events of {kind!r} cannot be consumed, only those of {known}"
        )
    values = endpoint_values(section)
    source = import_backend(EVENT_SOURCES[kind], kind, where, values)
    made = source(service or ServiceSettings(), where=where, **values)
    return made  # type: ignore[no-any-return]  # the class is ours


def create_event_database(
    section: Any = None, where: str = "event_service"
) -> tuple[ServiceSettings, EventDatabase]:
    """The settings and the database of the event service: of an EndpointConfig, a mapping, or None.

    Raises ConfigurationError; for a missing extra with the pip command.
    """
    if isinstance(section, Mapping):
        section = EndpointConfig(**section)
    kind = type_of("event_service", section)
    if kind not in EVENT_DATABASES:
        raise ConfigurationError(f"{where}: type: {kind!r} is not known; the only type is sql")
    values = {} if section is None else endpoint_values(section)
    # Its driver is checked when it is opened, because it supports fewer dialects.
    database = import_backend(EVENT_DATABASES[kind], kind, where, {})
    keys = Section(values, where)
    settings = ServiceSettings.take(keys)
    return settings, database(keys, where)


def create_action_server(
    section: Any = None, where: str = "action_endpoint"
) -> ActionServer | None:
    """The ActionServer of a section: an EndpointConfig, a mapping, an ActionServer, or None for none.

    Raises ConfigurationError; for a missing extra with the pip command.
    """
    if section is None:
        return None
    if modules := missing("actions"):
        raise ConfigurationError(f"{where}: {needs({'actions': modules})}")
    from ..actions.server import ActionServer

    if isinstance(section, ActionServer):
        return section
    return ActionServer(ActionSettings.from_section(section, where), where=where)


def require_existing(component: object) -> None:
    """Raise ConfigurationError if the file of a store is missing, for commands that only read.

    Stores without a file, and custom stores, are not checked.
    """
    require = getattr(component, "require_existing", None)
    if callable(require):
        require()
