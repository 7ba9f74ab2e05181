"""One turn of a conversation: lock, claim and read, handle, fenced write, release."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from .actions.running import called, taken
from .aio.running import Running
from .domain.domain import Domain
from .domain.speaker import Speaker
from .errors import LockLost, StaleFence, TrackerStoreConnectionError
from .events.codec import check_mark
from .events.event import Event
from .events.reply import reply_event
from .locks.body import AnyTask, caller
from .locks.grant import Grant
from .locks.incoming import WINDOW, Incoming
from .locks.lock import Lock
from .locks.retries import report_retry
from .locks.shield import Shield
from .locks.store import LockStore
from .process import clock
from .publishing.relay import Relay
from .tracker.commits import AroundCommit
from .tracker.store import Claim, TrackerStore
from .tracker.tracker import Tracker

if TYPE_CHECKING:
    from .actions.server import ActionServer  # it needs an extra

log = logging.getLogger("ticketlock.turn")

#: How often a claim is repeated under a higher fence, when the lock store lost its memory.
_CLAIMS = 5
#: Seconds before a write whose outcome is not known is repeated; doubled each time.
_FIRST_RETRY = 0.05

_INSIDE = "a turn can be used only inside its `with` block"
_writes = Running()


def _failed_late(error: BaseException) -> None:
    log.warning("the write of a cancelled turn failed: %s", error)


class Locks(Protocol):
    """What a turn asks of its lock store."""

    def lock(self, conversation_id: str, *_: Any, **__: Any) -> Lock: ...
    async def collect(self, grant: Grant, most: int) -> list[tuple[str, str]]: ...
    def answer(self, grant: Grant, replies: Mapping[str, str], window: float) -> None: ...
    async def raise_fence(self, grant: Grant, floor: int) -> None: ...


class Turn:
    """The object of `async with conversations.turn(sender_id) as turn:`.

    Leaving the block writes the events that were added, all or none, under the turn's fence,
    and releases the lock. After an exception in the block only what `commit` had written
    stays. Losing the lock cancels the block and writes nothing more.

    Args:
        owner: distinguishes this process's claims from others'.
        relay: publishes committed events; None: nothing is published.
        actions: the action server of `run_action`; None: it has none.
        domain: has the responses of `utter`.
        options: as for `LockStore.lock`.

    Attributes:
        domain: the domain of its `Conversations`; None without one.
        tracker: the latest session, and what has been added since.
        on_say: called at once with the event of each reply of `say`; None: nobody listens.
        discarded: whether the tracker shows events that `discard` has forgotten.
    """

    def __init__(
        self,
        lock_store: LockStore | Locks,
        tracker_store: TrackerStore,
        sender_id: str,
        owner: str,
        relay: Relay | None = None,
        domain: Domain | None = None,
        actions: ActionServer | None = None,
        **options: Any,
    ) -> None:
        self.domain = domain
        self._lock_store = lock_store
        self.lock = lock_store.lock(sender_id, **options)
        self._store = tracker_store
        self._owner = owner
        self._relay = relay
        self.actions = actions
        self.calls, self.discarded = 0, False
        self._claim: Claim | None = None
        self._pending: list[dict[str, Any]] = []
        self._replies: dict[str, str] = {}
        self._incoming: Incoming | None = options.get("incoming")
        #: Awaited with the error of a claim, before the turn is released.
        self.on_no_claim: Callable[[BaseException], Awaitable[None]] | None = None
        self.on_say: Callable[[Event], object] | None = None
        self.around_commit: AroundCommit | None = None
        self.sender_id = self.lock.waiter.conversation_id

    @property
    def tracker(self) -> Tracker:
        """The latest session, with what has been added to the turn."""
        return self._claimed().tracker

    @property
    def grant(self) -> Grant:
        """The lock's side of the turn: `number`, `fence`, `lost`."""
        if self.lock.grant is None:
            raise RuntimeError(_INSIDE)
        return self.lock.grant

    @property
    def fence(self) -> int:
        """The fence of the turn: stores refuse writes under a lower one."""
        return self.grant.fence

    @property
    def number(self) -> int:
        """The ticket number of the turn; with conversation and fence the idempotency key of an attempt."""
        return self.grant.number

    @property
    def sequence(self) -> int:
        """How many events the conversation had when the block began or last committed."""
        return self._claimed().sequence

    @property
    def size(self) -> int:
        """About how many bytes the latest session took when the block began; see `weight`."""
        return self._claimed().size

    @property
    def mark(self) -> str | None:
        """The conversation's mark when the block began, as `commit` of an earlier turn stored it.

        "": none was stored; None: the tracker store keeps no marks.
        """
        return self._claimed().mark

    def _claimed(self) -> Claim:
        if self._claim is None:
            raise RuntimeError(_INSIDE)
        return self._claim

    def _check_inside(self) -> None:
        if self.grant.left:
            raise RuntimeError(f"{_INSIDE}, and this one has ended")

    async def queue(self) -> int:
        """Take the ticket now and enter later; see `Lock.queue`."""
        if self._store.unconnected:
            await self._store.connect()
        return await self.lock.queue()

    def withdraw(self) -> None:
        """Give the ticket back without entering."""
        self.lock.withdraw()

    def add(self, *events: Event | Mapping[str, Any]) -> None:
        """Add events, typed or plain, to the tracker; they are written with the turn.

        Raises InvalidEvent if one is not an event, and then adds nothing. Raises
        RuntimeError once the block was left: they would not be written.
        """
        self._check_inside()
        made = [e if isinstance(e, Event) else Event.from_dict(e) for e in events]
        self.grant.keep_bound()
        for event in made:
            self.tracker.update(event)
            self._pending.append(event.as_dict())

    def say(self, reply: str | Mapping[str, Any]) -> None:
        """Add a reply, and send it to listeners at once. It is stored with the turn, if that ends well.

        Args:
            reply: a text, or a mapping with `text`, `buttons`, `image`, `attachment`, `custom` or
                `metadata`.

        In the bot server it is the same as yielding the reply. Raises InvalidEvent if it is not a
        reply, and RuntimeError once the block was left.
        """
        self._say(reply_event(reply))

    def utter(self, response: str, /, **variables: Any) -> None:
        """Add a response of the domain as a reply, as `say` does.

        Args:
            response: its name, as `utter_greet`.
            variables: values for `{name}` in it, before those of slots.

        One of the variations is taken that fit the slots and the channel of the user's latest
        message; when the turn is tried again, the same one. If none fits, nothing is said, and a
        WARNING is logged. Raises ConfigurationError without a domain, or if it has no such
        response; InvalidEvent if the reply cannot be stored.
        """
        tracker = self.tracker
        event = self.speaker.event(response, reversed(tracker.events), tracker.slots, variables)
        if event is not None:
            self._say(event)

    @cached_property
    def speaker(self) -> Speaker:
        """Says the responses of the domain."""
        return Speaker(self.domain, self.sender_id, self.number)

    def _say(self, event: Event) -> None:
        self.add(event)
        if self.on_say is not None:
            self.on_say(event)

    async def run_action(
        self, name: str, *, policy: str | None = None, confidence: float | None = None
    ) -> list[Event]:
        """Run a custom action; add its events to the turn and return them. See docs/actions.md.

        They are ActionExecuted (with `policy` and `confidence`), the action's replies, which
        listeners get at once, and the events that it returned. The name of a response of the domain
        says that response. A cancelled call adds nothing.

        Raises ActionRejected, with ActionExecutionRejected added; UnknownAction, ActionFailed,
        ActionServerConnectionError, ConfigurationError, LockLost, with nothing added.
        """
        self._check_inside()
        return taken(self, await called(self, name, policy, confidence))

    def shield(self) -> Shield:
        """`async with turn.shield():` protects a block from `interrupt` and `rollback` of a later message.

        They cancel the bot at the end of the block: a call in it, such as a booking, is finished, and
        its result can be stored. An exception of the block comes first. Shields can be nested; while
        one is entered, no task of the bot is cancelled for that reason. A turn that is lost, that
        outlives its `lock_lifetime`, or whose server stops is cancelled in a shield too. `rollback`
        keeps only what was committed: call `commit` in the shield to keep its result.

        Outside the bot server, `grant.until_superseded` does not return while a shield is entered.
        """
        return self.grant.shield()

    def discard(self) -> None:
        """Forget the events that were added and not committed; the tracker keeps showing them."""
        self.discarded = self.discarded or bool(self._pending)
        self._pending.clear()

    def ensure_held(self) -> None:
        """Raise LockLost unless this turn certainly still holds the lock."""
        self.grant.ensure_held()

    async def collect(self, most: int = 100) -> list[tuple[str, str]]:
        """Take the messages that wait behind the turn into it; see `LockStore.collect`."""
        return await self._lock_store.collect(self.grant, most)

    def answer(self, reply: str, message_id: str | None = None) -> None:
        """Set the reply for duplicates of a message, valid once the turn is written.

        Args:
            message_id: one that was collected; default: the turn's own.
        """
        self._check_inside()
        if message_id is None:
            if self._incoming is None:
                raise ValueError("this turn has no `incoming` message: pass the message_id")
            message_id = self._incoming.message_id
        self._replies[message_id] = reply

    async def commit(self, mark: str | None = None) -> None:
        """Write the events added so far, all or none; the turn continues.

        Args:
            mark: a text for later turns, at most 64 KiB of UTF-8, written with the events in
                one atomic step, and also if there are none: see `TrackerStore.append`. A store
                that keeps no marks (`Turn.mark` is None) ignores it.

        Raises:
            LockLost, StaleFence: a later turn has the conversation; nothing was written.
            InvalidEvent: an event cannot be stored without loss; nothing was written.
            ValueError: the mark is too long, or cannot be stored; nothing was written.
            TrackerStoreConnectionError: the store cannot be reached.
        """
        check_mark(mark)
        kept = None if self.mark is None else mark
        if not self._pending and kept is None:
            return
        events = list(self._pending)
        if (around := self.around_commit) is not None:
            await around.before(events)
        self.grant.ensure_held()
        write = self._write(kept, events)
        # A write that has begun goes to its end: a cancellation waits for it.
        await (_writes.finish(write, wait=True, late=_failed_late) if self._store.waits else write)
        if around is not None:
            await around.after()

    async def _write(self, mark: str | None, events: list[dict[str, Any]]) -> None:
        pause = _FIRST_RETRY
        marks = () if mark is None else (mark,)
        for attempt in count(2):
            try:
                await self._store.append(self._claimed(), events, *marks)
            except TrackerStoreConnectionError as error:
                # The outcome is not known; the same events again are stored once.
                grant = self.grant
                if clock() + pause >= grant.deadline:
                    raise
                report_retry(grant, grant.label, attempt, f"the write is repeated: {error}")
                await asyncio.sleep(pause)
                pause *= 2
            else:
                del self._pending[: len(events)]
                if self._relay is not None and events:
                    self._relay.committed(self.sender_id, events)
                return

    async def begin(self, who: tuple[object, ...] | None = None) -> None:
        """Wait for the turn and claim the conversation; `async with` does it.

        Args:
            who: the thread whose turn it is to be; default: the task that calls.
        """
        if self._relay is not None:
            self._relay.start()
        # That of a submitted message is ours already: its claim connects, and says what failed.
        if self._store.unconnected and self.on_no_claim is None:
            await self._store.connect()
        await self.lock.take(who=who)
        try:
            await self._claim_it()
        except BaseException as error:
            if self.on_no_claim is not None:
                await self.on_no_claim(error)
            await self._release()
            raise

    async def _claim_it(self) -> None:
        for _ in range(_CLAIMS):
            try:
                self._claim = await self._store.claim(self.sender_id, self.fence, self._owner)
                return
            except StaleFence as stale:
                # The lock is ours: its store has lost its memory and its clock is behind.
                await self._lock_store.raise_fence(self.grant, stale.stored)
        self._claim = await self._store.claim(self.sender_id, self.fence, self._owner)

    async def end(self, write: bool) -> None:
        """Write what is pending if asked to, and release; `async with` does it."""
        try:
            if write:
                await self.commit()
                if self._replies:
                    window = WINDOW if self._incoming is None else self._incoming.window
                    self._lock_store.answer(self.grant, self._replies, window)
        except BaseException:
            await self._release()
            raise
        self._cut()
        try:
            await self.lock.release()
        except LockLost as lost:
            # Everything was written under the highest fence: the turn counts.
            if not write:
                raise
            log.warning("the events of the turn are stored, but it then %s", lost)

    def _cut(self) -> None:
        """Drop what was called for the turn and knows it: a ring is freed by the garbage collector only."""
        self.on_no_claim = self.on_say = self.around_commit = None

    async def _release(self) -> None:
        self._cut()
        try:
            await self.lock.release()
        except LockLost as lost:
            log.debug("released after an error: %s", lost)

    def __aenter__(self) -> Coroutine[Any, Any, Turn]:
        return self._entered(caller())

    async def _entered(self, body: AnyTask | None) -> Turn:
        await self.begin()
        self.grant.bind(None if body is None or body.done() else body)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        ours = self.grant.unbind() and await self.grant.settle(error)
        try:
            await self.end(write=error is None)
        except LockLost as lost:
            if error is None or ours:
                raise lost from None
            if hasattr(error, "add_note"):  # the block's own exception is not hidden
                error.add_note(str(lost))
