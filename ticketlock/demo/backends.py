"""The stores of a demo: chosen by its options, and checked before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checks import check_sender_id
from ..conversations import Conversations
from ..endpoints.file import EndpointConfig, Endpoints, read_endpoints, write_endpoints
from ..endpoints.registry import create_lock_store, create_tracker_store
from ..errors import ConfigurationError
from ..events import LISTEN, ActionExecuted, BotUttered
from ..events.codec import MAX_EVENT_BYTES, encode_events
from ..locks.memory import InMemoryLockStore
from ..tracker.store import TrackerStore
from ..tracker.tracker import Tracker
from .traffic import LONGEST, Message

#: Settings of the replicas' servers.
_SERVER = {"max_body": 16 * LONGEST, "request_timeout": 600, "drain_timeout": 1}

#: The problem of a store that processes do not share.
_ALONE = "is private to each replica: name a store that they can share"


@dataclass(frozen=True)
class Backends:
    """The sections of the stores as mappings; they may contain passwords.

    Attributes:
        lock_store: None until the Redis of the demo is started.
        own_tracker: whether the tracker store is a file of the demo, removed at its end.
        where_lock, where_tracker, where_broker: for error texts.
        event_broker: None: events are not published.
    """

    lock_store: dict[str, Any] | None
    tracker_store: dict[str, Any]
    own_tracker: bool
    where_lock: str = "lock_store"
    where_tracker: str = "tracker_store"
    event_broker: dict[str, Any] | None = None
    where_broker: str = "event_broker"

    @classmethod
    def choose(
        cls, redis: str | None, endpoints: Path | None, folder: str, run: str, events: bool = False
    ) -> Backends:
        """The backends that the options name; default: an SQLite file in `folder`, no lock store.

        Args:
            run: unique and alphanumeric; the prefix of the keys in the Redis of `redis`.
            events: publish to a file in `folder`.

        Raises ConfigurationError.
        """
        found = read_endpoints(endpoints) if endpoints else Endpoints("")
        locks, tracker = found.section("lock_store"), found.section("tracker_store")
        broker = found.section("event_broker")
        if redis and locks:
            raise ConfigurationError(f"--redis and {found.where('lock_store')}: give one of them")
        if events and (broker or tracker):
            # The replicas would publish events to the file that wait there for another broker.
            section = "event_broker" if broker else "tracker_store"
            raise ConfigurationError(f"--events and {found.where(section)}: give one of them")
        own_broker = {"type": "file", "path": str(Path(folder, "events.log"))} if events else None
        # In the folder, because the default file may have other events.
        return cls(
            _values(locks) if locks else redis_section(redis, run) if redis else None,
            _values(tracker) if tracker else {"type": "sql", "db": str(Path(folder, "demo.db"))},
            tracker is None,
            found.where("lock_store") if locks else "--redis",
            found.where("tracker_store"),
            _values(broker) if broker else own_broker,
            found.where("event_broker"),
        )

    def write(self, path: Path, token: str, max_waiting: int, unlocked: bool) -> None:
        """The `endpoints.yml` of the replicas.

        Args:
            token: the token of the servers.
            max_waiting: messages that may wait for one conversation.
            unlocked: let each process use its own locks, and write at any time.
        """
        locks, tracker = self.lock_store, self.tracker_store
        if unlocked:
            locks = {"type": "in_memory"}
            tracker = {"type": "ticketlock.demo.bot.UnfencedTrackerStore", "store": tracker}
        server = {**_SERVER, "auth_token": token, "max_waiting": max_waiting}
        sections = {"lock_store": locks, "tracker_store": tracker, "server": server}
        if self.event_broker is not None:
            sections["event_broker"] = self.event_broker
        write_endpoints(path, sections)

    def conversations(self) -> Conversations:
        """New store objects. No I/O; raises ConfigurationError."""
        locks = create_lock_store(self.lock_store, self.where_lock)
        if self.lock_store is not None and isinstance(locks, InMemoryLockStore):
            raise ConfigurationError(f"{self.where_lock}: {type(locks).__name__} {_ALONE}")
        return Conversations(locks, self.tracker())

    def tracker(self) -> TrackerStore:
        """A tracker store. No I/O; raises ConfigurationError."""
        return create_tracker_store(self.tracker_store, where=self.where_tracker)

    async def check_tracker(self, run: str) -> None:
        """Check that one store object can read what another one has written.

        Raises ConfigurationError, TrackerStoreError.
        """
        probe = f"{run}:is it shared?"
        async with self.tracker() as one, self.tracker() as other:
            await one.save(Tracker(probe, [ActionExecuted(LISTEN)]))
            shared = await other.exists(probe)
            with suppress(NotImplementedError):  # a custom store need not support it
                await one.delete(probe)
        if not shared:
            raise ConfigurationError(f"{self.where_tracker}: {type(one).__name__} {_ALONE}")


def redis_section(url: str, prefix: str) -> dict[str, Any]:
    """The lock store at a URL, with a prefix that keeps its keys apart from others."""
    return {"type": "concurrent_redis", "url": url, "key_prefix": prefix}


def check_messages(messages: Sequence[Message], store: TrackerStore) -> None:
    """Raise InvalidConversationId or InvalidEvent if the server or the store would reject one.

    Raises ConfigurationError if the extra `server` is not installed.
    """
    try:
        from ..server import bot as server
        from ..server.limits import MAX_ID
    except ImportError as error:
        text = f'the demo needs {error.name}: pip install "ticketlock[server]"'
        raise ConfigurationError(text) from error
    longest = min(MAX_ID, getattr(store, "max_id_length", None) or MAX_ID)
    for conversation in {message.conversation for message in messages}:
        check_sender_id(conversation, longest)
    largest = max(messages, key=lambda message: len(message.text.encode()))
    user = server.Message(largest.text, largest.conversation, str(largest.id)).event()
    limit = getattr(store, "max_event_bytes", MAX_EVENT_BYTES)
    encode_events([user.as_dict(), BotUttered(largest.text).as_dict()], limit)


def described(section: dict[str, Any], store: object) -> str:
    """The type of a store, with the dialect of an SQL store."""
    dialect = getattr(getattr(store, "settings", None), "dialect", None)
    kind = str(section.get("type") or "in_memory")
    return f"{kind} ({dialect})" if dialect else kind


def _values(section: EndpointConfig) -> dict[str, Any]:
    url = {} if section.url is None else {"url": section.url}
    return {"type": section.type, **url, **section.kwargs}
