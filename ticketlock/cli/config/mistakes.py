"""All mistakes in a section, because creating its component stops at the first one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...deliveries.settings import CallbackSettings
from ...endpoints.file import EndpointConfig, Endpoints
from ...endpoints.registry import (
    create_action_server,
    create_event_database,
    create_lock_store,
    create_tracker_store,
    event_broker_maker,
    type_of,
)
from ...errors import ConfigurationError
from ...server.settings import Settings
from ...settings.section import Section, endpoint_values, located
from .schema import KEYS

#: Section -> creates its component, without connecting.
_MAKE: dict[str, Callable[[Any, str], object]] = {
    "lock_store": create_lock_store,
    "tracker_store": lambda section, where: create_tracker_store(section, where=where),
    "event_broker": event_broker_maker,
    "event_service": create_event_database,
    "server": Settings.from_section,
    "action_endpoint": create_action_server,
    "callback": CallbackSettings.from_section,
}


def mistakes(name: str, endpoints: Endpoints, error: Exception) -> list[str]:
    """The errors of all wrong keys of a section; only `error` if no key is wrong.

    Args:
        error: the error of its component.
    """
    section, where = endpoints.section(name), endpoints.where(name)
    first = located(where, error)
    keys = None if section is None else KEYS[name].get(type_of(name, section))
    if section is None or keys is None or not isinstance(error, ConfigurationError):
        return [first]
    given = endpoint_values(section)
    found = Section(given, where).mistakes(keys)
    # A wrong choice or switch leaves open which other keys are allowed.
    if not any(keys[key].kind in ("choice", "flag") for key in found.keys() & keys.keys()):
        rest = {key: value for key, value in given.items() if key not in found}
        found |= _further(name, section.type, rest, where, found)
    if _key(first, where) not in found:
        found[""] = first
    return [*found.values()]


def _further(
    name: str, kind: str | None, rest: dict[str, Any], where: str, known: dict[str, str]
) -> dict[str, str]:
    """The errors of the other keys, found by leaving out one wrong key after the other."""
    found: dict[str, str] = {}
    while True:
        try:
            _MAKE[name](EndpointConfig(type=kind, **rest), where)
        except ConfigurationError as error:
            text = located(where, error)
        else:
            return found
        key = _key(text, where)
        if key in known or key in found:
            return found  # it is missing because it was left out
        found[key] = text
        if rest.pop(key, None) is None:
            return found


def _key(text: str, where: str) -> str:
    """The key in the text of an error."""
    return text.removeprefix(f"{where}: ").partition(":")[0]
