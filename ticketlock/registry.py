"""From the `type` of a section to a component: the only place that names backends."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from .endpoints import EndpointConfig
from .errors import ConfigurationError
from .lock_store import LockStore

#: `type` of a `lock_store` section -> where the class is.
LOCK_STORES = {
    "in_memory": "ticketlock.memory_lock_store:InMemoryLockStore",
    "redis": "ticketlock.redis_lock_store:RedisLockStore",
    "concurrent_redis": "ticketlock.concurrent_lock_store:ConcurrentRedisLockStore",
}

#: Module paths under which configurations of the documented system know these classes.
_DOCUMENTED_PATHS = {
    "rasa.core.lock_store.InMemoryLockStore": "in_memory",
    "rasa.core.lock_store.RedisLockStore": "redis",
    "rasa.core.concurrent_lock_store.ConcurrentRedisLockStore": "concurrent_redis",
    "rasa_plus.components.concurrent_lock_store.ConcurrentRedisLockStore": "concurrent_redis",
}


def import_class(path: str, where: str) -> type[Any]:
    """The class at `package.module.Class` or `package.module:Class`.

    Raises ConfigurationError naming the part of the path that is wrong; an error that the
    module itself raises while it is imported comes out as its cause.
    """
    module_name, _, class_name = path.replace(":", ".").rpartition(".")
    if not module_name:
        raise ConfigurationError(f"{where}: type: {path!r} is neither a known type nor a path")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise ConfigurationError(f"{where}: type: {module_name}: {error}") from error
    found = getattr(module, class_name, None)
    if not inspect.isclass(found):
        raise ConfigurationError(f"{where}: type: {module_name} has no class {class_name}")
    return found


def create_lock_store(obj: Any = None, where: str = "lock_store") -> LockStore:
    """The lock store of a section: an EndpointConfig, a mapping, a store, or None."""
    if isinstance(obj, LockStore):
        return obj
    if isinstance(obj, dict):
        obj = EndpointConfig(**obj)
    kind = getattr(obj, "type", None) or "in_memory"
    kind = _DOCUMENTED_PATHS.get(kind, kind)
    path = LOCK_STORES.get(kind.lower())
    store = import_class(path or kind, where)
    if path and kind.lower() == "in_memory":
        return store()  # type: ignore[no-any-return]  # the class is ours
    if path:
        return store(endpoint_config=obj, where=where)  # type: ignore[no-any-return]  # as above
    if not issubclass(store, LockStore):
        raise ConfigurationError(f"{where}: type: {kind} is no subclass of ticketlock.LockStore")
    created = store(endpoint_config=obj)
    if not hasattr(created, "lock_lifetime"):  # its __init__ did not call ours
        LockStore.__init__(created, obj)
    return created
