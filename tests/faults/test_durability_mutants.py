"""Seeded mutants of `durability`: the named test must notice each by an assertion of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from faults.mutation import Patch, expect_noticed, method, python
from integration import test_durability as tests
from integration import test_durable_failovers as failovers
from integration import test_durable_messages as messages

from ticketlock.inbox.served import _ServedTurns
from ticketlock.inbox.submitting import SubmittingInbox
from ticketlock.locks.concurrent.durable import Durable
from ticketlock.locks.concurrent.engine import Engine
from ticketlock.redis import confirming
from ticketlock.redis.confirming import Confirmer
from ticketlock.redis.durability import Durability


async def nothing(*_: Any) -> None:
    """In place of what waits."""


#: name -> (what is broken, the test that must notice)
MUTANTS: dict[str, tuple[Patch, Callable[..., Any]]] = {
    "no write in front of WAIT, on Valkey": (
        python(Confirmer, "_round", "barrier = wire.barrier", 'barrier = [("EVAL", "return 1", 0)]'),
        partial(tests.test_a_stopped_replica_confirms_nothing, "valkey")),
    "WAIT asks for none": (
        python(Confirmer, "_round", "asked.command(wire.needed, milliseconds)",
               "asked.command(0, milliseconds)"),
        tests.test_two_of_two),
    "fewer than asked for": (
        python(Durability, "missing", "answer >= needed", "answer >= 1"),
        tests.test_two_of_two),
    "a server confirms what it does not have": (
        python(Confirmer, "_sort", "one.proof.holds(own)", "True"),
        failovers.test_the_new_master_confirms_nothing_that_it_has_not),
    "a turn begins before it is durable": (
        python(Engine, "_serve", "if self.durable is None", "if True"),
        tests.test_a_turn_that_another_process_hands_on),
    "a message is handled before its turn is durable": (
        python(_ServedTurns, "granted", "if served.proven is not None", "if False"),
        messages.test_refused_messages_wait_and_none_are_accepted),
    "a message is accepted before it is durable": (
        method(SubmittingInbox, "keep", nothing),
        partial(messages.test_an_accepted_message_is_on_the_replica, "now")),
    "the same of one that comes due later": (
        method(Durable, "keep_until_due", nothing),
        partial(messages.test_an_accepted_message_is_on_the_replica, "later")),
    "each has a WAIT of its own": (
        lambda monkeypatch: monkeypatch.setattr(confirming, "MOST", 1),
        tests.test_many_turns_share_a_wait_and_none_waits_for_others),
    "all wait while it is degraded": (
        python(Confirmer, "confirm", "if self.why", "if False"),
        tests.test_serve_goes_on_and_says_so),
    "no way back": (
        python(Confirmer, "_run", "or (self.why and self._server.owned())", ""),
        tests.test_a_killed_replica_that_comes_back),
    "refused after Redis has granted it": (
        method(Durable, "check", lambda *_: None),
        tests.test_refuse_gives_the_turn_up),
    "messages are taken while their turns are refused": (
        method(Durable, "refuses", lambda *_: False),
        messages.test_refused_messages_wait_and_none_are_accepted),
}  # fmt: skip


@pytest.mark.mutants
@pytest.mark.parametrize("mutant", MUTANTS)
def test_durability_mutant(
    mutant: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    patch, story = MUTANTS[mutant]
    patch(monkeypatch)
    given = {"tmp_path": tmp_path, "caplog": caplog}
    named = getattr(story, "func", story).__annotations__
    more = {name: value for name, value in given.items() if name in named}

    async def body() -> None:
        await asyncio.wait_for(story(**more), 60)

    expect_noticed(lambda: asyncio.run(body()))
