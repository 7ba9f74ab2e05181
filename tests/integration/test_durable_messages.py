"""`durability`: an accepted message is on those servers that it was asked to be on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from conftest import until
from servers.durable import LONG, accepted, desk, store
from servers.replicated import Replicated, calls, go_on, pause, waits

from ticketlock import (
    Conversations,
    NotDurable,
    Turn,
)
from ticketlock.inbox.submission import Submission


@pytest.mark.parametrize("kind", ["now", "later"])
async def test_an_accepted_message_is_on_the_replica(kind: str) -> None:
    with Replicated() as servers:
        (replica,) = servers.replicas
        async with desk(servers.master) as one:

            async def submit(text: str) -> None:
                if kind == "later":
                    await one.later("c", text, after=1000)
                else:
                    await one.inbox.submit(Submission("c", text, text))

            await submit("first")
            pause(replica)
            second = asyncio.create_task(submit("second"))
            await until(lambda: second.done() or waits(servers.master), "WAIT")
            assert not second.done()
            go_on(replica)
            await asyncio.wait_for(second, LONG)


async def test_a_message_is_handled_when_its_turn_is_durable() -> None:
    """Also the turn that the end of another one has begun."""
    with Replicated() as servers:
        (replica,) = servers.replicas
        handled: list[str] = []

        async def handle(turn: Turn, message: Mapping[str, Any]) -> None:
            handled.append(message["text"])
            if message["text"] == "first":
                pause(replica)

        async with store(servers.master) as locks, Conversations(locks) as conversations:
            for text in ("first", "second"):
                await conversations.submit("c", text)
            async with conversations.serving(handle):
                await until(lambda: handled and waits(servers.master), "WAIT")
                assert handled == ["first"]
                go_on(replica)
                await until(lambda: len(handled) == 2, "the second")


async def test_refused_messages_wait_and_none_are_accepted() -> None:
    """A message that was accepted before is handled later, and no attempt at it counts."""
    with Replicated() as servers:
        (replica,) = servers.replicas
        keys = {"durability_timeout": 1, "durability_degraded": "refuse"}
        handled: list[tuple[str, int]] = []

        async def handle(turn: Turn, message: Mapping[str, Any]) -> None:
            handled.append((message["text"], message["attempt"]))
            if message["text"] == "first":
                pause(replica)

        async with store(servers.master, **keys) as locks, Conversations(locks) as conversations:
            for text in ("first", "second"):
                await conversations.submit("c", text)
            async with conversations.serving(handle):
                await until(lambda: locks.not_durable, "problem")
                assert handled == [("first", 1)]
                with pytest.raises(NotDurable):
                    await conversations.submit("c", "third", message_id="3")
                scripts, probes = (calls(servers.master, name) for name in ("evalsha", "wait"))
                # Looks and probes go on, and take nothing.
                await until(lambda: calls(servers.master, "wait") > probes + 3, "probes")
                assert calls(servers.master, "evalsha") - scripts < 30
                assert handled == [("first", 1)]
                assert not accepted(servers.master, "c", "3")
                go_on(replica)
                await until(lambda: len(handled) == 2, "the second")
                assert handled == [("first", 1), ("second", 1)]
