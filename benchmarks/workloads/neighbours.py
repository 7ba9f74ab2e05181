"""(g) The same cycle beside a million keys of somebody else."""

from __future__ import annotations

import redis

from ..adapters import ASYNC_PEERS, PEERS, THREAD_PEERS
from ..bench import Bench
from ..rows import Bar, Rows, number, table

TITLE = "a database with a million other keys"
MILLION = 1_000_000
FILL = "for i = ARGV[1], ARGV[2] do redis.call('SET', 'other:' .. i, i) end"


def run(bench: Bench) -> None:
    peers = ("ticketlock", "floor", *bench.pick((), (*ASYNC_PEERS, *THREAD_PEERS)))
    urls = {0: bench.server(), MILLION: bench.server()}
    with redis.Redis.from_url(urls[MILLION]) as client:
        for first in range(0, MILLION, 20_000):
            client.eval(FILL, 0, first, first + 19_999)
    workers = {(p, keys): bench.worker(p, url) for keys, url in urls.items() for p in peers}
    for round_, (peer, keys) in bench.turns(list(workers), bench.pick(7, 9)):
        found = workers[peer, keys].call("cycles:cycles", seconds=bench.pick(0.15, 0.4))
        bench.add(peer, keys, round=round_, us=1e6 * found["seconds"] / found["cycles"])


def report(rows: Rows) -> str:
    lines = [
        [
            PEERS[peer].label,
            rows.cell(peer, "us", 0, spread=True),
            rows.cell(peer, "us", MILLION, spread=True),
            number(rows.ratio(peer, peer, "us", MILLION, 0)),
        ]
        for peer in rows.peers()
    ]
    return table(["µs a cycle", "no other key", "a million", "ratio"], lines)


def bars(rows: Rows) -> list[Bar]:
    ratio = rows.ratio("ticketlock", "ticketlock", "us", MILLION, 0)
    return [Bar("cycle with a million other keys by that with none", ratio, 1.1)]
