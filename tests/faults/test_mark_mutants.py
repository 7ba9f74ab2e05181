"""Seeded mutants of the marks: the named test of the contract must notice each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from contract import test_tracker_marks as story
from faults.mutation import Patch, expect_noticed_on, lua, python, wrapped
from servers.tracker_stores import Stores
from ticketlock.stores.memory import InMemoryTrackerStore
from ticketlock.stores.redis import RedisTrackerStore
from ticketlock.stores.sql import SQLTrackerStore, turns

from ticketlock.tracker.fenced import FencedTrackerStore, Write

STORES: dict[str, type[FencedTrackerStore]] = {
    "memory": InMemoryTrackerStore, "sqlite": SQLTrackerStore, "postgres": SQLTrackerStore,
    "redis": RedisTrackerStore,
}  # fmt: skip
Original = Callable[[Any, Write], Any]
#: Seconds between the two steps of a mutant: the story's reader comes in between, on a busy machine too.
BETWEEN = 0.05


async def before_the_fence(original: Original, store: Any, write: Write) -> int:
    """The mark in a step of its own that compares no fence."""
    await original(store, replace(write, events=[], guard=None))
    return int(await original(store, write))


async def after_the_events(original: Original, store: Any, write: Write) -> int:
    """The mark in a step of its own, fenced."""
    sequence = await original(store, replace(write, mark=None))
    await asyncio.sleep(BETWEEN)
    return int(await original(store, replace(write, events=[], sequence=sequence)))


async def before_the_events(original: Original, store: Any, write: Write) -> int:
    """The same the other way round."""
    await original(store, replace(write, events=[]))
    await asyncio.sleep(BETWEEN)
    return int(await original(store, write))


#: name -> (what is broken, the store, the test that must notice)
MUTANTS: dict[str, tuple[Patch, str, Callable[..., Any]]] = {
    **{
        f"{backend}-{name}": (wrapped(kind, "_do_write", step), backend, test)
        for backend, kind in STORES.items()
        for name, step, test in (
            ("stored before the fence is compared", before_the_fence,
             story.test_an_overtaken_turn_stores_no_mark),
            ("in another step than the events", after_the_events,
             story.test_mark_and_events_are_one_step),
            ("in another step, before the events", before_the_events,
             story.test_mark_and_events_are_one_step),
        )
    },
    "redis: the script stores it before it compares": (
        lua("tracker_write", "if owner ~= '' and (",
            "if ARGV[11] ~= '' then redis.call('HSET', key, 'mark', string.sub(ARGV[11], 2)) end "
            "if owner ~= '' and ("),
        "redis", story.test_an_overtaken_turn_stores_no_mark),
    "redis: lost on the repeated write": (
        lua("tracker_write", "if mark then", "if mark and count > 0 then"),
        "redis", story.test_a_repeated_write_leaves_its_mark),
    "redis: a replacement drops it": (
        lua("tracker_write", "mark = mark or redis.call('HGET', key, 'mark')", ""),
        "redis", story.test_a_replaced_history_keeps_its_mark),
    "redis: no mark is an empty one": (
        lua("tracker_write", "local mark = ARGV[11] ~= '' and", "local mark ="),
        "redis", story.test_a_mark_is_kept_for_the_next_claims),
    "SQL: lost on the repeated write": (
        python(SQLTrackerStore, "_change", "if write.mark is not None and",
               "if write.mark is not None and new and"),
        "sqlite", story.test_a_repeated_write_leaves_its_mark),
    "SQL: only with what is published": (
        python(turns, "_write", "None if write.mark is None", "None if not write.publish"),
        "sqlite", story.test_a_mark_is_kept_for_the_next_claims),
    "memory: lost on the repeated write": (
        python(InMemoryTrackerStore, "_do_write", "if write.mark is not None:",
               "if write.mark is not None and new:"),
        "memory", story.test_a_repeated_write_leaves_its_mark),
    "memory: stored before the fence is compared": (
        python(InMemoryTrackerStore, "_do_write", "if write.guard is not None and",
               "if write.mark is not None: found.mark = write.mark\n    "
               "if write.guard is not None and"),
        "memory", story.test_an_overtaken_turn_stores_no_mark),
}  # fmt: skip


@pytest.mark.mutants
@pytest.mark.parametrize("mutant", MUTANTS)
def test_mark_mutant(mutant: str, tracker_sections: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test fails on the mutant, by its own assertions; a test that hangs has not noticed."""
    patch, backend, test = MUTANTS[mutant]
    patch(monkeypatch)
    stores = Stores(backend, tracker_sections(backend))

    expect_noticed_on(stores, test)
