"""The deployment of docs/deploy as processes, while replicas are killed and rolled."""

from __future__ import annotations

import os
import random

import pytest
from e2e.accepted_course import run_accepted
from e2e.course import run
from e2e.outages import Plan
from servers import versions

from ticketlock.demo.traffic import generate


@pytest.mark.slow
def test_everything_agrees_in_the_end() -> None:
    """Each message once, in order, in every database; duplicates get the first reply.

    The replicas are rolled from the version before to this one and back, and know no difference.
    """
    seed = int(os.environ.get("TICKETLOCK_SEED") or random.randrange(10**6))
    messages = generate(50, 400, seed)
    before = versions.before()
    found = run(messages, "rabbit", kills=1, rolls=2, seed=seed, before=before)
    print(found)
    assert found["broken"] == 0, found["examples"]
    assert found["events"] >= 2 * len(messages)
    assert found["duplicates"] > 0
    # Messages were handled by each fleet that a roll leads through: half of the 44 between two
    # deeds, however long a deed takes.
    fleets = found["replicas_of_before"]
    assert all(fleets[old] >= 20 for old in range(4)), fleets


@pytest.mark.slow
def test_accepted_is_answered() -> None:
    """Each message once, in order, and its reply called back, whatever is killed or stopped.

    The sender wants its 202 and never sends a message again after it. All replicas are away at
    once for longer than a lease of callbacks, and than outcomes are kept. A worker handles messages
    too; actions leave their events once, and reminders fire once, although the action server is
    killed.
    """
    seed = int(os.environ.get("TICKETLOCK_SEED") or random.randrange(10**6))
    plan = Plan(1, 1, 1, 1, 1, 1, 1, stopped=5, away=16, crowd=20, window=10)
    found = run_accepted(generate(50, 300, seed), "rabbit", plan, rate=8, seed=seed, acting=True)
    print(found)
    assert found["broken"] == 0, found["examples"]
    assert found["durability"] == {"appendonly": 300}
    assert all(
        found["accepted_during"][kind] > 0
        for kind in ("kill", "stop", "all_away", "roll", "kill_worker", "kill_actions")
    )
    assert found["waiting_when_all_died"][0] > 0
    assert found["rolls_within_one_turn"] == 1
