"""The deployment of docs/deploy as processes, while replicas are killed and rolled."""

from __future__ import annotations

import os
import random

import pytest
from e2e.course import run

from ticketlock.demo.traffic import generate


@pytest.mark.slow
def test_everything_agrees_in_the_end() -> None:
    """Each message once, in order, in every database; duplicates get the first reply."""
    seed = int(os.environ.get("TICKETLOCK_SEED") or random.randrange(10**6))
    messages = generate(50, 400, seed)
    found = run(messages, "rabbit", kills=1, rolls=1, seed=seed)
    print(found)
    assert found["broken"] == 0, found["examples"]
    assert found["events"] >= 2 * len(messages)
    assert found["duplicates"] > 0
