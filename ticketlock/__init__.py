"""FIFO ticket locks with enforced fences, for replicated chat bots and agents."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

# In a checkout stores/, brokers/ and lua/ lie beside this folder, in a wheel inside it.
if not Path(__file__).with_name("stores").is_dir():
    __path__.append(str(Path(__file__).parent.parent))

from .errors import (
    AlreadyHeld,
    ConfigurationError,
    DuplicateMessage,
    EventBrokerConnectionError,
    EventBrokerError,
    InvalidConversationId,
    InvalidEvent,
    LockError,
    LockLost,
    LockStoreConnectionError,
    LockTimeout,
    QueueFull,
    StaleFence,
    TicketLockError,
    TrackerStoreConnectionError,
    TrackerStoreError,
)
from .grant import Grant
from .incoming import Incoming
from .inspection import Holder, Inspection, Waiting
from .lock_store import LockStore
from .tickets import NO_TICKET_ISSUED, Ticket, TicketLock

__all__ = [
    # turns
    "Conversations",
    "Event",
    "EventVerbosity",
    "Tracker",
    "Turn",
    # lock stores
    "ConcurrentRedisLockStore",
    "InMemoryLockStore",
    "LockStore",
    "RedisLockStore",
    # what they give
    "Grant",
    "Holder",
    "Incoming",
    "Inspection",
    "Ticket",
    "TicketLock",
    "NO_TICKET_ISSUED",
    "Waiting",
    # tracker stores
    "Claim",
    "TrackerStore",
    # event brokers
    "EventBroker",
    "Message",
    "Outcome",
    # settings
    "EndpointConfig",
    # errors
    "AlreadyHeld",
    "ConfigurationError",
    "EventBrokerConnectionError",
    "EventBrokerError",
    "InvalidConversationId",
    "InvalidEvent",
    "LockError",
    "LockLost",
    "LockStoreConnectionError",
    "DuplicateMessage",
    "LockTimeout",
    "QueueFull",
    "StaleFence",
    "TicketLockError",
    "TrackerStoreConnectionError",
    "TrackerStoreError",
]


if TYPE_CHECKING:
    from .concurrent_lock_store import ConcurrentRedisLockStore
    from .conversations import Conversations
    from .endpoints import EndpointConfig
    from .event_base import Event
    from .event_broker import EventBroker, Message, Outcome
    from .memory_lock_store import InMemoryLockStore
    from .redis_lock_store import RedisLockStore
    from .tracker import EventVerbosity, Tracker
    from .tracker_store import Claim, TrackerStore
    from .turn import Turn

#: Imported at their first use: not all who take a lock have turns, or this lock store's driver.
_LATE = {
    "Claim": "tracker_store",
    "ConcurrentRedisLockStore": "concurrent_lock_store",
    "Conversations": "conversations",
    "EndpointConfig": "endpoints",
    "Event": "event_base",
    "EventBroker": "event_broker",
    "EventVerbosity": "tracker",
    "InMemoryLockStore": "memory_lock_store",
    "Message": "event_broker",
    "Outcome": "event_broker",
    "RedisLockStore": "redis_lock_store",
    "Tracker": "tracker",
    "TrackerStore": "tracker_store",
    "Turn": "turn",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ticketlock")
    if name not in _LATE:
        raise AttributeError(f"module 'ticketlock' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f".{_LATE[name]}", __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
