"""The peers under the nemeses of `ticketlock stress`, judged by its checker: `python -m benchmarks.judged`.

One Redis of its own with `appendfsync always`, three workers of eight tasks, and all nemeses that keep
data. A lock is judged by what its documents let one expect of any lock: one holder at a time, and a
conversation that goes on when a worker is gone. Order is a promise of few.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from ticketlock.aio.running import together
from ticketlock.checker import History, check
from ticketlock.files.scratch import Scratch
from ticketlock.process import clock
from ticketlock.stress.nemesis import Nemesis
from ticketlock.stress.own_servers import OwnServers
from ticketlock.stress.plan import Options, Plan
from ticketlock.stress.workers import Workers

from .adapters import PEERS
from .environments import python_with
from .judged_worker import VARIANTS

RESULTS = Path(__file__).parent / "results" / "judged.json"
#: Seconds at the end without a grant after which a conversation is stuck: several leases.
STUCK = 20.0
#: Seconds at the end without new faults.
CALM = 25.0
#: Seconds for which a turn is believed without a renewal: what a nemesis outlasts by one.
LEASE = 5.0
#: Seconds that a turn lasts at most: a worker that is stopped holds one, as a rule.
HOLD = 0.2


def packages_of(variant: str) -> tuple[str, ...]:
    module = VARIANTS[variant][0]
    return next(peer.packages for peer in PEERS.values() if peer.module == module)


async def judged(variant: str, seconds: float, seed: int) -> dict[str, Any]:
    """One peer under the nemeses: the verdict, as a JSON object."""
    options = Options(
        seconds=seconds, seed=seed, hold=HOLD, nemeses=("keeping",)
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        scratch = stack.enter_context(Scratch("judged"))
        own = await stack.enter_async_context(OwnServers(options))
        plan = Plan(
            own.lock_store, variant, {"url": own.registers.url}, None, options.names, options.tasks,
            options.pause, options.hold, seed,
        )  # fmt: skip
        command = [python_with(packages_of(variant)), "-m", "benchmarks.judged_worker"]
        workers = await stack.enter_async_context(Workers(plan, scratch, command))
        await workers.start(options.processes)
        end = clock() + seconds
        workers.go(end)
        nemesis = Nemesis(workers, own, options, LEASE, scratch.path)
        # Peers with threads cannot cancel what these do.
        names = [name for name in options.nemeses if name != "cancel"]
        await together(*(nemesis.run(name, end - CALM) for name in names))
        await workers.finish()
        history = History.read(*workers.histories)
        history.faults += nemesis.faults.found
        verdict = check(history, lease=LEASE)
        return {
            "peer": variant, "packages": list(packages_of(variant)), "server": own.program,
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "seconds": seconds, "seed": seed, "load": round(os.getloadavg()[1], 1),
            "faults": len(nemesis.faults.found), "stuck": stuck(history, end), **verdict.as_json(),
        }  # fmt: skip


def stuck(history: History, end: float) -> int:
    """Conversations that were granted to no one in the calm at the end, though they were asked for."""
    late = [
        one for one in history.operations if one.kind == "acquire" and one.completed > end - STUCK
    ]
    granted = {one.conversation for one in late if one.outcome == "ok"}
    return len({one.conversation for one in late if one.invoked < end - 1} - granted)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judged", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of each (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peer", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--keep", action="store_true", help=f"write all to {RESULTS.name}")
    args = parser.parse_args()
    found = []
    for variant in args.peer:
        found.append(asyncio.run(judged(variant, args.seconds, args.seed)))
        print(json.dumps(found[-1]), flush=True)
    if args.keep:
        lines = ",\n".join(json.dumps(one) for one in found)
        RESULTS.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
