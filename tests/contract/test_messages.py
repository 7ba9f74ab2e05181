"""Messages with an id: one turn each, replies for duplicates, carried and superseding ones.

Every lock store of which `keeps_messages` is true passes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from ticketlock import (
    DuplicateMessage,
    Incoming,
    LockLost,
    LockStore,
    LockStoreConnectionError,
    LockTimeout,
)

Make = Callable[[], LockStore]

pytestmark = pytest.mark.parametrize("make_store", ["in_memory", "concurrent_redis"], indirect=True)


async def reply_to(store: LockStore, message: str | Incoming, conversation: str = "c") -> str:
    """What a duplicate is told; it must not get a turn."""
    incoming = Incoming(message) if isinstance(message, str) else message
    with pytest.raises(DuplicateMessage) as caught:
        async with store.lock(conversation, incoming=incoming):
            raise AssertionError("a second turn")
    assert caught.value.message_id == incoming.message_id
    assert caught.value.conversation_id == conversation
    return caught.value.reply


async def test_a_duplicate_waits_for_the_first_reply(make_store: Make) -> None:
    """On any replica, without a ticket of its own; later ones have it at once."""
    async with make_store() as one, make_store() as two:
        async with one.lock("c", incoming=Incoming("m")) as grant:
            tasks = [asyncio.create_task(reply_to(store, "m")) for store in (one, two, two)]
            lock = two.lock("c", incoming=Incoming("m"))
            assert await lock.queue() == 0
            lock.withdraw()
            await asyncio.sleep(0.05)
            assert (await two.inspect("c")).waiting_count == 0
            one.answer(grant, {"m": "the reply\n\0ü"})
        assert set(await asyncio.wait_for(asyncio.gather(*tasks), 0.9)) == {"the reply\n\0ü"}
        assert await reply_to(two, "m") == "the reply\n\0ü"
        async with two.lock("c", incoming=Incoming("another")):
            assert await reply_to(one, "m") == "the reply\n\0ü"  # it waits for nobody
        async with two.lock("d", incoming=Incoming("m")):  # ids are a conversation's own
            pass


async def test_a_turn_without_a_reply_leaves_the_message_to_the_next(make_store: Make) -> None:
    """Its handler failed: the next in line gets the turn, the others wait for that."""
    async with make_store() as one, make_store() as two:
        handled: list[int] = []

        async def handle(store: LockStore, number: int) -> str:
            try:
                async with store.lock("c", incoming=Incoming("m")) as grant:
                    handled.append(number)
                    await asyncio.sleep(0.01)
                    store.answer(grant, {"m": str(number)})
                    return "handled"
            except DuplicateMessage as duplicate:
                return duplicate.reply

        with pytest.raises(RuntimeError):
            async with one.lock("c", incoming=Incoming("m")):
                tasks = [asyncio.create_task(handle((one, two)[i % 2], i)) for i in range(6)]
                await asyncio.sleep(0.05)
                assert not handled
                raise RuntimeError
        replies = await asyncio.wait_for(asyncio.gather(*tasks), 10)
        assert len(handled) == 1
        assert sorted(replies) == sorted([str(handled[0])] * 5 + ["handled"])


async def test_a_storm_of_duplicates_is_one_turn(make_store: Make) -> None:
    """However many arrive at once, wherever."""
    async with make_store() as one, make_store() as two:
        turns = 0

        async def send(i: int) -> str:
            nonlocal turns
            store, name = (one, two)[i % 2], f"m{i % 3}"
            try:
                async with store.lock("c", incoming=Incoming(name)) as grant:
                    turns += 1
                    await asyncio.sleep(0.01)
                    store.answer(grant, {name: name})
                    return name
            except DuplicateMessage as duplicate:
                return duplicate.reply

        replies = await asyncio.gather(*(send(i) for i in range(60)))
        assert turns == 3
        assert replies == [f"m{i % 3}" for i in range(60)]


async def test_the_window_ends(make_store: Make) -> None:
    """An id is forgotten after its window, counted from the reply."""
    async with make_store() as store:
        message = Incoming("m", window=0.2)
        async with store.lock("c", incoming=message) as grant:
            await asyncio.sleep(0.15)
            store.answer(grant, {"m": "x"}, window=1)
        await asyncio.sleep(0.1)
        assert await reply_to(store, message) == "x"
        await asyncio.sleep(1)
        async with store.lock("c", incoming=message):
            pass


async def test_giving_up(make_store: Make) -> None:
    """A duplicate's wait has a time-out, and one that is cancelled leaves nothing behind."""
    async with make_store() as store:
        async with store.lock("c", incoming=Incoming("m")):
            with pytest.raises(LockTimeout):
                async with store.lock("c", incoming=Incoming("m"), wait_timeout=0.05):
                    pass
            task = asyncio.create_task(reply_to(store, "m"))
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            lock = store.lock("c", incoming=Incoming("waits"))
            await lock.queue()
            lock.withdraw()  # its message is nobody's now
        async with store.lock("c", incoming=Incoming("waits")):
            pass
        async with store.lock("c", incoming=Incoming("m")):
            pass


