"""(d) Sixteen contenders on one conversation: the unluckiest one's wait."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from ..adapters import ASYNC_PEERS, PEERS, THREAD_PEERS
from ..rows import Bar, Rows, table
from .contention import Contest, begin_contest, contest, end_contest, percentile

if TYPE_CHECKING:
    from ..bench import Bench

TITLE = "fairness, 16 contenders"
CONTENDERS = 16
PEOPLE = ("ticketlock", "floor", *ASYNC_PEERS, *THREAD_PEERS)


def run(bench: Bench) -> None:
    url = bench.server()
    with ExitStack() as stack:
        crews = {peer: stack.enter_context(bench.crew(peer, url, 2)) for peer in PEOPLE}
        for round_, peer in bench.turns(PEOPLE, bench.pick(1, 2)):
            seconds = bench.pick(0.6, 4)
            seen = contest(
                crews[peer], f"d0-{round_}", CONTENDERS, hold=0, grants=10**9, seconds=seconds
            )
            add(bench, peer, 0, round_, seen, seconds)
        # They sleep nearly all of the time: all at once, each on a conversation of its own.
        seconds = bench.pick(3.5, 30)
        for peer, crew in crews.items():
            begin_contest(crew, f"d50-{peer}", CONTENDERS, hold=0.05, grants=10**9, seconds=seconds)
        for peer, crew in crews.items():
            add(bench, peer, 50, 0, end_contest(crew), seconds)


def add(bench: Bench, peer: str, hold: int, round_: int, seen: Contest, seconds: float) -> None:
    waits = seen.waits()
    bench.add(
        peer,
        hold,
        round=round_,
        per_s=len(waits) / seconds,
        p50=1000 * (percentile(waits, 0.5) or 0),
        p99=1000 * (percentile(waits, 0.99) or 0),
        worst=1000 * max(_still(seen), *waits[-1:], 0),
        overtaken=seen.worst_overtaken(),
    )


def _still(seen: Contest) -> float:
    """The longest that one still waiting had waited when the last turn began."""
    last = seen.served[-1][1] if seen.served else 0.0
    return max((last - max(row[0], seen.opening) for row in seen.waiting), default=0.0)


def report(rows: Rows) -> str:
    keys = ("per_s", "p50", "p99", "worst", "overtaken")
    names = ("turns/s", "p50 ms", "p99 ms", "worst ms", "overtaken")
    head = [
        "lock",
        *(f"{x} ms hold: {n}" if i == 0 else n for x in rows.xs() for i, n in enumerate(names)),
    ]
    lines = [
        [PEERS[peer].label, *(rows.cell(peer, key, x) for x in rows.xs() for key in keys)]
        for peer in rows.peers()
    ]
    return table(head, lines)


def bars(rows: Rows) -> list[Bar]:
    worst = rows.median("ticketlock", "worst", 50)
    ideal = None if worst is None else worst / (50 * CONTENDERS)
    return [
        Bar("50 ms: worst wait by the ideal 800 ms", ideal, 1.1),
        Bar("0 ms: times overtaken", rows.median("ticketlock", "overtaken", 0), 0),
        Bar("50 ms: times overtaken", rows.median("ticketlock", "overtaken", 50), 0),
    ]
