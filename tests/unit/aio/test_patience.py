"""Operations that are waited for shortly."""

from __future__ import annotations

import asyncio

from conftest import until

from ticketlock.aio.patience import Patience


async def test_a_slow_one_holds_up_no_other_and_is_not_begun_twice() -> None:
    """The others are answered; it goes on, and its key is free once it has ended."""
    gate, begun = asyncio.Event(), list[str]()

    async def operation(key: str) -> None:
        begun.append(key)
        if key == "slow":
            await gate.wait()

    errors: list[Exception] = []
    patience: Patience[str] = Patience(0.05, errors.append)
    assert await patience.run(operation, "slow", "quick") == ["quick"]
    assert await patience.run(operation, "slow", "quick") == ["quick"]
    assert begun == ["slow", "quick", "quick"]
    gate.set()
    await until(lambda: not patience.running, "it has ended")
    assert await patience.run(operation, "slow") == ["slow"]
    assert errors == []


async def test_errors_are_reported_and_the_rest_is_cancelled() -> None:
    """An error is no answer; `stop` waits until what is running has ended."""
    ended: list[str] = []

    async def operation(key: str) -> None:
        if key == "broken":
            raise ValueError(key)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(key)

    errors: list[Exception] = []
    patience: Patience[str] = Patience(0.05, errors.append)
    assert await patience.run(operation, "broken", "slow") == []
    assert [str(error) for error in errors] == ["broken"]
    await patience.stop()
    assert ended == ["slow"]
    assert not patience.running
