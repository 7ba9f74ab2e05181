"""Seeded mutants of the deliveries: the named test must notice each.

A test that passes on a mutant proves nothing; then this test fails.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from contract import test_deliveries as contract
from faults.mutation import Patch, expect_noticed, lua, python
from servers.deliveries import RedisBox

from ticketlock.deliveries import sender, storage
from ticketlock.redis.embedded import EmbeddedRedis

SENDER, MEMORY = sender.Sender, storage.MemoryDeliveries

#: name -> (what is broken, where the deliveries wait, the test that must notice)
MUTANTS: dict[str, tuple[Patch, str, Callable[..., Any]]] = {
    # -- the scripts
    "a lease is no lease": (
        lua("deliver_take", "process ~= ARGV[1] and", "false and"),
        "redis", contract.test_one_process_sends_in_order),
    "a lease never ends": (
        lua("deliver_take", " and tonumber(till) > now", ""),
        "redis", contract.test_a_silent_process_is_followed),
    "the tries begin anew with another process": (
        lua("deliver_take", "tries or 0, part or 0", "0, 0"),
        "redis", contract.test_a_silent_process_is_followed),
    "done without the lease": (
        lua("deliver_done", "sender(KEYS[2]) ~= ARGV[1] or", ""),
        "redis", contract.test_a_silent_process_is_followed),
    "done with another delivery": (
        lua("deliver_done", " or redis.sha1hex(head) ~= ARGV[3]", ""),
        "redis", contract.test_one_process_sends_in_order),
    "a sender is left": (
        lua("deliver_done", "if left == 0 then", "if false then"),
        "redis", contract.test_one_process_sends_in_order),
    "done does not renew": (
        lua("deliver_done", "clock() + ARGV[2], 0, 0", "clock(), 0, 0"),
        "redis", contract.test_one_process_sends_in_order),
    "dead letters without bound": (
        lua("deliver_done", "redis.call('LTRIM', KEYS[3], dropped, -1)", ""),
        "redis", contract.test_dead_letters_are_bounded),
    "renewed though another has it": (
        lua("deliver_keep", "sender(KEYS[1]) ~= ARGV[1]", "not sender(KEYS[1])"),
        "redis", contract.test_one_process_sends_in_order),
    # -- in memory
    "a pause is for others only": (
        python(MEMORY, "take", "found.sender not in (None, process)", "found.sender not in (None, process, '-')"),
        "memory", contract.test_a_pause_is_for_all),
    "done without the lease, in memory": (
        python(MEMORY, "done", " or found.sender != process", ""),
        "memory", contract.test_a_silent_process_is_followed),
    # -- the sender
    "done before it is sent": (
        python(SENDER, "_send_taken", "verdict = await self._deliver(head)",
               "removed = await self._remove(head, Done()); verdict = await self._deliver(head); "
               "self._again.add(conversation_id); return"),
        "memory", contract.test_a_failed_part_is_tried_again_before_what_follows),
    "in the order of their ends": (
        python(SENDER, "_send_taken", "await self._pause(head, verdict)\n return",
               "await asyncio.sleep(0); continue"),
        "memory", contract.test_a_failed_part_is_tried_again_before_what_follows),
    "sent without a look at the lease": (
        python(SENDER, "_deliver", " or time.monotonic() + most > head.lease_until", ""),
        "memory", contract.test_one_that_was_stalled_does_not_send_what_another_has_taken),
    "what was sent is sent again": (
        python(SENDER, "_pause", "head.tries + 1, head.part", "head.tries + 1, 0"),
        "memory", contract.test_a_failed_part_is_tried_again_before_what_follows),
    "tried without end": (
        python(SENDER, "_send_taken", "if head.tries + 1 < head.to.max_tries:",
               "if head.tries + 1 < 1 + head.to.max_tries:"),
        "memory", contract.test_a_dead_letter_lets_the_next_through),
    "the flooded conversation first": (
        python(SENDER, "_ended", "self.due(conversation_id)",
               "self._ready = {conversation_id: None, **self._ready}"),
        "memory", contract.test_a_flooded_conversation_lets_others_through),
    "more than there is room for": (
        python(SENDER, "_start", "len(self._active) < self._most and", ""),
        "memory", contract.test_in_order_and_once),
    "not released at the end": (
        python(SENDER, "_send_taken", "if self._closed:\n await self._store.pause(conversation_id, self._process, 0, 0, 0)",
               "if self._closed: pass"),
        "memory", contract.test_closing_ends_what_is_sent_and_releases_the_rest),
}  # fmt: skip


@pytest.mark.mutants
@pytest.mark.parametrize("name", MUTANTS)
def test_delivery_mutant(
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    redis_server: EmbeddedRedis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    patch, where, test = MUTANTS[name]
    patch(monkeypatch)
    given = inspect.signature(test).parameters
    arguments: dict[str, Any] = {"monkeypatch": monkeypatch, "caplog": caplog}
    if "refusals" in given:
        arguments["refusals"] = [contract.Retry("busy")] * 3

    async def run() -> None:
        chosen = {key: value for key, value in arguments.items() if key in given}
        if where == "memory":
            await asyncio.wait_for(test(box=contract.MemoryBox(), **chosen), 30)
            return
        async with RedisBox.on(redis_server.url, f"mutant {name}".replace(" ", "")) as box:
            await asyncio.wait_for(test(box=box, **chosen), 30)

    expect_noticed(lambda: asyncio.run(run()))
