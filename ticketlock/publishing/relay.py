"""The relay: publishes what waits in the outbox, beside the turns and never in their way.

Every replica has one. It is told of each commit of its own process, and every few seconds it
looks for what others have left: the events of a replica that died, or that was cut off from the
broker. Of one conversation nothing is sent before the broker has confirmed what comes earlier.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from .. import process
from ..aio.running import Running
from ..errors import TicketLockError
from ..observers import Observers
from ..process import clock
from ..publishing.message import Published
from ..tracker.memory_outbox import VolatileOutbox
from ..tracker.outbox import DeadLetter, Lease, Parcel, now_ms
from ..tracker.store import TrackerStore
from .broker import EventBroker
from .message import Message, Outcome

T = TypeVar("T")

log = logging.getLogger("ticketlock.relay")

#: Conversations that make a batch, its events, and events of one of them at most: turns wait
#: while the store reads them, which is to be a millisecond or two.
CONVERSATIONS, EVENTS, PARCEL = 64, 3200, 200

#: Events by which a relay finds out whether the broker is back.
PROBE = 20

#: Seconds that the broker has for a batch: well below the lease, so that no conversation is
#: taken over while its events are on their way.
DELIVER_SECONDS = 10.0

#: Seconds between two looks for what others have left, and for which it is left to them.
SWEEP_SECONDS, LEFT_SECONDS = 3.0, 2.0

#: Conversations that a relay remembers; the sweep finds the others.
REMEMBERED = 10_000

#: Seconds between two looks at how much waits, for observers.
LOOK_SECONDS = 5.0

#: Seconds to wait while the broker or the store is away: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

#: Seconds between two warnings that events wait: an outage has ups and downs.
WARN_SECONDS = 60.0

#: How often an event that may be at fault itself is refused, while others pass, before it is
#: set apart.
REFUSALS = 6

#: Seconds that `close` gives to what has been committed here.
CLOSE_SECONDS = 5.0


@dataclass
class Counts:
    """What a relay has done since its process began.

    Attributes:
        published: events that the broker has confirmed.
        retries: how often an event was left to be sent again.
        buried: events set apart as dead letters.
        trouble: why nothing goes out at the moment; empty while all is well.
    """

    published: int = 0
    retries: int = 0
    buried: int = 0
    trouble: str = ""


class Relay:
    """Publishes the outbox of a tracker store, from `start` to `close`.

    Args:
        broker: makes or gives the broker; called again while that fails.
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
        self._suspects: dict[str, _Suspect] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._pid = process.pid
        self._next_sweep = self._next_warning = 0.0
        self._closing = False
        self.observers = Observers()
        self._next_look = 0.0
        self._running = Running()  # a driver that is stopped half way leaves things behind
        store.publishes = True

    def start(self) -> None:
        """Begin, in the running event loop; harmless when it has begun."""
        if self._pid != process.pid:
            self._forked()
        if self._task is None and not self._closing:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def _forked(self) -> None:
        """In the child: task, broker and leases are the parent's, which goes on with them."""
        self._pid, self._task, self.broker = process.pid, None, None
        self._name = f"relay {secrets.token_hex(8)}"
        self._held.clear()
        self._wake, self._running = asyncio.Event(), Running()

    def committed(self, sender_id: str, events: Sequence[Mapping[str, Any]]) -> None:
        """Publish, soon, what a turn has just committed. Never blocks, never fails."""
        if not self._store.feeds_outbox and isinstance(self._outbox, VolatileOutbox):
            self._outbox.put(sender_id, events, now_ms())
        self._remember(sender_id)

    async def close(self) -> None:
        """Publish what has been committed here, for 5 s at most, and let go of the rest.

        What waits stays in the outbox for another relay.
        """
        if self._pid != process.pid:
            self._forked()
        self._closing = True
        if self._task is not None:
            self._wake.set()
            await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._running.settle()
        try:
            await asyncio.wait_for(self._let_go(), CLOSE_SECONDS)
        except (TicketLockError, asyncio.TimeoutError, TimeoutError) as error:
            log.warning("the relay's conversations stay leased for half a minute: %s", error)
        finally:
            if self.broker is not None:
                await self.broker.close()

    async def _let_go(self) -> None:
        await self._each(self._outbox.release(name, self._name) for name in set(self._held))
        if isinstance(self._outbox, VolatileOutbox):
            left = await self._outbox.backlog()
            if left.events:
                log.error("%d events were not published and are lost", left.events)

    # -- the loop ------------------------------------------------------------------------------

    def _remember(self, sender_id: str) -> None:
        if len(self._known) < REMEMBERED:
            self._known[sender_id] = None
            self._wake.set()

    async def _run(self) -> None:
        pause = 0.0
        while not self._closing or (self._known and not pause):
            try:
                await self._look()
                trouble = await self._round(probe=pause > 0)
            except TicketLockError as error:
                trouble = str(error)
            except Exception as error:
                # Whatever happens the relay lives on: its end would hold up every event.
                log.exception("the relay: unexpected error")
                trouble = repr(error)
            self._note(trouble)
            pause = min(max(FIRST_PAUSE, 2 * pause), LONGEST_PAUSE) if trouble else 0.0
            if pause and not self._closing:
                await asyncio.sleep(pause)
            elif not self._known and not self._closing:
                await self._sleep()

    async def _look(self) -> None:
        """Tell observers that want to know what waits, now and then."""
        now = asyncio.get_running_loop().time()
        if now >= self._next_look and self.observers.has("on_backlog"):
            self._next_look = now + LOOK_SECONDS
            backlog = await self._running.finish(self._outbox.backlog())
            self.observers.tell("on_backlog", backlog)

    def _note(self, trouble: str) -> None:
        now = asyncio.get_running_loop().time()
        if trouble and now >= self._next_warning:
            log.warning("events wait to be published: %s", trouble)
            self._next_warning = now + WARN_SECONDS
        self.counts.trouble = trouble

    async def _sleep(self) -> None:
        """Until something is committed, or it is time for a sweep."""
        self._wake.clear()
        try:
            await asyncio.wait_for(self._wake.wait(), SWEEP_SECONDS)
        except (asyncio.TimeoutError, TimeoutError):
            return

    async def _round(self, probe: bool) -> str:
        """Publish one batch; why nothing of it went out, or an empty text."""
        if self.broker is None:
            self.broker = await self._make_broker()
        await self._sweep()
        names: list[str] = []
        try:
            parcels = await self._collect(names, probe)
            return await self._publish(self.broker, parcels) if parcels else ""
        except BaseException:
            for name in names:
                self._remember(name)
            raise

    async def _collect(self, names: list[str], probe: bool) -> list[Parcel]:
        """Take conversations, whose names it adds to `names`, until they make a batch."""
        most, parcels, room = 1 if probe else CONVERSATIONS, [], EVENTS
        while room >= PARCEL and len(names) < most:
            unseen = (name for name in self._known if name not in names)
            some = list(islice(unseen, min(self._outbox.parallel, most - len(names))))
            if not some:
                break
            names += some
            for name in some:  # before anything is awaited: what is committed from now on counts
                del self._known[name]
            limit = PROBE if probe else min(PARCEL, room // len(some))
            found = await self._take(some, limit)
            room -= sum(len(parcel.events) for parcel in found)
            parcels += found
        return parcels

    async def _take(self, names: Sequence[str], limit: int) -> list[Parcel]:
        self._held.update(names)
        taking = self._outbox.take_each(names, Lease.of(self._name), limit)
        found = await self._running.finish(taking)
        parcels = [parcel for parcel in found if parcel is not None]
        self._held.difference_update(set(names) - {parcel.sender_id for parcel in parcels})
        return parcels

    async def _sweep(self) -> None:
        """Remember what others have left; look again at once when there is much of it."""
        now = asyncio.get_running_loop().time()
        if now < self._next_sweep:
            return
        before = now_ms() - round(1000 * LEFT_SECONDS)
        found = await self._running.finish(self._outbox.waiting(4 * CONVERSATIONS, before))
        for sender_id in found:
            self._remember(sender_id)
        self._next_sweep = now if len(found) == 4 * CONVERSATIONS else now + SWEEP_SECONDS

    async def _publish(self, broker: EventBroker, parcels: Sequence[Parcel]) -> str:
        headers = self._headers if self.observers.has("headers") else lambda name, number: None
        messages = [
            Message(name := parcel.sender_id, number, event, headers(name, number), parcel.history)
            for parcel in parcels
            for number, event in enumerate(parcel.events, parcel.first)
        ]
        began = clock()
        outcomes = await broker.deliver(messages, DELIVER_SECONDS) if messages else []
        some = any(outcome.status == "delivered" for outcome in outcomes)
        fates, start = [], 0
        for parcel in parcels:
            end = start + len(parcel.events)
            fates.append(self._fate(parcel, outcomes[start:end], some))
            start = end
            self._tell(fates[-1], clock() - began)
        if letters := [letter for fate in fates for letter in fate.letters]:
            await self._bury(letters)
        stuck = not some and not letters
        await self._each(self._step_back(fate) for fate in fates if stuck and fate.waits)
        await self._advance([fate for fate in fates if not (stuck and fate.waits)])
        return next((fate.waits for fate in fates if fate.waits), "") if stuck else ""

    def _headers(self, sender_id: str, number: int) -> Mapping[str, str] | None:
        return self.observers.ask("headers", sender_id, number)  # type: ignore[no-any-return]

    def _tell(self, fate: _Fate, seconds: float) -> None:
        parcel, dead = fate.parcel, len(fate.letters)
        delivered = fate.to - parcel.first - dead if parcel.events else 0
        published = Published(parcel.sender_id, parcel.first, delivered, dead, fate.waits, seconds)
        self.observers.tell("on_published", published)

    def _fate(self, parcel: Parcel, outcomes: Sequence[Outcome], others_pass: bool) -> _Fate:
        """How far a parcel got."""
        fate = _Fate(parcel, parcel.first if parcel.events else parcel.sequence)
        for number, (event, outcome) in enumerate(
            zip(parcel.events, outcomes, strict=True), parcel.first
        ):
            if outcome.status == "retry" and not self._at_fault(
                parcel, number, outcome, others_pass
            ):
                fate.waits = outcome.reason or "the broker has not confirmed"
                self.counts.retries += 1
                break
            if outcome.status == "delivered":
                self.counts.published += 1
            else:
                fate.letters.append(
                    DeadLetter(parcel.sender_id, parcel.history, number, event, outcome.reason)
                )
            self._suspects.pop(parcel.sender_id, None)
            fate.to = number + 1
            if outcome.status == "retry":
                fate.waits = "an event before it was set apart as a dead letter"
                break
        return fate

    def _at_fault(self, parcel: Parcel, number: int, outcome: Outcome, others_pass: bool) -> bool:
        """Whether an event has been refused so often, while others passed, that it must go."""
        if not outcome.suspect:
            return False
        suspect = self._suspects.setdefault(parcel.sender_id, _Suspect(number))
        if suspect.number != number:
            suspect = self._suspects[parcel.sender_id] = _Suspect(number)
        suspect.refusals += 1
        suspect.others_passed |= others_pass
        return suspect.refusals >= REFUSALS and suspect.others_passed

    async def _bury(self, letters: Sequence[DeadLetter]) -> None:
        await self._running.finish(self._outbox.bury(letters))
        self.counts.buried += len(letters)
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
            self.observers.tell("on_dead_letter", letter)

    async def _advance(self, fates: Sequence[_Fate]) -> None:
        few = self._outbox.parallel
        for some in (fates[start : start + few] for start in range(0, len(fates), few)):
            reached = [(fate.parcel, fate.to) for fate in some]
            moving = self._outbox.advance_each(reached, Lease.of(self._name))
            for fate, more in zip(some, await self._running.finish(moving), strict=True):
                self._keep(fate, more)

    def _keep(self, fate: _Fate, ours: bool) -> None:
        """Look after a conversation of which events wait, unless another relay has it."""
        name = fate.parcel.sender_id
        if not ours:
            self._held.discard(name)
        elif fate.waits and fate.to == fate.parcel.first and not self._closing:
            # Refused, and others may pass: it is not tried again at once.
            suspect = self._suspects.get(name)
            pause = FIRST_PAUSE * 2 ** min(suspect.refusals if suspect else 1, 5)
            asyncio.get_running_loop().call_later(pause, self._remember, name)
        else:
            self._remember(name)

    async def _step_back(self, fate: _Fate) -> None:
        """Let another have the conversation: perhaps the broker is away only from here."""
        name = fate.parcel.sender_id
        await self._outbox.release(name, self._name)
        self._held.discard(name)
        self._remember(name)

    async def _each(self, operations: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        """The results of operations on the store, few at a time: turns come first."""
        room = asyncio.Semaphore(self._outbox.parallel)

        async def one(operation: Coroutine[Any, Any, T]) -> T:
            async with room:
                return await self._running.finish(operation)

        return list(await asyncio.gather(*(one(operation) for operation in operations)))


@dataclass
class _Suspect:
    """An event that is refused, and may be at fault itself."""

    number: int
    refusals: int = 0
    others_passed: bool = False


class _Fate:
    """What becomes of a parcel: published or set apart before number `to`."""

    def __init__(self, parcel: Parcel, to: int) -> None:
        self.parcel = parcel
        self.to = to
        self.letters: list[DeadLetter] = []
        self.waits = ""
