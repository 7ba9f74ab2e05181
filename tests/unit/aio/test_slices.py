"""Work in slices: others go on beside it, whatever it comes to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from ticketlock.aio.slices import Aside, sliced


def busy(times: int) -> Iterator[int]:
    """Items that take two milliseconds each."""
    for number in range(times):
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            continue
        yield number


async def turns() -> int:
    """How often the loop comes round until it is cancelled; one of them takes a millisecond."""
    count = 0
    try:
        while True:
            await asyncio.sleep(0.001)
            count += 1
    except asyncio.CancelledError:
        return count


@pytest.mark.parametrize("many", [1, 5])
async def test_others_go_on(many: int) -> None:
    """After each item, and longer the more there is of such work."""
    other = asyncio.ensure_future(turns())
    made = await asyncio.gather(*(sliced(busy(20)) for _ in range(many)))
    assert made == [list(range(20))] * many
    other.cancel()
    assert await other >= 20 * many


async def test_what_is_small_does_not_wait() -> None:
    """No pause, and all in one step."""
    waiting = asyncio.ensure_future(asyncio.sleep(0))
    assert await sliced(range(10)) == list(range(10))
    assert not waiting.done()
    await waiting


async def test_what_fails_pauses_too() -> None:
    """Else whoever sends what is refused has the loop to himself."""
    other = asyncio.ensure_future(turns())
    for _ in range(10):
        with pytest.raises(ZeroDivisionError):
            await sliced(x / 0 for x in busy(1))
        with pytest.raises(KeyError):
            async with Aside():
                {}[next(busy(1))]
    other.cancel()
    assert await other >= 20
    assert Aside._many == 0


async def test_a_moment_of_standstill_is_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a machine that is busy: beside others it made one of them wait for more than a minute."""
    monkeypatch.setattr(Aside, "_many", 100)

    async def block() -> None:
        async with Aside():
            time.sleep(0.05)  # the thread does not run

    await asyncio.wait_for(block(), 5)
