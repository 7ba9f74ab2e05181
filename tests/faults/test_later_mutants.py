"""Seeded mutants of the messages that come due later: the named test must notice each.

A test that passes on a mutant proves nothing; then this test fails.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis
from contract import test_later as contract
from faults.mutation import Patch, expect_noticed, lua, python
from integration import test_later as deaths
from servers.inboxes import Desk

from ticketlock.inbox.later import Later
from ticketlock.inbox.local_later import LocalLater
from ticketlock.inbox.mover import Mover
from ticketlock.redis.embedded import EmbeddedRedis

_prefixes = itertools.count(1)
TAKES = "found = await self._later.take(name, mark, _MESSAGES, refused)"

#: name -> (what is broken, where the messages wait, the test that must notice)
MUTANTS: dict[str, tuple[Patch, str, Callable[..., Any]]] = {
    # -- two movers, and what must be once
    "removed before it is submitted": (
        python(Mover, "_move", TAKES,
               TAKES + "; await self._later.done(name, mark, None, [(*x, True) for x in found])"),
        "redis", deaths.test_one_dies_before_submitting),
    "removed though another one has the name": (
        lua("later_done", "submitted and message_id(record) == id", "submitted and record"),
        "redis", deaths.test_replaced_while_it_is_submitted),
    "the outcome is forgotten while it may be submitted again": (
        lua("finish", "window_of(listeners, ARGV[5])", "ARGV[5]"),
        "redis", deaths.test_one_dies_between_submitting_and_removing),
    "submitted without a word that it may be again": (
        python(Mover, "_move", "self._inbox.submit_due(message, int(float(mark)))",
               "self._inbox.submit(message)"),
        "redis", deaths.test_one_dies_between_submitting_and_removing),
    "each submission has an id of its own": (
        python(Later, "take", "submission(conversation_id, record))",
               "__import__('dataclasses').replace(submission(conversation_id, record), message_id="
               "__import__('uuid').uuid4().hex))"),
        "redis", deaths.test_one_dies_between_submitting_and_removing),
    "submitted after the mover's time": (
        lua("submit", "if ARGV[14] and now > tonumber(ARGV[14]) then", "if false then"),
        "redis", deaths.test_a_mover_that_stood_still),
    "kept long for ever": (
        lua("later_settle", "redis.call('ZADD', KEYS[2], whole(now + window), id)", ""),
        "redis", deaths.test_one_dies_between_submitting_and_removing),
    "the listener stays": (
        lua("later_settle", "string.gsub(listeners, DUE .. ',', '')", "listeners"),
        "redis", deaths.test_settled_before_its_turn),
    "its keys are kept long": (
        lua("later_settle", "redis.call('PEXPIRE', key, whole(longest))", ""),
        "redis", deaths.test_nothing_is_left),
    "a generation is stored again": (
        lua("later_put", "message_id(old) == ARGV[3]", "false"),
        "redis", contract.test_a_generation_is_submitted_once),
    "cancelled while it is submitted": (
        lua("later_cancel", "and moving == id then return 2", "and false then return 2"),
        "redis", deaths.test_one_dies_between_submitting_and_removing),
    # -- order, and what holds up what
    "the last due first": (
        python(Mover, "_move", "for key, message in found:", "for key, message in found[::-1]:"),
        "redis", deaths.test_many_processes_move),
    "what is refused is removed": (
        lua("later_done", "submitted and message_id(record) == id", "message_id(record) == id"),
        "redis", contract.test_a_full_queue_leaves_it_due),
    "what is refused holds up the rest": (
        python(Mover, "_move", "late = message.max_waiting is None", "late = True"),
        "redis", contract.test_a_full_queue_leaves_it_due),
    "what was refused cannot be cancelled": (
        lua("later_done", "(submitted or own)", "submitted"),
        "redis", contract.test_a_full_queue_leaves_it_due),
    "the rest is forgotten": (
        lua("later_done", "list(keys, ARGV[1], ARGV[3] == '0' and 0 or now_ms() + ARGV[3])",
            "redis.call('ZREM', KEYS[1], ARGV[1])"),
        "redis", contract.test_it_comes_due_by_its_time),
    # -- time, bounds
    "an earlier one is not listed": (
        lua("later_put", "not listed or listed % 1 == 0", "not listed"),
        "redis", contract.test_the_name_has_one_message),
    "the sender's clock": (
        python(Later, "put", 'f"+{1000 * when.after:.0f}" if when.after is not None',
               'f"{1000 * (__import__(\'time\').time() + when.after):.0f}" if when.after is not None'),
        "redis", deaths.test_the_clock_of_redis_counts),
    "the next one is not waited for": (
        python(Mover, "_look", "else left / 1000", "else 5.0"),
        "redis", deaths.test_very_early),
    "any time ahead": (
        lua("later_put", "if due > now + ARGV[5] then", "if false then"),
        "redis", contract.test_bounds),
    "any number": (
        lua("later_put", "if not old and there >= tonumber(ARGV[6]) then", "if false then"),
        "redis", contract.test_bounds),
    "what leaves is counted still": (
        lua("later", "redis.call('HINCRBY', keys.counts, 'bytes', -#record)", ""),
        "redis", deaths.test_nothing_is_left),
    # -- in this process
    "removed though another one has the name, here": (
        python(LocalLater, "_entry", "and entry.message.message_id == row[4]", ""),
        "local", contract.test_the_name_has_one_message),
    "what is refused is removed, here": (
        python(LocalLater, "_move", "if self._entry(row) is not None:", "if False:"),
        "local", contract.test_a_full_queue_leaves_it_due),
    "any time ahead, here": (
        python(LocalLater, "put", "if due > now + MAX_AHEAD:", "if False:"),
        "local", contract.test_bounds),
}  # fmt: skip


@pytest.mark.mutants
@pytest.mark.parametrize("name", MUTANTS)
def test_later_mutant(
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    redis_server: EmbeddedRedis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    patch, where, test = MUTANTS[name]
    patch(monkeypatch)
    prefix = f"laterm{next(_prefixes)}"
    url = redis_server.url if where == "redis" else None

    async def run() -> None:
        async with AsyncExitStack() as stack:
            one, two = [await stack.enter_async_context(Desk.on(url, prefix)) for _ in range(2)]
            client = stack.enter_context(
                redis.Redis.from_url(redis_server.url, decode_responses=True)
            )
            given: dict[str, Any] = {
                "desk": one, "desks": (one, two), "client": client, "prefix": prefix,
                "redis_server": redis_server, "monkeypatch": monkeypatch, "caplog": caplog,
            }  # fmt: skip
            names = inspect.signature(test).parameters
            await asyncio.wait_for(test(**{name: given[name] for name in names}), 40)

    expect_noticed(lambda: asyncio.run(run()))
