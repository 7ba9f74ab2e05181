"""`Messages`: submitting and serving messages, the part of `Conversations` that uses the inbox."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from .deliveries.delivery import Delivery
from .deliveries.destination import Destination, OnReply
from .deliveries.storage import MemoryDeliveries, RedisDeliveries
from .domain.domain import Domain
from .inbox.due import Cancelled, Due, scheduled
from .inbox.inbox import Inbox, Withdrawn
from .inbox.local import LocalInbox
from .inbox.served import Served, ServedStore
from .inbox.submission import MessageOutcome, Mode, Receipt, Submission
from .locks.concurrent.shared import SharedState
from .locks.concurrent.store import ConcurrentRedisLockStore
from .locks.incoming import WINDOW, Incoming
from .locks.store import LockStore
from .observed_turn import ObservedTurn
from .publishing.relay import Relay
from .serving import ON_REPLY, Handle, HandleServing, Serving
from .tracker.store import TrackerStore
from .turn import Turn

if TYPE_CHECKING:
    from .actions.server import ActionServer  # it needs an extra


class Messages:
    """Messages that are submitted, and handled by the processes that serve."""

    lock_store: LockStore
    tracker_store: TrackerStore
    relay: Relay | None
    domain: Domain | None
    actions: ActionServer | None
    _inbox: Inbox | None = None
    _served = False

    @property
    def owner(self) -> str:
        """See `Conversations.owner`."""
        raise NotImplementedError

    @property
    def inbox(self) -> Inbox:
        """The messages that were submitted: on Redis with `concurrent_redis` locks, else in this process."""
        if self._inbox is None:
            if isinstance(self.lock_store, ConcurrentRedisLockStore):
                from .inbox.redis import RedisInbox  # redis-py
                from .inbox.rolling import RollingInbox

                shared = SharedState(self.lock_store)
                local = LocalInbox(self.lock_store)
                self._inbox = RollingInbox(RedisInbox(self.lock_store), local, shared)
            else:
                self._inbox = LocalInbox(self.lock_store)
        return self._inbox

    def turn_of(self, served: Served) -> Turn:
        """The turn of a message that the inbox has granted."""
        make = ObservedTurn if self.lock_store.observers.of_turns else Turn
        locks = ServedStore(self.lock_store, served)
        return make(
            locks, self.tracker_store, served.conversation_id, self.owner, self.relay,
            actions=self.actions, domain=self.domain, incoming=Incoming(served.message_id, served.window or WINDOW),
        )  # fmt: skip

    async def submit(
        self,
        sender_id: str,
        message: str | Mapping[str, Any],
        *,
        message_id: str | None = None,
        mode: Mode = "enqueue",
        window: float = WINDOW,
        max_waiting: int | None = None,
        lock_lifetime: float | None = None,
        at: float | None = None,
        after: float | None = None,
        name: str | None = None,
    ) -> Receipt:
        """Accept a message. A process that serves handles it, also if this one dies.

        Args:
            message: a text, or a mapping with `text` and other keys of a `Message`.
            message_id: unique in the conversation: a message with a known id is not handled
                again; default: a new one.
            mode: what happens while another message waits or is handled. `enqueue`: this one waits.
                `coalesce`: it waits too, and the bot server handles it in one turn with others.
                `interrupt`, `rollback`: the handlers of the turns before it are cancelled, with
                the reply `null`; the events that they have added are stored, or discarded.
            window: seconds for which the id and its outcome are kept.
            max_waiting: how many may wait before it; 0: it is handled at once or refused.
            lock_lifetime: seconds that its turn may last.
            at: when the message comes due, in seconds since the epoch, by the clock of Redis: at
                most a year ahead. Such a message has at most 64 KiB.
            after: seconds from now until it comes due; either this or `at`.
            name: of a message that comes due later. It replaces the message of this name that is
                not due yet; `cancel` takes the name. The id is `<name>@<message id>` then, and is
                in the receipt.

        With `concurrent_redis` locks the message is kept in Redis; see docs/inbox.md for what that
        outlives. Raises ValueError, InvalidConversationId, QueueFull, LockTimeout,
        LockStoreConnectionError.
        """
        if not isinstance(message, (str, Mapping)):
            raise ValueError(  # noqa: TRY004  # as for other arguments
                f"a message is text, or a mapping with text, not {message!r:.80}"
            )
        fields = {"text": message} if isinstance(message, str) else dict(message)
        when = scheduled(at, after, name, message_id)
        if when is not None:
            message_id = when.message_id
        submission = Submission(
            sender_id,
            uuid.uuid4().hex if message_id is None else message_id,
            json.dumps(fields),
            mode,
            window,
            self.lock_store.max_waiting if max_waiting is None else max_waiting,
            self.lock_store.lock_lifetime if lock_lifetime is None else lock_lifetime,
        )
        if mode != "enqueue" and not self.lock_store.keeps_messages:
            raise ValueError(
                f"mode {mode!r:.40}: {type(self.lock_store).__name__} supports only enqueue; use "
                "in_memory or concurrent_redis"
            )
        if when is not None:
            return await self.inbox.submit_later(submission, when)
        return await self.inbox.submit(submission)

    async def cancel(self, sender_id: str, name: str) -> Cancelled:
        """Cancel a message that comes due later, by its name, or by its id if it has none.

        Returns `cancelled`: it is never handled; `submitted`: it has come due already, and `withdraw`
        may take it back; `unknown`: there is no such message.
        """
        return await self.inbox.cancel(sender_id, name)

    async def cancel_all(self, sender_id: str) -> int:
        """Cancel all messages of a conversation that come due later; returns how many there were.

        One that is being submitted in this moment may still be handled.
        """
        return await self.inbox.cancel_all(sender_id)

    async def due(self, sender_id: str, most: int = 100) -> Sequence[Due]:
        """The messages of a conversation that come due later, the first due first."""
        return await self.inbox.due(sender_id, most)

    async def outcome(self, sender_id: str, message_id: str, wait: float = 0.0) -> MessageOutcome:
        """What has become of a message.

        Args:
            wait: seconds to wait until it is finished.
        """
        if wait > 0:
            return await self.inbox.wait(sender_id, message_id, wait)
        return await self.inbox.outcome(sender_id, message_id)

    async def withdraw(self, sender_id: str, message_id: str) -> Withdrawn:
        """Take a message back: it is never handled, unless its turn has begun."""
        return await self.inbox.withdraw(sender_id, message_id)

    async def delete(self, sender_id: str) -> bool:
        """Remove a conversation: its history, and everything that the inbox has of it.

        Waiting messages are withdrawn, and their senders are told so; a running turn is broken;
        stored replies, dead letters and deliveries are removed. With `concurrent_redis` locks this
        is done for all replicas, with others for this process.

        Returns False if there was nothing. Raises the connection errors of the stores; call it again
        then.
        """
        # First what could write to the history once more.
        later = await self.inbox.cancel_all(sender_id)
        deleted = await self.inbox.delete(sender_id)
        return await self.tracker_store.delete(sender_id) or bool(deleted) or later > 0

    @asynccontextmanager
    async def serving(
        self,
        handle: Handle,
        *,
        room: int = 100,
        max_attempts: int = 5,
        retry_time: float = 10.0,
        on_reply: Callable[[Delivery], Awaitable[object]] | None = None,
    ) -> AsyncIterator[None]:
        """`async with conversations.serving(handle):` handle submitted messages in the block.

        Args:
            handle: `async def handle(turn, message)`, called in the message's turn; it returns
                the reply, of JSON's types. `message` has the keys that were submitted, and
                `message_id` and `attempt`.
            room: how many turns run at once.
            max_attempts: how often `handle` is called with a message before it is a dead letter.
            retry_time: how many seconds the pauses between these calls take together.
            on_reply: awaited with the replies of each turn that has any, in order and at least once;
                it is called again if it raises or takes longer than 10 s.

        At the end of the block running turns are finished. Waiting messages stay, for other
        processes.
        Raises RuntimeError if these conversations are being served already.
        """
        if self._served:
            raise RuntimeError("these conversations are being served already: enter `serving` once")
        serving = HandleServing(
            self.inbox, self.turn_of, handle, max_attempts=max_attempts, retry_time=retry_time
        )
        if on_reply is not None:
            self.deliver(serving, {ON_REPLY: OnReply(on_reply)})
        self.inbox.serve(serving.begin, room, self.lock_store.lock_lifetime)
        self._served = True
        try:
            yield
        finally:
            self._served = False
            await self.inbox.drain()
            await serving.drain()
            await serving.close()

    def deliver(self, serving: Serving, destinations: Mapping[str, Destination]) -> None:
        """Send the replies of served messages to destinations."""
        if isinstance(self.lock_store, ConcurrentRedisLockStore):
            shared = SharedState(self.lock_store)
            serving.deliver(RedisDeliveries(shared, shared.keys), destinations)
        else:
            kept = MemoryDeliveries()
            self.inbox.store_delivery = kept.append
            serving.deliver(kept, destinations)
