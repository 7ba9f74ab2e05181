"""Turns and messages that count only when they are durable; see docs/operations/durability.md."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from ...errors import CLOSED, LockStoreConnectionError, NotDurable
from ...observers import Observers
from ...redis.cluster import ClusterLink
from ...redis.confirmers import Confirmers
from ...redis.confirming import Proof, Verdict
from ...redis.durability import Durability
from ...redis.link import Link
from ...redis.settings import RedisSettings
from ..grant import Grant
from ..lost_turns import NOT_FOUND
from ..waiter import Waiter
from .scripts import Scripts


class Granting(Protocol):
    """What is used of the engine."""

    scripts: Scripts
    link: Link | ClusterLink
    observers: Observers


class Durable:
    """Waits until what this process was granted, or has accepted, is durable.

    A turn that another process has handed on is no exception: what is confirmed is that Redis has
    the turn, and not that this process has written it.
    """

    def __init__(self, engine: Granting, settings: RedisSettings, asked: Durability) -> None:
        self._engine = engine
        self._asked = asked
        self._keys = engine.scripts.keys
        self._confirmers = Confirmers(
            settings, asked, self._keys.prefix, engine.link, self._changed
        )

    @classmethod
    def of(cls, engine: Granting, settings: RedisSettings, asked: Durability) -> Durable | None:
        """None if there is nothing to wait for."""
        return cls(engine, settings, asked) if asked.waits else None

    # -- what is not durable in time -------------------------------------------------------------

    @property
    def problems(self) -> dict[str, str]:
        """Server -> why what is written there is not durable in time."""
        return self._confirmers.problems

    def _changed(self, place: str, why: str) -> None:
        self._engine.observers.notify("on_durability", place, why)

    def check(self, conversation_id: str) -> None:
        """Raise NotDurable if nothing is granted to the conversation, or accepted, now."""
        if self.refuses(conversation_id):
            raise self._error(self._why(conversation_id))

    def refuses(self, conversation_id: str) -> bool:
        """Whether nothing is granted to the conversation, or accepted, now."""
        return self._asked.refuse and bool(self._why(conversation_id))

    def _why(self, conversation_id: str) -> str:
        return self._confirmers.why(self._keys.of(conversation_id)[1])

    def _counts(self, verdict: Verdict, conversation_id: str) -> bool:
        """Whether what was confirmed counts; False: Redis does not have it. Raises NotDurable."""
        if verdict is Verdict.CLOSED:
            raise LockStoreConnectionError(CLOSED)
        if verdict is Verdict.LATE and self._asked.refuse:
            raise self._error(self._why(conversation_id))
        return verdict is not Verdict.GONE

    def _error(self, why: str) -> NotDurable:
        return NotDurable(
            f"{why or 'it took too long'}; nothing is granted or accepted until that is better "
            f"(durability: {self._asked.kind}, durability_degraded: refuse)"
        )

    # -- turns ---------------------------------------------------------------------------------

    def _turn(self, grant: Grant) -> asyncio.Future[Verdict]:
        record = f"{grant.fence} {grant.number} {grant.member} ".encode()
        holder = self._keys.of(grant.conversation_id)[1]
        return self._confirmers.confirm(Proof((("GET", holder),), partial(_begins, record)))

    def give(self, waiter: Waiter, grant: Grant, gone: Callable[[Waiter], object]) -> None:
        """Give a waiter its turn once that is durable; `gone` is called if Redis has lost it."""

        def confirmed(done: asyncio.Future[Verdict]) -> None:
            future = waiter.future
            if future is None or future.done():
                return  # given up meanwhile; its withdrawal hands the turn on
            try:
                there = self._counts(done.result(), grant.conversation_id)
            except LockStoreConnectionError as error:
                future.set_exception(error)
            else:
                if there and grant.reason is None:
                    future.set_result(grant)
                else:
                    gone(waiter)

        self._turn(grant).add_done_callback(confirmed)

    def serve(
        self, grant: Grant, lost: Callable[[int, str], object]
    ) -> Callable[[], Awaitable[None]]:
        """Begin to confirm the turn of a message; what is returned waits for that.

        It raises NotDurable, and calls `lost` if Redis has lost the turn.
        """
        verdict = self._turn(grant)

        async def confirmed() -> None:
            if not self._counts(await verdict, grant.conversation_id):
                lost(grant.request, NOT_FOUND)

        return confirmed

    # -- messages ------------------------------------------------------------------------------

    async def keep(self, conversation_id: str, field: str) -> None:
        """Wait until a message that was submitted is durable; it may be finished by now.

        Raises NotDurable, and LockStoreConnectionError if it is gone: a failover has lost it, or a
        deletion of the conversation has removed it.
        """
        submitted = self._keys.submitted(conversation_id)
        messages, _ = self._keys.of_messages(conversation_id)
        proof = Proof((("HEXISTS", submitted, field), ("HEXISTS", messages, field)), any)
        if not self._counts(await self._confirmers.confirm(proof), conversation_id):
            raise LockStoreConnectionError(
                "Redis has the message no more: a failover has lost it, or its conversation was deleted "
                "meanwhile; send it again"
            )

    async def keep_until_due(
        self, conversation_id: str, field: str, messages: str, entry: str
    ) -> None:
        """As `keep`, of a message that comes due later: until then `messages` has it as `entry`."""
        verdict = await self._confirmers.confirm(Proof((("HEXISTS", messages, entry),), any))
        if not self._counts(verdict, conversation_id):  # by now it may have come due
            await self.keep(conversation_id, field)

    # -- connections -----------------------------------------------------------------------------

    def reconnect(self) -> None:
        """The link has connected anew, perhaps to another server."""
        self._confirmers.reconnect()

    def close(self) -> None:
        """End it; what is not confirmed fails."""
        self._confirmers.close()


def _begins(record: bytes, answers: Any) -> bool:
    return answers[0] is not None and bytes(answers[0]).startswith(record)
