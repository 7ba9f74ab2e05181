"""FIFO ticket locks with enforced fences, for replicated chat bots and agents."""

from pathlib import Path

# In a checkout stores/, brokers/ and lua/ lie beside this folder, in a wheel inside it.
if not Path(__file__).with_name("stores").is_dir():
    __path__.append(str(Path(__file__).parent.parent))

from .concurrent_lock_store import ConcurrentRedisLockStore
from .conversations import Conversations
from .endpoints import EndpointConfig
from .errors import (
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
from .event_base import Event
from .event_broker import EventBroker, Message, Outcome
from .grant import Grant
from .incoming import Incoming
from .inspection import Holder, Inspection, Waiting
from .lock_store import LockStore
from .memory_lock_store import InMemoryLockStore
from .redis_lock_store import RedisLockStore
from .tickets import NO_TICKET_ISSUED, Ticket, TicketLock
from .tracker import EventVerbosity, Tracker
from .tracker_store import Claim, TrackerStore
from .turn import Turn

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


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("ticketlock")
    raise AttributeError(f"module 'ticketlock' has no attribute {name!r}")
