"""`open_export`: an export from the tracker store to the event broker of an `endpoints.yml`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, EventBrokerConnectionError, TrackerStoreConnectionError
from ..publishing.export.export import EventExport
from ..publishing.export.options import ExportOptions
from ..settings.section import digest, endpoint_values, is_secret, located, mask_url
from .file import EndpointConfig, read_endpoints
from .registry import create_tracker_store, prepare_event_broker, require_existing


@asynccontextmanager
async def open_export(
    endpoints: str | Path, options: ExportOptions | None = None, **arguments: Any
) -> AsyncIterator[EventExport]:
    """An export from the tracker store to the event broker of an `endpoints.yml`.

    The other arguments are those of `EventExport`. Raises ConfigurationError, with the file and
    the section, if a section is missing or the tracker store is in memory.
    """
    found = read_endpoints(endpoints)
    sections = {}
    for name, use in (("tracker_store", "read from"), ("event_broker", "published to")):
        section = found.section(name)
        if section is None:
            raise ConfigurationError(
                f"{found.where(name)}: is missing: it names the place that events are {use}"
            )
        sections[name] = section
    where, broker_where = found.where("tracker_store"), found.where("event_broker")
    store = create_tracker_store(sections["tracker_store"], where=where)
    if type(store).__name__ == "InMemoryTrackerStore":  # core imports no backend
        raise ConfigurationError(
            f"{where}: an in_memory tracker store cannot be exported: its histories are in the "
            "memory of the bot's process"
        )
    require_existing(store)
    places = {name: _place(section) for name, section in sections.items()}
    broker = await prepare_event_broker(sections["event_broker"], broker_where)
    try:
        async with store:
            yield EventExport(store, broker, options, places=places, **arguments)
    except EventBrokerConnectionError as error:
        raise EventBrokerConnectionError(located(broker_where, error), error.again) from error
    except TrackerStoreConnectionError as error:
        raise TrackerStoreConnectionError(located(where, error)) from error
    finally:
        await broker.close()


def _place(section: EndpointConfig) -> str:
    """A digest of a section without its secrets, because those may change."""
    keys = {"type": str(section.type).lower(), **endpoint_values(section)}
    kept = {key: value for key, value in keys.items() if not is_secret(key)}
    return digest({k: mask_url(v) if isinstance(v, str) else v for k, v in kept.items()})
