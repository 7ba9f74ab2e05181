"""`Sender`: sends what waits, in the order of each conversation's turns, at least once."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import TicketLockError
from .delivery import Dead, Delivery, Done, Retry, Verdict
from .destination import Destination, Part
from .storage import DeliveryStore, Removed, Taken

log = logging.getLogger("ticketlock.deliveries")

#: Pauses between attempts: the first one, and the longest after a failure of the store, seconds.
_FIRST_PAUSE, _STORE_PAUSE = 1.0, 5.0
#: Conversations that this process comes back to by itself; the index of what waits knows the others.
_REMEMBERED = 10_000
#: The failed try that the log has.
_TOLD = 4
#: Seconds that a part may take beyond its timeout, which its destination keeps by itself.
_GRACE = 0.5


class _Lost(Exception):
    """Another process sends the conversation's deliveries now."""


@dataclass
class Counts:
    """What a sender has done.

    Attributes:
        delivered, retried: deliveries, and attempts that failed.
        dead, dropped: dead letters, and those that were dropped because a conversation had too many.
    """

    delivered: int = 0
    retried: int = 0
    dead: int = 0
    dropped: int = 0


@dataclass
class _Head:
    """The delivery that is being sent: how often it was tried, and how many parts were sent.

    Attributes:
        number: of its ticket; 0 if it cannot be read.
    """

    conversation_id: str
    text: str
    tries: int
    part: int
    lease_until: float
    number: int = 0
    to: Destination = field(default_factory=lambda: _Unknown(""))


class _Unknown(Destination):
    """Stands for one that is not configured here; a process that knows it may take over."""

    def __init__(self, name: str) -> None:
        self._name = name

    def parts(self, delivery: Delivery) -> Sequence[Part]:
        return [self._refuse]

    async def _refuse(self) -> Verdict:
        return Retry(f"no destination {self._name!r} is configured")


