"""DynamoDB that throttles: one part of a transaction, or some items of a batch."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest
from contract_events import user
from servers import dynamo
from servers.tracker_stores import Stores

from ticketlock import InMemoryLockStore
from ticketlock.conversations import Conversations
from ticketlock.errors import StaleFence, TrackerStoreConnectionError


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Always moto: another server cannot be told to throttle."""
    with dynamo.server() as found:
        yield found


@pytest.fixture
def stores(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    for name, value in dynamo.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    name = f"throttled-{time.time_ns()}"
    yield Stores("dynamo", {"type": "dynamo", "endpoint_url": url, "table_name": name})
    throttle(url, "none", 0)


def throttle(url: str, operation: str, times: int, **plan: Any) -> None:
    body = json.dumps({"operation": operation, "times": times, **plan}).encode()
    with urlopen(Request(f"{url}/ticketlock/throttle", data=body), timeout=10) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "reasons",
    [
        ["ThrottlingError", "None"],
        ["None", "ProvisionedThroughputExceeded"],
        ["TransactionConflict", "ThrottlingError"],
        ["RequestLimitExceeded", "None"],
    ],
    ids="-".join,
)
async def test_a_throttled_transaction_is_tried_again(
    stores: Stores, url: str, reasons: list[str]
) -> None:
    """As boto3 does with an operation of its own; nothing is stored twice."""
    store = stores.open()
    claim = await store.claim("a", 1, "x")
    throttle(url, "TransactWriteItems", 3, reasons=reasons)
    await store.append(claim, [user("one", 1), user("two", 2)])
    tracker = await store.retrieve_full_tracker("a")
    assert [event.timestamp for event in tracker.events] == [1, 2]


async def test_a_turn_that_is_throttled_for_long(stores: Stores, url: str) -> None:
    """An outage that ends, with words that say what to change; a turn waits for its end."""
    store = stores.open()
    claim = await store.claim("a", 1, "x")
    throttle(url, "TransactWriteItems", 1000, reasons=["ThrottlingError", "None"])
    with pytest.raises(TrackerStoreConnectionError, match="it throttles us: raise the table's"):
        await store.append(claim, [user("one", 1)])
    throttle(url, "TransactWriteItems", 8, reasons=["ThrottlingError", "None"])
    async with Conversations(InMemoryLockStore(), store) as conversations:
        async with conversations.turn("b", 30) as turn:
            turn.add(user("one", 1))
    assert len((await stores.open().retrieve("b")).events) == 1


async def test_a_stale_turn_is_not_tried_again(stores: Stores, url: str) -> None:
    """Where a condition was not met as well, it is that which counts."""
    store = stores.open()
    claim = await store.claim("a", 1, "x")
    await stores.open().claim("a", 2, "y")
    reasons = ["ConditionalCheckFailed", "ThrottlingError"]
    throttle(url, "TransactWriteItems", 1, reasons=reasons)
    with pytest.raises(StaleFence):
        await store.append(claim, [user("one", 1)])


@pytest.mark.parametrize("operation", ["claim", "delete", "replace"])
async def test_other_transactions(stores: Stores, url: str, operation: str) -> None:
    """The same holds wherever there is one."""
    store = stores.open()
    claim = await store.claim("a", 1, "x")
    await store.append(claim, [user("one", 1)])
    throttle(url, "TransactWriteItems", 2, reasons=["None", "ThrottlingError"])
    if operation == "claim":
        await store.append(await store.claim("b", 1, "x"), [user("one", 1)])
    elif operation == "delete":
        assert await store.delete("a")
    else:
        tracker = await store.retrieve_full_tracker("a")
        await store.update(tracker)
        assert len((await store.retrieve_full_tracker("a")).events) == 1


async def test_a_batch_of_which_some_is_left_undone(stores: Stores, url: str) -> None:
    """What comes back is sent again; a table that takes nothing ends the waiting."""
    store = stores.open()
    claim = await store.claim("a", 1, "x")
    await store.append(claim, [user("x" * 200_000, n) for n in range(6)])
    throttle(url, "BatchWriteItem", 3, keep=25)
    assert await store.delete("a")
    await store.append(await store.claim("a", 1, "x"), [user("x" * 200_000, n) for n in range(6)])
    throttle(url, "BatchWriteItem", 1000, keep=25)
    with pytest.raises(TrackerStoreConnectionError, match=r"it throttles us.*left to be deleted"):
        await store.delete("a")
