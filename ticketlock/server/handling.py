"""`Handler`: from a message to the bot's replies, in a turn of the conversation."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from ..aio.running import result
from ..conversations import Conversations
from ..errors import DuplicateMessage, InvalidEvent, TicketLockError
from ..locks.grant import facts
from ..locks.incoming import Incoming, Supersede
from ..tracker.tracker import Tracker
from ..turn import Turn, tell_retry
from .attempts import Attempts
from .bot import Bot, Message
from .errors import (
    CONTENDED,
    BadRequest,
    BotError,
    RolledBack,
    TooManyAttempts,
    add_details,
    classify,
)
from .jobs import Job, Jobs, overdue
from .operator.failures import Failures
from .operator.meter import Counters
from .outcomes import Telling
from .replies import handled_at, replies_after, reply_event, rest_objects
from .sessions import Sessions, handled_before
from .settings import Settings
from .situation import situation
from .superseding import unless_superseded

log = logging.getLogger("ticketlock.server")

T = TypeVar("T")

#: A reply in the form of the REST channel.
RestObject = dict[str, Any]
#: Is given each reply as soon as the bot has said it.
Tell = Callable[[RestObject], object]
#: All replies to a message; None of one that was rolled back.
Replies = list[RestObject] | None


class Handler:
    """Calls the bot once with each message, in its turn, even if its client has disconnected.

    Attributes:
        observers: the lock store's.
        jobs: what is being done.
        counters: what has been done.
        failures: what went wrong.
    """

    def __init__(self, conversations: Conversations, bot: Bot, settings: Settings) -> None:
        self.conversations = conversations
        self.settings = settings
        self.jobs = Jobs(settings.max_turns, settings.max_duplicates)
        self.counters = Counters()
        self.failures = Failures()
        self.observers = conversations.lock_store.observers
        self.sessions = Sessions(settings)
        self._attempts = Attempts(conversations.lock_store, settings.message_window)
        self._bot = bot

    async def handle(self, message: Message, policy: str | None = None) -> list[RestObject]:
        """The replies to a message, once they are stored; the first ones, to a duplicate.

        Args:
            policy: what it does while another message is being handled, see
                `Settings.double_texting`, which is the default.

        Raises TurnTimeout (the turn goes on), TurnTooSlow, TooManyAttempts, Draining, RolledBack,
        BotError, QueueFull, LockTimeout (of `reject`), and what a turn raises.
        """
        return (await self.handle_and_show(message, policy))[0]

    async def handle_and_show(
        self, message: Message, policy: str | None = None
    ) -> tuple[list[RestObject], Tracker | None]:
        """As `handle`, with the tracker after the turn; None for a duplicate."""
        try:
            async with self._explained(message.sender_id, message.message_id) as jobs:
                job = self._start(message, policy, _ignore)
                jobs.append(job)
                return _kept(await job.wait(self.settings.request_timeout)), job.tracker
        except DuplicateMessage as duplicate:
            self.counters.duplicates += 1
            return _kept(json.loads(duplicate.reply)), None

    async def stream(
        self, message: Message, policy: str | None = None, *, ticket: bool = False
    ) -> AsyncIterator[RestObject]:
        """The same replies, each as soon as the bot has yielded it; it ends when all are stored.

        Args:
            ticket: give `{"ticket": number}` before them, as soon as the message has its place
                among those of its conversation; 0 of a duplicate, which needs none.

        Raises as `handle`, at any point: what has been given by then may not be stored.
        """
        replies: asyncio.Queue[RestObject | None] = asyncio.Queue()

        def queued(number: int) -> None:
            replies.put_nowait({"ticket": number})

        seconds = self.settings.request_timeout
        try:
            async with self._explained(message.sender_id, message.message_id) as jobs:
                job = self._start(message, policy, replies.put_nowait, queued if ticket else None)
                jobs.append(job)
                job.task.add_done_callback(lambda _: replies.put_nowait(None))
                timer = asyncio.get_running_loop().call_later(seconds, replies.put_nowait, None)
                try:
                    while (reply := await replies.get()) is not None:
                        yield reply
                finally:
                    timer.cancel()
                if not job.task.done():
                    raise overdue(seconds)
                _kept(job.result())
        except DuplicateMessage as duplicate:
            self.counters.duplicates += 1
            for reply in _kept(json.loads(duplicate.reply)):
                yield reply

    async def in_turn(
        self, sender_id: str, body: Callable[[Turn], Awaitable[T]], label: str | None = None
    ) -> T:
        """What `body` returns in a turn of the conversation, once it is stored."""
        async with self._explained(sender_id, label) as jobs:
            job = self.jobs.start(self._turn(sender_id, label, None), body)
            jobs.append(job)
            return await job.wait(self.settings.request_timeout)

    @asynccontextmanager
    async def _explained(
        self, sender_id: str, message_id: str | None
    ) -> AsyncIterator[list[Job[Any]]]:
        """Give an error that comes out the details of its answer, and tell the observers what
        the answer is; the block appends its job."""
        jobs: list[Job[Any]] = []
        tell = Telling(self.observers, sender_id, message_id, jobs)
        try:
            yield jobs
            tell(200, "ok")
        except DuplicateMessage:
            tell(200, "duplicate")
            raise
        except (asyncio.CancelledError, GeneratorExit):
            tell(499, "ClientGone")
            raise
        except Exception as error:
            if not (jobs and jobs[0].task.done()):  # else it is counted with the turn
                self.failures.note(error, sender_id)
            if classify(error)[0] in CONTENDED:
                job = jobs[0] if jobs else None
                turn = job.turn if job is not None else None
                store = self.conversations.lock_store
                found = await situation(store, sender_id, turn, error)
                counted = {"attempts": job.attempts} if job is not None and job.attempts else {}
                limit = {"max_attempts": self.settings.max_attempts} if counted else {}
                add_details(error, {**found.as_dict(), **counted, **limit})
            tell.refused(error)
            raise

    def _start(
        self,
        message: Message,
        policy: str | None,
        tell: Tell,
        queued: Callable[[int], object] | None = None,
    ) -> Job[Replies]:
        policy = policy or self.settings.double_texting
        self.check_policy(policy)
        incoming = Incoming(
            message.message_id,
            self.settings.message_window,
            text=message.as_text() if policy == "coalesce" else None,
            supersede=policy if policy in ("interrupt", "rollback") else None,  # type: ignore[arg-type]  # checked
        )
        # With `reject` it takes no place in the queue: it is served at once, or not at all.
        wait_timeout = 0.0 if policy == "reject" else None
        turn = self._turn(message.sender_id, None, wait_timeout, incoming)
        together = policy == "coalesce"
        same = (message.sender_id, message.message_id)
        job: Job[Replies] = self.jobs.start(
            turn, lambda turn: self._answer(job, message, together, tell), queued, same
        )
        return job

    def check_policy(self, policy: str) -> None:
        """Raise BadRequest for a policy that the lock store does not support."""
        store = self.conversations.lock_store
        if policy not in ("enqueue", "reject") and not store.keeps_messages:
            raise BadRequest(
                f"double_texting: {type(store).__name__} supports only enqueue and "
                "reject; use in_memory or concurrent_redis for the others"
            )

    def _turn(
        self,
        sender_id: str,
        label: str | None,
        wait_timeout: float | None,
        incoming: Incoming | None = None,
    ) -> Turn:
        return self.conversations.turn(
            sender_id,
            self.settings.lock_lifetime,
            wait_timeout=wait_timeout,
            max_waiting=self.settings.max_waiting,
            label=label,
            incoming=incoming,
        )

    async def _answer(
        self, job: Job[Replies], message: Message, together: bool, tell: Tell
    ) -> Replies:
        """The replies to a message in its turn: those of the bot, or those there are already.

        Of messages that are handled together the last one has the replies, as in the history.
        """
        turn = job.turn
        before = handled_before(turn.tracker)
        messages = [message, *(await self._carried(turn) if together else ())]
        since = time.time() - self.settings.message_window
        fresh = [m for m in messages if not self._handled(turn, before, m, since)]
        self.counters.duplicates += len(messages) - len(fresh)
        for again in messages if len(fresh) < len(messages) else ():
            if again not in fresh:
                self.observers.tell("on_duplicate", again.sender_id, again.message_id)
        if fresh:
            fresh, given_up = await self._counted(job, fresh)
            messages = [m for m in messages if m.message_id not in given_up]
        if fresh:
            told = tell if fresh[-1].message_id == message.message_id else _ignore
            if await self._run_bot(turn, fresh, told) == "rollback":
                turn.discard()
                for one in fresh:
                    turn.answer("null", one.message_id)
                return None
            self.counters.handled += len(fresh)
        replies = {m.message_id: await self._replies(turn, before, m) for m in messages}
        for message_id, said in replies.items():
            turn.answer(json.dumps(said), message_id)
        if message.message_id not in {m.message_id for m in fresh}:
            for reply in replies[message.message_id]:
                tell(reply)
        return replies[message.message_id]

    async def _counted(
        self, job: Job[Replies], messages: Sequence[Message]
    ) -> tuple[list[Message], set[str]]:
        """The messages that the bot may be given, with their attempts; and the ids of the others.

        The first one is the turn's own: without it there is nothing to do here, and the others
        come back at their places. Raises TooManyAttempts.
        """
        kept, given_up = [], set()
        for message in messages:
            attempt = 1
            if message.may_repeat:
                attempt = await self._attempts.count(message.sender_id, message.message_id)
                job.attempts = max(job.attempts, attempt)
            grant, message_id = job.turn.grant, message.message_id
            if attempt <= self.settings.max_attempts:
                if attempt > 1:
                    why = "no earlier turn of the message has ended"
                    tell_retry(grant, message_id, attempt, why)
                kept.append(replace(message, attempt=attempt))
                continue
            given_up.add(message_id)
            log.warning(
                "message %r of conversation %r, ticket %d, is given up: the bot was called with it "
                "%d times, and no turn ended",
                message_id, message.sender_id, grant.number, self.settings.max_attempts,
                extra=facts(grant, why="TooManyAttempts") | {"message_id": message_id},
            )  # fmt: skip
            if message.message_id == job.turn.lock.waiter.label:
                raise TooManyAttempts(
                    f"the bot was called with this message {self.settings.max_attempts} times, "
                    "and no turn of it ended"
                )
        return kept, given_up

    async def _carried(self, turn: Turn) -> list[Message]:
        """The messages that wait behind the turn to be handled in it."""
        found = await turn.collect(self.settings.max_waiting)
        return [Message.from_text(text, turn.sender_id, name) for name, text in found]

    @staticmethod
    def _handled(turn: Turn, before: Mapping[str, float], message: Message, since: float) -> bool:
        """Whether the message has been handled since then; `before`: those of earlier sessions."""
        there = handled_at(turn.tracker.events, message.message_id, since) is not None
        return there or before.get(message.message_id, -1.0) >= since

    async def _replies(
        self, turn: Turn, before: Mapping[str, float], message: Message
    ) -> list[RestObject]:
        events = turn.tracker.events
        place = handled_at(events, message.message_id)
        if place is None and message.message_id in before:
            store = self.conversations.tracker_store
            full = await result(store.retrieve_full_tracker(message.sender_id))
            events = full.events if full is not None else []
            place = handled_at(events, message.message_id)
        return [] if place is None else replies_after(events, place, message.sender_id)

    async def _run_bot(
        self, turn: Turn, messages: Sequence[Message], tell: Tell
    ) -> Supersede | None:
        """Let the bot answer, and write its turn; how it was asked to stop, if it was.

        Raises BotError for what is the bot's fault.
        """
        messages, stopped = self.sessions.add(turn, messages), None
        try:
            if messages:
                work = self._bot_says(turn, Message.joined(messages), tell)
                stopped = await unless_superseded(turn.grant, work)
            if stopped != "rollback":
                await turn.commit()
            return stopped
        except InvalidEvent as error:  # the messages themselves were checked before
            raise BotError(f"the bot's turn cannot be stored: {error}") from error
        except TicketLockError:
            raise
        except Exception as error:
            log.exception(
                "the bot failed in conversation %r, ticket %d", turn.sender_id, turn.grant.number,
                extra=facts(turn.grant, why=type(error).__name__),
            )  # fmt: skip
            # Its text may hold anything, and the sender may be anybody.
            raise BotError(f"the bot failed: {type(error).__name__}") from error

    async def _bot_says(self, turn: Turn, message: Message, tell: Tell) -> None:
        told = len(turn.tracker.events)
        async with aclosing(self._bot(turn, message)) as replies:  # type: ignore[type-var]  # a generator
            async for reply in replies:
                turn.add(reply_event(reply))
                told = self._tell(turn, told, tell)
        self._tell(turn, told, tell)

    @staticmethod
    def _tell(turn: Turn, told: int, tell: Tell) -> int:
        """Give out what the bot has said since; how many events there are by now."""
        events = turn.tracker.events
        for event in events[told:]:
            for reply in rest_objects(event, turn.sender_id):
                tell(reply)
        return len(events)


def _ignore(reply: RestObject) -> None:
    """For who waits for all replies."""


def _kept(replies: Replies) -> list[RestObject]:
    """Raise RolledBack where nothing of the message was kept."""
    if replies is None:
        raise RolledBack("a later message took the place of this one")
    return replies
