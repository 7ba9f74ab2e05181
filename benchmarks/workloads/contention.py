"""Many that want one conversation, in several processes, and what their records say.

A record is `[asked, entered, left, number]`, the first three in seconds of the machine's monotonic
clock, which all processes share. Entered and left are None for one who was still waiting at the
end; number is the ticket's, where the lock tells it.
"""

from __future__ import annotations

import asyncio
import bisect
import heapq
import random
import threading
import time
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the rest runs where the peers are installed, and not we
    from ..bench import Worker

Record = list[Any]
#: Requests nearer than this may reach the server in the other order.
MARGIN = 0.010


async def contend(
    adapter: Any, name: str, count: int, hold: float, begin: float, gap: float, opening: float,
    end: float, grants: int,
) -> dict[str, Any]:  # fmt: skip
    """So many contenders come `gap` seconds apart and, once all wait, take turns again and again.

    Args:
        begin, opening, end: when the first comes, when the first turn ends, when all is over.
        grants: it is over too when there were so many turns here.
    """
    now, stop = time.perf_counter, asyncio.Event()
    records: list[list[Any]] = []
    errors: list[str] = []
    asking: dict[int, float] = {}
    over = False

    async def contender(i: int) -> None:
        await asyncio.sleep(begin - now() + gap * (i + random.random()))
        while not over:  # a peer may swallow a cancellation
            asked = asking[i] = now()
            try:
                async with adapter.lock(name) as turn:
                    entered = now()
                    if (pause := max(hold, opening - entered)) > 0:
                        await asyncio.sleep(pause)
                    left = now()
            except Exception as error:  # noqa: BLE001  # the peers raise their own; counted
                errors.append(repr(error))
                await asyncio.sleep(0.01)
                continue
            del asking[i]
            if len(records) < grants:
                records.append([asked, entered, left, getattr(turn, "number", None)])
            else:
                stop.set()

    tasks = [asyncio.create_task(contender(i)) for i in range(count)]
    try:
        await asyncio.wait_for(stop.wait(), end - now())
    except asyncio.TimeoutError:
        stop.set()
    waiting = [[asked, None, None, None] for asked in asking.values()]
    # Go on a little: in the other process they may still wait for those who are here.
    await asyncio.sleep(min(0.3, max(0.0, end - now())))
    over = True
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=5)
    return {"records": records + waiting, "opening": opening, "errors": errors}


def contend_sync(
    adapter: Any, name: str, count: int, hold: float, begin: float, gap: float, opening: float,
    end: float, grants: int,
) -> dict[str, Any]:  # fmt: skip
    """The same with threads. They cannot be cancelled: at the end they pass through."""
    now, records, stop = time.perf_counter, [], threading.Event()
    asking: dict[int, float] = {}

    def contender(i: int) -> None:
        time.sleep(max(0, begin - now() + gap * (i + random.random())))
        while not stop.is_set():
            asked = asking[i] = now()
            with adapter.lock(name) as turn:
                entered = now()
                if stop.is_set():
                    return
                if (pause := max(hold, opening - entered)) > 0:
                    time.sleep(pause)
                left = now()
            records.append([asked, entered, left, getattr(turn, "number", None)])
            del asking[i]
            if len(records) >= grants:
                stop.set()

    threads = [threading.Thread(target=contender, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    stop.wait(end - now())
    stop.set()
    waiting = [[asked, None, None, None] for asked in list(asking.values())]
    return {"records": records + waiting, "opening": opening, "errors": []}


class Contest:
    """What happened on one conversation, up to the moment when the first process had enough."""

    def __init__(self, answers: list[dict[str, Any]]) -> None:
        cut = min(
            max((entered for _, entered, *_ in answer["records"] if entered), default=float("inf"))
            for answer in answers
        )
        rows = [(*r, i) for i, answer in enumerate(answers) for r in answer["records"]]
        done = [row for row in rows if row[1] is not None and row[1] <= cut]
        self.opening = answers[0]["opening"]
        self.errors = [error for answer in answers for error in answer["errors"]]
        self.served = sorted(done, key=lambda row: row[1])
        self.waiting = [row for row in rows if row[1] is None or (row[1] > cut and row[0] < cut)]

    def handoffs(self) -> list[float]:
        """Seconds from one's release to the other's entry, where the two are not one process."""
        return [
            after[1] - before[2]
            for before, after in zip(self.served, self.served[1:], strict=False)
            if before[4] != after[4] and after[0] < before[2]
        ]

    def inversions(self) -> int:
        """Turns that went to one who had come after another who still waited.

        Told from ticket numbers, else from when they asked, which is less exact: a process that
        has no processor asks late.
        """
        numbers = [row[3] for row in self.served]
        if None not in numbers:
            return sum(n < m for n, m in zip(numbers[1:], accumulate(numbers, max), strict=False))
        asked = sorted(row[0] for row in (*self.served, *self.waiting))
        gone: list[float] = []
        found, first = 0, 0
        for row in self.served:
            while gone and first < len(asked) and gone[0] == asked[first]:
                heapq.heappop(gone)
                first += 1
            found += asked[first] < row[0] - MARGIN
            heapq.heappush(gone, row[0])
        return found

    def worst_overtaken(self) -> int:
        """How often the unluckiest request saw a later one go before it; told as `inversions`."""
        numbers = [row[3] for row in self.served]
        if None not in numbers:
            before: list[int] = []
            passed = 0
            for number in numbers:
                passed = max(passed, len(before) - bisect.bisect(before, number))
                bisect.insort(before, number)
            return passed
        entries, worst = [row[1] for row in self.served], 0
        for asked, entered, *_ in (*self.served, *self.waiting):
            first = bisect.bisect(entries, asked)
            last = len(entries) if entered is None else bisect.bisect_left(entries, entered)
            later = sum(row[0] > asked + MARGIN for row in self.served[first:last])
            worst = max(worst, later)
        return worst

    def waits(self) -> list[float]:
        """Seconds from asking, or from the opening, to the entry."""
        return sorted(
            row[1] - max(row[0], self.opening) for row in self.served if row[1] > self.opening
        )


def contest(
    crew: list[Worker], name: str, contenders: int, *, hold: float, grants: int, seconds: float,
    gap: float = 0.002,
) -> Contest:  # fmt: skip
    """Let contenders spread over the workers' processes take turns."""
    begin_contest(crew, name, contenders, hold=hold, grants=grants, seconds=seconds, gap=gap)
    return end_contest(crew)


def begin_contest(
    crew: list[Worker], name: str, contenders: int, *, hold: float, grants: int, seconds: float,
    gap: float = 0.002,
) -> None:  # fmt: skip
    begin = time.perf_counter() + 0.2 + contenders / 10_000  # both have made their tasks by then
    opening = begin + gap * (contenders / len(crew) + 1) + 0.1
    for i, worker in enumerate(crew):
        share = contenders // len(crew) + (i < contenders % len(crew))
        worker.send(
            "contention:contend", name=name, count=share, hold=hold, begin=begin, gap=gap,
            opening=opening, end=opening + seconds, grants=grants,
        )  # fmt: skip


def end_contest(crew: list[Worker]) -> Contest:
    return Contest([worker.receive() for worker in crew])


def percentile(values: list[float], share: float) -> float | None:
    """The nearest-rank percentile."""
    if not values:
        return None
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
