"""The examples in `docs/examples/`, run as their pages say."""

from __future__ import annotations

import os
from pathlib import Path

from ticketlock.redis.embedded import EmbeddedRedis

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def environment(redis: EmbeddedRedis, **more: str) -> dict[str, str]:
    """Variables for a process that runs an example; warnings are errors in it."""
    return {**os.environ, "REDIS_URL": redis.url, "PYTHONWARNINGS": "error", **more}
