"""FIFO ticket locks with enforced fences, for replicated chat bots and agents.

Names are imported from here; tracker stores from `ticketlock.stores`, event brokers from
`ticketlock.brokers`, typed events from `ticketlock.events`, the bot server from `ticketlock.server`,
`PrometheusMetrics` and `OpenTelemetry` from `ticketlock.telemetry`, the judge of locks from
`ticketlock.checker`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

# In a checkout stores/, brokers/ and lua/ lie beside this folder, in a wheel inside it.
if not Path(__file__).with_name("stores").is_dir():
    __path__.append(str(Path(__file__).parent.parent))

from .errors import (
    ActionError,
    ActionFailed,
    ActionRejected,
    ActionServerConnectionError,
    AlreadyHeld,
    ConfigurationError,
    DuplicateMessage,
    EventBrokerConnectionError,
    EventBrokerError,
    EventsWaiting,
    InvalidConversationId,
    InvalidEvent,
    InvalidSignature,
    LockError,
    LockLost,
    LockStoreConnectionError,
    LockTimeout,
    NotDurable,
    OldReplicas,
    QueueFull,
    StaleFence,
    TicketLockError,
    TooManyAttempts,
    TrackerStoreConnectionError,
    TrackerStoreError,
    UnknownAction,
    UnreadableHistory,
)
from .imports import late
from .locks.grant import Grant
from .locks.incoming import Incoming
from .locks.inspection import Holder, Inspection, Waiting
from .locks.store import LockStore
from .locks.tickets import NO_TICKET_ISSUED, Ticket, TicketLock
from .telemetry.observer import ActionCall, Handled, Observer, Written

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
    "BrokerMessage",
    "EventBroker",
    "Outcome",
    # being told
    "ActionCall",
    "Handled",
    "Observer",
    "Published",
    "Written",
    # messages that are submitted
    "MessageOutcome",
    "Receipt",
    # the domain of a bot
    "Domain",
    "read_domain",
    # replies sent out
    "Delivery",
    "sign_webhook",
    "verify_webhook",
    # settings
    "EndpointConfig",
    # errors
    "ActionError",
    "ActionFailed",
    "ActionRejected",
    "ActionServerConnectionError",
    "AlreadyHeld",
    "ConfigurationError",
    "EventBrokerConnectionError",
    "EventBrokerError",
    "EventsWaiting",
    "InvalidConversationId",
    "InvalidEvent",
    "InvalidSignature",
    "LockError",
    "LockLost",
    "LockStoreConnectionError",
    "NotDurable",
    "DuplicateMessage",
    "LockTimeout",
    "OldReplicas",
    "QueueFull",
    "StaleFence",
    "TicketLockError",
    "TooManyAttempts",
    "TrackerStoreConnectionError",
    "TrackerStoreError",
    "UnknownAction",
    "UnreadableHistory",
]


if TYPE_CHECKING:
    from .conversations import Conversations, SyncConversations, SyncTurn
    from .deliveries.delivery import Delivery
    from .deliveries.signature import sign_webhook, verify_webhook
    from .domain.domain import Domain
    from .domain.reading import read_domain
    from .endpoints.export import open_export
    from .endpoints.file import EndpointConfig
    from .events.event import Event
    from .inbox.submission import MessageOutcome, Receipt
    from .locks.concurrent.store import ConcurrentRedisLockStore
    from .locks.lock import Lock, OptionalLock
    from .locks.memory import InMemoryLockStore
    from .locks.redis import RedisLockStore
    from .locks.store import SyncLockStore
    from .locks.sync import SyncGrant, SyncLock, SyncOptionalLock
    from .publishing.broker import EventBroker
    from .publishing.export.state import StateFile
    from .publishing.message import BrokerMessage, Outcome, Published
    from .tracker.store import TrackerStore
    from .tracker.tracker import Claim, EventVerbosity, Tracker
    from .turn import Turn

#: Imported at their first use: not all who take a lock have turns, or this lock store's driver.
_LATE = {
    "BrokerMessage": "publishing.message",
    "Claim": "tracker.tracker",
    "ConcurrentRedisLockStore": "locks.concurrent.store",
    "Conversations": "conversations",
    "Delivery": "deliveries.delivery",
    "Domain": "domain.domain",
    "EndpointConfig": "endpoints.file",
    "Event": "events.event",
    "EventBroker": "publishing.broker",
    "EventVerbosity": "tracker.tracker",
    "InMemoryLockStore": "locks.memory",
    "Lock": "locks.lock",
    "MessageOutcome": "inbox.submission",
    "OptionalLock": "locks.lock",
    "Outcome": "publishing.message",
    "Published": "publishing.message",
    "Receipt": "inbox.submission",
    "RedisLockStore": "locks.redis",
    "StateFile": "publishing.export.state",
    "SyncConversations": "conversations",
    "SyncGrant": "locks.sync",
    "SyncLock": "locks.sync",
    "SyncLockStore": "locks.store",
    "SyncOptionalLock": "locks.sync",
    "SyncTurn": "conversations",
    "Tracker": "tracker.tracker",
    "TrackerStore": "tracker.store",
    "Turn": "turn",
    "open_export": "endpoints.export",
    "read_domain": "domain.reading",
    "sign_webhook": "deliveries.signature",
    "verify_webhook": "deliveries.signature",
}


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