async def test_closing_ends_the_wait(make_store: Make) -> None:
    """With an error that says so."""
    first, store = make_store(), make_store()
    with contextlib.suppress(LockLost):  # in memory both are one store
        async with first.lock("c", incoming=Incoming("m")):
            task = asyncio.create_task(reply_to(store, "m"))
            await asyncio.sleep(0.05)
            await store.close()
            with pytest.raises(LockStoreConnectionError):
                await task
    await first.close()


@pytest.mark.parametrize("name", ["a b", "%41", "x.y.z", "\n", "}{*", "ü" * 256, "-", "stop", "1"])
async def test_any_text_is_an_id(make_store: Make, name: str) -> None:
    """It shows as the label, and takes part in nothing else."""
    async with make_store() as store:
        async with store.lock("c", incoming=Incoming(name)) as grant:
            state = await store.inspect("c")
            assert state.holder is not None
            assert state.holder.label == name
            store.answer(grant, {name: name})
        assert await reply_to(store, name) == name


@pytest.mark.parametrize("name", ["", "x" * 257, "\ud800", None, 7])
def test_what_is_no_id(make_store: Make, name: object) -> None:
    """It is refused before anything is sent."""
    with pytest.raises(ValueError, match=r"message id|surrogates"):
        Incoming(name)  # type: ignore[arg-type]


async def test_a_long_reply_is_not_kept(make_store: Make) -> None:
    """Its duplicate gets a turn: the history has the reply."""
    async with make_store() as store:
        async with store.lock("c", incoming=Incoming("m")) as grant:
            store.answer(grant, {"m": "ü" * 40_000})
        async with store.lock("c", incoming=Incoming("m")):
            pass


async def test_only_the_owner_answers(make_store: Make) -> None:
    """A reply to a message that another turn has counts for nothing."""
    async with make_store() as store:
        async with store.lock("c", incoming=Incoming("m")) as grant:
            store.answer(grant, {"m": "right"})
        async with store.lock("c", incoming=Incoming("n")) as grant:
            store.answer(grant, {"m": "wrong", "n": "n"})
        assert await reply_to(store, "m") == "right"


def text(name: str) -> Incoming:
    return Incoming(name, text=f"text of {name}")


async def test_messages_are_carried(make_store: Make) -> None:
    """Those right behind the turn, in their order, up to one that needs its own turn."""
    async with make_store() as one, make_store() as two:
        async with one.lock("c"):
            names = ["a", "b", "c", "d"]
            locks = [
                store.lock("c", incoming=Incoming(name) if name == "c" else text(name))
                for name, store in zip(names, (one, two, one, two), strict=True)
            ]
            for lock in locks:
                await lock.queue()
            assert await one.inspect("c")
            others = [asyncio.create_task(lock.acquire()) for lock in locks[1:]]
        async with locks[0] as grant:
            assert await one.collect(grant) == [("b", "text of b")]
            assert await one.collect(grant) == []
            duplicate = asyncio.create_task(reply_to(two, "b"))
            await asyncio.sleep(0.05)
            one.answer(grant, {"a": "for a", "b": "for b"})
        with pytest.raises(DuplicateMessage, match="'b'") as caught:
            await others[0]
        assert caught.value.reply == "for b"
        assert await duplicate == "for b"
        await others[1]
        await locks[2].release()
        await others[2]
        await locks[3].release()


