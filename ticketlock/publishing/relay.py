"""The relay: publishes the events of the outbox to the broker, beside the turns.

Every replica runs one. Each commit of its own process wakes it, and every few seconds it looks
for events that other replicas left behind, because they died or lost their broker. The events
of one conversation are sent in order: an event waits until the one before it is confirmed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Container, Coroutine, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from .. import process
from ..aio.backoff import Backoff
from ..aio.running import Running, until_set
from ..errors import TicketLockError
from ..observers import Observers
from ..process import clock
from ..tracker.memory_outbox import MemoryOutbox
from ..tracker.outbox import Batch, DeadLetter, Lease, now_ms
from ..tracker.store import TrackerStore
from .broker import EventBroker
from .reached import Counts, Reached, Suspects, messages_of

T = TypeVar("T")

log = logging.getLogger("ticketlock.relay")

#: Limits of one round: conversations, events, and events of one conversation. The next round waits
#: for the last confirmation of this one, which takes RabbitMQ tens of milliseconds. Turns wait
#: while the store reads a batch, so that must not take more than a millisecond or two.
CONVERSATIONS, EVENTS, BATCH_EVENTS = 256, 3200, 200

#: Conversations of a request while some have long backlogs: it reads more events of each then.
FEW = 16

#: Events that a relay sends to find out whether the broker is back.
PROBE = 20

#: Seconds that the broker has for a round. Well below the lease, so that no other relay takes
#: over a conversation while its events are on their way.
DELIVER_SECONDS = 10.0

#: Seconds between two sweeps for events of other replicas, and the age below which a sweep
#: leaves events to the replica that committed them.
SWEEP_SECONDS, LEFT_SECONDS = 3.0, 2.0

#: Conversations that a relay remembers; the sweep finds the others.
REMEMBERED = 10_000

#: Seconds between two reports of the backlog to observers.
BACKLOG_SECONDS = 5.0

#: Seconds to wait while the broker or the store is away: the first pause and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

#: Seconds between two warnings that events wait: an outage has ups and downs.
WARN_SECONDS = 60.0

#: Seconds that `close` takes to publish what this process has committed.
CLOSE_SECONDS = 5.0


class Relay:
    """Publishes the outbox of a tracker store, from `start` to `close`.

    Args:
        broker: returns the broker; called again while it fails.
    """

    def __init__(self, store: TrackerStore, broker: Callable[[], Awaitable[EventBroker]]) -> None:
        self._store = store
        self._outbox = store.outbox
        self._make_broker = broker
        self.broker: EventBroker | None = None
        self.counts = Counts()
        self._name = f"relay {secrets.token_hex(8)}"
        self._known: dict[str, None] = {}  # oldest first
        self._held: set[str] = set()
        self._in_flight: set[str] = set()
        self._ahead: list[Batch] = []  # taken, to be delivered next
        self._ahead_lease = Lease.of(self._name)
        self._reached: list[Reached] = []  # delivered, to be noted in the store
        self._suspects = Suspects()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._next_sweep = self._next_warning = 0.0
        self._left_more = False  # the last sweep has not found all
        self._closing = False
        self.observers = Observers()
        self._next_backlog = 0.0
        self._running = Running()  # a driver that is stopped half way leaks its connection
        store.publishes = True
        process.tell_of_forks(self)

    def start(self) -> None:
        """Start in the running event loop. May be called again, on another one if that is closed."""
        if self._task is not None and self._task.get_loop().is_closed():
            self._begin_anew()
        if self._task is None and not self._closing:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def forked(self) -> None:
        """Forget task, broker and leases in a forked child: the parent goes on with them."""
        process.leave_to_parent(self._task, self.broker, self._running)
        self.broker, self._name, self._held = None, f"relay {secrets.token_hex(8)}", set()
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Forget a task that does not go on, and take again what it had taken."""
        self._task, self._known = None, {**self._known, **dict.fromkeys(self._held)}
        self._in_flight, self._ahead, self._reached = set(), [], []
        self._wake, self._running = asyncio.Event(), Running()

    def committed(self, sender_id: str, events: Sequence[Mapping[str, Any]]) -> None:
        """Publish the events that a turn has just committed, soon. Never blocks or raises."""
        if not self._store.feeds_outbox and isinstance(self._outbox, MemoryOutbox):
            self._outbox.put(sender_id, events, now_ms())
        self._remember(sender_id)

    async def close(self) -> None:
        """Publish what this process has committed, for at most 5 s. The rest is left to others."""
        if self._task is not None:
            self.start()  # anew if its loop is closed
        self._closing = True
        if self._task is not None:
            self._wake.set()
            await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._running.settle()
        try:
            await asyncio.wait_for(self._release_all(), CLOSE_SECONDS)
        except (TicketLockError, asyncio.TimeoutError, TimeoutError) as error:
            log.warning("the relay's conversations stay leased for half a minute: %s", error)
        finally:
            if self.broker is not None:
                await self.broker.close()

    async def _release_all(self) -> None:
        await self._each(lambda name: self._outbox.release(name, self._name), set(self._held))
        if isinstance(self._outbox, MemoryOutbox):
            left = await self._outbox.backlog()
            if left.events:
                log.error("%d events were not published and are lost", left.events)

    # -- the loop ------------------------------------------------------------------------------

    def _remember(self, sender_id: str) -> None:
        if len(self._known) < REMEMBERED:
            self._known[sender_id] = None
            self._wake.set()

    async def _run(self) -> None:
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while not self._closing or (self._busy and not backoff.started):
            try:
                await self._report_backlog()
                trouble = await self._round(probe=backoff.started)
            except TicketLockError as error:
                trouble = str(error)
            except Exception as error:
                # The relay must survive any error: if it ended, no event would be published.
                log.exception("the relay: unexpected error")
                trouble = repr(error)
            self._note(trouble)
            if trouble:
                pause = backoff.next()  # also while closing: it ends the loop
                await asyncio.sleep(0.0 if self._closing else pause)
            else:
                backoff.reset()
                if not self._busy and not self._closing:
                    await self._sleep()

    @property
    def _busy(self) -> bool:
        return bool(self._known or self._ahead or self._reached)

    async def _report_backlog(self) -> None:
        """Report the backlog to observers, at most every few seconds."""
        now = asyncio.get_running_loop().time()
        if now >= self._next_backlog and self.observers.has("on_backlog"):
            self._next_backlog = now + BACKLOG_SECONDS
            backlog = await self._running.finish(self._outbox.backlog())
            self.observers.notify("on_backlog", backlog)

    def _note(self, trouble: str) -> None:
        now = asyncio.get_running_loop().time()
        if trouble and now >= self._next_warning:
            log.warning("events wait to be published: %s", trouble)
            self._next_warning = now + WARN_SECONDS
        self.counts.trouble = trouble

    async def _sleep(self) -> None:
        """Wait until something is committed, or it is time for a sweep."""
        self._wake.clear()
        await until_set(self._wake, SWEEP_SECONDS)

    async def _round(self, probe: bool) -> str:
        """Publish a batch of several conversations each; the reason if no event got through.

        Meanwhile the store notes what the round before has published, and the next round is
        read. That is of other conversations, so the events of each stay in order.
        """
        if self.broker is None:
            self.broker = await self._make_broker()
        await self._sweep()
        if not self._ahead or self._ahead_lease.half_over:
            self._forget_ahead()
            await self._exchange(probe)
        batches, self._ahead = self._ahead, []
        if not batches:
            return ""
        self._in_flight = {batch.sender_id for batch in batches}
        both = [self._publish(self.broker, batches)]
        if not probe:
            both.append(self._exchange(probe))
        found = await asyncio.gather(*both, return_exceptions=True)
        self._in_flight.clear()
        if error := next((one for one in found if isinstance(one, BaseException)), None):
            raise error
        if found[0]:
            await self._each(self._step_back, self._forget_ahead())
        return str(found[0])

    def _forget_ahead(self) -> list[str]:
        """The conversations that were read ahead, which are then to be taken once more."""
        names = [batch.sender_id for batch in self._ahead]
        self._ahead = []
        for name in names:
            self._remember(name)
        return names

    async def _exchange(self, probe: bool) -> str:
        """Note in the store what was published, and take what is delivered next.

        Each request does some of both, and a conversation is taken after it was noted.
        """
        reached, self._reached = self._reached, []
        for result in reached:
            if result.more and result.name not in self._known:
                self._remember(result.name)
        few = self._outbox.parallel
        if any(result.more for result in reached):
            few = min(few, FEW)
        limit, tried = 1 if probe else CONVERSATIONS, list[str]()
        capacity, at = EVENTS, 0
        self._ahead_lease = lease = Lease.of(self._name)
        try:
            while True:
                done, at = reached[at : at + few], at + few
                room = min(few, limit - len(tried)) if capacity >= BATCH_EVENTS else 0
                later = {result.name for result in reached[at:]}
                some = self._next(room, {*later, *tried, *self._in_flight})
                if not done and not some:
                    return ""
                tried += some
                events = PROBE if probe else min(BATCH_EVENTS, capacity // max(1, len(some)))
                batches = await self._request(done, some, lease, events)
                capacity -= sum(len(batch.events) for batch in batches)
                self._ahead += batches
        except BaseException:
            self._ahead = []
            for name in [*tried, *(result.name for result in reached)]:
                self._remember(name)
            raise

    def _next(self, most: int, without: Container[str]) -> list[str]:
        """Some conversations that are known to wait, no longer known then."""
        some = list(islice((name for name in self._known if name not in without), most))
        for name in some:  # before the next await: a later commit adds it again
            del self._known[name]
        return some

    async def _request(
        self, done: Sequence[Reached], names: Sequence[str], lease: Lease, limit: int
    ) -> list[Batch]:
        self._held.update(names)
        reached = [(result.batch, result.to) for result in done]
        exchanging = self._outbox.exchange(reached, names, lease, limit)
        moved, found = await self._running.finish(exchanging)
        batches = [batch for batch in found if batch is not None]
        taken = {batch.sender_id for batch in batches}
        self._held.difference_update(set(names) - taken)
        for result, more in zip(done, moved, strict=True):
            if result.name not in taken:
                self._keep(result, more)
        return batches

    async def _sweep(self) -> None:
        """Remember conversations that other replicas left; of many, some more when few are known."""
        now = asyncio.get_running_loop().time()
        if now < self._next_sweep and not (self._left_more and len(self._known) < CONVERSATIONS):
            return
        before = now_ms() - round(1000 * LEFT_SECONDS)
        found = await self._running.finish(self._outbox.waiting(4 * CONVERSATIONS, before))
        for sender_id in found:
            self._remember(sender_id)
        self._next_sweep, self._left_more = now + SWEEP_SECONDS, len(found) == 4 * CONVERSATIONS

    async def _publish(self, broker: EventBroker, batches: Sequence[Batch]) -> str:
        """Deliver batches; the reason if no event got through."""
        try:
            return await self._deliver(broker, batches)
        except BaseException:
            for batch in batches:
                self._remember(batch.sender_id)
            raise

    async def _deliver(self, broker: EventBroker, batches: Sequence[Batch]) -> str:
        headers = self._headers if self.observers.has("headers") else None
        messages = [message for batch in batches for message in messages_of(batch, headers)]
        began = clock()
        outcomes = await broker.deliver(messages, DELIVER_SECONDS) if messages else []
        some = any(outcome.status == "delivered" for outcome in outcomes)
        results = self._suspects.all_reached(batches, outcomes)
        self._report(results, clock() - began)
        if letters := [letter for result in results for letter in result.letters]:
            await self._add_dead_letters(letters)
        stuck = not some and not letters
        back = [result for result in results if stuck and result.waits]
        await self._each(self._step_back, [result.name for result in back])
        self._reached += [result for result in results if not (stuck and result.waits)]
        return back[0].waits if back else ""

    def _headers(self, sender_id: str, number: int) -> Mapping[str, str] | None:
        return self.observers.ask("headers", sender_id, number)  # type: ignore[no-any-return]

    def _report(self, results: Sequence[Reached], seconds: float) -> None:
        observed = self.observers.has("on_published")
        for result in results:
            self.counts.published += result.published
            self.counts.retries += result.retries
            if observed:
                self.observers.notify("on_published", result.report(seconds))

    async def _add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        await self._running.finish(self._outbox.add_dead_letters(letters))
        self.counts.dead_lettered += len(letters)
        for letter in letters:
            log.warning(
                "event %d of conversation %r cannot be published and is set apart "
                "(`ticketlock events dead`): %s",
                letter.sequence, letter.sender_id, letter.reason,
                extra={
                    "conversation": letter.sender_id, "sequence": letter.sequence,
                    "history": letter.history, "why": letter.reason,
                },
            )  # fmt: skip
            self.observers.notify("on_dead_letter", letter)

    def _keep(self, result: Reached, ours: bool) -> None:
        """Remember a conversation whose events wait, unless another relay has it."""
        if not ours:
            self._held.discard(result.name)
        elif result.waits and result.to == result.batch.first and not self._closing:
            # The broker refused it, and may accept others: wait before the next attempt.
            pause = FIRST_PAUSE * 2 ** min(self._suspects.refusals(result.name), 5)
            asyncio.get_running_loop().call_later(pause, self._remember, result.name)
        else:
            self._remember(result.name)

    async def _step_back(self, name: str) -> None:
        """Release a conversation to other relays: they may still reach the broker."""
        await self._outbox.release(name, self._name)
        self._held.discard(name)
        self._remember(name)

    async def _each(
        self, operation: Callable[[str], Coroutine[Any, Any, T]], names: Iterable[str]
    ) -> list[T]:
        """The results of an operation on conversations, few at a time: turns come first."""
        limit = asyncio.Semaphore(self._outbox.parallel)

        async def one(name: str) -> T:
            async with limit:  # made here: one that is cancelled before would never be awaited
                return await self._running.finish(operation(name))

        return list(await asyncio.gather(*map(one, names)))
