"""Seeded mutants of the outbox and the relay: the named test of the contract must notice each.

A test that passes on a mutant proves nothing; then this test fails.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from contract import test_outbox, test_relay, test_relay_ahead, test_relay_requests
from contract.test_relay import quick
from contract.test_relay_ahead import narrow
from faults.mutation import Patch, expect_noticed, lua, python
from servers.tracker_stores import Stores
from ticketlock.stores.sql import outbox as _sql_outbox

from ticketlock.publishing import reached, relay
from ticketlock.tracker import memory_outbox as volatile_outbox

__all__ = ["narrow", "quick"]  # fixtures

RELAY, SUSPECTS = relay.Relay, reached.Suspects
MEMORY, SQL = volatile_outbox.MemoryOutbox, _sql_outbox.SQLOutbox

#: name -> (what is broken, the store, the test that must notice)
MUTANTS: dict[str, tuple[Patch, str, Callable[..., Any]]] = {
    # -- the scripts of Redis
    "nothing waits": (
        lua("tracker_write", "local begins = not waits and", "local begins = false and"),
        "redis", test_outbox.test_what_was_committed_waits),
    "what waits begins at each turn": (
        lua("tracker_write", "local begins = not waits and", "local begins ="),
        "redis", test_outbox.test_relays_and_writers_at_once),
    "a replacement drops what waits": (
        lua("tracker_write", "if replace and waits then", "if false then"),
        "redis", test_outbox.test_a_replacement_waits_for_the_relay),
    "a lease is no lease": (
        lua("outbox_take", "head[4] ~= relay and", "false and"),
        "redis", test_outbox.test_one_relay_has_a_conversation_at_a_time),
    "a lease is never void": (
        lua("outbox_take", " and at <= tonumber(ARGV[4])", ""),
        "redis", test_outbox.test_a_lease_of_a_clock_that_is_off_is_void),
    "who was overtaken moves on": (
        lua("outbox_advance", "head[1] ~= ARGV[1] or ", ""),
        "redis", test_outbox.test_one_relay_has_a_conversation_at_a_time),
    "all lives are one": (
        lua("outbox_advance", " or head[2] ~= born", ""),
        "redis", test_outbox.test_a_deleted_conversation_begins_another_history),
    "advance drops what came meanwhile": (
        lua("outbox_advance", "if tonumber(to) < tonumber(head[4]) then", "if false then"),
        "redis", test_outbox.test_in_parts_and_while_it_grows),
    "what is published stays listed": (
        lua("outbox_advance", "redis.call('ZREM', index, id)", ""),
        "redis", test_outbox.test_what_was_committed_waits),
    "what is deleted stays listed": (
        lua("tracker_delete", "if KEYS[2] then", "if false then"),
        "redis", test_outbox.test_a_deleted_conversation_begins_another_history),
    "released it stays leased": (
        lua("outbox_release", "'relay', '', 'outbox_at', ARGV[2]", "'relay', ''"),
        "redis", test_outbox.test_released_it_is_free_at_once),
    # -- SQL, and in memory
    "SQL: a lease is no lease": (
        python(SQL, "_take", "_free(lease.now) | (_rows.relay == lease.relay)", "sa.true()"),
        "sqlite", test_outbox.test_one_relay_has_a_conversation_at_a_time),
    "SQL: who was overtaken moves on": (
        python(SQL, "_advance", "& (_rows.relay == lease.relay)", ""),
        "sqlite", test_outbox.test_one_relay_has_a_conversation_at_a_time),
    "SQL: all lives are one": (
        python(SQL, "_advance", "(row.outbox, row.born) != (batch.first, batch.history)", "False"),
        "sqlite", test_outbox.test_a_deleted_conversation_begins_another_history),
    "SQL: the place stays behind": (
        python(SQL, "_advance", "- batch.first - 1]", "- batch.first - 2]"),
        "sqlite", test_outbox.test_in_parts_and_while_it_grows),
    "SQL: what came meanwhile counts as published": (
        python(SQL, "_advance", "if row.sequence <= to:", "if True:"),
        "sqlite", test_outbox.test_in_parts_and_while_it_grows),
    "SQL: a part is all": (
        python(SQL, "_read", "row.sequence - row.outbox <= limit", "True"),
        "sqlite", test_outbox.test_several_at_once),
    "SQL: a locked row is not taken": (
        python(SQL, "_take", "del found[name]", "pass"),
        "postgres", test_outbox.test_a_turn_that_holds_its_row_delays_no_other),
    "SQL: a locked row is not ours": (
        python(SQL, "_advance", "del moved[name]", "pass"),
        "postgres", test_outbox.test_a_turn_that_holds_its_row_delays_no_other),
    "SQL: it waits for a locked row": (
        python(SQL, "exchange", "_skips_locked(connection.dialect)", "False"),
        "postgres", test_outbox.test_a_turn_that_holds_its_row_delays_no_other),
    "memory: a lease is no lease": (
        python(MEMORY, "take", "lease.now < queue.free_at", "False"),
        "memory", test_outbox.test_one_relay_has_a_conversation_at_a_time),
    "memory: all lives are one": (
        python(MEMORY, "advance", "queue.history", "batch.history"),
        "memory", test_outbox.test_a_deleted_conversation_begins_another_history),
    # -- the relay
    "what is not confirmed counts": (
        python(SUSPECTS, "_reached", 'outcome.status == "retry" and not', "False and not"),
        "memory", test_relay.test_a_broker_that_is_away_delays_no_turn),
    "dead letters are dropped": (
        python(RELAY, "_deliver", "await self._add_dead_letters(letters)", "pass"),
        "memory", test_relay.test_poisoned_events_are_set_apart),
    "a suspect goes though nothing passes": (
        python(SUSPECTS, "_at_fault", "self._accepted > suspect.accepted", "True"),
        "memory", test_relay.test_a_suspect_is_set_apart_only_when_others_pass),
    "only what passes beside a suspect counts": (
        python(SUSPECTS, "_at_fault", "self._accepted > suspect.accepted",
               "self._accepted > before"),
        "memory", test_relay.test_a_suspect_is_set_apart_when_others_pass_between),
    "nobody looks for what others left": (
        python(RELAY, "_sweep", "for sender_id in found:", "for sender_id in ():"),
        "sqlite", test_relay.test_a_broker_that_is_away_from_one_replica_only),
    "it keeps what it cannot send": (
        python(RELAY, "_deliver", "if stuck and result.waits]", "if False]"),
        "sqlite", test_relay.test_a_broker_that_is_away_from_one_replica_only),
    # -- reading ahead
    "nothing is read ahead": (
        python(RELAY, "_round", "if not probe:", "if False:"),
        "memory", test_relay_ahead.test_the_next_round_is_read_while_one_is_delivered),
    "what is at the broker is read too": (
        python(RELAY, "_exchange", ", *self._in_flight}", "}"),
        "memory", test_relay_ahead.test_a_conversation_is_at_the_broker_once_at_a_time),
    "it keeps what was read ahead": (
        python(RELAY, "_round", "if found[0]:", "if False:"),
        "sqlite", test_relay_ahead.test_a_broker_fails_after_the_next_round_was_read),
    "what was read ahead has its first lease": (
        python(RELAY, "_round", "or self._ahead_lease.half_over", ""),
        "sqlite", test_relay_ahead.test_a_slow_broker_does_not_outlive_the_lease_of_what_was_read),
    "what was not read ahead is forgotten": (
        python(RELAY, "_exchange", "[*tried, *(result.name for result in reached)]", "[]"),
        "sqlite", test_relay_ahead.test_a_store_fails_while_the_broker_confirms),
    "taken before it is noted": (
        python(RELAY, "_exchange", "{*later, *tried,", "{*tried,"),
        "memory", test_relay_ahead.test_a_long_backlog_is_noted_before_it_is_taken_again),
    # -- how much it asks for
    "a round is a request": (
        python(RELAY, "_exchange", "else CONVERSATIONS", "else min(few, CONVERSATIONS)"),
        "sqlite", test_relay_requests.test_a_round_has_hundreds_of_conversations),
    "long backlogs are taken many at a time": (
        python(RELAY, "_exchange", "few = min(few, FEW)", "pass"),
        "sqlite", test_relay_requests.test_long_backlogs_are_taken_few_at_a_time),
    "it looks again in each round": (
        python(RELAY, "_sweep", "len(self._known) < CONVERSATIONS", "True"),
        "sqlite", test_relay_requests.test_many_that_others_left_are_looked_for_as_they_are_needed),
    "it looks again only when a sweep is due": (
        python(RELAY, "_sweep", " and not (self._left_more", " or not (self._left_more"),
        "sqlite", test_relay_requests.test_many_that_others_left_are_looked_for_as_they_are_needed),
}  # fmt: skip


@pytest.mark.mutants
@pytest.mark.parametrize("mutant", MUTANTS)
def test_outbox_mutant(
    mutant: str, tracker_sections: Any, quick: None, request: Any, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The test fails on the mutant, by its own assertions; a test that hangs has not noticed."""
    patch, backend, story = MUTANTS[mutant]
    monkeypatch.setattr("ticketlock.publishing.relay.CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(test_relay, "DRAIN_SECONDS", 2.0)
    patch(monkeypatch)
    stores = Stores(backend, tracker_sections(backend))
    given = {"stores": stores, "quick": None, "monkeypatch": monkeypatch, "caplog": caplog}
    if "narrow" in inspect.signature(story).parameters:
        given["narrow"] = request.getfixturevalue("narrow")
    words = {name: given[name] for name in inspect.signature(story).parameters}

    async def body() -> None:
        try:
            await asyncio.wait_for(story(**words), 20)
        finally:
            with suppress(Exception):  # of the mutant
                await asyncio.wait_for(stores.close(), 3)

    expect_noticed(lambda: asyncio.run(body()))