async def test_a_carried_message_comes_back_at_its_old_place(make_store: Make) -> None:
    """The turn that had it ended without a reply: nothing is lost, and the order stays."""
    async with make_store() as one, make_store() as two:
        served: list[str] = []

        async def handle(lock: object, name: str) -> None:
            async with lock as grant:  # type: ignore[attr-defined]
                served.append(name)
                two.answer(grant, {name: name})

        async with one.lock("c"):
            locks = {n: two.lock("c", incoming=text(n)) for n in ("a", "b", "c")}
            locks["d"] = one.lock("c", incoming=Incoming("d"))
            for lock in locks.values():
                await lock.queue()
            tasks = [
                asyncio.create_task(handle(lock, name))
                for name, lock in locks.items()
                if name != "a"
            ]
        grant = await locks["a"].acquire()
        assert [name for name, _ in await two.collect(grant)] == ["b", "c"]
        await asyncio.sleep(0.05)
        assert served == []
        await locks["a"].release()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        assert served == ["b", "c", "d"]


async def test_turns_before_a_superseding_message_are_asked_to_stop(make_store: Make) -> None:
    """The one that is served at once, those that wait when they are served; not itself."""
    async with make_store() as one, make_store() as two:
        async with one.lock("c") as first:
            second = two.lock("c", incoming=Incoming("second"))
            await second.queue()
            assert first.superseded is None
            third = two.lock("c", incoming=Incoming("third", supersede="interrupt"))
            fourth = one.lock("c", incoming=Incoming("fourth"))
            await third.queue()
            await fourth.queue()
            assert await asyncio.wait_for(first.until_superseded(), 0.9) == "interrupt"
            first.ensure_held()  # it is asked, not told
        async with second as grant:
            assert grant.superseded == "interrupt"
            assert await grant.until_superseded() == "interrupt"
        async with third as grant:
            assert grant.superseded is None
            fifth = one.lock("c", incoming=Incoming("fifth", supersede="rollback"))
            await fifth.queue()
            assert await asyncio.wait_for(grant.until_superseded(), 0.9) == "rollback"
        async with fourth as grant:
            assert grant.superseded == "rollback"
        async with fifth as grant:
            assert grant.superseded is None


async def test_superseding_an_idle_conversation(make_store: Make) -> None:
    """It is just a turn."""
    async with make_store() as store:
        async with store.lock("c", incoming=Incoming("m", supersede="rollback")) as grant:
            assert grant.superseded is None
        async with store.lock("c") as grant:
            assert grant.superseded is None


async def test_a_duplicate_of_a_superseding_message_supersedes_nobody(make_store: Make) -> None:
    """It has no ticket that anything could be before."""
    async with make_store() as store:
        message = Incoming("m", supersede="interrupt")
        async with store.lock("c", incoming=message) as grant:
            task = asyncio.create_task(reply_to(store, message))
            await asyncio.sleep(0.05)
            assert grant.superseded is None
            store.answer(grant, {"m": "x"})
        assert await task == "x"


async def test_until_superseded_waits(make_store: Make) -> None:
    """For ever, if nobody asks."""
    async with make_store() as store, store.lock("c") as grant:
        task: asyncio.Task[object] = asyncio.create_task(grant.until_superseded())
        await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()


async def test_a_flood_of_duplicates_is_one_question(make_store: Make) -> None:
    """A process asks once for all of them, and some may leave meanwhile."""
    async with make_store() as one, make_store() as two:
        async with one.lock("c", incoming=Incoming("m")) as grant:
            tasks = [asyncio.create_task(reply_to(two, "m")) for _ in range(500)]
            await asyncio.sleep(0.3)
            for task in tasks[::2]:
                task.cancel()
            engine = getattr(two, "_engine", None)
            if engine is not None:
                assert len(engine.duplicates._messages) == 1
            one.answer(grant, {"m": "x"})
        assert await asyncio.wait_for(asyncio.gather(*tasks[1::2]), 5) == ["x"] * 250
