"""Real servers for the tests: started as child processes, ended by process id."""

from __future__ import annotations

import os

import pytest

#: In CI a missing server is a failure, at a desk a skipped test with its reason.
CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")


def missing(what: str, how: str) -> None:
    """A server that a test needs is not here: fail in CI, else skip saying how to get it."""
    message = f"{what} is not installed: {how}"
    if CI:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
