"""A lock store, a tracker store and an event broker of your own, named by module path.

lock_store:
  type: custom_stores.FolderLockStore
  url: /srv/bot/locks
tracker_store:
  type: custom_stores.FolderTrackerStore
  url: /srv/bot/histories
event_broker:
  type: custom_stores.LineBroker
  url: /srv/bot/events

Each has the documented methods and no more; plain ones, though async ones do as well. What
ticketlock adds is as strong as they are: these are for one process.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ticketlock import LockStore, TicketLock, Tracker


def _file(folder: Path, conversation_id: str) -> Path:
    return folder / quote(conversation_id, safe="")


class FolderLockStore(LockStore):
    """One file for each conversation that is in use."""

    def __init__(self, endpoint_config: Any = None) -> None:
        super().__init__(endpoint_config)
        self._folder = Path(endpoint_config.url)
        self._folder.mkdir(parents=True, exist_ok=True)

    def get_lock(self, conversation_id: str) -> TicketLock | None:
        file = _file(self._folder, conversation_id)
        return TicketLock.from_dict(json.loads(file.read_text())) if file.exists() else None

    def save_lock(self, lock: TicketLock) -> None:
        _file(self._folder, lock.conversation_id).write_text(json.dumps(lock.as_dict()))

    def delete_lock(self, conversation_id: str) -> None:
        _file(self._folder, conversation_id).unlink(missing_ok=True)


class FolderTrackerStore:
    """One file for each conversation; no base class is needed."""

    def __init__(self, host: str, domain: Any = None, event_broker: Any = None) -> None:
        self.domain = domain
        self._folder = Path(host)
        self._folder.mkdir(parents=True, exist_ok=True)

    def save(self, tracker: Tracker) -> None:
        file = _file(self._folder, tracker.sender_id)
        file.write_text(json.dumps([event.as_dict() for event in tracker.events]))

    def retrieve(self, sender_id: str) -> Tracker | None:
        file = _file(self._folder, sender_id)
        return Tracker.from_dict(sender_id, json.loads(file.read_text())) if file.exists() else None

    def keys(self) -> list[str]:
        return [unquote(file.name) for file in self._folder.iterdir()]


class LineBroker:
    """One line for each event."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @classmethod
    def from_endpoint_config(cls, broker_config: Any, event_loop: Any = None) -> LineBroker:
        return cls(Path(broker_config.url))

    def publish(self, event: dict[str, Any]) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps(event) + "\n")

    def is_ready(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing is open."""
