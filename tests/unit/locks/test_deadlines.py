"""`DeadlineWatch`: one timer for all that have a deadline."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from ticketlock.locks.deadlines import DeadlineWatch
from ticketlock.process import clock


@dataclass
class Wait:
    deadline: float


async def ended(held: list[Wait]) -> None:
    end = clock() + 5
    while held:
        assert clock() < end, "they are held still"
        await asyncio.sleep(0.01)


async def test_each_ends_at_its_own_deadline() -> None:
    now, lost = clock(), list[tuple[Wait, float]]()
    held = [Wait(now + 0.15), Wait(now + 0.05)]
    watch = DeadlineWatch(lambda: held, lambda one: (held.remove(one), lost.append((one, clock()))))
    first, second = held
    watch.watch(first)
    watch.watch(second)
    await ended(held)
    assert [one for one, _ in lost] == [second, first]
    assert all(at >= one.deadline for one, at in lost)


async def test_those_that_end_in_time_need_no_timer_each(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, timers = asyncio.get_running_loop(), list[float]()
    later = loop.call_later

    def counted(delay: float, *args: Any) -> asyncio.TimerHandle:
        timers.append(delay)
        return later(delay, *args)

    monkeypatch.setattr(loop, "call_later", counted)
    held = list[Wait]()
    watch = DeadlineWatch(lambda: held, held.remove)
    for _ in range(100):
        held.append(Wait(clock() + 60))
        watch.watch(held[-1])
        held.clear()
    assert len(timers) == 1
    watch.stop()


def test_a_loop_that_is_gone_takes_no_deadline_along() -> None:
    held = [Wait(clock() + 600)]
    watch = DeadlineWatch(lambda: held, held.remove)

    async def begin(seconds: float) -> None:
        held[0] = Wait(clock() + seconds)
        watch.watch(held[0])

    asyncio.run(begin(0.05))
    assert held  # its timer is gone with the loop

    async def again() -> None:
        await begin(0.2)  # later than the one of the loop before
        await ended(held)

    asyncio.run(again())
