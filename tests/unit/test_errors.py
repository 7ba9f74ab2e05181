"""Errors cross processes: they pickle and copy, with their attributes, text and notes."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from error_classes import every_error

import ticketlock
from ticketlock import (
    DuplicateMessage,
    EventBrokerConnectionError,
    LockLost,
    LockTimeout,
    QueueFull,
    StaleFence,
    TicketLockError,
)
from ticketlock.errors import EventsWaiting

#: What the errors with attributes of their own are made from; all others are made from a text.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "LockTimeout": ("c", 1.5, 2, "web-1:17 (message 6)", 12.25),
    "AlreadyHeld": ("c", 4),
    "LockLost": ("c", "its lease ran out"),
    "QueueFull": ("c", 7),
    "DuplicateMessage": ("c", "message 6", "the reply"),
    "EventsWaiting": ("c",),
    "StaleFence": ("c", 5, 6),
    **dict.fromkeys(
        ("ActionError", "ActionFailed", "ActionRejected", "UnknownAction"), ("action_x", "why")
    ),
    "ActionServerConnectionError": ("action_x", "refused", False),
    "EventBrokerConnectionError": ("the broker is away", False),
}


def made(kind: type[TicketLockError]) -> TicketLockError:
    error = kind(*ARGUMENTS.get(kind.__name__, ("what is wrong",)))
    if hasattr(error, "add_note"):
        error.add_note("seen on web-1")
    return error


def same(found: Any, error: TicketLockError) -> bool:
    kept = (type(found), str(found), repr(found), found.args, vars(found))
    return kept == (type(error), str(error), repr(error), error.args, vars(error))


def test_every_error_pickles_and_copies() -> None:
    """Every class of the package, by every protocol; what it was made from makes it anew."""
    seen = set()
    for kind in every_error():
        error = made(kind)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert same(pickle.loads(pickle.dumps(error, protocol)), error), kind
        assert same(copy.copy(error), error)
        assert same(copy.deepcopy(error), error)
        assert str(kind(*error.args)) == str(error)  # Celery's JSON does this
        seen.add(kind.__name__)
    assert seen > set(ARGUMENTS)
    assert {name for name in ticketlock.__all__ if name.endswith("Error")} <= seen


class Mine(LockTimeout):
    """A user's subclass, which is made from other arguments than its base."""

    def __init__(self, team: str) -> None:
        super().__init__("c", 1.0)
        self.team = team


def test_a_subclass_with_other_arguments_pickles() -> None:
    """The mechanism is the base class's, not each leaf's."""
    error = Mine("support")
    found = pickle.loads(pickle.dumps(error))
    assert (type(found), found.team, found.waited) == (Mine, "support", 1.0)
    assert same(copy.copy(error), error)


def fail(name: str) -> None:
    """Runs in a worker process."""
    raise made(getattr(ticketlock.errors, name))


def test_pools_of_processes_hand_errors_over() -> None:
    """`multiprocessing.Pool` used to hang on them, and ProcessPoolExecutor to break."""
    context = multiprocessing.get_context("spawn")
    wanted = [made(getattr(ticketlock.errors, name)) for name in ARGUMENTS]
    with context.Pool(1) as pool:
        for name, error in zip(ARGUMENTS, wanted, strict=True):
            with pytest.raises(type(error)) as raised:
                pool.apply_async(fail, (name,)).get(60)
            assert raised.value.args == error.args
            assert {**vars(raised.value), **vars(error)} == vars(raised.value)
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        for name, error in zip(ARGUMENTS, wanted, strict=True):
            with pytest.raises(type(error)) as raised:
                executor.submit(fail, name).result(60)
            assert str(raised.value) == str(error)


def test_texts_are_as_before() -> None:
    """The text is for people, and does not change with how errors travel."""
    assert str(LockTimeout("c", 2.00168, 1, "web-1:17", 3.0)) == (
        "no turn for conversation 'c' within 2 s; 1 before it, held by web-1:17 for 3.0 s"
    )
    assert str(LockLost("c", "why")) == "lost the lock of conversation 'c': why"
    assert repr(QueueFull("c", 3)) == "QueueFull(\"3 tickets already wait for conversation 'c'\")"
    assert "answered" in str(DuplicateMessage("c", "m", "r"))
    assert "does not match the stored fence 6" in str(StaleFence("c", 5, 6))
    assert "events status" in str(EventsWaiting("c"))
    assert str(EventBrokerConnectionError("away")) == "away"