class Sender:
    """Sends the deliveries of conversations to their destinations. For one event loop.

    Args:
        store: where they wait.
        destinations: by their names, as deliveries have them in `to`.
        process: a name that no other sender has; default: a random one.
        lease: seconds after which another process takes a conversation whose sender is silent; more
            than the `timeout` of each destination.
        most: conversations that are sent at the same time; the others wait in line.

    Attributes:
        counts: what it has done.
    """

    def __init__(
        self,
        store: DeliveryStore,
        destinations: Mapping[str, Destination],
        *,
        process: str | None = None,
        lease: float = 15.0,
        most: int = 64,
    ) -> None:
        for name, destination in destinations.items():
            if destination.timeout + _GRACE >= lease:
                raise ValueError(f"the timeout of destination {name!r} is not below the lease")
        self.counts = Counts()
        self._store = store
        self._destinations = destinations
        self._process = process or secrets.token_hex(8)
        self._lease = lease
        self._most = most
        self._ready: dict[str, None] = {}  # in line
        self._active: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()  # due once more while it is sent
        self._paused: dict[str, asyncio.TimerHandle] = {}
        self._closed = False

    def due(self, conversation_id: str) -> None:
        """Deliveries of a conversation wait: send them as soon as there is room.

        It returns at once and never fails. Calling it too often is harmless; what it forgets is
        in the index, and another look calls it again.
        """
        if self._closed or conversation_id in self._paused:
            return
        if conversation_id in self._active:
            self._again.add(conversation_id)
        elif conversation_id in self._ready or len(self._ready) < _REMEMBERED:
            self._ready[conversation_id] = None
            self._start()

    @property
    def busy(self) -> int:
        """How many conversations are being sent, or are in line."""
        return len(self._active) + len(self._ready)

    async def close(self, timeout: float = 10.0) -> None:
        """Send no more, end what is being sent within `timeout` seconds, and release the rest."""
        self._closed = True
        self._ready.clear()
        for timer in self._paused.values():
            timer.cancel()
        self._paused.clear()
        tasks = list(self._active.values())
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- which conversation -----------------------------------------------------------------------

    def _start(self) -> None:
        while self._ready and len(self._active) < self._most and not self._closed:
            conversation_id = next(iter(self._ready))
            del self._ready[conversation_id]
            task = asyncio.get_running_loop().create_task(self._send(conversation_id))
            self._active[conversation_id] = task
            task.add_done_callback(lambda task, name=conversation_id: self._ended(name, task))  # type: ignore[misc]

    def _ended(self, conversation_id: str, task: asyncio.Task[None]) -> None:
        del self._active[conversation_id]
        again = conversation_id in self._again
        self._again.discard(conversation_id)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("sending of conversation %r failed", conversation_id, exc_info=error)
            self._come_back(conversation_id, _STORE_PAUSE)
        if again:
            self.due(conversation_id)
        self._start()

    def _come_back(self, conversation_id: str, seconds: float) -> None:
        if self._closed or len(self._paused) >= _REMEMBERED:
            return

        def due() -> None:
            del self._paused[conversation_id]
            self.due(conversation_id)

        if (known := self._paused.pop(conversation_id, None)) is not None:
            known.cancel()
        self._paused[conversation_id] = asyncio.get_running_loop().call_later(seconds, due)

    # -- one conversation -------------------------------------------------------------------------

    async def _send(self, conversation_id: str) -> None:
        """Send some deliveries of a conversation; the rest waits in line again, behind others."""
        try:
            asked = time.monotonic()
            taken = await self._store.take(conversation_id, self._process, self._lease)
            if isinstance(taken, float):
                self._come_back(conversation_id, taken)
            elif taken is not None:
                await self._send_taken(conversation_id, taken, asked + self._lease)
        except _Lost:
            log.info("another process sends the replies of conversation %r now", conversation_id)
        except TicketLockError as error:
            log.warning("replies of conversation %r wait: %s", conversation_id, error)
            self._come_back(conversation_id, random.uniform(1.0, _STORE_PAUSE))

    async def _send_taken(self, conversation_id: str, taken: Taken, lease_until: float) -> None:
        tries, part = taken.tries, taken.part
        for text in taken.texts:
            head = _Head(conversation_id, text, tries, part, lease_until)
            try:
                verdict = await self._deliver(head)
            except asyncio.CancelledError:
                await self._store.pause(conversation_id, self._process, 0, head.tries, head.part)
                raise
            if isinstance(verdict, Retry):
                self.counts.retried += 1
                if head.tries + 1 < head.to.max_tries:
                    await self._pause(head, verdict)
                    return
                verdict = Dead(f"after {head.tries + 1} tries: {verdict.reason}")
            lease_until = time.monotonic() + self._lease
            removed = await self._remove(head, verdict)
            tries = part = 0
            if removed.left == 0:
                return
            if self._closed:
                break
        if self._closed:
            await self._store.pause(conversation_id, self._process, 0, 0, 0)
        else:
            self._again.add(conversation_id)

    async def _deliver(self, head: _Head) -> Verdict:
        """Send the parts of a delivery that were not sent."""
        try:
            delivery = Delivery.parse(head.conversation_id, head.text, head.tries + 1)
        except ValueError as error:
            return Dead(f"cannot be read: {error}")
        head.number = delivery.number
        head.to = self._destinations.get(delivery.to) or _Unknown(delivery.to)
        try:
            parts = head.to.parts(delivery)
        except Exception as error:  # noqa: BLE001  # of a destination it may be any
            return _raised(head, error)
        for number in range(head.part, len(parts)):
            most = head.to.timeout + _GRACE
            if number > head.part or time.monotonic() + most > head.lease_until:
                await self._renew(head, number)
            verdict = await _once(head, parts[number], most)
            if not isinstance(verdict, Done):
                return verdict
        return Done()

    async def _renew(self, head: _Head, part: int) -> None:
        """The lease lasts longer than the next part; raises _Lost if it is another process's."""
        asked = time.monotonic()
        if not await self._store.renew(
            head.conversation_id, self._process, self._lease, head.tries, part
        ):
            raise _Lost
        head.part = part
        head.lease_until = asked + self._lease

    async def _pause(self, head: _Head, verdict: Retry) -> None:
        longest = head.to.max_pause
        pause = min(_FIRST_PAUSE * 2.0 ** min(head.tries, 30), longest)
        # Those that failed together do not all come back together.
        seconds = max(pause * random.uniform(0.5, 1.0), min(verdict.after, longest))
        log.log(
            logging.WARNING if head.tries + 1 == _TOLD else logging.INFO,
            "replies of conversation %r, try %d: %s; again in %.1f s",
            head.conversation_id, head.tries + 1, verdict.reason, seconds,
        )  # fmt: skip
        if not await self._store.pause(
            head.conversation_id, self._process, seconds, head.tries + 1, head.part
        ):
            raise _Lost
        self._come_back(head.conversation_id, seconds)

    async def _remove(self, head: _Head, verdict: Verdict) -> Removed:
        """Remove what was delivered, or set it apart. Raises _Lost if it is another process's."""
        dead = _letter(head, verdict.reason) if isinstance(verdict, Dead) else None
        removed = await self._store.done(
            head.conversation_id, self._process, self._lease, head.text, dead
        )
        if removed.left < 0:
            raise _Lost
        if not isinstance(verdict, Dead):
            self.counts.delivered += 1
            return removed
        self.counts.dead += 1
        self.counts.dropped += removed.dropped
        log.warning(
            "the replies to message %s of conversation %r became a dead letter: %s%s",
            head.number or "?", head.conversation_id, verdict.reason,
            f"; {removed.dropped} older ones were dropped" if removed.dropped else "",
        )  # fmt: skip
        return removed


async def _once(head: _Head, part: Part, timeout: float) -> Verdict:
    """Send a part once."""
    try:
        return await asyncio.wait_for(_awaited(part), timeout)
    except asyncio.TimeoutError:  # not yet TimeoutError in Python 3.10
        return Retry(f"no end within {timeout:g} s")
    except Exception as error:  # noqa: BLE001  # of a function of the embedding program it may be any
        return _raised(head, error)


async def _awaited(part: Part) -> Verdict:
    return await part()


def _raised(head: _Head, error: Exception) -> Retry:
    log.warning("sending of conversation %r raised", head.conversation_id, exc_info=error)
    return Retry(f"raised {type(error).__name__}")


def _letter(head: _Head, reason: str) -> str:
    """A dead letter: the delivery as it was stored, and why it is dead."""
    return json.dumps(
        {
            "delivery": head.text, "reason": reason, "tries": head.tries + 1, "part": head.part,
            "dead_at": int(1000 * time.time()),
        }
    )  # fmt: skip
