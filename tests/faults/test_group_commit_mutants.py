"""Seeded mutants of group commit: the named test must notice each by an assertion of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from faults.mutation import Patch, both, expect_noticed, python
from integration import test_group_commit as tests
from servers.tracker_stores import Stores
from ticketlock.stores.sql.batches import Batches
from ticketlock.stores.sql.sqlite import SQLiteEngine

#: name -> (what is broken, the test that must notice)
MUTANTS: dict[str, tuple[Patch, Callable[[Stores], Any]]] = {
    "each has a transaction of its own": (
        python(Batches, "_take", "len(batch) < MAX_WRITES", "not batch"),
        tests.test_what_waits_shares_one_commit),
    "the last one goes first": (
        python(Batches, "_take", "self._waiting.popleft()", "self._waiting.pop()"),
        tests.test_what_waits_shares_one_commit),
    "acknowledged before the commit": (
        python(Batches, "_run_in_savepoint", 'connection.exec_driver_sql("RELEASE one")',
               'connection.exec_driver_sql("RELEASE one"); _acknowledge([operation])'),
        tests.test_an_acknowledgement_comes_after_the_commit),
    "one alone is acknowledged before the commit": (
        both(
            python(Batches, "_take", "len(batch) < MAX_WRITES", "not batch"),
            python(Batches, "_commit", "return", "return _acknowledge(batch)"),
        ),
        tests.test_an_acknowledgement_comes_after_the_commit),
    "one failure takes the others with it": (
        python(Batches, "_run_in_savepoint", "operation.error = error", "raise"),
        tests.test_one_conversation_s_failure_is_its_own),
    "half of what failed stays": (
        python(Batches, "_run_in_savepoint", 'connection.exec_driver_sql("ROLLBACK TO one")',
               "pass"),
        tests.test_one_conversation_s_failure_is_its_own),
    "a failed commit fails only the last one": (
        python(Batches, "_carry_out", "for operation in batch: operation.error = error",
               "batch[-1].error = error"),
        tests.test_a_failed_commit_fails_all),
    "what was refused stays refused though nothing was committed": (
        python(Batches, "_carry_out", "operation.error = error",
               "operation.error = operation.error or error"),
        tests.test_a_failed_commit_fails_all),
    "the end of a transaction goes unnoticed": (
        python(Batches, "_run_in_savepoint", "if _lost(connection)", "if False"),
        tests.test_a_transaction_that_one_write_has_ended),
    "who was with the culprit is stored no more": (
        python(Batches, "_carry_out", "self._carry_out([operation])", "pass"),
        tests.test_a_transaction_that_one_write_has_ended),
    "an error of a void transaction counts": (
        python(Batches, "_carry_out", "operation.error = None", "pass"),
        tests.test_a_transaction_that_one_write_has_ended),
    "any number of writes": (
        python(Batches, "_take", "and len(batch) < MAX_WRITES", ""),
        tests.test_a_batch_is_bounded),
    "any number of bytes": (
        python(Batches, "_take", "size > MAX_BYTES", "False"),
        tests.test_a_batch_is_bounded),
    "the bytes of a write are not known": (
        python(SQLiteEngine, "run", "self._batches.run(body, size)", "self._batches.run(body)"),
        tests.test_a_batch_is_bounded),
    "what was cancelled is written": (
        python(Batches, "_take", "if not operation.answer.cancelled()", "if True"),
        tests.test_cancelled_before_it_begins_it_writes_nothing),
}  # fmt: skip


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
