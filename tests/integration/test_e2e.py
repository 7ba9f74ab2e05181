"""The deployment of docs/deploy as processes, while replicas are killed and rolled."""

from __future__ import annotations

import os
import random

import pytest
from e2e.course import run
from servers import versions

from ticketlock.demo.traffic import generate


@pytest.mark.slow
def test_everything_agrees_in_the_end() -> None:
    """Each message once, in order, in every database; duplicates get the first reply.

    The replicas are rolled from the version before to this one and back, and know no difference.
    """
    seed = int(os.environ.get("TICKETLOCK_SEED") or random.randrange(10**6))
    messages = generate(50, 600, seed)
    before = versions.before()
    found = run(messages, "rabbit", kills=1, rolls=2, seed=seed, before=before)
    print(found)
    assert found["broken"] == 0, found["examples"]
    assert found["events"] >= 2 * len(messages)
    assert found["duplicates"] > 0
    # Messages were handled by each fleet that a roll leads through.
    fleets = found["replicas_of_before"]
    assert all(fleets[old] >= 20 for old in range(4)), fleets
