"""The stores of a demo: chosen from its options, and found fit for it before anything starts."""

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

#: Of the replicas' servers: bytes of a body, seconds of a request, and for turns to end when the
#: demo does.
_SERVER = {"max_body": 16 * LONGEST, "request_timeout": 600, "drain_timeout": 1}

#: What is wrong with a store that each process has for itself, and the way out.
_ALONE = "is private to each replica: name a store that they can share"


@dataclass(frozen=True)
class Backends:
    """Sections of the stores, as plain mappings; they may hold passwords.

    Attributes:
        lock_store: None while the demo's own Redis is not up.
        own_tracker: the tracker store is a file of the demo, and goes with it.
        where_lock, where_tracker, where_broker: for error texts.
        event_broker: None: nothing is published.
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
        """What the options say; an SQLite file in `folder` and no lock store where they are mute.

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
            # Else our replicas would publish to our file what waits there for another broker.
            section = "event_broker" if broker else "tracker_store"
            raise ConfigurationError(f"--events and {found.where(section)}: give one of them")
        own_broker = {"type": "file", "path": str(Path(folder, "events.log"))} if events else None
        # An `events` table must not grow in the file that a default elsewhere would name.
        return cls(
            _values(locks) if locks else redis_section(redis, run) if redis else None,
            _values(tracker) if tracker else {"type": "sql", "db": str(Path(folder, "demo.db"))},
            tracker is None,
            found.where("lock_store") if locks else "--redis",
            found.where("tracker_store"),
            _values(broker) if broker else own_broker,
            found.where("event_broker"),
        )

    def write(self, path: Path, token: str, most: int, unlocked: bool) -> None:
        """The `endpoints.yml` of the replicas.

        Args:
            token: opens the server.
            most: messages that may wait for one conversation.
            unlocked: let every process have locks of its own, and write at any time.
        """
        locks, tracker = self.lock_store, self.tracker_store
        if unlocked:
            locks = {"type": "in_memory"}
            tracker = {"type": "ticketlock.demo.bot.UnfencedTrackerStore", "store": tracker}
        server = {**_SERVER, "auth_token": token, "max_waiting": most}
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
        """See that what one store object writes another one reads.

        Raises ConfigurationError, TrackerStoreError.
        """
        probe = f"{run}:is it shared?"
        async with self.tracker() as one, self.tracker() as other:
            await one.save(Tracker(probe, [ActionExecuted(LISTEN)]))
            shared = await other.exists(probe)
            with suppress(NotImplementedError):  # a custom store need not be able to
                await one.delete(probe)
        if not shared:
            raise ConfigurationError(f"{self.where_tracker}: {type(one).__name__} {_ALONE}")


def redis_section(url: str, prefix: str) -> dict[str, Any]:
    """The lock store at a URL; the prefix keeps what others have there apart."""
    return {"type": "concurrent_redis", "url": url, "key_prefix": prefix}


def check_messages(messages: Sequence[Message], store: TrackerStore) -> None:
    """Raise InvalidConversationId or InvalidEvent for what server or store would refuse later.

    Raises ConfigurationError where there is no server: it is an extra.
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
    """A store's type, and its database where the type leaves that open."""
    dialect = getattr(getattr(store, "settings", None), "dialect", None)
    kind = str(section.get("type") or "in_memory")
    return f"{kind} ({dialect})" if dialect else kind


def _values(section: EndpointConfig) -> dict[str, Any]:
    url = {} if section.url is None else {"url": section.url}
    return {"type": section.type, **url, **section.kwargs}
