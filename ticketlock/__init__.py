"""FIFO ticket locks with enforced fences, for replicated chat bots and agents.

Names are imported from here; tracker stores from `ticketlock.stores`, event brokers from
`ticketlock.brokers`, typed events from `ticketlock.events`, the bot server from `ticketlock.server`,
`PrometheusMetrics` from `ticketlock.prometheus`, `OpenTelemetry` from `ticketlock.otel`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

# In a checkout stores/, brokers/ and lua/ lie beside this folder, in a wheel inside it.
if not Path(__file__).with_name("stores").is_dir():
    __path__.append(str(Path(__file__).parent.parent))

from .errors import (
    AlreadyHeld,
    ConfigurationError,
    DuplicateMessage,
    EventBrokerConnectionError,
    EventBrokerError,
    EventsWaiting,
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
    UnreadableHistory,
)
from .grant import Grant
from .imports import late
from .incoming import Incoming
from .inspection import Holder, Inspection, Waiting
from .lock_store import LockStore
from .moved import install
from .observing import Handled, Observer, Published, Written
from .tickets import NO_TICKET_ISSUED, Ticket, TicketLock

__all__ = [
    # turns
    "Conversations",
    "Event",
    "EventVerbosity",
    "Tracker",
    "Turn",
    "SyncConversations",
    "SyncTurn",
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
    "Lock",
    "OptionalLock",
    "SyncGrant",
    "SyncLock",
    "SyncLockStore",
    "SyncOptionalLock",
    "Ticket",
    "TicketLock",
    "NO_TICKET_ISSUED",
    "Waiting",
    # tracker stores
    "Claim",
    "TrackerStore",
    # export of histories
    "StateFile",
    "open_export",
    # event brokers
    "EventBroker",
    "Message",
    "Outcome",
    # being told
    "Handled",
    "Observer",
    "Published",
    "Written",
    # settings
    "EndpointConfig",
    # errors
    "AlreadyHeld",
    "ConfigurationError",
    "EventBrokerConnectionError",
    "EventBrokerError",
    "EventsWaiting",
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
    "UnreadableHistory",
]


if TYPE_CHECKING:
    from .broker_message import Message, Outcome
    from .concurrent_lock_store import ConcurrentRedisLockStore
    from .conversations import Conversations, SyncConversations, SyncTurn
    from .endpoint_export import open_export
    from .endpoints import EndpointConfig
    from .event_base import Event
    from .event_broker import EventBroker
    from .export_state import StateFile
    from .lock import Lock, OptionalLock
    from .memory_lock_store import InMemoryLockStore
    from .redis_lock_store import RedisLockStore
    from .sync import SyncGrant, SyncLock, SyncLockStore, SyncOptionalLock
    from .tracker import Claim, EventVerbosity, Tracker
    from .tracker_store import TrackerStore
    from .turn import Turn

#: Imported at their first use: not all who take a lock have turns, or this lock store's driver.
_LATE = {
    "Claim": "tracker",
    "ConcurrentRedisLockStore": "concurrent_lock_store",
    "Conversations": "conversations",
    "EndpointConfig": "endpoints",
    "Event": "event_base",
    "EventBroker": "event_broker",
    "EventVerbosity": "tracker",
    "InMemoryLockStore": "memory_lock_store",
    "Lock": "lock",
    "Message": "broker_message",
    "OptionalLock": "lock",
    "Outcome": "broker_message",
    "RedisLockStore": "redis_lock_store",
    "StateFile": "export_state",
    "SyncConversations": "conversations",
    "SyncGrant": "sync",
    "SyncLock": "sync",
    "SyncLockStore": "sync",
    "SyncOptionalLock": "sync",
    "SyncTurn": "conversations",
    "Tracker": "tracker",
    "TrackerStore": "tracker_store",
    "Turn": "turn",
    "open_export": "endpoint_export",
}


install()

if TYPE_CHECKING:
    __version__: str
else:
    _of_name, __dir__ = late(__name__, _LATE)

    def __getattr__(name):
        if name == "__version__":
            from importlib.metadata import version

            globals()[name] = version("ticketlock")  # it reads a file
            return globals()[name]
        return _of_name(name)
