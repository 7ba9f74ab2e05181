"""Serving the inbox: attempts at messages, what becomes of those that fail, and their replies."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from typing import Any

from .deliveries.destination import Destination
from .deliveries.sender import Sender
from .deliveries.storage import DeliveryStore
from .errors import (
    ActionServerConnectionError,
    EventBrokerError,
    LockLost,
    LockStoreConnectionError,
    StaleFence,
    TooManyAttempts,
    TrackerStoreConnectionError,
)
from .inbox.inbox import Inbox
from .inbox.served import Served
from .locks.grant import facts
from .locks.retries import report_retry
from .locks.superseded import unless_superseded
from .turn import Turn

log = logging.getLogger("ticketlock.inbox")

#: Errors of services that may be back soon: they say nothing about the message.
UNAVAILABLE = (LockStoreConnectionError, TrackerStoreConnectionError, EventBrokerError)
#: The turn is another's by now, or about to be: the message goes on there.
LOST = (LockLost, StaleFence)
#: Grants without an attempt that did not end in order, before a message is given up.
MAX_UNBEGUN = 10
#: Seconds that an attempt waits at most before it is made again.
_LONGEST_PAUSE = 10.0
#: Characters of the longest mark with a reply; a longer reply is made again if its turn is lost.
_LONGEST_MARK = 60_000
#: The destination of an embedding program's replies.
ON_REPLY = "reply"


class Serving:
    """Handles each message in its turn, and decides what becomes of one that fails.

    A sender that waits for the reply gets the error, and may send the message again. Other
    messages are tried again after a pause, `max_attempts` times; then they are dead letters.

    Args:
        max_attempts: calls of the handler with a message that does not end well.
        retry_time: seconds that the pauses of a message take together.
    """

    def __init__(self, inbox: Inbox, *, max_attempts: int = 5, retry_time: float = 10.0) -> None:
        self.inbox = inbox
        self.max_attempts = max_attempts
        self.retry_time = retry_time
        self.sender: Sender | None = None
        self._destinations: Mapping[str, Destination] = {}

    def deliver(self, store: DeliveryStore, destinations: Mapping[str, Destination]) -> None:
        """Send the replies of turns to destinations from now on, each to that of its message."""
        self._destinations = destinations
        self.sender = Sender(store, destinations)
        self.inbox.tell_of_deliveries(self.sender.due)

    # -- for those who handle ---------------------------------------------------------------------

    def describe(self, error: Exception) -> dict[str, Any]:
        """What a failed message keeps of its error; no text that may hold anything."""
        kind = type(error).__name__
        return {"code": 500, "reason": kind, "message": f"the handler failed: {kind}"}

    def slow(self, turn: Turn, served: Served) -> Exception | None:
        """The error of a turn that outlived its lifetime, which is then the cause of any error."""
        return None

    def stopped(self, served: Served) -> Exception | None:
        """Why this process has stopped the turn, if it has."""
        return None

    async def guarded(
        self,
        turn: Turn,
        served: Served,
        attempt: Callable[[int], Awaitable[None]],
        recovered: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Make an attempt at a message inside its turn, and settle what becomes of it.

        Args:
            attempt: called with the number of attempts before this one.
            recovered: called instead, with the message's mark, if an earlier turn has stored the
                end of the message and was lost behind that.

        Raises what these raise, to end the turn; TooManyAttempts.
        """
        try:
            if (mark := _ended_before(turn, served)) is not None:
                await recovered(mark)
            else:
                await attempt(await self._counted(turn, served))
        except BaseException as error:
            await self.settle(turn, served, error)
            raise

    async def settle(self, turn: Turn, served: Served, error: BaseException) -> None:
        """Decide what becomes of a message whose attempt, or whose claim, has failed."""
        if isinstance(error, asyncio.CancelledError):
            if (stopped := self.stopped(served)) is not None:  # another process takes it
                served.uncounted, served.error = True, stopped
            elif (slow := self.slow(turn, served)) is not None:
                await self._failed(turn, served, slow)
            elif served.grant.reason is not None:
                served.error = LockLost(served.conversation_id, served.grant.reason)
        elif isinstance(error, LOST):
            served.error = error
        elif isinstance(error, UNAVAILABLE) or (
            # An action server may be away as a store may be: the action has certainly not run.
            isinstance(error, ActionServerConnectionError) and not error.sent
        ):
            served.uncounted, served.error = True, error
            if not isinstance(error, LockStoreConnectionError):  # else Redis cannot be asked
                served.awaited = await served.inbox.awaited(served)
                if served.awaited:  # left there, it would come again besides what is sent again
                    served.end("e", json.dumps(self.describe(error)))
            if not served.awaited:
                await asyncio.sleep(self._pause(served))
        elif isinstance(error, Exception):
            await self._failed(turn, served, error)

    async def _counted(self, turn: Turn, served: Served) -> int:
        before = await served.inbox.begun(served)
        unbegun = served.granted - before
        if before >= self.max_attempts or unbegun > MAX_UNBEGUN:
            times = before if before >= self.max_attempts else unbegun
            log.warning(
                "message %r of conversation %r, ticket %d, is given up: the bot was called with it "
                "%d times, and no turn ended",
                served.message_id, served.conversation_id, served.grant.number, times,
                extra=facts(turn.grant, why="TooManyAttempts") | {"message_id": served.message_id},
            )  # fmt: skip
            raise TooManyAttempts(
                f"the bot was called with this message {times} times, and no turn of it ended"
            )
        if before:
            why = "the earlier attempts ended without a result"
            report_retry(turn.grant, served.message_id, before + 1, why)
        return before

    async def _failed(self, turn: Turn, served: Served, error: Exception) -> None:
        """Decide what becomes of a message whose attempt failed."""
        slow = self.slow(turn, served)
        served.error = shown = slow or error
        # It is tried again where its sender is gone.
        served.awaited = await served.inbox.awaited(served)
        dead = isinstance(error, TooManyAttempts)
        last = served.attempts + 1 >= self.max_attempts
        if dead or (last and not served.awaited):
            described = self.describe(shown)
            await served.inbox.bury(served, json.dumps(described))
            if not dead:
                log.warning(
                    "message %r of conversation %r, ticket %d, is a dead letter after %d attempts: "
                    "%s; `ticketlock inbox` lists, resends and drops it",
                    served.message_id, served.conversation_id, served.grant.number,
                    self.max_attempts, described["reason"],
                    extra=facts(turn.grant, why="dead") | {"message_id": served.message_id},
                )  # fmt: skip
        elif served.awaited or not served.durable:
            served.end("e", json.dumps(self.describe(shown)))
        elif slow is None:
            await asyncio.sleep(self._pause(served))

    def _pause(self, served: Served) -> float:
        """Seconds before the next attempt; those of a message together are `retry_time` at most."""
        left = max(1, self.max_attempts - served.attempts)
        return min(_LONGEST_PAUSE, self.retry_time / 2.0**left)

    def send_out(self, served: Served, to: str, replies: list[dict[str, Any]]) -> None:
        """Have replies delivered after the turn, if there is such a destination."""
        if replies and to in self._destinations:
            served.delivery = json.dumps({
                "number": served.grant.number, "fence": served.grant.fence,
                "message_id": served.message_id, "to": to, "replies": replies,
                "at": round(time.time() * 1000),
            })  # fmt: skip

    async def close(self, seconds: float = 10.0) -> None:
        """Send no more; what is not sent waits."""
        if self.sender is not None:
            await self.sender.close(seconds)


