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
        """Take a message: it is handled by a process that serves, whatever becomes of this one.

        Args:
            message: a text, or a mapping with `text` and other keys of a `Message`.
            message_id: unique in the conversation: a message with a known id is not handled
                again; default: a new one.
            mode: what it does while another message waits or is handled. `enqueue` waits. So does
                `coalesce`, which shares a turn with others where the bot server handles it.
                `interrupt` and `rollback` cancel the handlers of the turns before it; what those
                have added is stored, or discarded, and their reply is `null`.
            window: seconds for which the id and its outcome are kept.
            max_waiting: how many may wait already; 0: it is handled at once or refused.
            lock_lifetime: seconds that its turn may last.
            at: seconds since the epoch, by the clock of Redis: it comes due later, a year ahead at
                most, and has at most 64 KiB.
            after: seconds from now on; either this or `at`.
            name: of a message that comes due later: it takes the place of the one of that name
                that is not due yet, and `cancel` takes it. Its id is `<name>@<message id>` then;
                the receipt has it.

        It outlives this process with `concurrent_redis` locks, as far as that Redis keeps what it
        has; see docs/inbox.md. Raises ValueError, InvalidConversationId, QueueFull, LockTimeout,
        LockStoreConnectionError.
        """
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

        Returns `cancelled`: it is never handled; `submitted`: it has come due, `withdraw` may take
        it back; `unknown`: there is none.
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
        """Remove a conversation: its history, and what the inbox has of it.

        That is messages that wait, the turn of one that runs, which is broken, kept replies, dead
        letters, and deliveries. A sender that waits hears that its message is withdrawn. With
        `concurrent_redis` locks it is that of all replicas, with others that of this process.

        Returns False if there was nothing. Raises the connection errors of the stores; then it
        can be called again.
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
            room: turns at once.
            max_attempts: calls of `handle` with a message, before it becomes a dead letter.
            retry_time: seconds that the pauses between them take together.
            on_reply: awaited with the replies of each turn that has some, in order, at least once
                each; called again when it raises or takes longer than 10 s.

        At the end turns that run end, and messages that wait stay for the other processes.
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
