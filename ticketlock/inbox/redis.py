"""The inbox on Redis: any process with room serves any conversation that has messages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from itertools import takewhile
from typing import Any
from urllib.parse import unquote

from ..errors import LockStoreConnectionError
from ..locks.concurrent.bells import Bell
from ..locks.concurrent.engine import Engine
from ..locks.concurrent.store import ConcurrentRedisLockStore
from ..locks.grant import Grant
from ..locks.incoming import field
from ..locks.lost_turns import GRANTED_ANEW
from ..process import clock
from ..redis.commands import Command, log_failure
from ..redis.scripts import load
from .followed import AWAITED, HEARS, Followed
from .inbox import Start
from .later import Later
from .listener import Listener
from .look import Look
from .mover import Mover
from .saying import Saying, SayingAfar, Unheard
from .scripts import InboxScripts
from .served import Served
from .submission import Submission, Terms
from .submitting import SubmittingInbox

log = logging.getLogger("ticketlock.inbox")

#: Dead letters that are kept of a conversation; the oldest go first.
MOST_LETTERS = 100
#: Seconds for which a place is kept for a turn that Redis may grant in a call.
_PLACE_KEPT = 1.0
#: Seconds for which the durability of Redis is not asked for again.
_DURABILITY = 30.0


class RedisInbox(SubmittingInbox):
    """Messages in the Redis of a lock store; see docs/inbox.md.

    Args:
        store: the lock store, whose connection it uses.

    Attributes:
        running: turns of messages that run here.
    """

    durable = True

    def __init__(self, store: ConcurrentRedisLockStore) -> None:
        self._store = store
        self._cluster = store.settings.deployment_mode == "cluster"
        self._engine: Engine | None = None
        self._start: Start | None = None
        self._room = 0
        self.lifetime = 60.0
        self._stopped = False
        #: Members of turns that were offered to Redis in calls that are not answered, and when.
        self._offered: dict[str, float] = {}
        self.running = 0
        self._durability = ("unknown", 0.0)
        self._served: dict[int, Served] = {}
        self._listed: dict[str, tuple[str, float]] = {}
        self._again: set[str] = set()

    # -- the process's connection -------------------------------------------------------------

    def engine(self) -> Engine:
        """The engine of the lock store. Raises LockStoreConnectionError."""
        engine = self._store.engine()
        if engine is not self._engine:  # the first use, or after a fork, or `close`
            self._engine = engine
            self.running = 0
            self._offered.clear()
            self._served.clear()
            self._listed, self._again, self._unheard = {}, set(), Unheard()
            self.scripts = InboxScripts(engine.scripts, engine.scripts.keys.prefix, self._cluster)
            self.followed = Followed(self, engine)
            self.look = Look(self, engine)
            self.later = Later(engine, self.scripts.index)
            self.mover = Mover(self, self.later)
            engine.inbox = self
        return engine

    def serve(self, start: Start, room: int, lock_lifetime: float) -> None:
        self._start, self._room, self.lifetime = start, room, lock_lifetime
        self._stopped = False
        self.engine()
        self.look.begin()
        self.mover.begin()

    @property
    def serves(self) -> bool:
        """Whether turns begin here, if there is room."""
        return self._start is not None and not self._stopped

    @property
    def room(self) -> int:
        """Turns that may begin here now."""
        # A node that is silent for long keeps no place from the others: see `begin`.
        since = clock() - _PLACE_KEPT
        silent = sum(1 for _ in takewhile(since.__gt__, self._offered.values()))
        return max(0, self._room - self.running - len(self._offered) + silent) if self.serves else 0

    @property
    def full(self) -> bool:
        """Whether nothing more is accepted."""
        return self.look.full

    def offer(self, name: str) -> str:
        if not self.room or self.refuses(name):
            return ""
        engine = self.engine()
        server = engine.member(engine.next_request(), name)
        self._offered[server] = clock()
        return server

    def hold(self, lock_lifetime: float) -> int:
        """Milliseconds after which Redis ends a turn of that many seconds."""
        return self.engine().requests.hold(lock_lifetime)

    # -- turns ---------------------------------------------------------------------------------

    def begin(
        self, name: str, server: str, answer: list[Any], sent_at: float,
        message: Submission | None = None,
    ) -> None:  # fmt: skip
        """Begin the turn that a script has granted, with the answer of `serve`."""
        engine = self.engine()
        _, number, fence, lease, id_, granted, attempts, since, mode, listeners, text, stop = answer
        terms = message or Terms.read(listeners) or Terms(0.0, self.lifetime)
        deadline = min(sent_at + lease / 1000, clock() + engine.longest_lease) - engine.margin
        request = int(server.partition(".")[2].partition("-")[0])
        grant = Grant(
            name, number, fence, deadline, terms.lock_lifetime, request=request,
            member=f"{server}.!{id_.decode()}",
        )  # fmt: skip
        served = Served(
            name, unquote(id_.decode()), text.decode() if message is None else message.text, grant,
            self, mode.decode(), granted=granted, attempts=attempts,
            submitted_for=max(0.0, self.look.server_time() - since) / 1000,
            submitted_at=since, stop=stop.decode() or None, awaited=AWAITED.encode() in listeners,
            heard=HEARS.encode() in listeners and any(
                HEARS in one and not one.startswith(f"{engine.process}.")
                for one in listeners.decode().split(",")
            ),
        )  # fmt: skip
        served.window = terms.window
        if message is not None:
            served.submitted_for = clock() - sent_at
        self._served[request] = served
        self.running += 1
        crowded = self.running > self._room  # the place went to another turn meanwhile
        if engine.old(deadline) or self._start is None or self._stopped or crowded:
            served.uncounted = True  # it goes back to its number
            self.finish(served)
            return
        if served.stop is not None:
            grant.supersede(served.stop)  # type: ignore[arg-type]  # one of the two
        engine.adopt(grant)
        if engine.durable is not None:
            served.proven = engine.durable.serve(grant, engine.lost)
        heard = self.followed.listeners(name, served.message_id)
        context = heard[0].context if heard else copy_context()
        task = context.copy().run(self._start, served)
        task.add_done_callback(lambda _: self._task_ended(served))

    def _task_ended(self, served: Served) -> None:
        if not served.ended:  # it was not even entered
            served.uncounted = True
            self.finish(served)

    async def begun(self, served: Served) -> int:
        """Count an attempt at a message that was granted before; returns those before this one.

        Raises LockLost, if the turn is another's by now.
        """
        if served.granted:
            if not (count := await self.engine().link.call(self.scripts.begin(served))):
                self.engine().lost(served.grant.request, GRANTED_ANEW)
                served.grant.ensure_held()
            served.attempts = count
        return served.attempts

    def saying(self, served: Served, message_id: str) -> Saying:
        # Those of the turn, also if they are closed.
        link, scripts = self.engine().link, self.scripts
        wanted = served.heard and message_id == served.message_id

        def ring(first: int, text: str) -> asyncio.Future[Any]:
            args = scripts.say(served, message_id, first, text)
            try:
                return link.submit(args).future
            except LockStoreConnectionError as error:  # closing; the bot need not know
                failed = asyncio.get_running_loop().create_future()
                failed.set_exception(error)
                return failed

        here = partial(self.followed.listeners, served.conversation_id, message_id)
        return SayingAfar(here, ring, self._unheard, wanted)

    async def carry(self, served: Served, most: int) -> list[tuple[str, str]]:
        engine = self.engine()
        args = self.scripts.carry(served, most, engine.next_request())
        found = await engine.link.call(args)
        messages = []
        for name, number, text in zip(found[::3], found[1::3], found[2::3], strict=True):
            served.carried[unquote(name.decode())] = number
            served.sizes[unquote(name.decode())] = len(text)
            messages.append((unquote(name.decode()), text.decode()))
        return messages

    def finish(self, served: Served) -> asyncio.Future[None]:
        """End a turn with its outcomes, and begin the next one that Redis grants here.

        The future says when it is done, and never fails: `grant.reason` is set if the turn was lost.
        """
        engine, grant = self._engine or self.engine(), served.grant  # also while it is being closed
        done = engine.loop.create_future()
        if served.ended:
            done.set_result(None)
            return done
        served.ended = True
        engine.drop(grant)
        self._served.pop(grant.request, None)
        self.running -= 1
        server = self.offer(grant.conversation_id) if self._goes_on else ""
        outcomes = [(field(name), kind, text) for name, kind, text in served.outcomes]
        hold = engine.requests.hold(self.lifetime)
        args = self.scripts.finish(served, outcomes, server, hold, MOST_LETTERS)
        heard = partial(self._finished, served, server, done)
        try:
            timeout = max(0.5, grant.deadline - clock())
            engine.link.submit(args, timeout, heard, served, lasting=True)
        except LockStoreConnectionError as error:  # closing
            self._offered.pop(server, None)
            engine.left(grant)
            grant.reason = grant.reason or str(error)
            done.set_result(None)
        if grant.reason is not None and not done.done():
            done.set_result(None)
        return done

    @property
    def _goes_on(self) -> bool:
        """Whether the conversation's next message may take the place: not while others wait for it."""
        return self.look.due < self.room

    def _finished(
        self, served: Served, server: str, done: asyncio.Future[None], command: Command, answer: Any
    ) -> bool:
        grant, engine = served.grant, self._engine or self.engine()
        self._offered.pop(server, None)
        engine.left(grant)
        if isinstance(answer, Exception):
            log.warning("cannot finish %r; its lease must end: %s", grant.conversation_id, answer)
        elif answer[0] == 6:
            if not (command.repeated and clock() < grant.deadline):
                grant.reason = grant.reason or GRANTED_ANEW
        else:
            sizes = served.sizes | {served.message_id: len(served.text)}
            broken = {served.message_id} if answer[0] == 5 else set()
            for name in ({name for name, _, _ in served.outcomes} | broken) & sizes.keys():
                self.look.count(grant.conversation_id, -1, -sizes[name])
            if served.delivery:
                self.on_deliveries(grant.conversation_id)
        if not done.done():
            done.set_result(None)
        self.followed.ended(served)
        if not isinstance(answer, Exception):
            if answer[0] == 1:
                name = grant.conversation_id
                self.begin(name, server, answer, command.sent_at)
            elif answer[0] == 4 and len(answer) > 1:
                self.engine().heard(answer[1])
            elif answer[0] == 7:
                self.look.again(grant.conversation_id, 0, "")
        if self.look.due and self.room:
            self.look.now()
        return False

    async def take(self, name: str, mark: str = "") -> None:
        """Look at one conversation, and serve what waits in it; `mark`: it was found with it."""
        self.engine()
        if self.refuses(name):
            return
        server = self.offer(name)
        args = self.scripts.take(name, server, self.hold(self.lifetime), mark)
        await self.offered(server, args, partial(self._taken, name, server, mark), name)

    def _taken(self, name: str, server: str, mark: str, command: Command, answer: Any) -> bool:
        self._offered.pop(server, None)
        if isinstance(answer, Exception):
            return True
        served, unsent, again = answer
        if served[0] == 1:
            self.begin(name, server, served, command.sent_at)
        if unsent:
            self.on_deliveries(name)
        if self._cluster:
            self.look.again(name, again, mark)
        return True

    async def durability(self) -> str:
        if self._durability[1] < clock():
            name = f"{self.engine().scripts.keys.prefix}durability"
            source = load("durability").source
            found: bytes = await self.engine().link.call(("EVAL", source, 1, name))
            self._durability = found.decode(), clock() + _DURABILITY
        return self._durability[0]

    def connected(self) -> InboxScripts:
        self.engine()
        return self.scripts

    async def call(self, args: tuple[Any, ...]) -> Any:
        return await self.engine().link.call(args)

    @property
    def unfinished(self) -> int:
        return self.look.messages if self._engine is not None else 0

    def counted(self, conversation_id: str, messages: int, size: int) -> None:
        self.look.count(conversation_id, messages, size)

    @contextmanager
    def listening(
        self, conversation_id: str, message_id: str, listener: Listener
    ) -> Iterator[None]:
        self.engine()
        followed = self.followed
        followed.follow(conversation_id, message_id, listener)
        try:
            yield
        finally:
            followed.drop(conversation_id, message_id, listener)

    # -- bells ---------------------------------------------------------------------------------

    def vacant(self, holder: bytes) -> None:
        """A bell says that a conversation is left to those who serve.

        One of a version before 0.5.0 does not say which: it may be any that is waited for here.
        """
        if holder.startswith(b"grant "):
            for name in self.followed.conversations():
                self.look.at(name)
        elif self.room:
            self.look.at(self.engine().scripts.keys.conversation(holder))
        elif self._start is not None:  # looked for as soon as a turn here has ended
            self.look.due = max(1, self.look.due)

    def answered(self, request: int) -> bool:
        """A bell says that a message that was submitted here is finished."""
        return self.followed.ring(request)

    def said(self, bell: Bell) -> None:
        """A bell has what the turn of a message says that is followed here."""
        self.followed.said(bell)

    def has(self, request: int) -> bool:
        """Whether a turn of a message has that request, or may have it by now."""
        return request in self._served or any(f".{request}-" in one for one in self._offered)

    def held(self) -> set[tuple[str, str]]:
        """The messages whose turns run here and are not lost: (conversation, message id)."""
        return {
            (served.conversation_id, served.message_id)
            for served in self._served.values()
            if served.grant.reason is None
        }

    def give_back(self, grant: Grant) -> None:
        """Put a turn's message back, because the store is being closed."""
        served = self._served.get(grant.request)
        if served is not None:
            served.uncounted = True
            self.finish(served).add_done_callback(log_failure)

    # -- the end ---------------------------------------------------------------------------------

    async def drain(self) -> None:
        self._stopped = True  # the look goes on without room: it counts
        if self._engine is not None:
            await self.mover.stop()

    async def close(self) -> None:
        await self.drain()
        if self._engine is not None:
            await self.look.stop()
            self.followed.close()