#: `async def handle(turn, message)`; it returns the reply, of JSON's types, or None.
Handle = Callable[[Turn, Mapping[str, Any]], Awaitable[Any]]


class HandleServing(Serving):
    """Serves the inbox with a function of the embedding program.

    Args:
        turn_of: makes the turn of a message.
        handle: see `Handle`.
    """

    def __init__(
        self, inbox: Inbox, turn_of: Callable[[Served], Turn], handle: Handle, **options: Any
    ) -> None:
        super().__init__(inbox, **options)
        self._turn_of = turn_of
        self._handle = handle
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, served: Served) -> asyncio.Task[None]:
        """Start the turn of a message."""
        task = asyncio.get_running_loop().create_task(self._serve(served))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, served))
        return task

    def _ended(self, served: Served, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        ours = isinstance(error, (*LOST, *UNAVAILABLE, TooManyAttempts))
        log.log(
            logging.WARNING if ours else logging.ERROR,
            "message %r of conversation %r, ticket %d: attempt %d failed: %s",
            served.message_id, served.conversation_id, served.grant.number, served.attempts + 1,
            f"{type(error).__name__}: {error}" if ours else type(error).__name__,
            exc_info=None if ours else error,
        )  # fmt: skip

    async def _serve(self, served: Served) -> None:
        turn = self._turn_of(served)
        turn.on_no_claim = partial(self.settle, turn, served)
        async with turn:
            await self.guarded(
                turn, served,
                lambda before: self._attempt(turn, served, before),
                lambda mark: self._recovered(turn, served, mark[1]),
            )  # fmt: skip

    async def _attempt(self, turn: Turn, served: Served, before: int) -> None:
        message = {**json.loads(served.text), "message_id": served.message_id}
        reply = "null"

        async def handle() -> None:
            nonlocal reply
            made = self._handle(turn, {**message, "attempt": before + 1})
            if not isawaitable(made):
                kind = type(made).__name__
                raise TypeError(
                    f"the handler is not asynchronous, it returned {kind}: write "
                    "`async def handle(turn, message)`"
                )
            reply = json.dumps(await made)

        if await unless_superseded(turn.grant, handle()) == "rollback":
            turn.discard()
        mark = json.dumps({served.message_id: [served.submitted_at, reply]})
        await turn.commit(mark if len(mark) < _LONGEST_MARK else None)
        await self._recovered(turn, served, reply)

    async def _recovered(self, turn: Turn, served: Served, reply: str) -> None:
        turn.answer(reply)
        content = json.loads(reply)
        listed = isinstance(content, list) and all(isinstance(one, dict) for one in content)
        if content is not None:
            self.send_out(served, ON_REPLY, content if listed else [{"reply": content}])

    async def drain(self) -> None:
        """Wait for the turns that run."""
        if self._tasks:
            await asyncio.wait(list(self._tasks))


def _ended_before(turn: Turn, served: Served) -> Any:
    """What the conversation's mark has of a message whose end an earlier turn has stored; None: none has.

    A mark is an object of messages: id -> when submitted, or a list that begins with that. A turn of
    the embedding program's own may have stored any text: it has ended none of them.
    """
    # Most marks are of other messages, and need not be parsed.
    if not served.durable or str(served.submitted_at) not in (turn.mark or ""):
        return None
    with suppress(ValueError, RecursionError):
        if isinstance(found := json.loads(turn.mark or ""), dict):
            mark = found.get(served.message_id)
            submitted_at = mark[0] if isinstance(mark, list) and mark else mark
            return mark if submitted_at == served.submitted_at else None
    return None
