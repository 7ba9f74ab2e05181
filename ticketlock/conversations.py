"""`Conversations`: turns of conversations, from one lock store and one tracker store."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NoReturn

from . import process
from .actions.running import called, taken
from .aio import native
from .aio.portal import Portal
from .domain.domain import Domain
from .domain.reading import read_domain
from .endpoints.file import Endpoints, domain_path, read_endpoints
from .endpoints.registry import (
    create_action_server,
    create_lock_store,
    create_tracker_store,
    event_broker_maker,
    require_extras,
)
from .events.event import Event
from .inbox.due import Cancelled, Due
from .inbox.inbox import Withdrawn
from .inbox.submission import MessageOutcome, Receipt
from .locks.incoming import Incoming
from .locks.store import LockStore
from .locks.sync import given_back_by
from .messages import Messages
from .observed_turn import ObservedTurn
from .publishing.relay import Relay
from .telemetry.observer import Observer
from .tracker.store import TrackerStore
from .tracker.tracker import Tracker
from .turn import Turn


class Conversations(Messages):
    """Turns of conversations, with their stores: what an application embeds.

    Args:
        lock_store: a lock store, its section as a mapping, or None: in memory.
        tracker_store: a tracker store, its section, or None: in memory.
        domain: a `Domain`, or the path of its file or folder: initial values of slots, and the
            responses of `Turn.utter`. Default: that of the tracker store.
        event_broker: a broker, its section, or None: committed events are published to it from
            the outbox. No turn waits for it, and none fails if it is away.
        action_endpoint: the action server of `Turn.run_action`, its section, or None.

    It connects at the first use. `async with` it, or `await close()` at the end.

    Attributes:
        relay: the task that publishes events, with its `counts`; None without a broker.
        domain: the `Domain`; None without one.
        actions: the action server; None without one.
    """

    def __init__(
        self,
        lock_store: Any = None,
        tracker_store: Any = None,
        event_broker: Any = None,
        *,
        action_endpoint: Any = None,
        broker_where: str = "event_broker",
        domain: Any = None,
    ) -> None:
        if isinstance(domain, (str, Path)):
            domain = read_domain(domain)
        self.lock_store: LockStore = create_lock_store(lock_store)
        self.tracker_store: TrackerStore = create_tracker_store(tracker_store, domain)
        if domain is not None:
            self.tracker_store.domain = domain
        kept = self.tracker_store.domain
        self.domain: Domain | None = kept if isinstance(kept, Domain) else None
        make_broker = event_broker_maker(event_broker, broker_where)
        self.relay = None if make_broker is None else Relay(self.tracker_store, make_broker)
        if self.relay is not None:
            self.relay.observers = self.lock_store.observers
        self.actions = create_action_server(action_endpoint)
        self._owners: dict[int, str] = {}
        self._portal: Portal | None = None

    @property
    def owner(self) -> str:
        """Tells this process's claims from others' with an equal fence, those of forks too."""
        if process.pid not in self._owners:
            name = f"{process.host(24)}:{process.pid}:{secrets.token_hex(4)}"
            self._owners[process.pid] = name
        return self._owners[process.pid]

    @classmethod
    def from_endpoints(
        cls, endpoints: str | Path | Endpoints = "endpoints.yml", domain: Any = None
    ) -> Conversations:
        """From an `endpoints.yml`; nothing connects. Raises ConfigurationError.

        Args:
            domain: as for `Conversations`; default: `domain` in the section `server`.
        """
        if not isinstance(endpoints, Endpoints):
            endpoints = read_endpoints(endpoints)
        if domain is None:
            domain = domain_path(endpoints)
        if isinstance(domain, (str, Path)):
            domain = read_domain(domain)
        require_extras(endpoints, "lock_store", "tracker_store", "event_broker", "action_endpoint")
        locks, tracker = endpoints.section("lock_store"), endpoints.section("tracker_store")
        return cls(
            create_lock_store(locks, endpoints.where("lock_store")),
            create_tracker_store(tracker, domain, where=endpoints.where("tracker_store")),
            endpoints.section("event_broker"),
            action_endpoint=create_action_server(
                endpoints.section("action_endpoint"), endpoints.where("action_endpoint")
            ),
            broker_where=endpoints.where("event_broker"),
            domain=domain,
        )

    def turn(
        self,
        sender_id: str,
        lock_lifetime: float | None = None,
        *,
        wait_timeout: float | None = None,
        max_waiting: int | None = None,
        label: str | None = None,
        incoming: Incoming | None = None,
    ) -> Turn:
        """`async with conversations.turn("id") as turn:`; parameters as for `LockStore.lock`.

        Raises, on entering: what `LockStore.lock` raises, and the tracker store's
        connection errors. On leaving: see `Turn`.
        """
        make = ObservedTurn if self.lock_store.observers.of_turns else Turn
        return make(
            self.lock_store,
            self.tracker_store,
            sender_id,
            self.owner,
            self.relay,
            domain=self.domain,
            actions=self.actions,
            lock_lifetime=lock_lifetime,
            wait_timeout=wait_timeout,
            max_waiting=max_waiting,
            label=label,
            incoming=incoming,
        )

    def observe(self, observer: Observer) -> None:
        """Call an observer's methods for all turns and events from now on. See `Observer`."""
        self.lock_store.observe(observer)

    def sync(self) -> SyncConversations:
        """The same for threads: `with conversations.sync().turn("id") as turn:`."""
        return SyncConversations(self)

    def shared_portal(self) -> Portal:
        """The event loop of its threaded twins: that of the lock store's own, so that both can be used."""
        if self._portal is None:
            self._portal = self.lock_store.shared_portal()
            relay = [] if self.relay is None else [self.relay.close]
            self._portal.adopt(self, *relay, self.tracker_store.close)
        return self._portal

    async def close(self) -> None:
        """Publish committed events, for some seconds at most, and close the stores."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.tracker_store.close)
            stack.push_async_callback(self.lock_store.close)
            if self._inbox is not None:
                stack.push_async_callback(self._inbox.close)
            if self.relay is not None:
                await self.relay.close()

    async def __aenter__(self) -> Conversations:
        if self.relay is not None:
            self.relay.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class SyncTurn:
    """A `Turn` for threads. A thread cannot be cancelled: what it writes late is refused."""

    def __init__(self, twin: SyncConversations, turn: Turn) -> None:
        self._twin = twin  # dropped, it would be closed
        self._portal = twin.portal
        self._turn = turn
        self._dropped: Any = None
        self.sender_id = turn.sender_id

    @property
    def tracker(self) -> Tracker:
        """The latest session; see `Turn.tracker`."""
        return self._turn.tracker

    @property
    def fence(self) -> int:
        """The fence of the turn; see `Turn.fence`."""
        return self._turn.fence

    @property
    def number(self) -> int:
        """The ticket number."""
        return self._turn.grant.number

    def add(self, *events: Event | Mapping[str, Any]) -> None:
        """Add events, typed or plain; they are written with the turn."""
        self._turn.add(*events)

    def say(self, reply: str | Mapping[str, Any]) -> None:
        """Add a reply, and tell those who listen at once, in this thread; see `Turn.say`."""
        self._turn.say(reply)

    def run_action(
        self, name: str, *, policy: str | None = None, confidence: float | None = None
    ) -> list[Event]:
        """Run a custom action; this thread waits for it. See `Turn.run_action`."""
        ran = self._portal.run(lambda: called(self._turn, name, policy, confidence))
        return taken(self._turn, ran)

    @property
    def on_say(self) -> Callable[[Event], object] | None:
        """Called with the event of each reply; see `Turn`."""
        return self._turn.on_say

    @on_say.setter
    def on_say(self, on_say: Callable[[Event], object] | None) -> None:
        self._turn.on_say = on_say

    def utter(self, response: str, /, **variables: Any) -> None:
        """Add a response of the domain as a reply; see `Turn.utter`."""
        self._turn.utter(response, **variables)

    def shield(self) -> NoReturn:
        """Raises RuntimeError: a thread cannot be cancelled, so it needs no shield."""
        raise RuntimeError(
            "a turn of a thread has no shield, and needs none: a thread is not cancelled when a "
            "later message asks its turn to stop; leave the call out"
        )

    def ensure_held(self) -> None:
        """Raise LockLost unless this turn certainly still holds the lock."""
        self._turn.ensure_held()

    @property
    def sequence(self) -> int:
        """How many events the conversation had when the block began or last committed."""
        return self._turn.sequence

    @property
    def size(self) -> int:
        """About how many bytes of JSON the latest session had when the block began."""
        return self._turn.size

    @property
    def mark(self) -> str | None:
        """The conversation's mark when the block began; see `Turn.mark`."""
        return self._turn.mark

    def discard(self) -> None:
        """Forget the events that were added and not committed; see `Turn.discard`."""
        self._turn.discard()

    def collect(self, most: int = 100) -> list[tuple[str, str]]:
        """Take the messages that wait behind the turn into it; see `LockStore.collect`."""
        return self._portal.run(lambda: self._turn.collect(most))

    def withdraw(self) -> None:
        """Give the ticket back without entering; see `SyncLock.withdraw`."""
        self._turn.lock.spent = True
        self._portal.post(self._turn.withdraw)

    def queue(self) -> int:
        """Take the ticket now and enter later; see `Lock.queue`."""
        return self._portal.run(lambda: self._turn.queue())

    def commit(self, mark: str | None = None) -> None:
        """Write the events added so far, all or none; the turn continues. See `Turn.commit`."""
        self._portal.run(lambda: self._turn.commit(mark))

    def answer(self, reply: str, message_id: str | None = None) -> None:
        """Set the reply for duplicates of a message; see `Turn.answer`."""
        self._turn.answer(reply, message_id)

    def __enter__(self) -> SyncTurn:
        who = native.me()
        try:
            self._portal.run(lambda: self._turn.begin(who))
            lock, grant = self._turn.lock, self._turn.grant
            self._dropped = given_back_by(self, self._portal, lock, grant)
            return self
        except BaseException:
            # Also when the turn came in the moment of an interrupt.
            self._portal.post(lambda: self._turn.lock.give_up(who))
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        turn, begun = self._turn, list[bool]()

        def end() -> Coroutine[Any, Any, None]:
            begun.append(True)
            return turn.end(write=error is None)

        def withdraw() -> None:
            if not begun:  # else it is under way, and goes to its end
                turn.withdraw()

        try:
            if self._dropped is not None:  # else it was not entered, and `end` says so
                self._dropped.detach()
            self._portal.run(end, finish=True)
        except Exception as late:
            if error is None:
                raise
            if hasattr(error, "add_note"):  # the block's own exception is not hidden
                error.add_note(str(late))
        finally:
            if not begun:  # an interrupt came first
                self._portal.post(withdraw)


