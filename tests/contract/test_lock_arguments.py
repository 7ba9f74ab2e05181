"""Which ids, numbers and options every lock store accepts, and which are errors."""

from __future__ import annotations

import asyncio
import numbers
from enum import Enum
from fractions import Fraction
from typing import Any

import pytest
from contract.locking import Make

from ticketlock import (
    NO_TICKET_ISSUED,
    ConfigurationError,
    Incoming,
    InMemoryLockStore,
    InvalidConversationId,
)

HOSTILE = [
    "a", "a:1", "a:1:last_issued_ticket_number", "a}", "{a}", "}a", "a}:holder", "%7D", "a%7D",
    "*", "?", "[a]", "[0-9]*", "\\", "a\\*", "|nick|", "with space", "line\nbreak", "\t",
    "'quoted\"", "emoji 🎟️", "ß", "\x00nul", "x" * 10_240, "{", "}", "{}", "}{", "-", "0", " ",
]  # fmt: skip


async def test_hostile_ids_never_touch_each_other(make_store: Make) -> None:
    """Any text is an id, and every id has a lock of its own."""
    async with make_store() as store:
        locks = [store.lock(conversation) for conversation in HOSTILE]
        for lock in locks:  # all held at once: none waits for another
            grant = await asyncio.wait_for(lock.acquire(), 5)
            grant.ensure_held()
        for lock, conversation in zip(locks, HOSTILE, strict=True):
            state = await store.inspect(conversation)
            assert state.waiting_count == 0
            assert state.holder is not None
            await lock.release()
        for conversation in HOSTILE:
            assert (await store.inspect(conversation)).holder is None


@pytest.mark.parametrize("bad", ["", None, 7, b"bytes", "\ud800"])
async def test_bad_ids_are_refused(make_store: Make, bad: object) -> None:
    """An empty id, no text, or text that is no Unicode, is an error at once."""
    async with make_store() as store:
        with pytest.raises(InvalidConversationId):
            store.lock(bad)  # type: ignore[arg-type]
        with pytest.raises((InvalidConversationId, ValueError)):
            await store.issue_ticket(bad)  # type: ignore[arg-type]


class Count:
    """A whole number of another library's, as numpy has them."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __int__(self) -> int:
        return self._value

    def __le__(self, other: int) -> bool:
        return self._value <= other

    def __lt__(self, other: int) -> bool:
        return self._value < other

    def __ge__(self, other: int) -> bool:
        return self._value >= other


numbers.Integral.register(Count)


@pytest.mark.parametrize("number", ["1", 1.5, True, None, -2, 2**63])
async def test_what_is_no_ticket_number_or_fence_is_refused(make_store: Make, number: Any) -> None:
    """The error names the argument, and nothing is changed."""
    async with make_store() as store, store.lock("c") as grant:
        for call in (store.position, store.finish_serving, store.cleanup):
            with pytest.raises(ValueError, match="ticket_number must be a whole number"):
                await call("c", number)
        if number is not None:  # which stands for any turn
            with pytest.raises(ValueError, match="fence must be a whole number"):
                await store.break_lock("c", number)
        assert await store.position("c", NO_TICKET_ISSUED) is None
        await store.finish_serving("c", NO_TICKET_ISSUED)
        grant.ensure_held()


async def test_numbers_of_other_libraries(make_store: Make) -> None:
    """They count as what they are; on their way they are ours, beside those of other tasks."""
    async with make_store() as store:

        async def use(i: int) -> None:
            options: dict[str, Any] = {}
            if i % 2:
                lifetime = Fraction(7, 2)
                options = {"max_waiting": Count(3), "lock_lifetime": lifetime}
            async with store.lock(f"c{i}", **options) as grant:
                await store.inspect(f"c{i}", limit=Count(2))  # type: ignore[arg-type]
                grant.ensure_held()

        for _ in range(2):  # with a connection that is there already too
            await asyncio.wait_for(asyncio.gather(*(use(i) for i in range(8))), 20)


class Team(str, Enum):
    SALES = "sales"


class Folded(str):
    """Equal to what differs from it in capitals only."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and str.lower(self) == str.lower(other)

    def __hash__(self) -> int:
        return hash(str.lower(self))

    def __str__(self) -> str:
        return "printed"


async def test_an_id_counts_by_its_text(make_store: Make) -> None:
    """Not by what a subclass of `str` prints, or is equal to."""
    async with make_store() as store:
        for one, same, other in (
            (Team.SALES, "sales", "Team.SALES"),
            (Folded("Ab"), "Ab", Folded("aB")),
        ):
            async with store.lock(one), store.try_lock(same) as second:
                assert second is None
                async with store.lock(other, wait_timeout=5) as third:
                    third.ensure_held()
                found = await store.inspect(one)
                assert found.holder is not None
                assert (await store.inspect(same)).holder is not None


@pytest.mark.parametrize("text", [5, b"bytes", "\ud800"])
def test_what_no_message_is(make_store: Make, text: object) -> None:
    """A message that is none, or whose text is none, is an error at once."""
    with pytest.raises(ValueError, match=r"text|surrogates"):
        Incoming("id", text=text)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="incoming must be an Incoming"):
        make_store().lock("c", incoming=text)  # type: ignore[arg-type]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "options",
    [
        {name: value}
        for name, values in {
            "lock_lifetime": (INF, NAN, "60", 0, -1, True),
            "wait_timeout": (-1, NAN, "10", INF, True, [1]),
            "wait_time_in_seconds": (-1, NAN, "1"),
            "max_waiting": (-1, NAN, "3", 1.5, True),
            "label": (7, "\ud800"),
        }.items()
        for value in values
    ],
    ids=str,
)
async def test_bad_options_are_refused(make_store: Make, options: dict[str, object]) -> None:
    """At once, and as what they are."""
    async with make_store() as store:
        with pytest.raises(ValueError, match=next(iter(options))):
            store.lock("c", **options)  # type: ignore[arg-type]


async def test_bad_numbers_are_refused(make_store: Make) -> None:
    """Of every other call that takes seconds or a count, by the argument's name."""
    async with make_store() as store, store.lock("c") as grant:
        for bad in (-1, NAN, "10", True):
            with pytest.raises(ValueError, match="lock_lifetime"):
                await store.issue_ticket("c", bad)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="limit"):
                await store.inspect("c", bad)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="window"):
                Incoming("m", window=bad)  # type: ignore[arg-type]
            if store.keeps_messages:
                with pytest.raises(ValueError, match="most"):
                    await store.collect(grant, bad)  # type: ignore[arg-type]
                with pytest.raises(ValueError, match="window"):
                    store.answer(grant, {"m": "r"}, bad)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="lock_lifetime"):
                store.try_lock("c", bad)  # type: ignore[arg-type]
    for bad in (-1, NAN, "10", True, 1.5):
        with pytest.raises((ValueError, ConfigurationError), match="max_waiting"):
            InMemoryLockStore(max_waiting=bad)  # type: ignore[arg-type]
