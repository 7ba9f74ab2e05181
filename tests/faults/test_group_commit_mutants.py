"""Seeded mutants of group commit: the named test must notice each by an assertion of its own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from faults.mutation import Patch, both, expect_noticed, function, python, replaced
from integration import test_group_commit as tests
from integration import test_group_commit_outages as outages
from integration import test_group_commit_servers as servers
from integration import test_sqlite_turns as sqlite
from servers.tracker_stores import Stores
from ticketlock.stores.sql import engine, mysql, postgresql, transactions, turns
from ticketlock.stores.sql.batches import Batches
from ticketlock.stores.sql.conversation import Found
from ticketlock.stores.sql.sqlite import SQLiteEngine
from ticketlock.stores.sql.together import Together, Turns
from ticketlock.stores.sql.transactions import Transactions, sync


def text(name: str, old: str, new: str) -> Patch:
    """Replace the only such piece of a statement of `turns`."""
    statement = replaced(getattr(turns, name), old, new, f"turns.{name}")
    return lambda monkeypatch: monkeypatch.setattr(turns, name, statement)


#: name -> (what is broken, the test that must notice)
MUTANTS: dict[str, tuple[Patch, Callable[[Stores], Any]]] = {
    "each has a transaction of its own": (
        python(Batches, "_take", "len(batch) < MAX_OPERATIONS", "not batch"),
        tests.test_what_waits_shares_one_commit),
    "the last one goes first": (
        python(Batches, "_take", "batch.append(operation)", "batch.insert(0, operation)"),
        tests.test_what_waits_shares_one_commit),
    "acknowledged before the commit": (
        python(Transactions, "_run_in_savepoint", 'driver.execute("RELEASE one")',
               'driver.execute("RELEASE one"); _acknowledge([operation])'),
        tests.test_an_acknowledgement_comes_after_the_commit),
    "one alone is acknowledged before the commit": (
        both(
            python(Batches, "_take", "len(batch) < MAX_OPERATIONS", "not batch"),
            python(Transactions, "_commit", "return", "return _acknowledge(batch)"),
        ),
        tests.test_an_acknowledgement_comes_after_the_commit),
    "one failure takes the others with it": (
        python(Transactions, "_run_in_savepoint", "operation.error = error", "raise"),
        tests.test_one_conversation_s_failure_is_its_own),
    "half of what failed stays": (
        python(Transactions, "_run_in_savepoint", 'driver.execute("ROLLBACK TO one")',
               "pass"),
        tests.test_one_conversation_s_failure_is_its_own),
    "a failed commit fails only the last one": (
        python(Transactions, "_carry_out", "for operation in batch: operation.error = error",
               "batch[-1].error = error"),
        tests.test_a_failed_commit_fails_all),
    "what was refused stays refused though nothing was committed": (
        python(Transactions, "_carry_out", "operation.error = error",
               "operation.error = operation.error or error"),
        tests.test_a_failed_commit_fails_all),
    "the end of a transaction goes unnoticed": (
        python(Transactions, "_run_in_savepoint", "if connection.invalidated or not driver.in_transaction", "if False"),
        tests.test_a_transaction_that_one_write_has_ended),
    "who was with the culprit is stored no more": (
        python(Transactions, "_carry_out", "self._carry_out([operation])", "pass"),
        tests.test_a_transaction_that_one_write_has_ended),
    "an error of a void transaction counts": (
        python(Transactions, "_carry_out", "operation.error = None", "pass"),
        tests.test_a_transaction_that_one_write_has_ended),
    "SQLite waits in steps of its own": (
        python(engine, "_begin_to_write", "_wait_for_others(connection, 0.001)", "pass"),
        sqlite.test_the_writer_waits_for_other_processes_in_short_steps),
    "any number of writes": (
        python(Batches, "_take", "and len(batch) < MAX_OPERATIONS", ""),
        tests.test_a_batch_is_bounded),
    "any number of bytes": (
        python(Batches, "_take", "size > MAX_BYTES", "False"),
        tests.test_a_batch_is_bounded),
    "the bytes of a write are not known": (
        python(SQLiteEngine, "run", "self._writes.run(Work(body, synced), size)", "self._writes.run(Work(body, synced))"),
        tests.test_a_batch_is_bounded),
    "a write waits for the disk no more than a claim": (
        function(transactions, "sync", lambda connection, synced: sync(connection, False)),
        tests.test_a_commit_is_synced_with_every_build_of_sqlite),
    "after a claim no write waits for the disk": (
        function(transactions, "sync", lambda connection, synced: synced or sync(connection, False)),
        tests.test_a_commit_is_synced_with_every_build_of_sqlite),
    "a mark alone counts no other program's events": (
        text("_NOTE", ":first_id IS NULL OR", ""),
        tests.test_a_mark_alone_goes_with_the_others),
    "a mark alone ends the count of events": (
        text("_NOTE", "coalesce(:last_id, last_id)", "coalesce(:last_id, 0)"),
        tests.test_a_mark_alone_goes_with_the_others),
    "what was cancelled is written": (
        python(Batches, "_take", "not (operation := self._waiting[0]).answer.cancelled()", "(operation := self._waiting[0])"),
        tests.test_cancelled_before_it_begins_it_writes_nothing),
}  # fmt: skip


#: Of claims and writes. Where anything is wrong in a batch, it must go alone.
OF_TURNS: dict[str, tuple[str, Patch, Callable[..., Any]]] = {
    "each has a statement of its own": (
        "postgres", python(Batches, "_take", "len(batch) < MAX_OPERATIONS", "not batch"),
        servers.test_what_waits_shares_a_statement),
    "in the order in which they came": (
        "mariadb", python(Together, "_carry_out", "sorted(first)", "first"),
        servers.test_what_waits_shares_a_statement),
    "twice in a statement": (
        "postgres", python(Together, "_carry_out", "first[sender_id].what for sender_id in sorted(first)",
                           "operation.what for operation in batch"),
        servers.test_two_turns_of_one_conversation),
    "both have the answer of one": (
        "mariadb", python(Together, "_carry_out", "for sender_id, operation in first.items():"
                          " operation.result = found.get(sender_id)",
                          "for operation in batch:"
                          " operation.result = found.get(operation.what.sender_id)"),
        servers.test_two_turns_of_one_conversation),
    "a failure fails all": (
        "mariadb", python(Together, "_send", "return {}", "raise"),
        servers.test_a_statement_that_fails),
    "a failed commit fails all for ever": (
        "postgres", python(Together, "_send", "return {}", "raise"),
        servers.test_a_failed_commit_fails_all),
    "it waits for dead connections": (
        "mariadb", python(Together, "_look", "self._busy = 0", "pass"),
        outages.test_batches_without_an_answer_hold_up_no_others),
    "mariadb: nothing is committed": (
        "mariadb", python(mysql, "write", "await connection.commit()", "pass"),
        servers.test_what_waits_shares_a_statement),
    "any size": (
        "postgres", python(Turns, "write", "or size > LARGE", ""),
        servers.test_one_conversation_s_failure_is_its_own),
    "the bytes of a write are not known": (
        "postgres", python(Turns, "write", "self.writes.run(append, size)", "self.writes.run(append)"),
        servers.test_a_batch_is_bounded),
    "postgres: a stale claim is made": (
        "postgres", python(postgresql, "_claim",
                           "WHERE c.fence < a.fence OR (c.fence = a.fence AND c.owner = a.owner)", ""),
        servers.test_one_conversation_s_failure_is_its_own),
    "postgres: a stale write is made": (
        "postgres", python(postgresql, "_write", "c.fence = a.fence AND c.owner = a.owner AND", ""),
        servers.test_one_conversation_s_failure_is_its_own),
    "postgres: a claim waits for a lock": (
        "postgres", python(postgresql, "_claim", "SKIP LOCKED", ""),
        servers.test_what_another_process_holds_holds_up_no_other),
    "postgres: a write waits for a lock": (
        "postgres", python(postgresql, "_write", "SKIP LOCKED", ""),
        servers.test_what_another_process_holds_holds_up_no_other),
    "postgres: it waits for what another process creates": (
        "postgres", python(postgresql, "_claim", "{CREATING}", "0"),
        servers.test_what_another_process_creates_holds_up_no_other),
    "postgres: a repeated write is written twice": (
        "postgres", python(postgresql, "_write", "AND c.sequence = a.sequence", ""),
        servers.test_the_answer_of_a_commit_is_lost),
    "postgres: what is seen is not compared": (
        "postgres", python(postgresql, "_claim",
                           "WHERE c.sequence = n.sequence AND c.last_id = n.last_id AND c.born = n.born",
                           ""),
        servers.test_a_row_that_is_newer_than_what_the_statement_sees),
    "postgres: what is beside is not counted": (
        "postgres", python(
            postgresql, "_write",
            """AND NOT EXISTS (
      SELECT FROM events e WHERE {_from("c.last_id + 1", "c.sender_id")}
    )""",
            ""),
        servers.test_events_of_another_program),
    "events that are not counted are no reason to go alone": (
        "mariadb", python(Found, "counted", "not self.rows or self.rows[-1][0] <= self.last_id", "True"),
        servers.test_events_of_another_program),
    "postgres: no mark": (
        "postgres", python(postgresql, "_write", 'if marks else ""', 'if not marks else ""'),
        servers.test_rows_are_those_of_a_turn_that_goes_alone),
    "postgres: the outbox begins anew": (
        "postgres", python(postgresql, "_write", "coalesce(c.outbox, c.sequence)", "c.sequence"),
        servers.test_rows_are_those_of_a_turn_that_goes_alone),
    "mariadb: a stale claim is made": (
        "mariadb", python(mysql, "claim",
                          "if fence < asked[key][0] or (fence, owner) == asked[key]", ""),
        servers.test_one_conversation_s_failure_is_its_own),
    "mariadb: a stale write is made": (
        "mariadb", python(mysql, "write", "[:3] == (*_guard(append), append.write.sequence)",
                          "[2:3] == (append.write.sequence,)"),
        servers.test_one_conversation_s_failure_is_its_own),
    "mariadb: it waits for a lock": (
        "mariadb", python(mysql, "_lock", "FOR UPDATE {otherwise}", "FOR UPDATE"),
        servers.test_what_another_process_holds_holds_up_no_other),
    "mariadb: it waits for what another process creates": (
        "mariadb", python(mysql, "claim", "NOWAIT", "SKIP LOCKED"),
        servers.test_what_another_process_creates_holds_up_no_other),
    "mariadb: a repeated write is written twice": (
        "mariadb", python(mysql, "write", "[:3] == (*_guard(append), append.write.sequence)",
                          "[:2] == _guard(append)"),
        servers.test_the_answer_of_a_commit_is_lost),
    "mariadb: no mark": (
        "mariadb", python(mysql, "write", "is not None and marks", "is not None and not marks"),
        servers.test_rows_are_those_of_a_turn_that_goes_alone),
    "mariadb: the outbox begins anew": (
        "mariadb", python(mysql, "write", "and outbox is None", ""),
        servers.test_rows_are_those_of_a_turn_that_goes_alone),
    "sqlite: a stale claim is made": (
        "sqlite", text("_CLAIM", "fence < excluded.fence OR", "TRUE OR"),
        sqlite.test_what_is_stale_is_refused_and_leaves_nothing),
    "sqlite: another owner claims with the same fence": (
        "sqlite", text("_CLAIM", "AND owner = excluded.owner", ""),
        sqlite.test_what_is_stale_is_refused_and_leaves_nothing),
    "sqlite: a stale write is made": (
        "sqlite", text("_NOTE", "fence = :fence AND owner = :owner AND", ""),
        sqlite.test_what_is_stale_is_refused_and_leaves_nothing),
    "sqlite: a refused write stays": (
        "sqlite", python(turns, "_write", "raise _Unusual", "return None"),
        sqlite.test_what_is_stale_is_refused_and_leaves_nothing),
    "sqlite: a repeated write is written twice": (
        "sqlite", text("_NOTE", "AND sequence = :sequence", ""),
        sqlite.test_a_repeated_write_is_written_once),
    "sqlite: what is beside is not counted": (
        "sqlite", text("_NOTE", "e.id > last_id", "FALSE"),
        sqlite.test_events_of_another_program),
    "sqlite: the outbox begins anew": (
        "sqlite", text("_NOTE", "coalesce(outbox, sequence)", "sequence"),
        sqlite.test_rows_are_those_of_a_turn_that_goes_alone),
    "sqlite: the session stays where it was": (
        "sqlite", python(turns, "_write", "session_id = last_id", "pass"),
        sqlite.test_rows_are_those_of_a_turn_that_goes_alone),
    "mariadb: the session stays where it was": (
        "mariadb", python(mysql, "write", 'session_id or session', "session"),
        servers.test_rows_are_those_of_a_turn_that_goes_alone),
}  # fmt: skip


@pytest.mark.mutants
@pytest.mark.parametrize("mutant", OF_TURNS)
def test_mutant_of_a_turn(
    mutant: str, tracker_sections: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, patch, story = OF_TURNS[mutant]
    patch(monkeypatch)
    more = (monkeypatch,) if "monkeypatch" in inspect.signature(story).parameters else ()
    section = tracker_sections(backend)

    async def body() -> None:
        stores = Stores(backend, section)
        try:
            await asyncio.wait_for(story(stores, *more), 40)
        finally:
            await asyncio.wait_for(stores.close(), 20)

    expect_noticed(lambda: asyncio.run(body()))


@pytest.mark.mutants
@pytest.mark.parametrize("mutant", MUTANTS)
def test_group_commit_mutant(
    mutant: str, tracker_sections: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch, story = MUTANTS[mutant]
    patch(monkeypatch)

    async def body() -> None:
        stores = Stores("sqlite", tracker_sections("sqlite"))
        try:
            await asyncio.wait_for(story(stores), 20)
        finally:
            await asyncio.wait_for(stores.close(), 10)

    expect_noticed(lambda: asyncio.run(body()))