class SyncConversations:
    """`Conversations` for threads, on an event loop of its own. Safe to share between them.

    All twins of one `Conversations` are one: closing one of them closes all. Dropped with it,
    or at the end of the interpreter, it is closed by itself.
    """

    def __init__(self, conversations: Conversations) -> None:
        self.conversations = conversations
        self.portal = conversations.shared_portal()

    def turn(self, sender_id: str, lock_lifetime: float | None = None, **options: Any) -> SyncTurn:
        """`with conversations.turn("id") as turn:`; parameters as for `Conversations.turn`."""
        return SyncTurn(self, self.conversations.turn(sender_id, lock_lifetime, **options))

    def observe(self, observer: Observer) -> None:
        """Call an observer's methods for all turns and events from now on, in another thread."""
        self.conversations.observe(observer)

    def retrieve(self, sender_id: str) -> Tracker | None:
        """The latest session, without a turn."""
        return self.portal.run(lambda: self.conversations.tracker_store.retrieve(sender_id))

    # -- submitted messages; an asynchronous program, or a bot server, serves them -----------------

    def submit(self, sender_id: str, message: str | Mapping[str, Any], **options: Any) -> Receipt:
        """Take a message; parameters and errors as for `Conversations.submit`."""
        return self.portal.run(lambda: self.conversations.submit(sender_id, message, **options))

    def outcome(self, sender_id: str, message_id: str, wait: float = 0.0) -> MessageOutcome:
        """What has become of a message; `wait`: seconds to wait until it is finished."""
        return self.portal.run(lambda: self.conversations.outcome(sender_id, message_id, wait))

    def withdraw(self, sender_id: str, message_id: str) -> Withdrawn:
        """Take a message back: it is never handled, unless its turn has begun."""
        return self.portal.run(lambda: self.conversations.withdraw(sender_id, message_id))

    def cancel(self, sender_id: str, name: str) -> Cancelled:
        """Cancel a message that comes due later; see `Conversations.cancel`."""
        return self.portal.run(lambda: self.conversations.cancel(sender_id, name))

    def due(self, sender_id: str, most: int = 100) -> Sequence[Due]:
        """The messages of a conversation that come due later, the first due first."""
        return self.portal.run(lambda: self.conversations.due(sender_id, most))

    def close(self) -> None:
        """Close the stores and the thread."""
        self.portal.close(self.conversations.close)

    def __enter__(self) -> SyncConversations:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
