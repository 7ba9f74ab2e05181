"""A class of somebody else, by its module path; and types that lead nowhere."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, ClassVar

import pytest
from contract_events import session, user
from ticketlock.stores import InMemoryTrackerStore

from ticketlock import Conversations, InMemoryLockStore
from ticketlock.endpoints import EndpointConfig
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.errors import ConfigurationError, StaleFence
from ticketlock.events import Event
from ticketlock.tracker.store import TrackerStore
from ticketlock.tracker.tracker import Claim, Tracker


class Plain:
    """Nothing but the documented three, plain, and no base class."""

    def __init__(self, host: Any = None, domain: Any = None, event_broker: Any = None, **keys: Any):
        self.host, self.domain, self.event_broker, self.keys_given = (
            host,
            domain,
            event_broker,
            keys,
        )
        self.kept: dict[str, list[Any]] = {}

    def save(self, tracker: Tracker) -> None:
        self.kept[tracker.sender_id] = list(tracker.events)

    def retrieve(self, sender_id: str) -> Tracker | None:
        kept = self.kept.get(sender_id)
        return Tracker(sender_id, kept) if kept else None

    def keys(self) -> list[str]:
        return list(self.kept)


class Async(TrackerStore):
    """The same, async, with our base class whose constructor it does not call."""

    def __init__(self, host: Any = None, domain: Any = None, event_broker: Any = None) -> None:
        self.plain = Plain()
        self.domain = domain

    async def save(self, tracker: Tracker) -> None:
        self.plain.save(tracker)

    async def retrieve(self, sender_id: str) -> Tracker | None:
        return self.plain.retrieve(sender_id)

    async def keys(self) -> list[str]:
        return self.plain.keys()


class Own(Plain):
    """With a claim and a write of its own, as they were before there were marks."""

    def claim(self, sender_id: str, fence: int, owner: str) -> Claim:
        tracker = self.retrieve(sender_id) or Tracker(sender_id)
        return Claim(sender_id, fence, owner, tracker, len(tracker.events))

    def append(self, claim: Claim, events: Any) -> None:
        for event in events:
            claim.tracker.update(Event.from_dict(event))
        self.save(claim.tracker)


class Derived(InMemoryTrackerStore):
    """A built-in store whose write somebody has extended before there were marks."""

    def __init__(self, host: Any = None, domain: Any = None, event_broker: Any = None) -> None:
        super().__init__(domain, event_broker)

    async def append(self, claim: Claim, events: Any) -> None:  # type: ignore[override]  # as it was
        await super().append(claim, [*events, user("and more", 9)])


class Keeps(Own):
    """One that keeps marks."""

    marks: ClassVar[dict[str, str]] = {}

    def claim(self, sender_id: str, fence: int, owner: str) -> Claim:
        claim = super().claim(sender_id, fence, owner)
        claim.mark = self.marks.get(sender_id, "")
        return claim

    def append(self, claim: Claim, events: Any, mark: str | None = None) -> None:
        super().append(claim, events)
        if mark is not None:
            self.marks[claim.sender_id] = mark


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> str:
    made = ModuleType("their_stores")
    for kind in (Plain, Async, Own, Derived, Keeps):
        setattr(made, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "their_stores", made)
    return "their_stores"


@pytest.mark.parametrize("name", ["Plain", "Async"])
async def test_three_methods_are_enough(module: str, name: str) -> None:
    async with create_tracker_store(EndpointConfig(type=f"{module}.{name}")) as store:
        old = await store.claim("a", 1, "x")
        await store.append(old, [*session(0), user("one", 1)])
        old.sequence = 0  # the reply was lost
        await store.append(old, [*session(0), user("one", 1)])
        new = await store.claim("a", 2, "y")
        assert [e.as_dict() for e in new.tracker.events] == [*session(0), user("one", 1)]
        with pytest.raises(StaleFence):
            await store.append(old, [user("late", 2)])
        await store.append(new, [user("two", 2)])
        await store.append(new, [user("two", 2)])
        assert await store.keys() == ["a"]
        assert await store.exists("a")
        assert await store.count_conversations(2) == 1
        tracker = await store.retrieve_full_tracker("a")
        assert tracker is not None
        assert len(tracker.events) == 6
        assert (await store.get_or_create_tracker("b")).sender_id == "b"
        with pytest.raises(NotImplementedError):
            await store.delete("a")


def test_the_documented_constructor(module: str) -> None:
    config = EndpointConfig(url="somewhere", type=f"{module}.Plain", colour="red")
    inner = create_tracker_store(config, domain={"slots": {}}, event_broker="b").inner  # type: ignore[attr-defined]
    assert (inner.host, inner.event_broker, inner.keys_given) == (
        "somewhere",
        "b",
        {"colour": "red"},
    )


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("slq", "neither a known type nor the path of a class"),
        ("no.such.module.Store", "no.such|No module"),
        ("ticketlock.errors.NoStore", "has no class NoStore"),
        ("ticketlock.errors.StaleFence", "host=, domain=, event_broker="),
    ],
)
def test_a_type_that_leads_nowhere(kind: str, said: str) -> None:
    """An error, never a store in memory (T24)."""
    with pytest.raises(ConfigurationError, match=said):
        create_tracker_store({"type": kind})


def test_types_in_any_case() -> None:
    for kind in ("SQL", "sQl", "rasa.core.tracker_store.SQLTrackerStore"):
        assert type(create_tracker_store({"type": kind})).__name__ == "SQLTrackerStore"
    kind = "ticketlock.rasa.RedisTrackerStore"  # of a file that a Rasa server reads too
    assert type(create_tracker_store({"type": kind})).__name__ == "RedisTrackerStore"
    for section in (None, {"type": "In_Memory"}, EndpointConfig()):
        assert type(create_tracker_store(section)).__name__ == "InMemoryTrackerStore"
    store = create_tracker_store(None)
    assert TrackerStore.create(store) is store


def test_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the command."""
    for name in [name for name in sys.modules if name.startswith("ticketlock.stores")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(ConfigurationError, match=r'pip install "ticketlock\[sql\]"'):
        create_tracker_store({"type": "sql"})


@pytest.mark.parametrize("name", ["Plain", "Async", "Own", "Derived"])
async def test_a_store_that_keeps_no_marks(module: str, name: str) -> None:
    """Its claims say so, and a mark changes nothing: the events are stored."""
    async with create_tracker_store(EndpointConfig(type=f"{module}.{name}")) as store:
        claim = await store.claim("a", 1, "x")
        assert claim.mark is None
        if name != "Derived":
            await store.append(claim, [user("one", 1)], "a mark")
        async with Conversations(InMemoryLockStore(), store) as conversations:
            async with conversations.turn("b") as turn:
                assert turn.mark is None
                await turn.commit("nothing else")
                turn.add(user("one", 1))
                await turn.commit("a mark")
            async with conversations.turn("b") as turn:
                assert turn.mark is None
                assert [event.text for event in turn.tracker.events][:1] == ["one"]


async def test_a_store_of_ones_own_may_keep_marks(module: str) -> None:
    async with create_tracker_store(EndpointConfig(type=f"{module}.Keeps")) as store:
        async with Conversations(InMemoryLockStore(), store) as conversations:
            async with conversations.turn("a") as turn:
                assert turn.mark == ""
                await turn.commit("mine")
            async with conversations.turn("a") as turn:
                assert turn.mark == "mine"
