"""Text in the answers of a server."""

from __future__ import annotations

from typing import Any


def decoded(value: Any) -> str:
    """A string of an answer, which comes as bytes; "" for None."""
    if isinstance(value, bytes):
        return value.decode()
    return "" if value is None else str(value)
