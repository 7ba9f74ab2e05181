"""`--durability`: which losses a run does not excuse."""

from __future__ import annotations

import pytest

from ticketlock.stress.plan import Options


@pytest.mark.parametrize(
    ("topology", "durability", "replicas", "outlives"),
    [
        ("cluster", None, None, False),
        ("cluster", "none", None, False),
        ("cluster", "replicas", None, True),
        ("cluster", "majority", None, True),
        ("cluster", "aof", None, False),
        ("sentinel", "replicas", None, False),
        ("sentinel", "replicas", 2, True),
        ("sentinel", "majority", None, False),
        ("server", "aof", None, False),
    ],
)
def test_what_all_replicas_have_outlives_a_failover(
    topology: str, durability: str | None, replicas: int | None, outlives: bool
) -> None:
    """One of two may be passed over when the other one takes the place of the master."""
    options = Options(topology=topology, durability=durability, durability_replicas=replicas)
    assert options.outlives == outlives
