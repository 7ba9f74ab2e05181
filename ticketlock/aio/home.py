"""The event loop to which a driver's connections belong."""

from __future__ import annotations

import asyncio

from .. import process
from ..errors import TrackerStoreError


class Home:
    """Of a tracker store whose driver cannot use its connections on another loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        process.tell_of_forks(self)

    def forked(self) -> None:
        """The loop of the parent does not run in the child, and is not closed there."""
        self._loop = None

    def left(self) -> bool:
        """Whether this is another loop than at the call before, which is closed now.

        Raises TrackerStoreError while that one is open: it may still use the connections.
        """
        here, before = asyncio.get_running_loop(), self._loop
        if before is here:
            return False
        if before is not None and not before.is_closed():
            raise TrackerStoreError(
                "this tracker store is in use on another event loop: make one store per loop, "
                "or use Conversations.sync() from threads"
            )
        self._loop = here
        return before is not None
