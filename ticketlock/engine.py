"""What one process has on one Redis: its link, its waiting tickets, its turns.

A ticket waits in `_waiting` until a bell, a heartbeat or an answer says that it is served;
then its turn is in `_held` until it is released or lost. Nothing here polls: the heartbeat
thread asks for the truth once a second, for all tickets of the process in one call.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any
from urllib.parse import quote

from .cluster_link import ClusterLink
from .errors import LockStoreConnectionError, QueueFull
from .grant import Grant, clock
from .heartbeat import Heartbeat
from .link import Link
from .lock import Waiter
from .redis_connect import connect, explain
from .redis_settings import RedisSettings
from .scripts import Scripts, Timing

log = logging.getLogger("ticketlock")


class Engine:
    """The state of a process's use of a `ConcurrentRedisLockStore`, bound to one event loop."""

    def __init__(self, settings: RedisSettings, timing: Timing) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.get_running_loop()
        self.process = secrets.token_hex(8)
        where = f"{socket.gethostname()[:24] or 'localhost'}:{self.pid}".replace(" ", "_")
        self.scripts = Scripts(settings, timing, self.process, where)
        options: dict[str, Any] = {
            "prologue": self.scripts.prologue(),
            "on_push": self._push,
            "on_connect": self._reconnected,
            "timeout": settings.socket_timeout,
        }
        self.link: Link | ClusterLink
        if settings.deployment_mode == "cluster":
            self.link = ClusterLink(settings, **options)
        else:
            self.link = Link(
                lambda: connect(settings), lambda error: explain(settings, error), **options
            )
        self.heartbeat = Heartbeat(self, settings, self.scripts, timing)
        #: Seconds by which we give a turn up before the server does.
        self.margin = timing.lease / 8000
        self._requests = count(1)
        self._waiting: dict[int, Waiter] = {}
        self._held: dict[int, Grant] = {}
        self._guard: asyncio.TimerHandle | None = None
        self._guard_at = 0.0
        #: A moment of `clock()` that was not after this server time (ms).
        self._seen = (0.0, 0)

    # -- tickets ------------------------------------------------------------------------------

    async def issue(self, waiter: Waiter, floor: int = 0) -> None:
        """Send for a ticket; sets its number, and its future if it is granted at once."""
        waiter.request = next(self._requests)
        waiter.member = f"{self.process}.{waiter.request}"
        if waiter.label:
            waiter.member += "." + quote(waiter.label, safe="")
        waiter.future = self.loop.create_future()
        # Before sending: a bell may come in the same packet as the answer.
        self._waiting[waiter.request] = waiter
        limit = 0 if waiter.wait_timeout == 0 else waiter.max_waiting
        limit = -1 if limit is None else limit
        command = self.link.submit(self._acquire(waiter, max_waiting=limit, floor=floor))
        # At once, not when this task comes to run: a bell may be right behind the answer.
        command.heard = lambda answer: self._answered(waiter, answer, command.sent_at)
        answer = await command.future
        if answer[0] < 0:
            raise QueueFull(waiter.conversation_id, answer[1])

    def _acquire(self, waiter: Waiter, **options: int) -> tuple[Any, ...]:
        # The lifetime ends here first, and at the server only if we are frozen then.
        hold = round(1000 * (waiter.lock_lifetime + 2 * self.margin))
        return self.scripts.acquire(waiter.conversation_id, waiter.member, hold, **options)

    def _answered(self, waiter: Waiter, answer: list[int], sent_at: float) -> None:
        """Act on acquire's answer: the turn is ours, or we wait for it."""
        if answer[0] < 0 or waiter.request not in self._waiting:
            return  # no ticket, or taken back meanwhile
        waiter.number = answer[1]
        if answer[0] == 1:
            self._serve(waiter, answer[1], answer[2], sent_at + answer[3] / 1000)
        else:
            self._seen = (sent_at, answer[2])
            self.heartbeat.expect(answer[3] / 1000)

    def _serve(self, waiter: Waiter, number: int, fence: int, lease_until: float) -> None:
        """Give a waiter its turn; `lease_until` is when the server lets it lapse."""
        deadline = lease_until - self.margin
        if clock() >= deadline:  # the news is old: ask what is true by now
            return self.heartbeat.expect(0)
        self._waiting.pop(waiter.request, None)
        future = waiter.future
        if future is None or future.done():
            return None  # given up meanwhile; its withdrawal hands the turn on
        grant = Grant(
            waiter.conversation_id,
            number,
            fence,
            deadline,
            waiter.lock_lifetime,
            request=waiter.request,
            member=waiter.member,
        )
        self._held[waiter.request] = grant
        self.heartbeat.expect(None)
        self._guard_until(grant.deadline)
        future.set_result(grant)
        return None

    def withdraw(self, waiter: Waiter) -> None:
        """Take a ticket back, whatever has become of it; never fails, never waits."""
        if not waiter.request:
            return
        self._waiting.pop(waiter.request, None)
        self._held.pop(waiter.request, None)
        if waiter.future is not None and not waiter.future.done():
            waiter.future.cancel()
        if self.link.usable:  # else the ticket was never sent for
            self._post(self.scripts.withdraw(waiter.conversation_id, waiter.member))

    def _post(self, words: tuple[Any, ...], heard: Callable[[Any], None] | None = None) -> None:
        """Send a command nobody waits for."""
        try:
            command = self.link.submit(words)
            command.heard = heard
            command.future.add_done_callback(_log_failure)
        except LockStoreConnectionError as error:
            log.debug("not sent: %s", error)  # closing: the lease or liveness lapses by itself

    # -- turns -------------------------------------------------------------------------------

    async def release(self, grant: Grant) -> None:
        """End a turn; sets `grant.reason` when it turns out that it was lost."""
        self._held.pop(grant.request, None)
        words = self.scripts.release(grant.conversation_id, grant.member, grant.fence)
        if grant.reason is not None:  # lost: the others need not wait for the lease to lapse
            return self._post(words, self._released)
        command = self.link.submit(words, max(0.5, grant.deadline - clock()))
        command.heard = self._released
        try:
            answer = await command.future
        except LockStoreConnectionError as error:
            # The turn was ours to its end; what could not be said, the lapse of the lease says.
            log.warning("%r ends when its lease runs out: %s", grant.conversation_id, error)
            return None
        # A repeated release finds what its first sending did, if the lease still ran.
        if answer == 0 and not (command.repeated and clock() < grant.deadline):
            grant.reason = "it was given to another: its lease ran out or it was broken"
        return None

    def _released(self, answer: int | bytes) -> None:
        if isinstance(answer, bytes):  # the next ticket is ours too: no bell was rung
            self._bell(answer)

    async def raise_fence(self, grant: Grant, floor: int) -> None:
        """Mint a fence above `floor` for a turn we hold. Raises LockLost."""
        # A repeated acquire finds its own turn; `max_waiting=0` keeps it from queueing anew.
        hold = round(1000 * (grant.expires - clock() + 2 * self.margin))
        words = self.scripts.acquire(
            grant.conversation_id, grant.member, hold, max_waiting=0, floor=floor
        )
        command = self.link.submit(words)
        answer = await command.future
        if answer[0] != 1 or answer[1] != grant.number:
            if answer[0] == 1:  # free, and granted anew: not the turn we had
                self._post(self.scripts.withdraw(grant.conversation_id, grant.member))
            self.lost(grant.request, "its lease had run out when its fence was to be raised")
        grant.ensure_held()
        grant.fence = answer[2]

    def lost(self, request: int, reason: str) -> None:
        """Tell the body of a turn that it is over."""
        grant = self._held.pop(request, None)
        if grant is not None:
            grant.lose(reason)

    def _guard_until(self, deadline: float) -> None:
        """See to it that `_watch` runs at this deadline."""
        if self._guard is None or deadline < self._guard_at:
            if self._guard is not None:
                self._guard.cancel()
            self._guard_at = deadline
            self._guard = self.loop.call_later(max(0.0, deadline - clock()), self._watch)

    def _watch(self) -> None:
        """Give up the turns whose deadline has passed; sleep to the next deadline."""
        now = clock()
        self._guard = None
        for grant in [grant for grant in self._held.values() if grant.deadline <= now]:
            self.lost(grant.request, grant.overdue())
        if self._held:
            self._guard_until(min(grant.deadline for grant in self._held.values()))

    # -- bells and heartbeats -------------------------------------------------------------------

    def _push(self, push: Sequence[Any]) -> None:
        if push[0] == b"message":
            self._bell(push[2])

    def _bell(self, text: bytes) -> None:
        """`grant <request> <number> <fence> <lease until>` or `broken <request> <fence>`."""
        kind, *numbers = text.split()
        request = int(numbers[0])
        if kind == b"broken":
            grant = self._held.get(request)
            if grant is not None and grant.fence == int(numbers[1]):
                self.lost(request, "an operator broke the lock")
            return
        waiter = self._waiting.get(request)
        if waiter is not None:
            number, fence, until = map(int, numbers[1:])
            # The server's clock in ours: from before a request was sent, so never too late.
            here, there = self._seen
            self._serve(waiter, number, fence, here + (until - there) / 1000)

    def _reconnected(self) -> None:
        self.heartbeat.expect(0)  # bells rung in between are gone

    def turns(self) -> list[Grant]:
        """The turns held now; the heartbeat thread asks."""
        return list(self._held.values())

    def attended(self) -> list[str]:
        """The conversations in which this process waits; the heartbeat thread asks."""
        waiters = list(self._waiting.values())
        return list({w.conversation_id for w in waiters if w.number >= 0})

    def beaten(
        self, sent_at: float, now: int, lost: list[Grant], seen: list[tuple[str, int, bytes]]
    ) -> None:
        """Act on a heartbeat's answers, on the event loop."""
        for grant in lost:
            if self._held.get(grant.request) is grant:
                self.lost(grant.request, "the lease ran out, or the lock was broken or wiped")
        if now:
            self._seen = (sent_at, now)
        for conversation_id, _, bell in seen:
            if bell:
                _, request, number, *_ = bell.split()
                if int(request) in self._waiting:
                    self._bell(bell)
                elif int(request) not in self._held:  # nobody here wants it (any more)
                    self._post(self.scripts.withdraw(conversation_id, "", int(number)))
        lapsed = {conversation_id for conversation_id, missed, _ in seen if missed}
        for waiter in list(self._waiting.values()) if lapsed else ():
            if waiter.conversation_id in lapsed and waiter.number >= 0:
                self._return(waiter)

    def _return(self, waiter: Waiter) -> None:
        """Put a ticket back at its old number: it may have been skipped, or wiped."""
        command = self.link.submit(self._acquire(waiter, number=waiter.number))
        command.heard = lambda answer: self._answered(waiter, answer, command.sent_at)
        command.future.add_done_callback(_log_failure)

    async def close(self) -> None:
        """Give tickets back, end the turns' bodies, stop the thread, end the connections."""
        for waiter in list(self._waiting.values()):
            self.withdraw(waiter)
        for request in list(self._held):
            grant = self._held[request]
            self._post(self.scripts.release(grant.conversation_id, grant.member, grant.fence))
            self.lost(request, "the lock store has been closed")
        if self._guard is not None:
            self._guard.cancel()
        await self.heartbeat.stop()
        await self.link.close()


def _log_failure(future: asyncio.Future[Any]) -> None:
    """Say so when a command that nobody waits for has failed: what it was to do lapses."""
    if not future.cancelled() and (error := future.exception()) is not None:
        log.warning("a ticket is left to lapse by itself: %s", error)
