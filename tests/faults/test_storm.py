"""Many processes, one Redis, and everything that goes wrong at once."""

from __future__ import annotations

import os
import random

import pytest
from storms.course import run
from storms.fleet import Load

SECONDS = float(os.environ.get("TICKETLOCK_STORM_SECONDS", "60"))


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(300 + SECONDS)
@pytest.mark.parametrize(
    ("processes", "tasks", "conversations"), [(8, 3, 1), (4, 25, 200)], ids=["one", "many"]
)
def test_storm(processes: int, tasks: int, conversations: int) -> None:
    """SIGKILL, SIGSTOP, CLIENT KILL, CLIENT PAUSE and cancellations, at random, for a minute."""
    seed = int(os.environ.get("TICKETLOCK_STORM_SEED", str(random.randrange(10_000))))
    print(f"seed {seed}")
    names = [f"conversation {i} {{}}*" for i in range(conversations)]
    found = run("server", SECONDS, seed, Load(processes, tasks, names), mild=True)
    print(found)
    assert not found["problems"], found["examples"]
    assert found["turns"] > 10 * SECONDS
    # It has raged: each kind of trouble.
    assert {"process killed", "process stopped", "connections killed"} <= found["trouble"].keys()
