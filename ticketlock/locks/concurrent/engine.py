"""What one process has on one Redis: its link, its waiting tickets, its turns.

A ticket waits in `_waiting` until a bell, a heartbeat or an answer says that it is served;
then its turn is in `_held` until it is released or lost. Nothing here polls: the heartbeat
thread asks for the truth once a second, for all tickets of the process in one call.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any

from ... import process
from ...errors import CLOSED, LockStoreConnectionError, QueueFull
from ...process import clock
from ...redis.commands import Command, log_failure
from ...redis.durability import Durability
from ...redis.links import open_link
from ...redis.rights import Rights
from ...redis.settings import RedisSettings
from ..deadlines import DeadlineWatch
from ..grant import UNOBSERVED, Grant
from ..incoming import Supersede
from ..lost_turns import GRANTED_ANEW, NOT_FOUND
from ..waiter import Waiter
from .bells import read
from .duplicates import Duplicates
from .durable import Durable
from .hearing import Hearing, MessageTurns
from .heartbeat import Heartbeat, Snapshot
from .replies import Replies
from .requests import Requests
from .scripts import Scripts, Timing

log = logging.getLogger("ticketlock.lock")

#: Numbers by which scripts and bells name what this process has; they never come again, for what
#: an engine had can outlive it: a handler leaves late, after `close` and reuse.
_requests = count(1)


class Engine(Hearing):
    """The state of a process's use of a `ConcurrentRedisLockStore`, bound to one event loop."""

    def __init__(self, settings: RedisSettings, timing: Timing, durability: Durability) -> None:
        self.pid = process.pid
        self.observers = UNOBSERVED
        self.loop = asyncio.get_running_loop()
        self.process = secrets.token_hex(8)
        self._secret = secrets.token_hex(8)
        self._key = self._secret.encode()
        where = process.place().replace(" ", "_").replace(",", "_")
        #: Seconds by which we give a turn up before the server does.
        self.margin = min(timing.lease / 8, 500) / 1000
        #: Seconds that no lease of ours is longer than.
        self.longest_lease = timing.lease / 1000
        self.inbox: MessageTurns | None = None
        self.scripts = Scripts(settings, timing, self.process, where)
        self.requests = Requests(self.scripts, self.margin)
        keys = self.scripts.keys
        self._inbox_bells = keys.inbox_bell.encode(), keys.inbox_bells.encode()
        options: dict[str, Any] = {
            "prologue": self.scripts.prologue(),
            "on_push": self._push,
            "on_connect": self._reconnected,
            "wanted": lambda: bool(self._waiting),
            "packed": self.requests.packed,
            "together": self.scripts.together,
            "timeout": settings.socket_timeout,
        }
        self.link = open_link(
            settings,
            rights=Rights(settings, self.scripts.rights, durability),
            channel=partial(self.scripts.keys.bell_of, self.process),
            key=self.scripts.keys.base,
            **options,
        )
        #: What waits until turns and messages are durable, if that is asked for.
        self.durable = Durable.of(self, settings, durability)
        self.heartbeat = Heartbeat(self, settings, self.scripts, timing)
        self.duplicates, self.replies = Duplicates(self), Replies(self)
        self._hinted = 0.0
        #: Requests whose truth is asked for because of a bell that need not be true.
        self._asked: set[int] = set()
        self._on_answer, self._on_release = self._answered, self._released
        self._waiting: dict[int, Waiter] = {}
        self._held: dict[int, Grant] = {}
        self._leaving: set[int] = set()  # requests of turns whose end is on its way
        self._deadlines = DeadlineWatch(self._held.values, self._overdue)
        #: conversation -> a moment of `clock()` that was not after this server time (ms).
        self._seen: dict[str, tuple[float, int]] = {}
        self.closed = False
        self._closing: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    # -- tickets ------------------------------------------------------------------------------

    def send_for(self, waiter: Waiter) -> None:
        """Send for a ticket; the waiter's future gets the grant, `issued` the number."""
        if self.durable is not None:
            self.durable.check(waiter.conversation_id)
        request = waiter.request = next(_requests)
        waiter.member = self.member(request, waiter.conversation_id) + waiter.suffix
        waiter.future = self.loop.create_future()
        # Before sending: a bell may come in the same packet as the answer.
        self._waiting[request] = waiter
        self.heartbeat.expect(None)
        # Heard at once, not when its task comes to run: a bell may be right behind the answer.
        answered = waiter.issued or waiter.future
        if waiter.incoming is None:
            self.link.join(waiter, answered, self._on_answer)
        else:
            args = self.requests.alone(waiter)
            self.link.submit(args, None, self._on_answer, waiter).future = answered

    def next_request(self) -> int:
        """A number by which bells name a waiter of this process."""
        return next(_requests)

    def member(self, request: int, conversation_id: str) -> str:
        """The name of a request in scripts, without a label."""
        member = f"{self.process}.{request}-{self._secret}"
        if self.link.sharded:
            tag = self.link.tag_near(conversation_id)
            return f"{member}~{tag}" if tag else member
        return member

    def _answered(self, command: Command, answer: list[Any] | Exception) -> bool:
        """Act on acquire's answer: the turn is ours, or we wait for it, or need none."""
        waiter: Waiter = command.subject
        self._asked.discard(waiter.request)
        if isinstance(answer, Exception):
            return True
        kind = answer[0]
        if waiter.request not in self._waiting:
            pass  # taken back meanwhile
        elif kind == 1:
            self._serve(waiter, answer[1], answer[2], command.sent_at + answer[3] / 1000)
        elif kind == 0:
            if waiter.number <= 0:  # else it has come back, and others may be behind it
                waiter.ahead = answer[4]
            waiter.number = answer[1]
            self._seen[waiter.conversation_id] = (command.sent_at, answer[2])
            self.heartbeat.expect(answer[3] / 1000)
            self._supersede(waiter)
        elif kind == 2:
            self.duplicates.follow(waiter, *answer[1:])
        elif not command.future.done():
            command.future.set_exception(QueueFull(waiter.conversation_id, answer[1]))
        waiter.tell_number()
        return False

    def _supersede(self, waiter: Waiter) -> None:
        """Ask the turns before a waiter to stop, if its message says so."""
        mode = waiter.incoming and waiter.incoming.supersede
        if mode:
            self.post(self.scripts.supersede(waiter.conversation_id, waiter.member, mode))

    def _serve(self, waiter: Waiter, number: int, fence: int, lease_until: float) -> None:
        """Give a waiter its turn; `lease_until` is when the server lets it lapse."""
        waiter.number = number
        waiter.tell_number()
        # However the server's clock went: no lease is longer than a lease from now.
        deadline = min(lease_until, clock() + self.longest_lease) - self.margin
        if self.old(deadline):  # ask what is true by now
            return self.heartbeat.expect(0)
        self._waiting.pop(waiter.request, None)
        future = waiter.future
        if future is None or future.done():
            return None  # given up meanwhile; its withdrawal hands the turn on
        grant = Grant(
            waiter.conversation_id, number, fence, deadline, waiter.lock_lifetime,
            request=waiter.request, member=waiter.member,
        )  # fmt: skip
        self.adopt(grant)
        if self.durable is None:
            future.set_result(grant)
        else:
            self.durable.give(waiter, grant, self._gone)
        return None

    def _gone(self, waiter: Waiter) -> None:
        """A turn was lost before it began, as by a failover: its ticket waits again."""
        self._held.pop(waiter.request, None)
        if self.closed:
            self.withdraw(waiter, LockStoreConnectionError(CLOSED))
        else:
            self.wait_again(waiter)

    def old(self, deadline: float) -> bool:
        """Whether a grant was read so late that its turn ends before a renewal is certain."""
        return clock() >= deadline - self.margin / 2

    def adopt(self, grant: Grant) -> None:
        """Renew a turn from now on, and tell its body when it is lost."""
        self._held[grant.request] = grant
        # What was read late may end before the next beat.
        self.heartbeat.expect((grant.lease_until - clock()) / 2)
        self._deadlines.watch(grant)

    def drop(self, grant: Grant) -> None:
        """Renew a turn no more: its end is on its way, until `left`."""
        self._held.pop(grant.request, None)
        self._leaving.add(grant.request)

    def left(self, grant: Grant) -> None:
        """The end of a turn was answered, or is given up."""
        self._leaving.discard(grant.request)

    def withdraw(self, waiter: Waiter, error: Exception | None = None) -> None:
        """Take a ticket back, whatever has become of it; never fails, never waits.

        Args:
            error: raised in the task that still waits for the turn; default: a cancellation.
        """
        if not waiter.request:
            return
        self._waiting.pop(waiter.request, None)
        self._held.pop(waiter.request, None)
        self.duplicates.forget(waiter)
        waiter.give_up(error)
        if self.link.usable:  # else the ticket was never sent for
            self.post(self.scripts.withdraw(waiter.conversation_id, waiter.member))

    def post(self, args: tuple[Any, ...]) -> asyncio.Future[Any] | None:
        """Send a command whose answer is not waited for; None: it cannot be sent."""
        try:
            future = self.link.submit(args, lasting=True).future
        except LockStoreConnectionError as error:
            log.debug("not sent: %s", error)  # closing: the lease or liveness lapses by itself
            return None
        future.add_done_callback(log_failure)
        return future

    # -- turns -------------------------------------------------------------------------------

    def release(self, grant: Grant) -> asyncio.Future[None]:
        """End a turn. The future never fails: `grant.reason` is set when the turn was lost."""
        self.drop(grant)
        future = self.loop.create_future()
        try:
            timeout = max(0.5, grant.deadline - clock())
            if (args := self.replies.with_release(grant)) is None:
                self.link.join(grant, future, self._on_release, timeout, lasting=True)
            else:
                released = self.link.submit(args, timeout, self._on_release, grant, lasting=True)
                future = released.future
        except LockStoreConnectionError as error:  # closing
            self.left(grant)
            grant.reason = grant.reason or str(error)
            future.set_result(None)
        if grant.reason is not None:
            # It was lost: the others need not wait for its lease to lapse, and we need not either.
            future = self.loop.create_future()
            future.set_result(None)
        return future

    def _released(self, command: Command, answer: int | bytes | Exception) -> bool:
        grant: Grant = command.subject
        self.left(grant)
        if isinstance(answer, Exception):
            # The turn was ours to its end; what could not be said, the lapse of the lease says.
            log.warning("cannot release %r; its lease must end: %s", grant.conversation_id, answer)
        elif isinstance(answer, bytes):  # the next ticket is ours too: no bell was rung
            self._heard(answer, None)
        # A repeated release finds what its first sending did, if the lease still ran.
        elif answer == 0 and not (command.repeated and clock() < grant.deadline):
            grant.reason = grant.reason or GRANTED_ANEW
        if not command.future.done():
            command.future.set_result(None)
        return False

    def lost(self, request: int, reason: str) -> None:
        """Tell the body of a turn that it is over."""
        grant = self._held.pop(request, None)
        if grant is not None:
            grant.lose(reason)

    def _overdue(self, grant: Grant) -> None:
        self.lost(grant.request, grant.overdue())

    # -- messages ------------------------------------------------------------------------------

    def wait_no_more(self, waiter: Waiter) -> None:
        """Take a waiter out of those that wait for a turn."""
        self._waiting.pop(waiter.request, None)

    def wait_again(self, waiter: Waiter) -> None:
        """Give a waiter a ticket because no other ticket has its message: its old one, if it had one."""
        self._waiting[waiter.request] = waiter
        self._return(waiter)

    # -- heartbeats ----------------------------------------------------------------------------

    def turns(self) -> list[Grant]:
        """The turns held now; the heartbeat thread asks."""
        return list(self._held.values())

    def attended(self) -> list[tuple[str, str]]:
        """The conversations in which this process waits, each with the member of its lowest
        ticket there; the heartbeat thread asks.

        A ticket whose answer is not read yet counts too: while the loop is blocked, its turn is
        kept for us.
        """
        lowest: dict[str, Waiter] = {}
        for waiter in list(self._waiting.values()):
            known = lowest.setdefault(waiter.conversation_id, waiter)
            if waiter.place < known.place:
                lowest[waiter.conversation_id] = waiter
        return [(conversation_id, waiter.member) for conversation_id, waiter in lowest.items()]

    def on_heartbeat(
        self,
        lost: list[tuple[Grant, int | None]],
        seen: list[Snapshot],
        superseded: list[tuple[Grant, Supersede]],
    ) -> None:
        """Act on a heartbeat's answers, on the event loop.

        Args:
            lost: turns that were not there, each with the fence that was asked for; None: any.
        """
        for grant, fence in lost:
            # Its fence may have been raised since, or be about to.
            current = fence is None or (fence == grant.fence and not grant.raising)
            if current and self._held.get(grant.request) is grant:
                self.lost(grant.request, NOT_FOUND)
        for grant, mode in superseded:
            if grant.superseded is None:  # its bell was lost
                grant.supersede(mode)
        waited = {waiter.conversation_id for waiter in self._waiting.values()}
        self._seen = {name: pair for name, pair in self._seen.items() if name in waited}
        for row in seen:
            self._seen[row.conversation_id] = (row.sent_at, row.now)
            if row.bell and (bell := read(row.bell, None)) is not None:
                if bell.request in self._waiting:
                    self._granted(self._waiting[bell.request], bell)
                elif not self._has(bell.request):  # it was given up meanwhile
                    self.post(self.scripts.break_turn(row.conversation_id, bell.fence))
        missing = {row.conversation_id for row in seen if row.missing}
        for waiter in list(self._waiting.values()) if missing else ():
            if waiter.conversation_id in missing and waiter.number >= 0:
                self.observers.notify("on_skipped", waiter.conversation_id, waiter.number)
                self._return(waiter)

    def _has(self, request: int) -> bool:
        """Whether a turn is ours, or its end is on its way: nothing must overtake that."""
        ours = request in self._held or request in self._leaving
        return ours or (self.inbox is not None and self.inbox.has(request))

    def _return(self, waiter: Waiter) -> None:
        """Put a ticket back at its old number: it may have been skipped, or wiped."""
        args = self.requests.acquire(waiter, number=waiter.number)
        command = self.link.submit(args, None, self._on_answer, waiter)
        command.future.add_done_callback(log_failure)

    def abandon(self) -> None:
        """Close what a store has left that was dropped; called on any thread, never waits."""
        self.heartbeat.abandon()
        if self.pid == process.pid and not self.loop.is_closed():
            with suppress(RuntimeError):  # closed in this moment, and with it its connections
                self.loop.call_soon_threadsafe(self._abandoned)

    def _abandoned(self) -> None:
        if not self.closed:
            self._closing = self.loop.create_task(self.close())

    async def close(self) -> None:
        """Give tickets back, end the turns' bodies, stop the thread, end the connections."""
        self.closed = True
        if self.durable is not None:
            self.durable.close()
        for waiter in [*self._waiting.values(), *self.duplicates.waiters()]:
            error = LockStoreConnectionError(CLOSED)
            self.withdraw(waiter, error)
        for request in list(self._held):
            grant = self._held[request]
            if self.inbox is not None and self.inbox.has(request):
                self.inbox.give_back(grant)
            else:
                self.post(self.replies.with_release(grant) or self.requests.alone(grant))
            self.lost(request, CLOSED)
        self._deadlines.stop()
        # To its end, though we are cancelled: by our caller, or by the loss of its own turn.
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        await self.heartbeat.stop()
        await self.link.close()
