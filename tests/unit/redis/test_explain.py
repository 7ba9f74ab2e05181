"""What is said of the errors of redis-py."""

from __future__ import annotations

import asyncio

import pytest
import redis

from ticketlock.redis.connect import explain
from ticketlock.redis.settings import RedisSettings


@pytest.mark.parametrize(
    "error", [TimeoutError(), asyncio.TimeoutError(), redis.TimeoutError("Timeout reading")]
)
def test_every_time_out_is_said_alike(error: Exception) -> None:
    """redis-py's own too, which its versions before 5 raise."""
    explained, again = explain(RedisSettings.of({"socket_timeout": 3}), error)
    assert "no answer within 3 s" in str(explained)
    assert again
