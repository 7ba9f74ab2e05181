"""Waiters whose message another ticket has: they wait for its reply instead of a turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from ...aio.running import until_set
from ...errors import DuplicateMessage, LockStoreConnectionError
from ...redis.commands import BaseLink
from ..waiter import Waiter
from .scripts import Scripts

#: Seconds between two looks where no bell rings: it was lost, or the message's owner died.
_LOOK = 1.0


class Tickets(Protocol):
    """What is asked of the engine."""

    loop: asyncio.AbstractEventLoop
    scripts: Scripts

    @property
    def link(self) -> BaseLink: ...
    def next_request(self) -> int: ...
    def member(self, request: int, conversation_id: str) -> str: ...
    def wait_no_more(self, waiter: Waiter) -> None: ...
    def wait_again(self, waiter: Waiter) -> None: ...


class _Message:
    """A message that another ticket has, and the waiters for its reply here."""

    __slots__ = ("bell", "request", "task", "waiters")

    def __init__(self, request: int) -> None:
        self.request = request
        self.bell = asyncio.Event()
        self.waiters: list[Waiter] = []
        self.task: asyncio.Task[None] | None = None


class Duplicates:
    """The duplicates among an engine's waiters, and the messages that another turn has carried.

    For each message the process asks for the reply once, for all of its waiters; a bell says when
    it is there. If the message has no owner any more, because that died or ended without a reply,
    the waiters take tickets, and the first of them gets the message.
    """

    def __init__(self, engine: Tickets) -> None:
        self._engine = engine
        self._messages: dict[tuple[str, str], _Message] = {}

    def follow(self, waiter: Waiter, reply: bytes | None = None) -> None:
        """Another ticket has the waiter's message; with its reply, if that is known."""
        self._engine.wait_no_more(waiter)
        waiter.number = max(waiter.number, 0)
        if reply is not None:
            return _answer(waiter, reply)
        key = _key(waiter)
        message = self._messages.get(key)
        if message is None:
            message = self._messages[key] = _Message(self._engine.next_request())
            message.task = self._engine.loop.create_task(self._follow(key, message))
        message.waiters.append(waiter)
        return None

    async def _follow(self, key: tuple[str, str], message: _Message) -> None:
        while True:
            message.bell.clear()
            try:
                args = self._engine.scripts.reply(
                    *key, self._engine.member(message.request, key[0])
                )
                state, *reply = await self._engine.link.call(args)
            except LockStoreConnectionError as error:
                for waiter in self._messages.pop(key).waiters:
                    if waiter.future is not None and not waiter.future.done():
                        waiter.future.set_exception(error)
                return
            if state != 0:
                break
            await until_set(message.bell, _LOOK)
        for waiter in self._messages.pop(key).waiters:
            if state == 1:
                _answer(waiter, reply[0])
            else:
                self._engine.wait_again(waiter)

    def ring(self, request: int, waiter: Waiter | None) -> None:
        """A reply is there; the waiter of a carried message still thinks it waits for a turn."""
        if waiter is not None:
            self.follow(waiter)
        for key, message in self._messages.items():
            if message.request == request or (waiter is not None and key == _key(waiter)):
                message.bell.set()

    def forget(self, waiter: Waiter) -> None:
        """The waiter has given up."""
        key = None if waiter.incoming is None else _key(waiter)
        message = None if key is None else self._messages.get(key)
        if message is not None and waiter in message.waiters:
            message.waiters.remove(waiter)
            if not message.waiters and message.task is not None:
                message.task.cancel()
                del self._messages[_key(waiter)]

    def waiters(self) -> Iterable[Waiter]:
        """Those who wait for a reply."""
        return [waiter for message in self._messages.values() for waiter in message.waiters]


def _key(waiter: Waiter) -> tuple[str, str]:
    assert waiter.incoming is not None  # only such waiters come here
    return waiter.conversation_id, waiter.incoming.field


def _answer(waiter: Waiter, reply: bytes) -> None:
    assert waiter.incoming is not None  # only such waiters come here
    if waiter.future is not None and not waiter.future.done():
        message_id = waiter.incoming.message_id
        waiter.future.set_exception(
            DuplicateMessage(waiter.conversation_id, message_id, reply.decode())
        )
