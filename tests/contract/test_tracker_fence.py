"""A turn that was overtaken cannot write, whatever it missed meanwhile."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import pytest
from contract_events import session, slot, user

from ticketlock.errors import StaleFence, TrackerStoreError
from ticketlock.tracker.store import TrackerStore
from ticketlock.tracker.tracker import Tracker


async def texts(store: TrackerStore, sender_id: str = "a") -> list[Any]:
    tracker = await store.retrieve_full_tracker(sender_id)
    return [event.as_dict().get("text") for event in tracker.events] if tracker else []


async def test_claim_reads_the_latest_session(stores: Any) -> None:
    store = stores.open()
    first = await store.claim("a", 5, "one")
    assert (first.sequence, first.tracker) == (0, Tracker("a"))
    await store.append(first, [*session(0), user("x", 1), *session(5)])
    assert first.sequence == 7
    second = await stores.open().claim("a", 6, "two")
    assert (second.sender_id, second.fence, second.owner) == ("a", 6, "two")
    assert second.sequence == 7
    assert [event.as_dict() for event in second.tracker.events] == session(5)


async def test_an_overtaken_turn_is_refused(stores: Any) -> None:
    """The first holder stalls, the second one finishes, the first one wakes up and writes."""
    paused, successor = stores.open(), stores.open()
    old = await paused.claim("a", 1, "paused")
    await paused.append(old, [user("before the pause", 1)])
    new = await successor.claim("a", 2, "successor")
    await successor.append(new, [user("by the successor", 2)])
    with pytest.raises(StaleFence) as error:
        await paused.append(old, [user("too late", 3)])
    assert (error.value.conversation_id, error.value.fence, error.value.stored) == ("a", 1, 2)
    old.tracker.update(user("too late", 3))
    for late in (paused.save(old.tracker), paused.update(old.tracker)):
        with pytest.raises(StaleFence):
            await late
    assert await texts(successor) == ["before the pause", "by the successor"]
    await successor.append(new, [user("and on", 4)])
    assert (await texts(paused))[2:] == ["and on"]


async def test_which_claims_are_accepted(stores: Any) -> None:
    """Higher ones, and the same one again; not a lower one, nor another owner's."""
    store = stores.open()
    await store.claim("a", 7, "x")
    await store.claim("a", 7, "x")
    for fence, owner in ((6, "x"), (7, "y"), (1, "y")):
        with pytest.raises(StaleFence) as error:
            await store.claim("a", fence, owner)
        assert error.value.stored == 7
    await store.claim("b", 1, "another conversation")
    top = await store.claim("a", 2**52, "ü" * 255)
    await store.append(top, [user("x", 1)])


@pytest.mark.parametrize("fence", [0, -1, 2**52 + 1, 2**63, 1.0, True, "1", None], ids=repr)
async def test_bad_fences(stores: Any, fence: Any) -> None:
    with pytest.raises(TrackerStoreError):
        await stores.open().claim("a", fence, "x")


@pytest.mark.parametrize("owner", ["", "x" * 256, "a\0", "\ud800", None], ids=ascii)
async def test_bad_owners(stores: Any, owner: Any) -> None:
    with pytest.raises(TrackerStoreError):
        await stores.open().claim("a", 1, owner)


async def test_a_retried_append_stores_nothing_twice(stores: Any) -> None:
    """The reply was lost: the claim still stands where it was before."""
    store = stores.open()
    claim = await store.claim("a", 1, "x")
    for events in ([user("a", 1), user("a", 1)], [], [user("a", 1)], session(3)):
        before = claim.sequence
        await store.append(claim, events)
        after = claim.sequence
        claim.sequence = before
        await store.append(claim, events)
        assert claim.sequence == after == before + len(events)
    assert len(await texts(store)) == 6


async def test_a_retried_save_and_a_retried_claim(stores: Any) -> None:
    store = stores.open()
    claim = await store.claim("a", 1, "x")
    claim.tracker.update(user("one", 1))
    origin = claim.tracker.origin
    await store.save(claim.tracker)
    claim.tracker.origin = origin
    await store.save(claim.tracker)
    assert await texts(store) == ["one"]
    again = await store.claim("a", 1, "x")
    assert again.sequence == claim.sequence == 1
    await store.append(again, [user("two", 2)])
    assert await texts(store) == ["one", "two"]


async def test_an_unclaimed_save_between_two_appends(stores: Any) -> None:
    """It is not fenced, is not lost, and does not harm the claim."""
    store, other = stores.open(), stores.open()
    claim = await store.claim("a", 1, "x")
    await store.append(claim, [user("one", 1)])
    visitor = await other.retrieve("a")
    visitor.update(slot("x", 1))
    await other.save(visitor)
    await store.append(claim, [user("two", 2)])
    assert await texts(store) == ["one", None, "two"]
    assert claim.sequence == 3


async def test_a_deleted_conversation_refuses_its_holder(stores: Any) -> None:
    store = stores.open()
    claim = await store.claim("a", 4, "x")
    await store.append(claim, [user("one", 1)])
    await stores.open().delete("a")
    with pytest.raises(StaleFence):
        await store.append(claim, [user("two", 2)])
    assert await store.retrieve("a") is None


async def test_one_of_many_claims_wins(stores: Any) -> None:
    """Claims and appends that race: what is stored was written by fences that never go back."""
    writers = [stores.open() for _ in range(4)]
    accepted: list[int] = []

    async def turn(fence: int) -> None:
        store = writers[fence % len(writers)]
        try:
            claim = await store.claim("a", fence, f"owner {fence}")
            await store.append(claim, [user(str(fence), fence)])
            await store.append(claim, [user(str(fence), fence)])
        except StaleFence:
            return
        accepted.append(fence)

    await asyncio.gather(*(turn(fence) for fence in range(1, 25)))
    stored = [int(text) for text in await texts(writers[0])]
    assert stored == sorted(stored)
    assert all(stored.count(fence) == 2 for fence in accepted)
    assert 24 in accepted


async def test_concurrent_appends_of_one_claim(stores: Any) -> None:
    """Nothing is lost even if a handler does not wait for its own writes."""
    store = stores.open()
    claim = await store.claim("a", 1, "x")
    await asyncio.gather(*(store.append(claim, [user(str(n), n)]) for n in range(10)))
    assert sorted(map(int, await texts(store))) == list(range(10))


async def test_cost_does_not_grow_with_the_history(
    stores: Any, record_property: pytest.FixtureRequest
) -> None:
    """Claim and append after 10 and after 10,000 earlier events take about the same time."""
    store = stores.open()
    times: dict[int, list[float]] = {10: [], 10_000: []}
    for size in times:
        claim = await store.claim(f"with {size}", 1, "filler")
        for start in range(0, size, 500):
            await store.append(claim, [user("x" * 20, n) for n in range(start, start + 500)][:size])
        await store.append(claim, session(1))
    for fence in range(2, 42):
        for size, each in times.items():  # in turn, so that what else runs slows down both
            begun = time.perf_counter()
            claim = await store.claim(f"with {size}", fence, "x")
            await store.append(claim, [*session(fence), user("hello", fence), slot("a", 1)])
            each.append(time.perf_counter() - begun)
            assert len(claim.tracker.events) == 5 if fence > 2 else 3
    seconds = {size: statistics.median(each) for size, each in times.items()}
    for size, median in seconds.items():
        record_property(f"claim_append_after_{size}", median)  # type: ignore[operator]
    print(f"{stores.backend}: { ({size: f'{s * 1e3:.2f} ms' for size, s in seconds.items()}) }")
    assert seconds[10_000] < 2.5 * seconds[10] + 0.002
