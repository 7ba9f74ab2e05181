"""`Handler`: from a message to the bot's replies, by way of the inbox."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from ..aio.running import result
from ..conversations import Conversations
from ..deliveries.destination import Destination
from ..errors import LockStoreConnectionError, TooManyAttempts
from ..inbox.due import When
from ..inbox.listener import Listener
from ..inbox.submission import MessageOutcome, Receipt, Submission
from ..process import clock
from ..tracker.tracker import Tracker
from ..turn import Turn
from . import double_texting
from .bot import Bot, Message
from .bot_runner import BotRunner, RestObject
from .errors import BadRequest, Draining, Failed, RolledBack, Withdrawn
from .jobs import Job, Jobs, Sent
from .operator.failures import Failures
from .operator.meter import Counters
from .outcomes import Outcomes, Report
from .reminders import Reminders
from .serving import BotServing
from .sessions import Sessions
from .settings import Settings

T = TypeVar("T")

#: Seconds before a draining server looks again what became of a message: at first, and at most.
_FIRST_LOOK, _LONGEST_LOOK = 0.02, 0.5
#: Seconds for which it looks when turns have got their time, or are hurried.
_LAST_LOOKS = 3.0


class Handler:
    """Submits messages to the inbox, and serves it: a message is handled if its sender leaves.

    Attributes:
        observers: those of the lock store.
        jobs: the turns that wait or run, and the senders that wait.
        counters: messages so far, by result.
        failures: errors so far.
        sessions: starts sessions of the conversations.
        reminders: schedules the reminders of turns.
    """

    def __init__(self, conversations: Conversations, bot: Bot, settings: Settings) -> None:
        self.conversations = conversations
        self.settings = settings
        self.jobs = Jobs(settings.max_turns, settings.max_duplicates, settings.request_timeout)
        self.counters = Counters()
        self.failures = Failures()
        self.observers = conversations.lock_store.observers
        self.sessions = Sessions(settings, conversations.domain)
        self.reminders = Reminders(conversations, settings, self.sessions.minutes)
        runner = BotRunner(
            conversations, bot, settings, self.sessions, self.counters, self.reminders
        )
        self.serving = BotServing(conversations, runner, self.jobs, settings)
        #: Channel -> where the replies to its messages are sent.
        self.destinations: dict[str, Destination] = {}
        self._outcomes = Outcomes(conversations.lock_store, self.failures, settings.max_attempts)
        #: Whether messages are handled here; else they are left to workers.
        self.turns = True
        self._serves = False

    # -- messages --------------------------------------------------------------------------------

    async def submit(
        self,
        message: Message,
        policy: str | None = None,
        *,
        window: float | None = None,
        listener: Listener | None = None,
        when: When | None = None,
    ) -> Receipt:
        """Take a message: it is handled whatever becomes of its sender, as far as locks are durable.

        Args:
            policy: what it does while another message is being handled; default:
                `Settings.double_texting`.
            window: seconds for which its id and its reply are kept; default: `message_window`.
            listener: gets its replies and its outcome.
            when: when it comes due, if that is later; its id is `when.message_id`.

        Raises BadRequest, QueueFull, LockTimeout (with `reject`), LockStoreConnectionError; Draining,
        where locks are not durable.
        """
        policy = policy or self.settings.double_texting
        self.check_policy(policy)
        if not self.conversations.inbox.durable:
            self.jobs.check_draining()  # it would end with this process
        self.serve()
        settings = self.settings
        lifetime = settings.lock_lifetime or self.conversations.lock_store.lock_lifetime
        submission = Submission(
            message.sender_id,
            message.message_id,
            message.as_text(),
            double_texting.mode(policy),
            settings.message_window if window is None else window,
            0 if policy == "reject" else settings.max_waiting,
            lifetime,
        )
        if when is not None:
            try:
                return await self.conversations.inbox.submit_later(submission, when)
            except ValueError as error:  # too long, or too far ahead
                raise BadRequest(str(error)) from error
        return await self.conversations.inbox.submit(submission, listener)

    async def accept(
        self, message: Message, policy: str | None = None, when: When | None = None
    ) -> Receipt:
        """As `submit`, for a sender that does not wait.

        Raises Draining too.
        """
        async with self._outcomes.reported(message.sender_id, message.message_id) as report:
            self.jobs.check_draining()
            receipt = await self.submit(message, policy, when=when)
            report.duplicate = receipt.known
            return receipt

    async def handle(self, message: Message, policy: str | None = None) -> list[RestObject]:
        """The replies to a message, once they are stored; a duplicate gets the first replies.

        Raises TurnTimeout (the turn goes on), TurnTooSlow, TooManyAttempts, Draining, RolledBack,
        BotError, QueueFull, LockTimeout (with `reject`), and the errors of a turn.
        """
        replies: list[RestObject] = json.loads(await self.handle_json(message, policy))
        return replies

    async def handle_json(self, message: Message, policy: str | None = None) -> str:
        """As `handle`, the JSON of the replies as it is stored."""
        return (await self._handled(message, policy))[0]

    async def handle_and_show(
        self, message: Message, policy: str | None = None
    ) -> tuple[list[RestObject], Tracker | None]:
        """As `handle`, with the tracker after the turn; None for a duplicate."""
        text, known = await self._handled(message, policy)
        replies: list[RestObject] = json.loads(text)
        if known:
            return replies, None
        return replies, await result(self.conversations.tracker_store.retrieve(message.sender_id))

    async def _handled(self, message: Message, policy: str | None) -> tuple[str, bool]:
        """The replies as JSON, and whether the message was known before."""
        async with self._outcomes.reported(message.sender_id, message.message_id) as report:
            with self._sender(message) as sent:
                report.sent, report.job_of = sent, self.jobs.of
                receipt = await self.submit(message, policy, listener=sent.listener)
                sent.number = receipt.number
                outcome = await sent.listener.outcome
            return self._replies(outcome, report, receipt), receipt.known

    async def stream(
        self, message: Message, policy: str | None = None, *, ticket: bool = False
    ) -> AsyncIterator[RestObject]:
        """As `handle`, but yields each reply as soon as the bot has said it; it ends once all are stored.

        Where another replica handles the message a reply can come late, but none is missing. After a
        lost turn that the message survives all replies come again, if they differ.

        Args:
            ticket: yield `{"ticket": number}` first, as soon as the message has its ticket; the
                number is 0 for a duplicate, which needs none.

        Raises as `handle`, at any point: the replies until then may not be stored.
        """
        said: asyncio.Queue[RestObject | None] = asyncio.Queue()
        heard: list[RestObject] = []

        def hear(reply: RestObject, index: int) -> None:
            if index == len(heard):  # else one was missed, or is said again
                heard.append(reply)
                said.put_nowait(reply)

        async with self._outcomes.reported(message.sender_id, message.message_id) as report:
            with self._sender(message) as sent:
                report.sent, report.job_of = sent, self.jobs.of
                sent.listener.on_reply = hear
                receipt = await self.submit(message, policy, listener=sent.listener)
                sent.number = receipt.number
                if ticket:
                    yield {"ticket": 0 if receipt.known else receipt.number}
                sent.listener.outcome.add_done_callback(lambda _: said.put_nowait(None))
                while (reply := await said.get()) is not None:
                    yield reply
                outcome = sent.listener.outcome.result()
            replies = json.loads(self._replies(outcome, report, receipt))
            count = len(heard)
            for reply in replies[count:] if replies[:count] == heard else replies:
                yield reply

    def _replies(self, outcome: MessageOutcome, report: Report, receipt: Receipt) -> str:
        """The replies as JSON.

        Raises RolledBack if the message was rolled back; TooManyAttempts if it is a dead letter; the
        error that it met.
        """
        if outcome.state in ("failed", "dead"):
            failed = Failed(json.loads(outcome.text or "{}"))
            if outcome.state == "dead":
                raise TooManyAttempts(f"a dead letter, which is not handled again: {failed}")
            raise failed
        if outcome.state == "withdrawn":
            if report.sent is not None and report.sent.taken_back:
                raise Draining("this server is being stopped; send the message again")
            raise Withdrawn("the message was withdrawn before its turn")
        if receipt.known:
            report.duplicate = True
            self.counters.duplicates += 1
            self.observers.notify("on_duplicate", report.conversation_id, report.message_id)
        if outcome.text in (None, "", "null"):
            raise RolledBack("a later message took the place of this one")
        return outcome.text

    def _sender(self, message: Message) -> Sent:
        return self.jobs.sender(message.sender_id, message.message_id, message.may_repeat)

    # -- the inbox -------------------------------------------------------------------------------

    def serve(self) -> None:
        """Serve the inbox from now on, if that was not begun."""
        if not self._serves and not self.jobs.draining:
            lifetime = self.settings.lock_lifetime or self.conversations.lock_store.lock_lifetime
            if self.destinations:
                self.conversations.deliver(self.serving, self.destinations)
            room = self.jobs.limit if self.turns else 0
            self.conversations.inbox.serve(self.serving.begin, room, lifetime)
            self._serves = True

    async def drain(self, seconds: float, hurry: asyncio.Event | None = None) -> None:
        """Accept no more messages, and let running turns end; see `Jobs.drain`."""
        self.jobs.draining = True
        durable = self.conversations.inbox.durable
        if self._serves:
            await self.conversations.inbox.drain()
        then = "the message keeps its place, and the same message_id will get the reply"
        unnamed = self.jobs.unnamed if durable else []
        for sent in self.jobs.senders:
            if sent.may_repeat or not durable:
                why = then if durable else "send the message again"
                sent.listener.fail(Draining(f"this server is being stopped; {why}"))
        taken = [self._take_back(sent, seconds, hurry) for sent in unnamed]
        await asyncio.gather(self.jobs.drain(seconds, hurry), *taken)
        await self.serving.close()

    async def _take_back(self, sent: Sent, seconds: float, hurry: asyncio.Event | None) -> None:
        """Withdraw a message that only this server can name: sent again, it would come twice.

        While its turn runs somewhere, wait for the reply. But the turn may put it back, and it may
        be on its way to Redis: so look again until its outcome is there.
        """
        sent.taken_back = True
        pause = _FIRST_LOOK
        end = clock() + seconds + _LAST_LOOKS
        while not sent.listener.told:
            if not sent.number and not self.jobs.waits(sent):
                return  # it was refused
            with suppress(LockStoreConnectionError):  # then it is not known
                found = await self.conversations.inbox.withdraw(
                    sent.conversation_id, sent.message_id
                )
                if found == "withdrawn" or (found == "finished" and not self.jobs.waits(sent)):
                    break  # else the outcome comes, or it is put back, or it is on its way
            if hurry is not None and hurry.is_set():
                end = min(end, clock() + _LAST_LOOKS)
            if clock() > end:
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK)
        sent.listener.fail(Draining("this server is being stopped; send the message again"))

    # -- other turns -------------------------------------------------------------------------------

    async def in_turn(
        self, sender_id: str, body: Callable[[Turn], Awaitable[T]], label: str | None = None
    ) -> T:
        """Call `body` in a turn of the conversation; returns its result once the turn is stored."""
        async with self._outcomes.reported(sender_id, label) as report:
            turn = self.conversations.turn(
                sender_id,
                self.settings.lock_lifetime,
                max_waiting=self.settings.max_waiting,
                label=label,
            )
            job: Job[T] = self.jobs.start(turn, body)
            report.job = job
            return await job.wait(self.settings.request_timeout)

    def check_policy(self, policy: str) -> None:
        """Raise BadRequest if the lock store does not support a policy for double texting."""
        double_texting.check_policy(policy, self.conversations.lock_store)
