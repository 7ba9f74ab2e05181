"""The protocol's promises, one story each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from faults import (
    crash_scenarios,
    late_scenarios,
    message_scenarios,
    repeat_scenarios,
    scenarios,
    trouble_scenarios,
)

from ticketlock.redis.embedded import EmbeddedRedis

SCENARIOS = {
    **scenarios.SCENARIOS,
    **crash_scenarios.SCENARIOS,
    **message_scenarios.SCENARIOS,
    **late_scenarios.SCENARIOS,
    **trouble_scenarios.SCENARIOS,
    **repeat_scenarios.SCENARIOS,
}


@pytest.mark.quiet
@pytest.mark.parametrize("name", SCENARIOS)
def test_protocol(name: str, own_redis: EmbeddedRedis, run: Callable[..., None]) -> None:
    """The story ends well."""
    run(SCENARIOS[name](own_redis), 40)
