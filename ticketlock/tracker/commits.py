"""`AroundCommit`: what is done before and after each commit of a turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class AroundCommit(Protocol):
    """Called by a turn; see `Turn.around_commit`."""

    async def before(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Awaited before these events are written; what it raises keeps them from being written."""

    async def after(self) -> None:
        """Awaited once they are written."""
