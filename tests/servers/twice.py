"""Run an example in two processes at once: `python -m servers.twice adk_sessions WORDS...`.

It is imported once, as that takes seconds, and forked. What the two print is in the files
`said-0` and `said-1`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

from servers.examples import EXAMPLES, environment
from ticketlock.redis.embedded import EmbeddedRedis

TESTS = Path(__file__).parents[1]


def twice(redis: EmbeddedRedis, folder: Path, name: str, *words: str) -> list[list[str]]:
    """The lines that each of the two has printed."""
    command = [sys.executable, "-m", "servers.twice", name, *words]
    variables = environment(redis, PYTHONPATH=f"{TESTS}:{EXAMPLES}")
    subprocess.run(command, cwd=folder, env=variables, timeout=150, check=True)
    return [(folder / f"said-{number}").read_text().splitlines() for number in range(2)]


def main(name: str, *words: str) -> int:
    """The number of processes that failed."""
    example = import_module(name)
    gc.freeze()  # else each process looks through all that was imported when it ends
    for number in range(2):
        if os.fork() == 0:
            with open(f"said-{number}", "w") as file, redirect_stdout(file):
                asyncio.run(example.main(*words))
            sys.exit()
    return sum(os.wait()[1] != 0 for _ in range(2))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
