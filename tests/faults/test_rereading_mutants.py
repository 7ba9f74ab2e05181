"""Seeded mutants of what is kept of histories: the named test of the contract must notice each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from contract import test_tracker_rereading as story
from faults.mutation import Patch, expect_noticed_on, function, python
from servers.tracker_stores import Stores

from ticketlock.tracker import stored
from ticketlock.tracker.stored import RecentEvents

COMPARED = "stored.texts[: len(kept.texts)] != kept.texts"

#: name -> (what is broken, the test that must notice)
MUTANTS: dict[str, tuple[Patch, Callable[..., Any]]] = {
    "the texts are not compared": (
        python(RecentEvents, "made", COMPARED, "len(stored) < len(kept.texts)"),
        story.test_a_history_that_was_replaced),
    "only the last text is compared": (
        python(RecentEvents, "made", COMPARED,
               "stored.texts[len(kept.texts) - 1 : len(kept.texts)] != kept.texts[-1:]"),
        story.test_a_history_that_was_replaced),
    "a shorter history is not noticed": (
        python(RecentEvents, "made", COMPARED,
               "stored.texts[: len(kept.texts)] != kept.texts[: len(stored)]"),
        story.test_a_history_that_became_shorter),
    "a deleted history is not noticed": (
        python(RecentEvents, "made", COMPARED, "stored.texts and stored.texts[:1] != kept.texts[:1]"),
        story.test_a_history_that_was_deleted),
    "new events are not read": (
        python(RecentEvents, "made", "if known < len(stored):", "if not known:"),
        story.test_what_another_process_has_added),
    "the objects of a turn are handed to the next": (
        python(stored._Kept, "events", "for part in parts for one in marshal.loads(part)",
               "for part in parts for one in shared.setdefault(part, marshal.loads(part))"),
        story.test_what_a_bot_changes_in_an_event_it_has_read),
    "fields that a type does not know are lost": (
        function(stored, "fields_to_keep",
                 lambda event: {name: vars(event)[name] for name in vars(event) if name != "_wire"}),
        story.test_events_are_the_same_each_time),
}  # fmt: skip


@pytest.mark.mutants
@pytest.mark.parametrize("backend", ["sqlite", "redis"])
@pytest.mark.parametrize("mutant", MUTANTS)
def test_rereading_mutant(
    mutant: str, backend: str, tracker_sections: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test fails on the mutant, by its own assertions."""
    patch, test = MUTANTS[mutant]
    monkeypatch.setattr(stored, "shared", {}, raising=False)
    patch(monkeypatch)
    stores = Stores(backend, tracker_sections(backend))

    expect_noticed_on(stores, test)
